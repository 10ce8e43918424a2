"""The spool's firings: commands that rules asked for, each started at most once."""

from __future__ import annotations

from collections.abc import Iterable

from mli.delivery.spool_file import SpoolFile
from mli.delivery.spool_schema import FiringState, StoredFiring
from mli.types import Firing, Record

KEPT_ENDED = 1_000
MAX_PENDING = 1_000
COLUMNS = (
    "id, pipeline, sequence, rule, command, captured_at, max_age_s, label, confidence, image_name, state, detail"
)


class Firings:
    """The firings table. A firing left ``started`` by a core that died becomes ``unknown``: never run again."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        with file.transaction() as connection:
            connection.execute(
                "UPDATE firings SET state = 'unknown', detail = 'the core ended while the command ran'"
                " WHERE state = 'started'"
            )

    def insert(self, records: Iterable[Record]) -> None:
        """Store the records' firings, inside the caller's transaction; too many pending ones are dropped."""
        rows = [_row(record, firing) for record in records for firing in record.firings]
        if not rows:
            return
        connection = self._file.connection
        pending = connection.execute("SELECT COUNT(*) FROM firings WHERE state = 'pending'").fetchone()[0]
        room = max(0, MAX_PENDING - pending)
        stated = [(*row, "pending", "") for row in rows[:room]]
        stated += [(*row, "dropped", "too many commands were waiting") for row in rows[room:]]
        connection.executemany(
            "INSERT INTO firings (pipeline, sequence, rule, command, captured_at, max_age_s, label, confidence,"
            " image_name, state, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            stated,
        )
        if rows[room:]:
            self._forget_old()

    def pending(self) -> list[StoredFiring]:
        """Those that wait to be started, oldest first."""
        return self._select("WHERE state = 'pending' ORDER BY id")

    def recent(self, limit: int) -> list[StoredFiring]:
        """The last ones in any state, newest first."""
        return self._select(f"ORDER BY id DESC LIMIT {int(limit)}")

    def start(self, firing_id: int) -> bool:
        """Commit that it is being started; False where it is not pending, and must not be started."""
        with self._file.transaction() as connection:
            changed = connection.execute(
                "UPDATE firings SET state = 'started' WHERE id = ? AND state = 'pending'", (firing_id,)
            ).rowcount
        return changed == 1

    def end(self, firing_id: int, state: FiringState, detail: str) -> None:
        """Commit what became of it."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE firings SET state = ?, detail = ? WHERE id = ?", (state, detail, firing_id))
            self._forget_old()

    def _forget_old(self) -> None:
        self._file.connection.execute(
            "DELETE FROM firings WHERE state NOT IN ('pending', 'started') AND id <= (SELECT id FROM firings"
            f" WHERE state NOT IN ('pending', 'started') ORDER BY id DESC LIMIT 1 OFFSET {KEPT_ENDED})"
        )

    def _select(self, where: str) -> list[StoredFiring]:
        with self._file.reading() as connection:
            rows = connection.execute(f"SELECT {COLUMNS} FROM firings {where}").fetchall()
        return [
            StoredFiring(
                id=row[0],
                pipeline=row[1],
                sequence=row[2],
                firing=Firing(*row[3:10]),
                state=row[10],
                detail=row[11],
            )
            for row in rows
        ]


def _row(record: Record, firing: Firing) -> tuple[object, ...]:
    return (
        record.pipeline,
        record.sequence if record.sequence is not None else 0,
        firing.rule,
        firing.command,
        firing.captured_at,
        firing.max_age_s,
        firing.label,
        firing.confidence,
        firing.image_name,
    )
