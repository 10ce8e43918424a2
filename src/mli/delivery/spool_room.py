"""How the spool makes room: the oldest live messages go, counted, and one message announces each run of them."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mli.delivery.spool_file import Announcement, AnnouncementKey, SpoolFile
from mli.delivery.spool_schema import MESSAGE_OVERHEAD_BYTES

SPOOL_FULL = "spool full"
TOO_OLD = "too old"
MAX_ANNOUNCEMENTS = 64
STEP_S = 1.0
"""By so much more than time has passed a clock goes forward only where somebody sets it."""


def steady_s() -> float:
    """Seconds since some moment, whatever clock is set; a machine's sleep counts where the system tells it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Dropped:
    """One message that leaves by policy, and the sink kind that its announcement goes to."""

    pipeline: str
    sequence: int
    topic: str
    sink: str
    captured_at: float
    model_sha256: str


class Room:
    """Drops messages inside the caller's transaction. ``claimed`` are in flight and never dropped."""

    def __init__(self, file: SpoolFile, claimed: Collection[int]) -> None:
        self._file = file
        self._claimed = claimed

    def drop_live(self, need_bytes: int, now: float) -> int:
        """Drop the oldest live messages until ``need_bytes`` are free or none is left; returns the bytes freed."""
        freed = 0
        rows = self._file.connection.execute(
            "SELECT number, pipeline, sequence, topic, sink, captured_at, model_sha256, size, not_before"
            " FROM messages WHERE live = 1 ORDER BY number"
        )
        going = []
        for row in rows:
            if freed >= need_bytes:
                break
            if row[0] not in self._claimed:
                going.append(row)
                freed += row[7]
        rows.close()
        self._drop(going, SPOOL_FULL, now)
        return freed

    def drop_older(self, created_before: float, now: float) -> int:
        """Drop messages that were committed before ``created_before``; returns how many."""
        self._keep_ages(now)
        rows = self._file.connection.execute(
            "SELECT number, pipeline, sequence, topic, sink, captured_at, model_sha256, size, not_before"
            " FROM messages WHERE announcement = 0 AND created_at < ? ORDER BY number",
            (created_before,),
        ).fetchall()
        going = [row for row in rows if row[0] not in self._claimed]
        self._drop(going, TOO_OLD, now)
        return len(going)

    def _keep_ages(self, now: float) -> None:
        """A clock that is put forward makes no message older. A device that has no clock of its own starts with an
        old time, and gets the right one from the network for which its messages wait."""
        totals, steady_now = self._file.totals, steady_s()
        if totals.ages_seen_at is not None:
            then, steady_then = totals.ages_seen_at
            expected = then + steady_now - steady_then
            if now - expected > STEP_S:  # later stamps are of the clock as it is now, or was right before
                self._file.connection.execute(
                    "UPDATE messages SET created_at = created_at + ? WHERE created_at <= ?",
                    (now - expected, expected),
                )
        totals.ages_seen_at = now, steady_now

    def announce(self, dropped: Iterable[Dropped], reason: str, now: float) -> None:
        """Count drops and queue what says so, one message a contiguous run, merged into one still queued."""
        runs: dict[tuple[str, str], list[Dropped]] = {}
        for one in dropped:
            self._file.totals.count_reason("dropped", reason)
            runs.setdefault((one.pipeline, one.topic), []).append(one)
        for (pipeline, topic), members in runs.items():
            key = (pipeline, f"{topic}/dropped", reason)
            for run in _contiguous(members):
                self._announce_run(key, run, now)

    def _drop(self, rows: list[tuple[object, ...]], reason: str, now: float) -> None:
        if not rows:
            return
        totals = self._file.totals
        self._file.connection.executemany("DELETE FROM messages WHERE number = ?", [row[:1] for row in rows])
        for row in rows:
            totals.left(str(row[4]), int(str(row[7])))
            totals.deferred -= row[8] != 0
        self.announce((Dropped(*row[1:7]) for row in rows), reason, now)  # type: ignore[arg-type]

    def _announce_run(self, key: AnnouncementKey, run: list[Dropped], now: float) -> None:
        first, last = run[0].sequence, run[-1].sequence
        totals = self._file.totals
        queued = totals.announcements.get(key)
        if queued is not None and queued.rowid not in self._claimed:
            joins = queued.first <= last + 1 and first <= queued.last + 1
            if joins or self._too_many():
                merged = Announcement(
                    queued.rowid,
                    min(first, queued.first),
                    max(last, queued.last),
                    queued.count + len(run),
                    queued.size,
                )
                changed = self._file.connection.execute(
                    "UPDATE messages SET payload = ? WHERE number = ?", (_payload(key, merged), queued.rowid)
                ).rowcount
                if changed:
                    totals.announcements[key] = merged
                    return
        self._insert(key, run, now)

    def _too_many(self) -> bool:
        found = self._file.connection.execute("SELECT COUNT(*) FROM messages WHERE announcement = 1")
        return bool(found.fetchone()[0] >= MAX_ANNOUNCEMENTS)

    def _insert(self, key: AnnouncementKey, run: list[Dropped], now: float) -> None:
        pipeline, topic, _ = key
        totals = self._file.totals
        totals.last_rowid += 1
        totals.count("accepted")
        totals.count("announced")
        serial = totals.account["announced"]
        announcement = Announcement(totals.last_rowid, run[0].sequence, run[-1].sequence, len(run), 0)
        payload = _payload(key, announcement)
        # Room for its numbers to grow, so that a merge does not change what is queued.
        size = len(topic.encode()) + len(payload) + 64 + MESSAGE_OVERHEAD_BYTES
        oldest = run[0]
        self._file.connection.execute(
            "INSERT INTO messages (number, id, pipeline, sequence, topic, payload, qos, captured_at, created_at,"
            " model_sha256, live, sink, size, announcement) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, 0, ?, ?, 1)",
            (
                totals.last_rowid,
                f"{self._file.epoch}-{pipeline}-{run[0].sequence}-dropped-{serial}",
                pipeline,
                run[0].sequence,
                topic,
                payload,
                oldest.captured_at,
                now,
                oldest.model_sha256,
                oldest.sink,
                size,
            ),
        )
        totals.waiting[oldest.sink] = totals.waiting.get(oldest.sink, 0) + 1
        totals.queued_bytes += size
        totals.announcements[key] = Announcement(
            announcement.rowid, announcement.first, announcement.last, announcement.count, size
        )


def _contiguous(members: list[Dropped]) -> list[list[Dropped]]:
    members = sorted(members, key=lambda one: one.sequence)
    runs = [[members[0]]]
    for one in members[1:]:
        if one.sequence <= runs[-1][-1].sequence + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _payload(key: AnnouncementKey, announcement: Announcement) -> bytes:
    pipeline, _, reason = key
    told = {
        "pipeline": pipeline,
        "from": announcement.first,
        "to": announcement.last,
        "count": announcement.count,
        "reason": reason,
    }
    return json.dumps({"dropped": told}).encode()
