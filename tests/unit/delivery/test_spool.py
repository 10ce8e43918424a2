"""The spool's promises: nothing twice, nothing silently gone, everything still there after a reopen."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.delivery_rig import TOPIC, make_record

from mli.config.settings import SpoolSettings
from mli.delivery.spool import Spool
from mli.delivery.spool_outgoing import MAX_DEAD_LETTERS
from mli.delivery.spool_positions import KEPT_FORMER
from mli.delivery.spool_schema import MESSAGE_OVERHEAD_BYTES, Refusal, SinkKind
from mli.errors import StopError
from mli.types import Counters, Firing, Record

ONE_BYTES = MESSAGE_OVERHEAD_BYTES + len(TOPIC) + 4  # a message with a payload of four bytes
FIRING = Firing("divert", "push", 100.0, 1.0, "plastic bottle", 0.9, "frame-1.png")

OpenSpool = Callable[..., Spool]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_spool(tmp_path: Path, clock: Clock) -> Iterator[OpenSpool]:
    """Opens the same file; a second call closes the first."""
    opened: list[Spool] = []

    def open_it(sink: SinkKind = "mqtt", **settings: object) -> Spool:
        if opened:
            opened[-1].close()
        spool = Spool(tmp_path / "spool.db", SpoolSettings(**settings), sink=sink, clock=clock)  # type: ignore[arg-type]
        opened.append(spool)
        return spool

    yield open_it
    opened[-1].close()


def put(spool: Spool, *sequences: int, **fields: object) -> list[Record]:
    records = [make_record(spool.epoch, one, **{"payload": b"%04d" % one, **fields}) for one in sequences]  # type: ignore[arg-type]
    return spool.put(records)


def claimed(spool: Spool, limit: int = 100) -> list[int]:
    return [one.message.sequence for one in spool.claim(limit)]


def balanced(spool: Spool) -> bool:
    stats = spool.stats()
    gone = stats.delivered + sum(stats.dropped.values()) + stats.dead
    return stats.accepted == gone + stats.queued + stats.waiting_other_sink


def test_a_new_pipeline_starts_at_one_and_goes_on_after_a_reopen(open_spool: OpenSpool) -> None:
    spool = open_spool()
    fresh = spool.resume("belt", "images:a")
    assert (fresh.next_sequence, fresh.position, fresh.counters) == (1, None, Counters())
    put(spool, 1, 2, 3)
    again = open_spool().resume("belt", "images:a")
    assert (again.epoch, again.next_sequence, again.position) == (fresh.epoch, 4, "3")
    assert again.counters == Counters(frames=3)


def test_another_source_starts_from_its_beginning_with_the_sequence_going_on(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.resume("belt", "images:a")
    put(spool, 1, 2)
    other = open_spool().resume("belt", "images:b")
    assert (other.next_sequence, other.position, other.counters.frames) == (3, None, 2)


def test_a_source_that_was_read_before_goes_on_where_it_stopped(open_spool: OpenSpool) -> None:
    """As after a deployment that changed the source and was taken back."""
    spool = open_spool()
    spool.resume("belt", "images:a")
    put(spool, 1, 2)
    spool.resume("belt", "images:b")
    put(spool, 3)
    open_spool().resume("belt", "images:c")  # it read nothing of this one
    back = open_spool().resume("belt", "images:a")
    assert (back.next_sequence, back.position, back.counters.frames) == (4, "2", 3)
    spool = open_spool()
    put(spool, 4)
    assert spool.resume("belt", "images:b").position == "3"
    assert spool.resume("belt", "images:a").position == "4"
    assert spool.resume("door", "images:b").position is None


def test_of_the_last_few_sources_it_is_known_how_far_they_were_read(open_spool: OpenSpool) -> None:
    spool = open_spool()
    for number in range(1, KEPT_FORMER + 3):
        spool.resume("belt", f"images:{number}")
        put(spool, number)
    assert spool.resume("belt", "images:2").position == "2"
    assert spool.resume("belt", "images:1").position is None


@pytest.mark.parametrize("between", [[], ["images:b"]])
def test_a_source_that_starts_over_leaves_the_others(open_spool: OpenSpool, between: list[str]) -> None:
    spool = open_spool()
    spool.resume("belt", "images:z")
    put(spool, 1)
    for key in ["images:a", *between]:
        spool.resume("belt", key)
        put(spool, spool.resume("belt", key).next_sequence)
    spool.start_over("belt", "images:a")
    assert spool.resume("belt", "images:a").position is None
    assert spool.resume("belt", "images:z").position == "1"


def test_a_spool_that_knows_no_former_sources_learns_them(open_spool: OpenSpool, tmp_path: Path) -> None:
    put(open_spool(), 1)
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("DROP TABLE former_positions")
    spool = open_spool()
    spool.resume("belt", "images:a")
    put(spool, 2)
    spool.resume("belt", "images:b")
    assert spool.resume("belt", "images:a").position == "2"
    assert spool.queued == 2


def test_a_record_that_only_moves_the_position_leaves_the_sequence(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.resume("belt", "a")
    put(spool, 1)
    spool.put([Record(2, "belt", None, "7", True, Counters(frames=1, skipped=5))])
    state = spool.resume("belt", "a")
    assert (state.next_sequence, state.position, state.counters.skipped) == (2, "7", 5)
    assert spool.queued == 1


def test_a_record_sent_again_is_accepted_without_a_second_copy(open_spool: OpenSpool) -> None:
    spool = open_spool()
    put(spool, 1, 2)
    assert put(spool, 1, 2) == []
    assert put(open_spool(), 2, 3) == []
    assert claimed(open_spool()) == [1, 2, 3]


def test_messages_are_claimed_in_order_once_until_released(open_spool: OpenSpool) -> None:
    spool = open_spool()
    put(spool, 1, 2, 3, 4)
    first = spool.claim(2)
    assert [one.message.sequence for one in first] == [1, 2]
    assert claimed(spool) == [3, 4]
    assert claimed(spool) == []
    spool.release([first[1].rowid])
    assert claimed(spool) == [2]
    spool.release()
    assert claimed(spool) == [1, 2, 3, 4]


def test_delivered_messages_are_gone_and_counted_also_after_a_release(open_spool: OpenSpool) -> None:
    spool = open_spool()
    put(spool, 1, 2, 3)
    rows = [one.rowid for one in spool.claim(3)]
    spool.settle(rows[:1])
    spool.release()
    spool.settle(rows[1:2])
    spool.settle(rows[:2])
    assert claimed(spool) == [3]
    assert (spool.stats().delivered, spool.stats().queued) == (2, 1)
    stats = open_spool().stats()
    assert (stats.delivered, stats.queued, stats.queued_bytes) == (2, 1, ONE_BYTES)
    assert balanced(open_spool())


def test_predictions_for_a_broker_are_never_printed(open_spool: OpenSpool) -> None:
    put(open_spool("mqtt"), 1, 2)
    spool = open_spool("stdout")
    put(spool, 3)
    assert claimed(spool) == [3]
    assert (spool.stats().queued, spool.stats().waiting_other_sink) == (1, 2)
    assert claimed(open_spool("mqtt")) == [1, 2]


def test_a_refusal_waits_longer_each_time_and_does_not_hold_up_others(open_spool: OpenSpool, clock: Clock) -> None:
    spool = open_spool()
    put(spool, 1, 2)
    waits = []
    for _ in range(9):
        (one,) = spool.claim(1)
        assert one.message.sequence == 1
        spool.settle(refused=[Refusal(one.rowid, "busy", permanent=False)])
        start = clock.now
        while not (found := spool.claim(1)) or found[0].message.sequence != 1:
            clock.now += 0.5
        spool.release()
        waits.append(clock.now - start)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    (first, second) = open_spool().claim(2)
    assert (first.message.sequence, first.attempts, second.message.sequence) == (1, 9, 2)


def test_a_clock_that_was_put_right_does_not_hold_a_message_for_years(open_spool: OpenSpool, clock: Clock) -> None:
    spool = open_spool()
    put(spool, 1)
    clock.now = 4e9
    spool.settle(refused=[Refusal(spool.claim(1)[0].rowid, "busy", permanent=False)])
    clock.now = 2e9
    assert claimed(spool) == [1]


def test_dead_letters_are_kept_up_to_a_bound_and_counted(open_spool: OpenSpool) -> None:
    spool = open_spool()
    put(spool, *range(1, MAX_DEAD_LETTERS + 6))
    spool.settle(refused=[Refusal(one.rowid, "no", permanent=True) for one in spool.claim(10_000)])
    stats = spool.stats()
    assert (stats.queued, stats.dead, stats.dead_forgotten) == (0, MAX_DEAD_LETTERS + 5, 5)
    letters = spool.dead_letters(10_000)
    assert len(letters) == MAX_DEAD_LETTERS
    assert (letters[0].message.sequence, letters[0].reason) == (MAX_DEAD_LETTERS + 5, "no")
    assert letters[0].message.payload == b"1005"
    assert balanced(spool)


def test_a_finite_source_waits_for_room_and_another_pipeline_is_not_held_up(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=2 * ONE_BYTES)
    left = put(spool, 1, 2, 3, 4)
    assert [one.sequence for one in left] == [3, 4]
    assert spool.resume("belt", "a").next_sequence == 3
    assert spool.put([Record(1, "other", None, "1", True, Counters())]) == []
    spool.settle([spool.claim(1)[0].rowid])
    assert [one.sequence for one in spool.put(left)] == [4]
    assert not spool.stats().dropped


def test_a_small_record_does_not_overtake_a_large_one_of_its_pipeline(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=3 * ONE_BYTES)
    put(spool, 1, 2)
    large, small = make_record(spool.epoch, 3, payload=b"x" * 500), make_record(spool.epoch, 4, payload=b"")
    assert spool.put([large, small]) == [large, small]
    assert spool.resume("belt", "a").next_sequence == 3


def test_a_record_larger_than_the_spool_is_taken_when_it_is_empty(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=100)
    assert put(spool, 1) == []
    assert [one.sequence for one in put(spool, 2)] == [2]


def test_live_records_drop_the_oldest_live_ones_and_one_message_says_so(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=5 * ONE_BYTES)
    put(spool, 1, pipeline="finite")
    for first in range(1, 41, 4):
        assert put(spool, *range(first, first + 4), finite=False) == []
    stats = spool.stats()
    messages = [one.message for one in spool.claim(100)]
    (told,) = [one for one in messages if one.topic == f"{TOPIC}/dropped"]
    kept = [one.sequence for one in messages if one.pipeline == "belt" and one is not told]
    assert json.loads(told.payload) == {
        "dropped": {"pipeline": "belt", "from": 1, "to": kept[0] - 1, "count": kept[0] - 1, "reason": "spool full"}
    }
    assert told.qos == 1
    assert kept == list(range(kept[0], 41))
    assert len(kept) >= 2
    assert stats.dropped == {"spool full": kept[0] - 1}
    assert stats.queued_bytes <= 5 * ONE_BYTES + 2 * MESSAGE_OVERHEAD_BYTES
    assert any(one.pipeline == "finite" for one in messages)
    assert spool.resume("belt", "a").next_sequence == 41
    assert balanced(open_spool())


def test_messages_in_flight_are_not_dropped_and_a_claimed_announcement_is_not_changed(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=4 * ONE_BYTES)
    put(spool, 1, 2, 3, 4, finite=False)
    in_flight = spool.claim(2)
    put(spool, 5, finite=False)
    put(spool, 6, finite=False)
    told = [one for one in spool.claim(100) if one.message.topic.endswith("/dropped")]
    assert json.loads(told[0].message.payload)["dropped"]["from"] == 3
    spool.settle([one.rowid for one in in_flight])
    assert spool.stats().delivered == 2
    put(spool, 7, 8, 9, 10, 11, finite=False)
    more = [one for one in spool.claim(100) if one.message.topic.endswith("/dropped")]
    assert told[0].rowid not in [one.rowid for one in more]
    assert balanced(spool)


def test_a_live_record_that_finds_only_finite_messages_is_dropped_itself(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=2 * ONE_BYTES)
    put(spool, 1, 2, pipeline="finite")
    assert put(spool, 1, finite=False) == []
    assert spool.stats().dropped == {"spool full": 1}
    assert spool.resume("belt", "a").next_sequence == 2
    assert [one.message.pipeline for one in spool.claim(9)] == ["finite", "finite", "belt"]
    assert balanced(spool)


def test_old_messages_are_dropped_counted_and_announced(open_spool: OpenSpool, clock: Clock) -> None:
    spool = open_spool(max_age_s=60.0)
    put(spool, 1, 2)
    clock.now += 50
    put(spool, 3)
    clock.now += 20
    assert spool.expire() == 2
    kept, told = spool.claim(9)
    assert kept.message.sequence == 3
    expected = {"pipeline": "belt", "from": 1, "to": 2, "count": 2, "reason": "too old"}
    assert json.loads(told.message.payload)["dropped"] == expected
    assert spool.stats().dropped == {"too old": 2}
    assert balanced(spool)


def test_a_firing_is_started_once_and_unknown_after_a_killed_core(open_spool: OpenSpool) -> None:
    spool = open_spool()
    put(spool, 1, firings=(FIRING,))
    put(spool, 2, firings=(FIRING,))
    put(spool, 2, firings=(FIRING,))
    first, second = spool.pending_firings()
    assert (first.firing, first.pipeline, first.sequence, second.sequence) == (FIRING, "belt", 1, 2)
    assert spool.start_firing(first.id)
    assert not spool.start_firing(first.id)
    assert spool.start_firing(second.id)
    spool.end_firing(second.id, "failed", "exit 1")
    spool = open_spool()
    assert spool.pending_firings() == []
    newest, oldest = spool.recent_firings()
    assert (newest.state, newest.detail, oldest.state) == ("failed", "exit 1", "unknown")
    assert not spool.start_firing(oldest.id)


def test_the_last_thousand_ended_firings_are_kept(open_spool: OpenSpool) -> None:
    spool = open_spool()
    put(spool, *range(1, 1_011), firings=(FIRING,))
    for one in spool.pending_firings():
        spool.end_firing(one.id, "ran")
    kept = spool.recent_firings(5_000)
    assert len(kept) == 1_000
    assert sum(one.state == "dropped" for one in kept) == 10


def test_synchronous_full_and_wal_hold_at_each_open(open_spool: OpenSpool) -> None:
    for _ in range(2):
        connection = open_spool()._file.connection
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_place_that_cannot_hold_wal_is_refused() -> None:
    with pytest.raises(StopError, match="cannot hold the spool"):
        Spool(Path(":memory:"), SpoolSettings(), sink="mqtt")


def test_a_spool_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path, open_spool: OpenSpool) -> None:
    put(open_spool(), 1)
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    connection.close()
    with pytest.raises(StopError, match="newer version"):
        open_spool()
    with sqlite3.connect(tmp_path / "spool.db") as connection:
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    connection.close()
    assert claimed(open_spool()) == [1]


def damage_header(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says" * 100)


def damage_a_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    data[2 * size : 3 * size] = b"\xff" * size
    path.write_bytes(data)


def replace_with_another_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE messages (something INTEGER)")
    connection.close()


@pytest.mark.parametrize("damage", [damage_header, damage_a_page, replace_with_another_database])
def test_a_damaged_file_is_set_aside_and_a_new_spool_begun(
    damage: Callable[[Path], None], tmp_path: Path, open_spool: OpenSpool, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool()
    epoch = spool.epoch
    put(spool, *range(1, 200))
    spool.close()
    damage(tmp_path / "spool.db")
    with caplog.at_level(logging.CRITICAL):
        fresh = open_spool()
    assert fresh.epoch != epoch
    assert fresh.stats().queued == 0
    assert list(tmp_path.glob("spool.db.damaged-*"))
    assert "is damaged" in caplog.text
    assert put(fresh, 1) == []


@pytest.mark.parametrize("limit", [1, 2, 5, 8])
def test_what_is_refused_again_and_again_does_not_hold_up_the_others(
    open_spool: OpenSpool, clock: Clock, limit: int
) -> None:
    """A topic that the broker does not take, with more messages than are claimed at a time."""
    spool = open_spool()
    put(spool, *range(1, 41))
    bad = set(range(1, 21))
    refused: set[int] = set()
    passed: list[int] = []
    for _ in range(160):
        clock.now += 60.0  # all that was refused may be tried again
        for one in spool.claim(limit):
            number = one.message.sequence
            if number in bad:
                refused.add(number)
                spool.settle((), [Refusal(one.rowid, "not allowed", permanent=False)])
            else:
                passed.append(number)
                spool.settle([one.rowid])
    assert passed == list(range(21, 41))
    assert refused == bad, "nor do the others hold it up"
    assert spool.queued == 20
    assert balanced(spool)
