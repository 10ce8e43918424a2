"""When the next frame is due."""

from __future__ import annotations

NOTHING_YET_S = 0.25
"""A source that has nothing is asked again after this."""


class Pace:
    """A schedule of one frame an interval, by a monotonic clock that the caller reads.

    A frame that is a little late does not shift the ones after it. One that misses its whole interval does: what
    was missed is never caught up by a burst.
    """

    def __init__(self, interval_s: float, now: float) -> None:
        self._interval_s = interval_s
        self._next_at = now

    def wait_s(self, now: float) -> float:
        """How long it is until the next frame, 0 where it is due."""
        return max(0.0, self._next_at - now)

    def taken(self, now: float) -> None:
        """A frame was taken."""
        on_time = self._next_at + self._interval_s
        self._next_at = on_time if on_time > now else now + self._interval_s

    def nothing_yet(self, now: float) -> None:
        """There was no frame to take."""
        self._next_at = now + NOTHING_YET_S
