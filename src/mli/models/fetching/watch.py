"""Whether the work at hand is still wanted, asked often enough that nobody waits for a cancelled transfer."""

from __future__ import annotations

import time
from collections.abc import Callable

from mli.errors import MliError

POLL_S = 0.25
"""Longest time between two looks at whether it was cancelled."""


class FetchCancelled(MliError):
    """The caller wants the archive no more; what came so far stays on disk for a later fetch."""


class Watch:
    """Asks ``cancelled`` at each piece of work, and at least every ``POLL_S``."""

    def __init__(self, cancelled: Callable[[], bool], what: str) -> None:
        self._cancelled = cancelled
        self._what = what

    def check(self) -> None:
        """Raises FetchCancelled once it was cancelled."""
        if self._cancelled():
            raise FetchCancelled("Fetching the model archive was cancelled.", where=self._what)

    def pause(self, seconds: float) -> None:
        """Wait so long, unless it is cancelled."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(POLL_S, left))
        self.check()
