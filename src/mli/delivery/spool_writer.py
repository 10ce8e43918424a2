"""One thread that commits for all: what waits together is made durable together."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mli.delivery.spool import Spool
from mli.delivery.spool_schema import Refusal
from mli.errors import MliError, RetryError
from mli.types import Record, ResumeState

log = logging.getLogger(__name__)

MAX_RECORDS = 512  # of one transaction: bounds its time
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0
EXPIRE_EVERY_S = 10.0
GATHER_S = 0.005  # settlements wait so long for others, since nobody waits for them; so do records in a dense stream
MANY_SETTLEMENTS = 32
MANY_RECORDS = 16  # half of what a worker may have unacknowledged

Committed = Callable[[Record], None]


@dataclass(frozen=True, slots=True)
class _Submission:
    record: Record
    committed: Committed
    since: float


@dataclass(frozen=True, slots=True)
class _Settlement:
    delivered: tuple[int, ...]
    refused: tuple[Refusal, ...]
    committed: Callable[[], None]
    since: float


class SpoolWriter:
    """Owns the spool's writes on the hot path: group commit.

    What cannot be committed yet (no room for a finite source, a full disk) is kept in order and tried again;
    other pipelines go on. It is bounded by what workers may have unacknowledged.

    Args:
        on_commit: called after each commit, from the writer's thread; wakes whoever waits for messages or firings.
        on_failure: called once when the writer cannot go on (a damaged file).
    """

    def __init__(
        self,
        spool: Spool,
        *,
        on_commit: Callable[[], None] | None = None,
        on_failure: Callable[[MliError], None] | None = None,
    ) -> None:
        self._spool = spool
        self._on_commit: list[Callable[[], None]] = [on_commit] if on_commit else []
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._incoming: deque[_Submission] = deque()
        self._settlements: deque[_Settlement] = deque()
        self._waiting: list[_Submission] = []  # had no room; in order
        self._busy = False
        self._dense = False  # the last records came in company, so the next ones will
        self._stopping = False
        self._failure: MliError | None = None
        self._retry_at: float | None = None
        self._retry_s = FIRST_RETRY_S
        self._expire_at = time.monotonic()
        self._told_full: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)

    @property
    def failure(self) -> MliError | None:
        """Why the writer ended by itself; None while it works."""
        return self._failure

    def add_commit_listener(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called after each commit, from the writer's thread. It must not block."""
        self._on_commit.append(listener)

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def submit(self, record: Record, committed: Committed) -> None:
        """Queue a record; ``committed`` is called from the writer's thread once it is on the disk."""
        with self._changed:
            self._incoming.append(_Submission(record, committed, time.monotonic()))
            if len(self._incoming) in (1, MANY_RECORDS):
                self._changed.notify_all()

    def settle(
        self, delivered: Sequence[int], refused: Sequence[Refusal], committed: Callable[[], None] = lambda: None
    ) -> None:
        """Queue what became of claimed messages."""
        with self._changed:
            self._settlements.append(_Settlement(tuple(delivered), tuple(refused), committed, time.monotonic()))
            if len(self._settlements) in (1, MANY_SETTLEMENTS):
                self._changed.notify_all()

    def resume(self, pipeline: str, source_key: str) -> ResumeState:
        """Where a new worker goes on: after the old one's records are committed, or forgotten where they cannot be.

        Forgotten records were never acknowledged; the new worker makes them again under the same ids.

        Raises:
            RetryError: the disk is full or failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._commits_soon(pipeline))
            forgotten = self._forget(pipeline)
        if forgotten:
            log.warning("%s: %d uncommitted records of its last worker are made again.", pipeline, forgotten)
        return self._spool.resume(pipeline, source_key)

    def waiting(self, pipeline: str | None = None) -> int:
        """How many records wait to be committed, of one pipeline or of all."""
        with self._changed:
            return sum(pipeline in (None, one.record.pipeline) for one in (*self._incoming, *self._waiting))

    def stop(self) -> int:
        """End after one last commit of all that is queued.

        Returns:
            How many records had no room or no disk; they were not acknowledged, so a new start makes them again.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        left = len(self._incoming) + len(self._waiting)
        if left:
            log.warning("The core ends with %d records uncommitted; the next start makes them again.", left)
        return left

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._wait():
                self._step()
            self._step()
        except Exception as error:  # the thread's edge: the core must hear of it
            failure = error if isinstance(error, MliError) else _unexpected(error)
            log.critical("The spool's writer ended: %s", error, exc_info=error)
            with self._changed:
                self._failure = failure
                self._changed.notify_all()
            if self._on_failure:
                self._on_failure(failure)

    def _wait(self) -> bool:
        """Sleep until there is something to commit; False when stopping."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                due = [self._expire_at]
                if self._retry_at is not None:
                    due.append(self._retry_at)
                elif self._is_enough():
                    return True
                else:
                    due += [queue[0].since + GATHER_S for queue in (self._incoming, self._settlements) if queue]
                if min(due) <= now:
                    return True
                self._changed.wait(min(due) - now)
            return False

    def _is_enough(self) -> bool:
        """What is queued is worth a commit now; fewer wait a moment: a commit costs what ten records do."""
        wanted = MANY_RECORDS if self._dense else 1
        return len(self._incoming) >= wanted or len(self._settlements) >= MANY_SETTLEMENTS

    def _step(self) -> None:
        submissions, settlements = self._take()
        if not submissions and not settlements and not self._is_expiring():
            with self._changed:
                self._busy = False
            return
        try:
            self._expire()
            left = self._commit(submissions, settlements)
        except RetryError as error:
            self._put_back(submissions, settlements)
            self._note_retry(error)
            return
        self._note_success()
        if submissions:
            self._dense = len(submissions) > 1
        self._finish(submissions, settlements, left)

    def _take(self) -> tuple[list[_Submission], list[_Settlement]]:
        """All settlements, and the records worth trying: those that had no room only when some may have come."""
        with self._changed:
            self._busy = True
            settlements = list(self._settlements)
            self._settlements.clear()
            submissions: list[_Submission] = []
            if settlements or self._retry_at is not None or self._is_expiring() or self._stopping:
                submissions, self._waiting = self._waiting, []
            held = {one.record.pipeline for one in self._waiting}
            while self._incoming and (len(submissions) < MAX_RECORDS or self._stopping):
                one = self._incoming.popleft()
                (self._waiting if one.record.pipeline in held else submissions).append(one)
            return submissions, settlements

    def _commit(self, submissions: list[_Submission], settlements: list[_Settlement]) -> set[int]:
        if not submissions and not settlements:
            return set()
        left = self._spool.commit(
            [one.record for one in submissions],
            [rowid for one in settlements for rowid in one.delivered],
            [refusal for one in settlements for refusal in one.refused],
        )
        return {id(record) for record in left}

    def _finish(self, submissions: list[_Submission], settlements: list[_Settlement], left: set[int]) -> None:
        kept = [one for one in submissions if id(one.record) in left]
        self._note_room({one.record.pipeline for one in kept}, {one.record.pipeline for one in submissions})
        for settlement in settlements:
            self._call(settlement.committed)
        for one in submissions:
            if id(one.record) not in left:
                self._call(lambda one=one: one.committed(one.record))  # type: ignore[misc]
        with self._changed:
            self._waiting = kept + self._waiting
            self._busy = False
            self._changed.notify_all()
        for listener in self._on_commit:
            self._call(listener)

    def _put_back(self, submissions: list[_Submission], settlements: list[_Settlement]) -> None:
        with self._changed:
            self._waiting = submissions + self._waiting
            self._settlements.extendleft(reversed(settlements))
            self._busy = False
            self._changed.notify_all()

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # a worker that just went away must not end the writer
            log.error("A listener of the spool's writer failed: %s", error, exc_info=error)

    def _is_expiring(self) -> bool:
        return time.monotonic() >= self._expire_at

    def _expire(self) -> None:
        if self._is_expiring():
            dropped = self._spool.expire()
            self._expire_at = time.monotonic() + EXPIRE_EVERY_S
            if dropped:
                log.warning("%d messages were older than spool.max_age and dropped.", dropped)

    def _commits_soon(self, pipeline: str) -> bool:
        """Records of the pipeline are on their way to the disk, and nothing holds them up."""
        if self._failure or self._stopping:
            return False
        if self._busy:
            return True
        return self._retry_at is None and any(one.record.pipeline == pipeline for one in self._incoming)

    def _forget(self, pipeline: str) -> int:
        def others(kept: Sequence[_Submission] | deque[_Submission]) -> list[_Submission]:
            return [one for one in kept if one.record.pipeline != pipeline]

        before = len(self._incoming) + len(self._waiting)
        self._incoming = deque(others(self._incoming))
        self._waiting = others(self._waiting)
        return before - len(self._incoming) - len(self._waiting)

    # --- said once an episode ------------------------------------------------------------------------------

    def _note_retry(self, error: RetryError) -> None:
        if self._retry_at is None:
            log.error("%s", error)
            self._retry_s = FIRST_RETRY_S
        else:
            self._retry_s = min(LAST_RETRY_S, self._retry_s * 2)
        self._retry_at = time.monotonic() + self._retry_s

    def _note_success(self) -> None:
        if self._retry_at is not None:
            log.info("The spool can be written again.")
            self._retry_at = None

    def _note_room(self, full: set[str], tried: set[str]) -> None:
        for pipeline in sorted(full - self._told_full):
            stats = self._spool.stats()
            log.warning(
                "%s waits: the spool is full (%d bytes, %d messages wait for delivery, %d of them for another sink).",
                pipeline,
                stats.queued_bytes,
                stats.queued + stats.waiting_other_sink,
                stats.waiting_other_sink,
            )
        for pipeline in sorted((tried & self._told_full) - full):
            log.info("%s goes on: the spool has room again.", pipeline)
        self._told_full = (self._told_full - tried) | full


def _unexpected(error: Exception) -> MliError:
    wrapped = MliError(
        "The spool's writer failed in a way that it should not.", got=f"{type(error).__name__}: {error}"
    )
    wrapped.__cause__ = error
    return wrapped
