"""What of the queue is handed out to a sink, and what becomes of it: gone, tried again later, or a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mli.delivery.spool_file import SpoolFile
from mli.delivery.spool_schema import Refusal, Settled, SinkKind, SpooledMessage
from mli.types import Message

MAX_DEAD_LETTERS = 1_000
MAX_DEAD_BYTES = 16 * 1024 * 1024
MAX_BACKOFF_S = 60.0

SELECT_MESSAGE = (
    "SELECT number, id, pipeline, sequence, topic, payload, qos, captured_at, model_sha256, attempts, size,"
    " not_before FROM messages "
)
MessageRow = tuple[int, str, str, int, str, bytes, int, float, str, int, int, float]


class Outgoing:
    """The claims of one sink.

    Attributes:
        claimed: messages that are in flight; number → size in bytes, was deferred.
    """

    def __init__(self, file: SpoolFile, sink: SinkKind, settled_as: Settled, clock: Callable[[], float]) -> None:
        self._file = file
        self._sink: SinkKind = sink
        self._settled_as: Settled = settled_as
        self._clock = clock
        self.claimed: dict[int, tuple[int, bool]] = {}
        self._turn = False
        self._cursor = 0  # no undeferred, unclaimed message of this sink lies at or below it

    def claim(self, limit: int) -> list[SpooledMessage]:
        """The next messages for this spool's sink, in order; see ``Spool.claim``."""
        with self._file.reading() as connection:
            due = self._due(limit) if self._file.totals.deferred else []
            self._turn = not self._turn  # where the half is none, every second time
            again = min(len(due), (limit + self._turn) // 2)
            wanted = limit - again
            passing = sum(rowid > self._cursor for rowid in self.claimed)
            fresh: list[MessageRow] = connection.execute(
                SELECT_MESSAGE + "WHERE number > ? AND sink = ? AND not_before = 0 ORDER BY number LIMIT ?",
                (self._cursor, self._sink, wanted + passing),
            ).fetchall()
            free = [row for row in fresh if row[0] not in self.claimed]
            taken = free[:wanted]
            if wanted:
                # With fewer than asked, all up to the newest were seen: other sinks' messages are not passed again.
                self._cursor = taken[-1][0] if len(free) >= wanted else self._file.totals.last_rowid
            found = due[: limit - len(taken)] + taken
            for row in found:
                self.claimed[row[0]] = (row[10], row[11] != 0)
        return [SpooledMessage(row[0], Message(*row[1:9]), row[9]) for row in found]

    def _due(self, limit: int) -> list[MessageRow]:
        now = self._clock()
        # A time far ahead was set before the clock was put right; it must not hold a message for years.
        rows: list[MessageRow] = self._file.connection.execute(
            SELECT_MESSAGE + "WHERE not_before > 0 AND (not_before <= ? OR not_before > ?) AND sink = ?"
            " ORDER BY number LIMIT ?",
            (now, now + MAX_BACKOFF_S, self._sink, limit + len(self.claimed)),
        ).fetchall()
        return [row for row in rows if row[0] not in self.claimed][:limit]

    def settle(self, delivered: Iterable[int], refused: Iterable[Refusal]) -> list[int]:
        """Note what became of messages, inside the caller's transaction; after its commit they are ``done``."""
        totals = self._file.totals
        settled = list(delivered)
        if settled:
            totals.count(self._settled_as, self._delete(settled))
        for refusal in refused:
            totals.count_reason("refused", refusal.reason)
            if refusal.permanent:
                self._bury(refusal)
            else:
                self._defer(refusal.rowid)
            settled.append(refusal.rowid)
        return settled

    def _delete(self, rowids: Sequence[int]) -> int:
        totals = self._file.totals
        unknown = [rowid for rowid in rowids if rowid not in self.claimed]
        for rowid in unknown:  # released before its fate was known
            row = self._file.connection.execute(
                "SELECT size, not_before, sink FROM messages WHERE number = ?", (rowid,)
            ).fetchone()
            if row is not None:
                totals.left(row[2], row[0])
                totals.deferred -= row[1] != 0
        for rowid in rowids:
            if rowid in self.claimed:
                size, deferred = self.claimed[rowid]
                totals.left(self._sink, size)
                totals.deferred -= deferred
        return self._file.connection.executemany(
            "DELETE FROM messages WHERE number = ?", [(rowid,) for rowid in rowids]
        ).rowcount

    def _defer(self, rowid: int) -> None:
        row = self._file.connection.execute(
            "SELECT attempts, not_before FROM messages WHERE number = ?", (rowid,)
        ).fetchone()
        if row is None:
            return
        wait_s = min(MAX_BACKOFF_S, 2.0 ** min(row[0], 10))
        self._file.connection.execute(
            "UPDATE messages SET attempts = attempts + 1, not_before = ? WHERE number = ?",
            (self._clock() + wait_s, rowid),
        )
        self._file.totals.deferred += row[1] == 0

    def _bury(self, refusal: Refusal) -> None:
        connection = self._file.connection
        moved = connection.execute(
            "INSERT INTO dead_letters (id, pipeline, sequence, topic, payload, qos, captured_at, model_sha256,"
            " attempts, reason, died_at, size) SELECT id, pipeline, sequence, topic, payload, qos, captured_at,"
            " model_sha256, attempts, ?, ?, size FROM messages WHERE number = ?",
            (refusal.reason, self._clock(), refusal.rowid),
        ).rowcount
        if not moved:
            return
        totals = self._file.totals
        totals.count("dead")
        self._delete([refusal.rowid])
        kept, size = connection.execute("SELECT COUNT(*), SUM(size) FROM dead_letters").fetchone()
        while kept > MAX_DEAD_LETTERS or (size > MAX_DEAD_BYTES and kept > 1):
            (oldest, its_size) = connection.execute(
                "SELECT number, size FROM dead_letters ORDER BY number LIMIT 1"
            ).fetchone()
            connection.execute("DELETE FROM dead_letters WHERE number = ?", (oldest,))
            totals.count("dead_forgotten")
            kept, size = kept - 1, size - its_size

    def done(self, rowids: Iterable[int]) -> None:
        """What was settled is on the disk."""
        for rowid in rowids:
            self.claimed.pop(rowid, None)

    def release(self, rowids: Iterable[int] | None = None) -> None:
        """Let claims go, all or some: their fate is unknown, and they are handed out again."""
        with self._file.lock:
            going = list(self.claimed) if rowids is None else [row for row in rowids if row in self.claimed]
            for rowid in going:
                del self.claimed[rowid]
            if going:
                self._cursor = min(self._cursor, min(going) - 1)
