"""The bell that wakes a core's main thread, rung at moments when a signal may come."""

from __future__ import annotations

import sys
import threading
import time
from itertools import count
from types import FrameType
from typing import Any

from mli.core.bell import Bell

LONG_S = 30.0


def wait_rung_at(bell: Bell, moment: int) -> bool:
    """Wait, and ring in the same thread, as a signal handler would, before so many lines and calls were seen.

    Returns:
        Whether the wait had so many.
    """
    seen = count(1)
    rung = False

    def look(_frame: FrameType, _event: str, _value: object) -> Any:
        nonlocal rung
        if next(seen) == moment:
            rung = True
            sys.settrace(None)
            bell.ring()
            return None
        return look

    sys.settrace(look)
    try:
        bell.wait(LONG_S if moment == 1 else 0.0)
    finally:
        sys.settrace(None)
    return rung


def test_a_signal_may_ring_it_at_any_moment_of_the_wait() -> None:
    ended: list[int] = []

    def every_moment() -> None:
        for moment in count(1):
            bell = Bell()
            if not wait_rung_at(bell, moment):
                break
            ended.append(moment)

    # Not this thread: one that waits for itself would end the whole run of the tests.
    thread = threading.Thread(target=every_moment, daemon=True)
    thread.start()
    thread.join(LONG_S / 2)
    assert not thread.is_alive(), f"it waits for itself after moment {ended[-1:]}"
    assert len(ended) > 2


def test_rung_before_the_wait_it_does_not_wait() -> None:
    bell = Bell()
    for _ in range(3):
        bell.ring()
    began = time.monotonic()
    bell.wait(LONG_S)
    assert time.monotonic() - began < LONG_S / 2
    bell.wait(0.0)


def test_another_thread_wakes_it() -> None:
    bell = Bell()
    thread = threading.Thread(target=bell.wait, args=(LONG_S,), daemon=True)
    thread.start()
    bell.ring()
    thread.join(LONG_S / 2)
    assert not thread.is_alive()
