"""How fast messages go to a nucleus, which takes them faster than AWS IoT Core does, and says nothing of that."""

from __future__ import annotations

import time
from collections.abc import Callable

RATE_PER_S = 50.0
"""Half of what AWS IoT Core takes on one connection, which all components share. Nucleus lite fails from about ten
publishes on that are not acknowledged yet: at this rate that is an answer that takes 0.2 s."""
BURST = 8
AWAY_MIN_S, AWAY_MAX_S = 0.2, 30.0


class Pace:
    """A bucket that fills with time; a publish takes one out. Two threads at once may make it wrong by one or two,
    which does not matter."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, rate_per_s: float = RATE_PER_S, burst: int = BURST
    ) -> None:
        self._clock = clock
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._filled = float(burst)
        self._at = clock()

    @property
    def room(self) -> int:
        """How many may go now."""
        self._fill()
        return max(0, int(self._filled))

    @property
    def wait_s(self) -> float:
        """Until half of the burst may go; 0 where it may now."""
        self._fill()
        return max(0.0, (self._burst / 2 - self._filled) / self._rate_per_s)

    def take(self) -> None:
        """One goes."""
        self._fill()
        self._filled -= 1

    def _fill(self) -> None:
        now = self._clock()
        self._filled = min(float(self._burst), self._filled + (now - self._at) * self._rate_per_s)
        self._at = now


class Away:
    """Whether the nucleus cannot publish now, and when it is asked again: after pauses that double."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause_s = 0.0
        self._until = 0.0

    def __bool__(self) -> bool:
        return self._pause_s > 0

    @property
    def wait_s(self) -> float:
        """Until it may be asked once."""
        return max(0.0, self._until - self._clock())

    def begin(self) -> None:
        """It could not. Those that were under way together count once."""
        if self.wait_s == 0:
            self._pause_s = min(AWAY_MAX_S, max(AWAY_MIN_S, 2 * self._pause_s))
            self._until = self._clock() + self._pause_s

    def end(self) -> None:
        """It can, or it is another connection."""
        self._pause_s = self._until = 0.0
