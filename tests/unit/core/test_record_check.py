"""A worker that was taken over by what it parsed reaches nothing but its own pipeline's messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from mli.config.settings import PipelineSettings, PublishSettings, RuleSettings, SourceSettings
from mli.core.record_check import RecordCheck
from mli.core.supervisor import PipelineSupervisor
from mli.types import Counters, Firing, Message, ModelSpec, Record, ResumeState, RuleOutcome

EPOCH, SEQUENCE = "cafe0123", 7
RULE = RuleSettings("late", ("red",), topic="plant/line-1/late", qos=0, command="divert")
SETTINGS = PipelineSettings("door", "line-1", SourceSettings("images"), "m", PublishSettings("mli/p"), rules=(RULE,))
MODEL = ModelSpec("color", "1", "ab" * 32, "onnx", "classification", "/models", "m.onnx", ("red",))
MESSAGE = Message(f"{EPOCH}-door-7", "door", SEQUENCE, "mli/p", b"[]", 1, 1.5e9, MODEL.sha256)
OF_RULE = replace(MESSAGE, id=f"{MESSAGE.id}-late", topic="plant/line-1/late", qos=0)
FIRING = Firing("late", "divert", 1.5e9, 1.0, "red", -0.5, "b\\xff.png")
OUTCOME = RuleOutcome("late", True, "red -0.50")
RECORD = Record(1, "door", SEQUENCE, "a.png", True, Counters(frames=7), (MESSAGE, OF_RULE), (FIRING,), (OUTCOME,))
SKIPPED = Record(2, "door", None, None, True, Counters(frames=7, skipped=1))


def with_message(**changes: Any) -> Record:
    return replace(RECORD, messages=(MESSAGE, replace(MESSAGE, **changes)))


def with_firing(**changes: Any) -> Record:
    return replace(RECORD, firings=(replace(FIRING, **changes),))


def counting(**changes: Any) -> Record:
    return replace(RECORD, counters=replace(RECORD.counters, **changes))


BAD: dict[str, Record] = {
    "a deployment for itself": with_message(topic="mli/deployments/line-1"),
    "a topic that is no text": with_message(topic=5),
    "a rule's topic with another QoS": with_message(topic="plant/line-1/late"),
    "QoS 2": with_message(qos=2),
    "the id of another pipeline's next message": with_message(id=f"{EPOCH}-gate-7"),
    "an id of another frame": with_message(id=f"{EPOCH}-door-8"),
    "an id of a rule that there is not": with_message(id=f"{MESSAGE.id}-early"),
    "another pipeline's message": with_message(pipeline="gate"),
    "another frame's message": with_message(sequence=8),
    "another model": with_message(model_sha256="cd" * 32),
    "a time that has no text": with_message(captured_at=1e300),
    "no time": with_message(captured_at=float("nan")),
    "a time before 1970": with_message(captured_at=-1.0),
    "a time that is a text": with_message(captured_at="now"),
    "another pipeline": replace(RECORD, pipeline="gate"),
    "a sequence that no database takes": replace(RECORD, sequence=2**70, messages=()),
    "a sequence that is none": replace(RECORD, sequence=True, messages=()),
    "messages of no frame": replace(RECORD, sequence=None),
    "a number that is none": replace(RECORD, number=cast(Any, "1")),
    "a position that no database takes": replace(RECORD, position="\udcff"),
    "an endless position": replace(RECORD, position="x" * 100_000),
    "a counter that is none": counting(frames="many"),
    "a counter below 0": counting(skipped=-1),
    "a command of the device that no rule names": with_firing(command="reboot"),
    "a command of a rule that there is not": with_firing(rule="early"),
    "a label that no database takes": with_firing(label="\udcff"),
    "an image name that is none": with_firing(image_name=None),
    "a confidence that a database takes for nothing": with_firing(confidence=float("nan")),
    "an outcome of a rule that there is not": replace(RECORD, outcomes=(RuleOutcome("early", False, "saw nothing"),)),
    "a firing for ever": with_firing(max_age_s=float("inf")),
}


@pytest.mark.parametrize("record", [RECORD, SKIPPED, replace(RECORD, messages=(), firings=(), position=None)])
def test_what_a_worker_makes_is_taken(record: Record) -> None:
    assert RecordCheck(SETTINGS, MODEL).why_not(record, EPOCH) is None


@pytest.mark.parametrize("record", BAD.values(), ids=BAD)
def test_what_reaches_beyond_its_pipeline_or_ends_whoever_stores_it_is_not(record: Record) -> None:
    with pytest.raises((ValueError, TypeError)):  # as its connection takes it for the worker's end
        supervised(record)


def test_what_is_taken_is_stored_once_it_may_be() -> None:
    assert supervised(RECORD) == [RECORD]


def supervised(record: Record) -> list[Record]:
    """What is stored of a record that the worker of a supervisor sent."""
    stored: list[Record] = []

    class Store:
        def submit(self, record: Record, _committed: Callable[[Record], None]) -> None:
            stored.append(record)

        def resume(self, _pipeline: str, _source_key: str) -> ResumeState:
            return ResumeState(EPOCH, SEQUENCE)

    supervisor = PipelineSupervisor(SETTINGS, MODEL, Store(), "images", lambda _: None, lambda: None)
    supervisor._go_message()
    supervisor._take(record)
    return stored
