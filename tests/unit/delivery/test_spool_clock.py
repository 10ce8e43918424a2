"""Devices without a clock of their own: the time is put right while their messages wait, and costs none of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.delivery_rig import make_record

from mli.config.settings import SpoolSettings
from mli.delivery import spool_room
from mli.delivery.spool import Spool

DAY_S = 86_400.0
BOOTED = 1_000.0
NOW = 1_795_000_000.0


class Time:
    """What the clock shows, and how much time has really passed."""

    def __init__(self) -> None:
        self.shown, self.steady = BOOTED, 50.0

    def passes(self, seconds: float) -> None:
        self.shown += seconds
        self.steady += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(spool_room, "steady_s", lambda: time.steady)
    return time


@pytest.fixture
def spool(tmp_path: Path, time: Time) -> Iterator[Spool]:
    settings = SpoolSettings(max_age_s=DAY_S)
    spool = Spool(tmp_path / "spool.db", settings, sink="mqtt", clock=lambda: time.shown)
    yield spool
    spool.close()


def put(spool: Spool, sequence: int) -> None:
    spool.put([make_record(spool.epoch, sequence)])


def waiting(spool: Spool) -> list[int]:
    spool.release()
    return [one.message.sequence for one in spool.claim(99) if not one.message.topic.endswith("/dropped")]


def test_a_clock_that_is_put_right_makes_no_message_older(spool: Spool, time: Time) -> None:
    spool.expire()
    put(spool, 1)
    time.passes(3600)
    put(spool, 2)
    time.passes(5)
    time.shown = NOW
    put(spool, 3)
    assert spool.expire() == 0
    assert waiting(spool) == [1, 2, 3]
    spool.release()
    time.passes(DAY_S - 1800)  # by now the first one is that old, and no other is
    assert spool.expire() == 1
    spool.release()
    time.passes(1900)
    assert spool.expire() == 2


def test_what_a_right_clock_stamped_is_dropped_at_its_time(spool: Spool, time: Time) -> None:
    """Before the device was switched off; its clock then began anew."""
    time.shown = NOW
    put(spool, 1)
    time.shown = BOOTED
    spool.expire()
    put(spool, 2)
    time.passes(10)
    time.shown = NOW + 2 * DAY_S
    assert spool.expire() == 1
    assert waiting(spool) == [2]


def test_a_clock_that_is_set_back_costs_nothing(spool: Spool, time: Time) -> None:
    time.shown = NOW + 9 * DAY_S
    spool.expire()
    put(spool, 1)
    time.shown = NOW
    assert spool.expire() == 0
    put(spool, 2)
    time.passes(10)
    assert spool.expire() == 0
    assert waiting(spool) == [1, 2]


def test_a_disk_that_failed_then_is_tried_again(spool: Spool, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.expire()
    put(spool, 1)
    time.shown = NOW
    with monkeypatch.context() as broken:
        broken.setattr(spool._room, "_drop", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            spool.expire()
    assert spool.expire() == 0
    assert waiting(spool) == [1]
