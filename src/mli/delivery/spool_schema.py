"""The spool's file: its tables, its rows, and how it is opened safely."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mli.errors import RetryError, StopError
from mli.types import Firing, Message

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
FULL = 2  # PRAGMA synchronous answers with a number
WAL_BYTES = 4 * 1024 * 1024
MESSAGE_OVERHEAD_BYTES = 256  # what a row and its index entries take beside topic and payload

SinkKind = Literal["mqtt", "stdout"]
Settled = Literal["delivered", "handed_on"]
"""What a message is counted as that its sink has taken; see ``SinkStatus.hands_on``."""
FiringState = Literal["pending", "started", "ran", "failed", "timed_out", "dropped", "unknown"]

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pipelines (
    name TEXT PRIMARY KEY, next_sequence INTEGER NOT NULL, source_key TEXT, position TEXT, counters TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE messages (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, pipeline TEXT NOT NULL, sequence INTEGER NOT NULL,
    topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL, captured_at REAL NOT NULL,
    created_at REAL NOT NULL, model_sha256 TEXT NOT NULL, live INTEGER NOT NULL, sink TEXT NOT NULL,
    size INTEGER NOT NULL, announcement INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0
);
CREATE INDEX live_messages ON messages (live) WHERE live = 1;
CREATE INDEX deferred_messages ON messages (not_before) WHERE not_before > 0;
CREATE INDEX announcements ON messages (announcement) WHERE announcement = 1;
CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, pipeline TEXT NOT NULL, sequence INTEGER NOT NULL,
    topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL, captured_at REAL NOT NULL,
    model_sha256 TEXT NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL, died_at REAL NOT NULL,
    size INTEGER NOT NULL
);
CREATE TABLE firings (
    id INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, sequence INTEGER NOT NULL, rule TEXT NOT NULL,
    command TEXT NOT NULL, captured_at REAL NOT NULL, max_age_s REAL NOT NULL, label TEXT NOT NULL,
    confidence REAL NOT NULL, image_name TEXT NOT NULL, state TEXT NOT NULL, detail TEXT NOT NULL DEFAULT ''
);
CREATE INDEX open_firings ON firings (id) WHERE state IN ('pending', 'started');
CREATE TABLE account (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""
FORMER_POSITIONS = """
CREATE TABLE IF NOT EXISTS former_positions (
    number INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, source_key TEXT NOT NULL, position TEXT NOT NULL,
    UNIQUE (pipeline, source_key)
)
"""
"""Spools of this schema were made without it."""


@dataclass(frozen=True, slots=True)
class SpooledMessage:
    """A message in the queue, as it is handed to a sink.

    Attributes:
        rowid: its place in the queue; what settles it.
        attempts: how often a broker has refused it for now.
    """

    rowid: int
    message: Message
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that the broker did not take.

    Attributes:
        permanent: it would be refused again; it becomes a dead letter.
    """

    rowid: int
    reason: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class StoredFiring:
    """A rule's wish to run a command, and what became of it.

    Attributes:
        state: ``pending`` → ``started`` → ``ran``, ``failed`` or ``timed_out``; ``dropped`` was never started;
            ``unknown`` was started by a core that then died, and is not run again.
    """

    id: int
    pipeline: str
    sequence: int
    firing: Firing
    state: FiringState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that the broker refused for good.

    Attributes:
        died_at: Unix time, seconds.
    """

    message: Message
    reason: str
    attempts: int
    died_at: float


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """The spool's account: accepted = delivered + handed_on + dropped + dead + queued + waiting_other_sink.

    Attributes:
        accepted: messages ever committed, announcements of drops among them.
        handed_on: messages that another process of this device has taken, which says nothing of their delivery.
        queued: messages that wait for this spool's sink.
        waiting_other_sink: messages that were made for the other kind of sink and wait for it.
        queued_bytes: of all that wait, with overhead; what ``max_bytes`` bounds.
        oldest_created_at: Unix time at which the oldest waiting message was committed.
        dropped: messages dropped by declared policy, by reason.
        dead: messages that the broker refused for good; the last of them are kept as dead letters.
        dead_forgotten: those of them that were let go to keep the dead letters bounded.
        refused_reasons: answers of brokers that did not take a message, by text, with their number.
    """

    accepted: int = 0
    delivered: int = 0
    queued: int = 0
    waiting_other_sink: int = 0
    queued_bytes: int = 0
    oldest_created_at: float | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    dead: int = 0
    dead_forgotten: int = 0
    refused_reasons: Mapping[str, int] = field(default_factory=dict)
    handed_on: int = 0


def storage_error(error: sqlite3.Error, path: Path) -> RetryError | StopError:
    """What the caller does about a failed statement: retry (full disk, I/O, busy) or stop (damage)."""
    code = getattr(error, "sqlite_errorname", "") or ""
    if code == "SQLITE_FULL" or "ENOSPC" in str(error):
        return RetryError(
            "The spool's disk is full; predictions wait until there is room.",
            where=str(path),
            got=str(error),
            remedy="free space on that file system, or lower spool.max_size",
        )
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StopError(
            "The spool's file is damaged.",
            where=str(path),
            got=str(error),
            remedy="start again: the damaged file is set aside and a new spool is begun",
        )
    return RetryError(
        "The spool could not be written or read; nothing was lost, it is tried again.",
        where=str(path),
        got=f"{error} ({code or type(error).__name__})",
        remedy="check the disk, its mount (is it read-only?) and the folder's permissions",
    )


def open_database(path: Path) -> sqlite3.Connection:
    """Open the spool's file, make it where there is none, and set a damaged one aside.

    Raises:
        StopError: made by a newer version, or the file system cannot hold WAL with synchronous=FULL.
        RetryError: the disk is full or fails.
    """
    if path.is_file() and path.stat().st_size == 0:
        log.error("The spool %s was empty: what it held, if anything, is gone; a new one is begun.", path)
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        failure = storage_error(error, path)
        foreign = getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR"  # a database, but not a spool
        if not (foreign or isinstance(failure, StopError)):
            raise StopError(
                "The spool cannot be opened.", where=str(path), got=failure.got, remedy=failure.remedy
            ) from error
        _set_aside(path, error)
    try:
        return _open(path)
    except sqlite3.Error as error:
        raise storage_error(error, path) from error


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        _configure(connection, path)
        _check_or_create(connection, path)
        connection.execute(FORMER_POSITIONS)
        # Found now rather than in the middle of a night: a torn page stops every later commit.
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            damage = sqlite3.DatabaseError(verdict)
            damage.sqlite_errorname = "SQLITE_CORRUPT"
            raise damage
        _sync_directory(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    """``synchronous`` does not persist in the file, so both are set and read back at each open."""
    (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if journal != "wal" or synchronous != FULL:
        raise StopError(
            "This file system cannot hold the spool: an acknowledged prediction could be lost in a power cut.",
            where=str(path),
            expected="journal_mode wal and synchronous 2 (FULL)",
            got=f"journal_mode {journal} and synchronous {synchronous}",
            remedy="put the device's root on a local disk (not a network share)",
        )
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    connection.execute("PRAGMA wal_autocheckpoint = 1000")


def _check_or_create(connection: sqlite3.Connection, path: Path) -> None:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    if not known:
        epoch = secrets.token_hex(4)
        connection.executescript(
            f"BEGIN IMMEDIATE; {TABLES} INSERT INTO meta VALUES ('epoch', '{epoch}');"
            f" INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}'); COMMIT;"
        )
        return
    (version,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if int(version) > SCHEMA_VERSION:
        raise StopError(
            "The spool was made by a newer version of mli.",
            where=str(path),
            expected=f"schema {SCHEMA_VERSION} or older",
            got=f"schema {version}",
            remedy="install that version again, or move the file away to begin a new spool",
        )


def _set_aside(path: Path, error: sqlite3.Error) -> None:
    stamp = int(time.time())
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    _sync_directory(path.parent)
    log.critical(
        "The spool %s is damaged (%s). It was set aside as %s and a new one is begun: what was queued in it is not "
        "delivered, sequences start again under a new epoch.",
        path,
        error,
        kept,
    )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
