"""The queue on disk between frames and sinks: what it accepted survives a power cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mli.config.settings import SpoolSettings
from mli.delivery.spool_file import SpoolFile
from mli.delivery.spool_firings import Firings
from mli.delivery.spool_outgoing import Outgoing
from mli.delivery.spool_positions import Positions
from mli.delivery.spool_room import SPOOL_FULL, Dropped, Room
from mli.delivery.spool_schema import (
    MESSAGE_OVERHEAD_BYTES,
    DeadLetter,
    FiringState,
    Refusal,
    Settled,
    SinkKind,
    SpooledMessage,
    SpoolStats,
    StoredFiring,
)
from mli.types import Message, Record, ResumeState

INSERT_MESSAGE = (
    "INSERT OR IGNORE INTO messages (number, id, pipeline, sequence, topic, payload, qos, captured_at, created_at,"
    " model_sha256, live, sink, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Spool:
    """Messages, positions, counters and firings in one SQLite file (WAL, synchronous=FULL).

    One process opens it; its methods may be called from any thread. What a call committed is on the disk when
    it returns.

    Args:
        path: the file; made where there is none, set aside where it is damaged.
        sink: what new messages are for, and which ones ``claim`` hands out.
        settled_as: what those are counted as that the sink has taken.
        clock: gives Unix time, seconds.

    Raises:
        StopError: made by a newer version, or the file system cannot keep the promise.
        RetryError: the disk is full or fails.
    """

    def __init__(
        self,
        path: Path,
        settings: SpoolSettings,
        *,
        sink: SinkKind,
        settled_as: Settled = "delivered",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._sink: SinkKind = sink
        self._clock = clock
        self._file = SpoolFile(path)
        self._positions = Positions(self._file)
        self._outgoing = Outgoing(self._file, sink, settled_as, clock)
        self._room = Room(self._file, self._outgoing.claimed)
        self._firings = Firings(self._file)

    @property
    def epoch(self) -> str:
        """The spool's identity, made once at random; part of each message id."""
        return self._file.epoch

    @property
    def sink(self) -> SinkKind:
        """What new messages are for."""
        return self._sink

    @property
    def queued(self) -> int:
        """How many messages wait for this spool's sink, those in flight among them."""
        return self._file.totals.waiting.get(self._sink, 0)

    def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        self._file.close()

    # --- what comes in -------------------------------------------------------------------------------------

    def resume(self, pipeline: str, source_key: str) -> ResumeState:
        """Where a pipeline goes on. Sequence and counters go on with any source.

        A source with another key starts from its beginning, or where it stopped if it is one of the last few that
        this pipeline read.

        Raises:
            RetryError: a changed source could not be noted: the disk is full or failed.
        """
        return self._positions.resume(pipeline, source_key)

    def start_over(self, pipeline: str, source_key: str) -> None:
        """Forget how far a pipeline came in a source.

        Raises:
            RetryError: the disk is full or failed.
        """
        self._positions.start_over(pipeline, source_key)

    def put(self, records: Sequence[Record]) -> list[Record]:
        """Commit records; see ``commit``."""
        return self.commit(records)

    def commit(
        self, records: Sequence[Record], delivered: Iterable[int] = (), refused: Iterable[Refusal] = ()
    ) -> list[Record]:
        """Settle messages and accept records in one transaction.

        A record that was accepted before is accepted again without a second copy.

        Returns:
            The records for which there is no room, in order: those of finite sources, which wait.

        Raises:
            RetryError: the disk is full or failed; nothing of this call was committed.
            StopError: the file is damaged.
        """
        with self._file.transaction():
            settled = self._outgoing.settle(delivered, refused)
            left = self._accept(records) if records else []
        self._outgoing.done(settled)
        return left

    def _accept(self, records: Sequence[Record]) -> list[Record]:
        totals = self._file.totals
        now = self._clock()
        live_bytes = sum(_record_bytes(record) for record in records if not (record.finite or self._is_known(record)))
        rows: list[tuple[object, ...]] = []
        left: list[Record] = []
        waiting_pipelines: set[str] = set()
        accepted: list[Record] = []
        for record in records:
            if record.pipeline in waiting_pipelines:
                left.append(record)
                continue
            if self._is_known(record):
                continue  # sent again after a lost acknowledgement
            size = _record_bytes(record)
            messages: Sequence[Message] = record.messages
            if not self._fits(size):
                if record.finite:
                    waiting_pipelines.add(record.pipeline)
                    left.append(record)
                    continue
                self._insert(rows)
                self._room.drop_live(totals.queued_bytes + live_bytes - self._settings.max_bytes, now)
                if not self._fits(size):
                    self._drop_new(messages, now)
                    messages = ()
            if not record.finite:
                live_bytes -= size
            self._add_rows(rows, record, messages, now)
            accepted.append(record)
            if record.sequence is not None:
                totals.next_sequences[record.pipeline] = record.sequence + 1
        self._insert(rows)
        self._positions.move(accepted)
        self._firings.insert(accepted)
        return left

    def _is_known(self, record: Record) -> bool:
        next_sequence = self._file.totals.next_sequences.get(record.pipeline, 1)
        return record.sequence is not None and record.sequence < next_sequence

    def _fits(self, size: int) -> bool:
        """An empty spool takes one record of any size: else it would wait for ever."""
        queued = self._file.totals.queued_bytes
        return size == 0 or queued == 0 or queued + size <= self._settings.max_bytes

    def _add_rows(
        self, rows: list[tuple[object, ...]], record: Record, messages: Sequence[Message], now: float
    ) -> None:
        totals = self._file.totals
        for message in messages:
            totals.last_rowid += 1
            size = _message_bytes(message)
            totals.queued_bytes += size
            rows.append(
                (
                    totals.last_rowid,
                    message.id,
                    message.pipeline,
                    message.sequence,
                    message.topic,
                    message.payload,
                    message.qos,
                    message.captured_at,
                    now,
                    message.model_sha256,
                    not record.finite,
                    self._sink,
                    size,
                )
            )

    def _insert(self, rows: list[tuple[object, ...]]) -> None:
        if not rows:
            return
        totals = self._file.totals
        added = self._file.connection.executemany(INSERT_MESSAGE, rows).rowcount
        totals.count("accepted", added)
        totals.waiting[self._sink] = totals.waiting.get(self._sink, 0) + added
        if added != len(rows):  # an id was there already: rare enough to count again
            (totals.queued_bytes,) = self._file.connection.execute(
                "SELECT COALESCE(SUM(size), 0) FROM messages"
            ).fetchone()
        rows.clear()

    def _drop_new(self, messages: Sequence[Message], now: float) -> None:
        """There is no older live message to drop for these, so they are the ones that go."""
        self._file.totals.count("accepted", len(messages))
        self._room.announce(
            (
                Dropped(
                    message.pipeline,
                    message.sequence,
                    message.topic,
                    self._sink,
                    message.captured_at,
                    message.model_sha256,
                )
                for message in messages
            ),
            SPOOL_FULL,
            now,
        )

    # --- what goes out -------------------------------------------------------------------------------------

    def claim(self, limit: int) -> list[SpooledMessage]:
        """The next messages for this spool's sink, in order; each is handed out once until settled or released.

        What was refused before gets half of the places where there is anything else: many messages on a topic that
        the broker does not take must not hold up all others.
        """
        return self._outgoing.claim(limit)

    def settle(self, delivered: Iterable[int] = (), refused: Iterable[Refusal] = ()) -> None:
        """Commit what became of claimed messages: gone, a dead letter, or to be tried again later.

        Raises:
            RetryError: the disk is full or failed; nothing of this call was committed.
        """
        self.commit((), delivered, refused)

    def release(self, rowids: Iterable[int] | None = None) -> None:
        """Let claims go, all or some: their fate is unknown, and they are handed out again."""
        self._outgoing.release(rowids)

    def expire(self) -> int:
        """Drop, count and announce messages older than ``max_age_s``; returns how many.

        Raises:
            RetryError: the disk is full or failed; nothing was dropped.
        """
        if self._settings.max_age_s is None:
            return 0
        now = self._clock()
        with self._file.transaction():
            return self._room.drop_older(now - self._settings.max_age_s, now)

    # --- what can be seen ----------------------------------------------------------------------------------

    def stats(self) -> SpoolStats:
        """The account and the queue as they are."""
        with self._file.reading() as connection:
            row = connection.execute("SELECT created_at FROM messages ORDER BY number LIMIT 1").fetchone()
            totals = self._file.totals
            account = totals.account
            queued = totals.waiting.get(self._sink, 0)
            return SpoolStats(
                accepted=account.get("accepted", 0),
                delivered=account.get("delivered", 0),
                handed_on=account.get("handed_on", 0),
                queued=queued,
                waiting_other_sink=sum(totals.waiting.values()) - queued,
                queued_bytes=totals.queued_bytes,
                oldest_created_at=row[0] if row else None,
                dropped=totals.reasons("dropped"),
                dead=account.get("dead", 0),
                dead_forgotten=account.get("dead_forgotten", 0),
                refused_reasons=totals.reasons("refused"),
            )

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The last messages that the broker refused for good, newest first."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT id, pipeline, sequence, topic, payload, qos, captured_at, model_sha256, reason, attempts,"
                " died_at FROM dead_letters ORDER BY number DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [DeadLetter(Message(*row[:8]), *row[8:]) for row in rows]

    # --- firings -------------------------------------------------------------------------------------------

    def pending_firings(self) -> list[StoredFiring]:
        """Commands that wait to be started, oldest first."""
        return self._firings.pending()

    def recent_firings(self, limit: int = 100) -> list[StoredFiring]:
        """The last firings in any state, newest first."""
        return self._firings.recent(limit)

    def start_firing(self, firing_id: int) -> bool:
        """Commit, before the command starts, that it does; False where it is not pending and must not be started."""
        return self._firings.start(firing_id)

    def end_firing(self, firing_id: int, state: FiringState, detail: str = "") -> None:
        """Commit what became of a firing; the last 1,000 are kept."""
        self._firings.end(firing_id, state, detail)


def _message_bytes(message: Message) -> int:
    return len(message.payload) + len(message.topic) + MESSAGE_OVERHEAD_BYTES


def _record_bytes(record: Record) -> int:
    return sum(_message_bytes(message) for message in record.messages)
