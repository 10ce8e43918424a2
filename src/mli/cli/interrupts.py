"""Ctrl-C and SIGTERM: the first ends a core in order, the second ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol


class Stoppable(Protocol):
    """What runs until it is asked to end."""

    def request_stop(self) -> None:
        """Ask it to end; safe in a signal handler."""


class Interrupted:
    """Which signal asked to end, None for none; it may come while the queue is being delivered."""

    signal: Literal["SIGINT", "SIGTERM"] | None = None


@contextmanager
def interrupts(core: Stoppable) -> Iterator[Interrupted]:
    """Handle signals while a core runs."""
    interrupted = Interrupted()

    def handle(number: int, _: object) -> None:
        if interrupted.signal is not None:
            raise KeyboardInterrupt
        interrupted.signal = "SIGINT" if number == signal.SIGINT else "SIGTERM"
        with contextlib.suppress(OSError):
            os.write(2, b"mli: stopping: the frames under way are finished first\n")
        core.request_stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
