"""Where each pipeline goes on: its sequence, its counters, and how far it has come in each source."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple

from mli.delivery.spool_file import SpoolFile
from mli.types import Counters, Record, ResumeState

KEPT_FORMER = 8
"""Sources that a pipeline read before, of which it is kept how far it came."""


class Positions:
    """How far each pipeline came, in the source that it reads and in the last few that it read before.

    A deployment that is taken back may have changed the source; the one before it goes on where it stopped.
    """

    def __init__(self, file: SpoolFile) -> None:
        self._file = file

    def resume(self, pipeline: str, source_key: str) -> ResumeState:
        """Where a pipeline goes on; see ``Spool.resume``."""
        with self._file.lock:
            with self._file.reading() as connection:
                row = connection.execute(
                    "SELECT next_sequence, source_key, position, counters FROM pipelines WHERE name = ?", (pipeline,)
                ).fetchone()
            next_sequence, known_key, position, counters = row or (1, None, None, "[]")
            if known_key != source_key:
                with self._file.transaction():
                    former = self._take(pipeline, source_key)
                    self._keep(pipeline, known_key, position)
                    position = former
                    self._file.connection.execute(
                        "INSERT INTO pipelines VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
                        " SET source_key = excluded.source_key, position = excluded.position",
                        (pipeline, next_sequence, source_key, position, counters),
                    )
                    self._file.totals.next_sequences[pipeline] = next_sequence
            return ResumeState(self._file.epoch, next_sequence, position, Counters(*json.loads(counters)))

    def start_over(self, pipeline: str, source_key: str) -> None:
        """Forget how far it came in a source."""
        with self._file.transaction() as connection:
            connection.execute(
                "UPDATE pipelines SET position = NULL WHERE name = ? AND source_key = ?", (pipeline, source_key)
            )
            self._take(pipeline, source_key)

    def move(self, records: Iterable[Record]) -> None:
        """Note how far each pipeline has come, inside the caller's transaction."""
        rows = [
            (name, self._file.totals.next_sequences.get(name, 1), last.position, json.dumps(astuple(last.counters)))
            for name, last in {record.pipeline: record for record in records}.items()
        ]
        self._file.connection.executemany(
            "INSERT INTO pipelines (name, next_sequence, position, counters) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET next_sequence = excluded.next_sequence,"
            " position = excluded.position, counters = excluded.counters",
            rows,
        )

    def _keep(self, pipeline: str, source_key: str | None, position: str | None) -> None:
        if source_key is None or position is None:
            return
        connection = self._file.connection
        connection.execute(
            "INSERT INTO former_positions (pipeline, source_key, position) VALUES (?, ?, ?)",
            (pipeline, source_key, position),
        )
        connection.execute(
            "DELETE FROM former_positions WHERE pipeline = ? AND number NOT IN (SELECT number FROM former_positions"
            " WHERE pipeline = ? ORDER BY number DESC LIMIT ?)",
            (pipeline, pipeline, KEPT_FORMER),
        )

    def _take(self, pipeline: str, source_key: str) -> str | None:
        which = ("FROM former_positions WHERE pipeline = ? AND source_key = ?", (pipeline, source_key))
        found = self._file.connection.execute(f"SELECT position {which[0]}", which[1]).fetchone()
        self._file.connection.execute(f"DELETE {which[0]}", which[1])
        return None if found is None else str(found[0])
