"""The writer's promises: acknowledged after the commit, in order, one pipeline's trouble is not the others'."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.brokers import wait_until
from tests.fixtures.delivery_rig import TOPIC, make_record

from mli.config.settings import SpoolSettings
from mli.delivery.spool import Spool
from mli.delivery.spool_schema import MESSAGE_OVERHEAD_BYTES
from mli.delivery.spool_writer import SpoolWriter
from mli.errors import MliError, RetryError
from mli.types import Record

ROOM = 3 * (MESSAGE_OVERHEAD_BYTES + len(TOPIC) + 1)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db", SpoolSettings(max_bytes=ROOM), sink="mqtt")
    yield spool
    spool.close()


@pytest.fixture
def writer(spool: Spool) -> Iterator[SpoolWriter]:
    writer = SpoolWriter(spool)
    writer.start()
    yield writer
    writer.stop()


class Acknowledged:
    def __init__(self) -> None:
        self.records: list[tuple[str, int | None]] = []

    def __call__(self, record: Record) -> None:
        self.records.append((record.pipeline, record.sequence))

    def of(self, pipeline: str) -> list[int | None]:
        return [sequence for name, sequence in self.records if name == pipeline]


def fill_disk(spool: Spool) -> None:
    """SQLite's own bound on the file: the same SQLITE_FULL as a full disk gives."""
    connection: sqlite3.Connection = spool._file.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


def free_disk(spool: Spool) -> None:
    spool._file.connection.execute("PRAGMA max_page_count = 1000000")


def test_a_record_is_acknowledged_when_it_is_on_the_disk(spool: Spool, writer: SpoolWriter) -> None:
    on_disk: list[int] = []
    done = threading.Event()

    def committed(_record: Record) -> None:
        with sqlite3.connect(spool._file.path) as other:
            on_disk.extend(other.execute("SELECT COUNT(*) FROM messages").fetchone())
        other.close()
        done.set()

    writer.submit(make_record(spool.epoch, 1), committed)
    assert done.wait(30)
    assert on_disk == [1]


def test_a_full_spool_holds_one_pipeline_in_order_and_lets_others_go_on(
    spool: Spool, writer: SpoolWriter, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Acknowledged()
    with caplog.at_level(logging.INFO, "mli.delivery"):
        for sequence in range(1, 8):
            writer.submit(make_record(spool.epoch, sequence), heard)
        wait_until(lambda: writer.waiting("belt") == 4 and len(heard.records) == 3, "a full spool")
        writer.submit(Record(1, "other", None, "1", True, make_record("", 1).counters), heard)
        wait_until(lambda: heard.of("other") == [None], "the other pipeline")
        assert heard.of("belt") == [1, 2, 3]
        while len(heard.of("belt")) < 7:
            before = len(heard.of("belt"))
            writer.settle([spool.claim(1)[0].rowid], [])
            wait_until(lambda n=before: len(heard.of("belt")) > n, "room was used")  # type: ignore[misc]
    assert heard.of("belt") == list(range(1, 8))
    wait_until(lambda: caplog.text.count("has room again") == 1, "said that it goes on")
    assert caplog.text.count("the spool is full") == 1


def test_a_later_record_does_not_overtake_one_that_waits_for_room(spool: Spool, writer: SpoolWriter) -> None:
    heard = Acknowledged()
    writer.submit(make_record(spool.epoch, 1), heard)
    writer.submit(make_record(spool.epoch, 2, payload=b"x" * ROOM), heard)
    wait_until(lambda: heard.of("belt") == [1], "the first")
    writer.submit(make_record(spool.epoch, 3), heard)
    writer.submit(Record(1, "other", None, "1", True, make_record("", 1).counters), heard)
    wait_until(lambda: heard.of("other") == [None], "the other pipeline")
    assert heard.of("belt") == [1]
    writer.settle([spool.claim(1)[0].rowid], [])
    wait_until(lambda: heard.of("belt") == [1, 2], "the large one, in an empty spool")


def test_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path / "spool.db", SpoolSettings(), sink="mqtt")
    writer = SpoolWriter(spool)
    writer.start()
    heard = Acknowledged()
    fill_disk(spool)
    with caplog.at_level(logging.INFO, "mli.delivery"):
        for sequence in range(1, 33):
            writer.submit(make_record(spool.epoch, sequence, payload=b"x" * 4_000), heard)
        wait_until(lambda: "disk is full" in caplog.text, "the full disk")
        wait_until(lambda: writer.waiting() == 32, "all of them kept")
        acknowledged = len(heard.records)
        assert spool.queued == acknowledged
        free_disk(spool)
        wait_until(lambda: len(heard.records) == 32, "all committed")
    assert heard.of("belt") == list(range(1, 33))
    assert caplog.text.count("spool's disk is full") == 1
    wait_until(lambda: "can be written again" in caplog.text, "said that it is over")
    writer.stop()
    assert [one.message.sequence for one in spool.claim(99)] == list(range(1, 33))
    spool.close()


def test_a_failed_put_changes_nothing_and_works_later(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", SpoolSettings(), sink="mqtt")
    spool.resume("belt", "a")
    fill_disk(spool)
    records = [make_record(spool.epoch, one, payload=b"x" * 20_000) for one in (1, 2)]
    with pytest.raises(RetryError) as caught:
        spool.put(records)
    assert "disk is full" in caught.value.what
    assert (spool.stats().accepted, spool.queued) == (0, 0)
    assert spool.resume("belt", "a").next_sequence == 1
    free_disk(spool)
    assert spool.put(records) == []
    assert spool.resume("belt", "a").next_sequence == 3
    assert spool.stats().queued == 2
    spool.close()


def test_a_new_worker_starts_after_what_its_last_one_committed(spool: Spool, writer: SpoolWriter) -> None:
    heard = Acknowledged()
    for sequence in range(1, 6):
        writer.submit(make_record(spool.epoch, sequence), heard)
    state = writer.resume("belt", "a")
    assert state.next_sequence == 4, "three had room, two were forgotten: the new worker makes them again"
    assert writer.waiting("belt") == 0
    assert heard.of("belt") == [1, 2, 3]


def test_an_ending_writer_commits_what_is_queued(spool: Spool) -> None:
    writer = SpoolWriter(spool)
    heard = Acknowledged()
    for sequence in range(1, 6):
        writer.submit(make_record(spool.epoch, sequence), heard)
    writer.start()
    assert writer.stop() == 2
    assert heard.of("belt") == [1, 2, 3]


def test_a_worker_that_went_away_does_not_end_the_writer(spool: Spool, writer: SpoolWriter) -> None:
    def gone(_record: Record) -> None:
        raise BrokenPipeError

    heard = Acknowledged()
    writer.submit(make_record(spool.epoch, 1), gone)
    writer.submit(make_record(spool.epoch, 2), heard)
    wait_until(lambda: heard.of("belt") == [2], "the next one")


def test_a_damaged_file_ends_the_writer_and_the_core_hears_of_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", SpoolSettings(), sink="mqtt")
    heard: list[MliError] = []
    failed = threading.Event()

    def on_failure(error: MliError) -> None:
        heard.append(error)
        failed.set()

    writer = SpoolWriter(spool, on_failure=on_failure)
    spool._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / "spool.db"
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    spool._file.connection.execute("PRAGMA cache_size = 0")
    spool._file.connection.execute("PRAGMA shrink_memory")
    writer.start()
    writer.submit(make_record(spool.epoch, 1), lambda _record: None)
    assert failed.wait(30)
    assert "damaged" in heard[0].what
    assert writer.failure is heard[0]
    writer.stop()
    spool.close()
