"""The spool's open file: one lock, transactions, and the totals that are kept beside it in memory."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mli.delivery.spool_schema import open_database, storage_error
from mli.errors import StopError

MAX_REASONS = 32
OTHER_REASON = "other"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A queued message that says which messages were dropped.

    Attributes:
        first, last: sequences of the first and last message dropped.
    """

    rowid: int
    first: int
    last: int
    count: int
    size: int


AnnouncementKey = tuple[str, str, str]  # pipeline, topic of the announcement, reason


@dataclass(slots=True)
class Totals:
    """What the tables would answer, kept so that no commit has to count rows.

    Attributes:
        ages_seen_at: Unix time and steady seconds when messages' ages were looked at last; None for never.
    """

    next_sequences: dict[str, int] = field(default_factory=dict)
    account: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    announcements: dict[AnnouncementKey, Announcement] = field(default_factory=dict)
    queued_bytes: int = 0
    deferred: int = 0
    last_rowid: int = 0
    ages_seen_at: tuple[float, float] | None = None

    def copy(self) -> Totals:
        """Independent of this one; its values are immutable."""
        return replace(
            self,
            next_sequences=dict(self.next_sequences),
            account=dict(self.account),
            waiting=dict(self.waiting),
            announcements=dict(self.announcements),
        )

    def count(self, name: str, by: int = 1) -> None:
        """Add to the account."""
        self.account[name] = self.account.get(name, 0) + by

    def count_reason(self, group: str, reason: str, by: int = 1) -> None:
        """Add to the account under a text that came from outside, of which only so many are told apart."""
        name = f"{group}:{reason}"
        if name not in self.account and sum(key.startswith(f"{group}:") for key in self.account) >= MAX_REASONS:
            name = f"{group}:{OTHER_REASON}"
        self.count(name, by)

    def reasons(self, group: str) -> dict[str, int]:
        """The account of one group, by reason."""
        start = f"{group}:"
        return {name[len(start) :]: count for name, count in self.account.items() if name.startswith(start)}

    def left(self, sink: str, size: int) -> None:
        """One message is no longer queued."""
        self.waiting[sink] = self.waiting.get(sink, 0) - 1
        self.queued_bytes -= size


class SpoolFile:
    """The connection, behind one lock. Everything else of the spool works through ``transaction``.

    Raises:
        StopError, RetryError: see ``open_database``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.connection = open_database(path)
        try:
            self.totals = self._load_totals()
            (epoch,) = self.connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
            self.epoch = str(epoch)
        except sqlite3.Error as error:
            self.connection.close()
            raise storage_error(error, path) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: where the block or the commit fails, file and totals are as before.

        Raises:
            RetryError: the disk is full or failed; the same call may work later.
            StopError: the file is damaged.
        """
        with self.lock:
            before = self.totals
            self.totals = before.copy()
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                yield self.connection
                self._write_account(before.account)
                self.connection.execute("COMMIT")
            except BaseException as error:
                self.totals = before
                self._roll_back()
                if isinstance(error, sqlite3.Error):
                    raise storage_error(error, self.path) from error
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read under the lock, with storage errors told as ours."""
        with self.lock:
            try:
                yield self.connection
            except sqlite3.Error as error:
                raise storage_error(error, self.path) from error

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        with self.lock:
            self.connection.close()

    def _roll_back(self) -> None:
        if not self.connection.in_transaction:  # SQLite rolls back by itself after some failures
            return
        try:
            self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise StopError(
                "The spool's last transaction could neither be finished nor undone.",
                where=str(self.path),
                got=str(error),
                remedy="start again: the file is checked when it is opened",
            ) from error

    def _write_account(self, before: dict[str, int]) -> None:
        account = self.totals.account
        changed = [(name, count) for name, count in account.items() if before.get(name) != count]
        if changed:
            self.connection.executemany("INSERT OR REPLACE INTO account VALUES (?, ?)", changed)

    def _load_totals(self) -> Totals:
        run = self.connection.execute
        sizes = run("SELECT sink, COUNT(*), SUM(size) FROM messages GROUP BY sink").fetchall()
        announcements: dict[AnnouncementKey, Announcement] = {}
        for rowid, topic, payload, size in run(
            "SELECT number, topic, payload, size FROM messages WHERE announcement = 1 ORDER BY number"
        ):
            told = json.loads(payload)["dropped"]
            announcements[told["pipeline"], topic, told["reason"]] = Announcement(
                rowid, told["from"], told["to"], told["count"], size
            )
        return Totals(
            next_sequences=dict(run("SELECT name, next_sequence FROM pipelines").fetchall()),
            account=dict(run("SELECT name, count FROM account").fetchall()),
            waiting={sink: count for sink, count, _ in sizes},
            announcements=announcements,
            queued_bytes=sum(size for _, _, size in sizes),
            deferred=run("SELECT COUNT(*) FROM messages WHERE not_before > 0").fetchone()[0],
            last_rowid=run("SELECT COALESCE(MAX(number), 0) FROM messages").fetchone()[0],
        )
