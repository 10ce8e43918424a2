"""The published schema of the full payload says what is really published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mli.config.settings import PipelineSettings, PublishSettings, SourceSettings
from mli.pipeline.messages import MessageMaker
from mli.types import Box, ModelSpec, Prediction

SCHEMA = Path(__file__).parents[3] / "docs" / "schemas" / "prediction-full.schema.json"
TYPES: dict[str, tuple[type[Any], ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
}


def check(schema: dict[str, Any], value: Any, optional: set[str]) -> None:
    """Types, keys and constants: what of JSON Schema our file uses."""
    if "const" in schema:
        assert value == schema["const"]
        return
    assert isinstance(value, TYPES[schema["type"]]), (schema, value)
    if schema["type"] == "object":
        assert set(value) == set(schema["properties"])
        assert set(schema["properties"]) - set(schema["required"]) <= optional
        for name, item in value.items():
            check(schema["properties"][name], item, optional)
    if schema["type"] == "array":
        assert value
        for item in value:
            check(schema["items"], item, optional)


def test_the_full_payload_has_exactly_the_schemas_fields() -> None:
    settings = PipelineSettings("main", "belt", SourceSettings("demo"), "m", PublishSettings("t", "full"))
    model = ModelSpec("m", "1", "ab" * 32, "onnx", "detection", "/", "m.onnx", ("can",))
    maker = MessageMaker(settings, model, "onnxruntime", "e1")
    message = maker.prediction(1, 0.0, "a.jpg", [Prediction("can", 0, 0.5, Box(0, 0, 1, 1))], 1.0)
    check(json.loads(SCHEMA.read_text()), json.loads(message.payload), optional={"box"})
