"""The schedule of frames, by a clock that the test turns."""

from __future__ import annotations

import pytest

from mli.pipeline.pace import NOTHING_YET_S, Pace


def taken_at(interval_s: float, works_s: list[float]) -> list[float]:
    """When frames are taken if each one keeps the loop busy for so long."""
    now, pace, times = 100.0, Pace(interval_s, 100.0), []
    for work_s in works_s:
        now += pace.wait_s(now)
        times.append(round(now - 100.0, 3))
        pace.taken(now)
        now += work_s
    return times


def test_first_frame_is_due_at_once_and_then_one_an_interval() -> None:
    assert taken_at(5.0, [0.1, 0.1, 0.1, 0.1]) == [0.0, 5.0, 10.0, 15.0]


def test_a_little_late_frame_does_not_shift_the_others() -> None:
    assert taken_at(1.0, [0.0, 0.0, 1.3, 0.0, 0.0]) == [0.0, 1.0, 2.0, 3.3, 4.0]


def test_what_was_missed_is_never_caught_up_by_a_burst() -> None:
    assert taken_at(1.0, [0.0, 7.5, 0.0, 0.0, 0.0]) == [0.0, 1.0, 8.5, 9.5, 10.5]


def test_zero_is_as_fast_as_possible() -> None:
    assert taken_at(0.0, [0.5, 0.25, 0.0, 0.0]) == [0.0, 0.5, 0.75, 0.75]


@pytest.mark.parametrize("interval_s", [0.0, 5.0])
def test_a_source_without_a_frame_is_asked_again_soon(interval_s: float) -> None:
    pace = Pace(interval_s, 0.0)
    pace.nothing_yet(10.0)
    assert pace.wait_s(10.0) == NOTHING_YET_S
    assert pace.wait_s(11.0) == 0.0
