"""How fast messages go to a nucleus, and when one that cannot publish is asked again."""

from __future__ import annotations

from mli.delivery.sinks.greengrass_pace import AWAY_MAX_S, AWAY_MIN_S, BURST, RATE_PER_S, Away, Pace


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_goes_at_once_and_then_as_many_as_the_rate_gives() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert (pace.room, pace.wait_s) == (BURST, 0.0)
    sent = 0
    for _ in range(1_000):  # ten seconds
        while pace.room:
            pace.take()
            sent += 1
        clock.now += 0.01
    assert BURST + 10 * RATE_PER_S - 2 <= sent <= BURST + 10 * RATE_PER_S


def test_it_says_how_long_until_half_of_a_burst_may_go() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(BURST):
        pace.take()
    assert pace.room == 0
    wait_s = pace.wait_s
    assert round(wait_s, 6) == BURST / 2 / RATE_PER_S
    clock.now += wait_s + 1e-6
    assert (pace.room, pace.wait_s) == (BURST // 2, 0.0)
    clock.now += 3_600
    assert pace.room == BURST, "no more is saved up"


def test_more_than_there_is_room_for_is_waited_for_afterwards() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(2 * BURST):
        pace.take()
    assert pace.room == 0
    clock.now += BURST / RATE_PER_S
    assert pace.room == 0


def test_pauses_double_and_what_was_under_way_together_counts_once() -> None:
    clock = Clock()
    away = Away(clock)
    assert not away
    pauses = []
    for _ in range(12):
        for _ in range(8):
            away.begin()
        pauses.append(away.wait_s)
        assert away
        clock.now += away.wait_s + 1e-6
    assert [round(pause, 6) for pause in pauses[:4]] == [AWAY_MIN_S * 2**index for index in range(4)]
    assert pauses[-1] == AWAY_MAX_S
    away.end()
    assert not away
    assert away.wait_s == 0
    away.begin()
    assert round(away.wait_s, 6) == AWAY_MIN_S
