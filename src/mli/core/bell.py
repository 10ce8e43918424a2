"""What wakes a core's main thread: rung by its other threads, and by signals."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue


class Bell:
    """One thread waits for it, any thread and any signal handler rings it.

    A ``threading.Event`` will not do: its lock may be held by the very thread whose signal handler sets it, which
    would then wait for itself.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, timeout_s: float) -> None:
        """Until it is rung, at most so long; not at all where it was rung since the last time."""
        with contextlib.suppress(Empty):
            self._rings.get(timeout=timeout_s)
