"""A run that is told to end the moment it starts, by SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Self, cast

import pytest

from mli.cli.interrupts import Interrupted
from mli.cli.run import run_here
from mli.cli.running import Running


class Core:
    """One whose first worker works before anything else of it is done."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number
        self.said: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.said.append("left")

    def start(self) -> None:
        signal.raise_signal(self._number)
        self.said.append("started")

    def request_stop(self) -> None:
        self.said.append("asked to stop")

    def wait(self, _wake_s: float, _on_wake: Callable[[], None]) -> None:
        self.said.append("waited")


class View:
    """What a terminal shows."""

    wake_s = 1.0

    def __init__(self, core: Core) -> None:
        self.core = core

    def make_core(self, _progress: object, *, from_start: bool) -> Core:
        assert not from_start
        return self.core

    def started(self) -> None:
        """Nothing to show."""

    def on_wake(self) -> None:
        """Nothing to show."""

    def ended(self, interrupted: Interrupted) -> int:
        self.core.said.append(f"ended by {interrupted.signal}")
        return 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order(number: signal.Signals) -> None:
    core = Core(number)
    before = signal.getsignal(number)
    assert run_here(cast(Running, cast(Any, View(core)))) == 7
    assert core.said == ["asked to stop", "started", "waited", f"ended by {number.name}", "left"]
    assert signal.getsignal(number) == before
