"""What one pipeline skipped, fired and did not fire, for people to read: ``log/user/<pipeline>.log``."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from mli.types import Record


@dataclass(slots=True)
class _Run:
    """The same answer of a rule for several frames."""

    reason: str
    first: int
    last: int


class PipelineJournal:
    """Writes a line for each skipped image and each firing, and one for each run of frames in which a rule gave
    the same reason not to fire."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._runs: dict[str, _Run] = {}
        self.fired: dict[str, int] = {}
        self.why_not: dict[str, str] = {}

    def record(self, record: Record) -> None:
        """Note what one record tells."""
        for skipped in record.skipped:
            self._log.warning("skipped %s", skipped.reason.replace("\n", ";"))
        if record.sequence is None:
            return
        for outcome in record.outcomes:
            if outcome.fired:
                self._end_run(outcome.rule)
                self.fired[outcome.rule] = self.fired.get(outcome.rule, 0) + 1
                self._log.info("frame %d: rule %s fired: %s", record.sequence, outcome.rule, outcome.reason)
            else:
                self.why_not[outcome.rule] = outcome.reason
                self._extend_run(outcome.rule, outcome.reason, record.sequence)

    def action(self, line: str) -> None:
        """Note what became of a command."""
        self._log.info("%s", line)

    def close(self) -> None:
        """Write what is still collected."""
        for rule in list(self._runs):
            self._end_run(rule)

    def _extend_run(self, rule: str, reason: str, sequence: int) -> None:
        run = self._runs.get(rule)
        if run is not None and run.reason == reason:
            run.last = sequence
            return
        self._end_run(rule)
        self._runs[rule] = _Run(reason, sequence, sequence)

    def _end_run(self, rule: str) -> None:
        run = self._runs.pop(rule, None)
        if run is None:
            return
        frames = f"frame {run.first}" if run.first == run.last else f"frames {run.first} to {run.last}"
        self._log.info("%s: rule %s did not fire: %s", frames, rule, run.reason)
