"""What crosses the process border comes out as it went in, and a wrong shape is told."""

from __future__ import annotations

import json

import pytest

from mli import frozen_json
from mli.config.settings import PipelineSettings, PublishSettings, RuleSettings, SourceSettings
from mli.types import Box, Counters, Firing, Message, Prediction, Record, RuleOutcome, SkippedFrame

RECORD = Record(
    number=7,
    pipeline="belt",
    sequence=7,
    position="/images/é 7.png",
    finite=True,
    counters=Counters(frames=7, skipped=1),
    messages=(Message("e-belt-7", "belt", 7, "mli/predictions/x", '[{"prediction": "Öl"}]'.encode(), 1, 1.5, "ab"),),
    firings=(Firing("divert", "push", 1.5, 0.5, "can", 0.9, "7.png"),),
    outcomes=(RuleOutcome("divert", True, "can 0.90"),),
    skipped=(SkippedFrame("6.png", "damaged", "/images/6.png"),),
    image_name="é 7.png",
    predictions=(Prediction("can", 0, 0.25, Box(0.0, 0.1, 0.5, 1.0)), Prediction("paper", 1, 0.125)),
    latency_ms=3.25,
)


def through_json(value: object) -> object:
    return frozen_json.from_json(type(value), json.loads(json.dumps(frozen_json.to_json(value))))


def test_record_with_everything_comes_out_as_it_went_in() -> None:
    assert through_json(RECORD) == RECORD


def test_settings_come_out_as_they_went_in() -> None:
    rule = RuleSettings("divert", labels=("can", "paper"), command="push")
    settings = PipelineSettings(
        "belt", "thing", SourceSettings("images", "./x"), "m", PublishSettings("t"), rules=(rule,)
    )
    assert through_json(settings) == settings


def test_left_out_fields_take_their_defaults() -> None:
    assert frozen_json.from_json(Counters, {"frames": 3}) == Counters(frames=3)


@pytest.mark.parametrize(
    "value",
    [
        {"label": "can", "class_id": 0},
        {"label": "can", "class_id": 0, "confidence": 0.5, "colour": "red"},
        {"label": "can", "class_id": 0, "confidence": 0.5, "box": {"left": 0.0}},
        7,
    ],
    ids=["missing", "unknown", "missing inside", "no object"],
)
def test_another_shape_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        frozen_json.from_json(Prediction, value)
