"""What a worker hands over, looked at by the core: a worker parses hostile bytes, and may be somebody else's by now.

Nothing of a record is believed that would reach beyond its pipeline: another topic, another pipeline's messages, a
command that no rule of its own names; or a value that would end whoever stores or publishes it, at every start anew.
"""

from __future__ import annotations

from mli.config.settings import PipelineSettings
from mli.types import Message, ModelSpec, Record

LARGEST_NUMBER = 2**53
LATEST_S = 253402300799.0
"""The end of the year 9999: a later time has no text."""
LONGEST_POSITION = 64 * 1024


class RecordCheck:
    """What one pipeline's worker may send."""

    def __init__(self, settings: PipelineSettings, model: ModelSpec) -> None:
        publish, rules = settings.publish, settings.rules
        self._pipeline = settings.name
        self._model_sha256 = model.sha256
        self._lines = {(publish.topic, publish.qos), *((rule.topic, rule.qos) for rule in rules)}
        self._rules = {rule.name for rule in rules}
        self._commands = {(rule.name, rule.command) for rule in rules if rule.command is not None}

    def why_not(self, record: Record, epoch: str) -> str | None:
        """Why no worker of this pipeline can have made the record; None where one can.

        Args:
            epoch: of the spool, with which the worker's ids begin.
        """
        if record.pipeline != self._pipeline:
            return f"it is of the pipeline {_shown(record.pipeline)}"
        if not _is_number(record.number) or not (record.sequence is None or _is_number(record.sequence)):
            return "its numbers are none"
        counters = record.counters
        counts = (counters.frames, counters.skipped, counters.dropped, counters.judged, counters.right)
        if not all(map(_is_number, counts)):
            return "its counters are none"
        if not (record.position is None or (_is_text(record.position) and len(record.position) <= LONGEST_POSITION)):
            return "its position is no text"
        if any(outcome.rule not in self._rules for outcome in record.outcomes):
            return "it tells of a rule that its pipeline does not have"
        if record.sequence is None and (record.messages or record.firings):
            return "it has messages and no sequence"
        return next(filter(None, (self._wrong_message(record, item, epoch) for item in record.messages)), None) or (
            self._wrong_firing(record)
        )

    def _wrong_message(self, record: Record, message: Message, epoch: str) -> str | None:
        if (message.topic, message.qos) not in self._lines:
            return f"a message is for the topic {_shown(message.topic)} with QoS {_shown(message.qos)}"
        own = f"{epoch}-{self._pipeline}-{record.sequence}"
        is_own = message.id == own or message.id in {f"{own}-{rule}" for rule in self._rules}
        if not is_own or message.pipeline != record.pipeline or message.sequence != record.sequence:
            return f"a message has the id {_shown(message.id)}"
        if message.model_sha256 != self._model_sha256:
            return "a message is of another model"
        return None if _is_time(message.captured_at) else "a message is of no time"

    def _wrong_firing(self, record: Record) -> str | None:
        for firing in record.firings:
            if (firing.rule, firing.command) not in self._commands:
                return f"the command {_shown(firing.command)} is asked for, which its rules do not name"
            if not (_is_text(firing.label) and _is_text(firing.image_name)):
                return "what a command is to be told is no text"
            if not (_is_time(firing.captured_at) and _is_time(firing.max_age_s) and _is_real(firing.confidence)):
                return "what a command is to be told is no number"
        return None


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_NUMBER


def _is_real(value: object) -> bool:
    """Not NaN, which a database takes for nothing."""
    return type(value) in (int, float) and value == value


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= LATEST_S  # type: ignore[operator]


def _is_text(value: object) -> bool:
    """One that a database takes."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    """What a stranger wrote, short and harmless in a log."""
    return ascii(value)[:80]
