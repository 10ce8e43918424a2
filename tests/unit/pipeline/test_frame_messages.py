"""Payloads: the accelerator's bytes, the full object, and ids that survive a re-run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.config.json_schema_check import check

from mli.config.settings import PipelineSettings, PublishSettings, RuleSettings, SourceSettings
from mli.pipeline.messages import MessageMaker, compact_payload, confidence_text, timestamp
from mli.types import Box, ModelSpec, Prediction

FULL_SCHEMA = Path(__file__).parents[3] / "docs" / "schemas" / "prediction-full.schema.json"
POP = Prediction("n03983396 pop bottle, soda bottle", 737, float(np.float32(0.21719395)))
SETTINGS = PipelineSettings(
    "belt", "sorter-1", SourceSettings("images"), "main", PublishSettings("mli/predictions/sorter-1", qos=0)
)
MODEL = ModelSpec("pets", "1.2", "ab" * 32, "onnx", "classification", "/", "m.onnx", ("a", "b"))


def maker(**publish: object) -> MessageMaker:
    changed = replace(SETTINGS, publish=replace(SETTINGS.publish, **publish))  # type: ignore[arg-type]
    return MessageMaker(changed, MODEL, "onnxruntime 1.32.0", "k3x9")


def test_compact_payload_is_the_accelerators_to_the_byte() -> None:
    wanted = b'[{"confidence": "0.21719395", "prediction": "n03983396 pop bottle, soda bottle"}]'
    assert compact_payload([POP], None) == wanted
    assert maker().prediction(7, 1.0, "x.jpg", [POP], 3.0).payload == wanted


def test_image_name_is_the_third_key() -> None:
    wanted = (
        b'[{"confidence": "0.21719395", "prediction": "n03983396 pop bottle, soda bottle", "image_name": "a b.jpg"}]'
    )
    assert maker(image_name=True).prediction(7, 1.0, "a b.jpg", [POP], 3.0).payload == wanted


def test_several_predictions_and_none_are_an_array_too() -> None:
    two = [POP, replace(POP, label="ü", confidence=1.0)]
    assert json.loads(compact_payload(two, None))[1] == {"confidence": "1.0", "prediction": "ü"}
    assert compact_payload([], None) == b"[]"


@settings(deadline=None)
@given(st.floats(0, 1, width=32))
def test_confidence_is_the_text_of_the_float32(confidence: float) -> None:
    text = confidence_text(confidence)
    assert text == str(np.float32(confidence))
    assert np.float32(text) == np.float32(confidence)


def test_message_carries_what_is_known_of_it() -> None:
    message = maker().prediction(12, 1000.5, "x.jpg", [POP], 3.0)
    assert (message.id, message.pipeline, message.sequence) == ("k3x9-belt-12", "belt", 12)
    assert (message.topic, message.qos) == ("mli/predictions/sorter-1", 0)
    assert (message.captured_at, message.model_sha256) == (1000.5, "ab" * 32)


def test_full_payload_fits_its_published_schema() -> None:
    boxed = replace(POP, box=Box(0.0, 0.123456789, 0.5, 1.0))
    body = json.loads(
        maker(payload="full").prediction(12, 1_795_368_600.1239, "x.jpg", [POP, boxed], 3.14159).payload
    )
    check(body, json.loads(FULL_SCHEMA.read_text(encoding="utf-8")))
    assert body == {
        "schema": "mli.prediction/1",
        "thing": "sorter-1",
        "pipeline": "belt",
        "id": "k3x9-belt-12",
        "sequence": 12,
        "captured_at": "2026-11-22T17:30:00.123Z",
        "image_name": "x.jpg",
        "model": {"name": "pets", "version": "1.2", "sha256": "ab" * 32},
        "backend": "onnxruntime 1.32.0",
        "latency_ms": 3.142,
        "predictions": [
            {"label": POP.label, "class_id": 737, "confidence": 0.21719395},
            {
                "label": POP.label,
                "class_id": 737,
                "confidence": 0.21719395,
                "box": {"left": 0.0, "top": 0.123457, "right": 0.5, "bottom": 1.0},
            },
        ],
    }


def test_a_rules_message_has_an_id_of_its_own() -> None:
    rule = RuleSettings("divert", ("pop",), topic="mli/actions/x", qos=0)
    message = maker().firing(rule, 12, 0.0, "x.jpg", POP)
    assert (message.id, message.topic, message.qos, message.sequence) == (
        "k3x9-belt-12-divert",
        "mli/actions/x",
        0,
        12,
    )
    assert json.loads(message.payload) == {
        "rule": "divert",
        "id": "k3x9-belt-12",
        "captured_at": "1970-01-01T00:00:00.000Z",
        "image_name": "x.jpg",
        "label": POP.label,
        "confidence": 0.21719395,
    }


@pytest.mark.parametrize(
    ("unix_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_795_368_600.9999, "2026-11-22T17:30:00.999Z"),
        (1e9, "2001-09-09T01:46:40.000Z"),
    ],
)
def test_timestamps_are_utc_with_milliseconds(unix_s: float, text: str) -> None:
    assert timestamp(unix_s) == text
