"""Frozen dataclasses to JSON and back: what crosses the process border arrives as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mli import frozen_json
from mli.config.settings import DeploymentSettings, DeviceSettings, PipelineSettings, PublishSettings, SourceSettings
from mli.core.wire import Start
from mli.types import Message, ModelSpec, Prediction, Record

MESSAGES = st.builds(Message, payload=st.text().map(str.encode))
RECORDS = st.builds(Record, messages=st.lists(MESSAGES, max_size=3).map(tuple))
ANY_SIZE = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def there_and_back(value: Any) -> Any:
    text = json.dumps(frozen_json.to_json(value))
    return frozen_json.from_json(type(value), json.loads(text))


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types; NaN equals NaN."""
    return repr(one) == repr(other)


@ANY_SIZE
@given(RECORDS)
def test_any_record_arrives_as_it_was(record: Record) -> None:
    assert same(there_and_back(record), record)


@ANY_SIZE
@given(st.from_type(Start))
def test_any_start_arrives_as_it_was(start: Start) -> None:
    assert same(there_and_back(start), start)


@ANY_SIZE
@given(st.from_type(DeviceSettings), st.from_type(DeploymentSettings))
def test_any_settings_arrive_as_they_were(device: DeviceSettings, deployment: DeploymentSettings) -> None:
    back = there_and_back(device)
    assert same(back, device)
    assert (back.mqtt and back.mqtt.password) == (device.mqtt and device.mqtt.password)  # not in its repr
    assert same(there_and_back(deployment), deployment)


START = Start(
    PipelineSettings("p", "t", SourceSettings("images"), "m", PublishSettings("topic")),
    ModelSpec("m", "1", "0", "onnx", "classification", "/", "m.onnx", ("a",)),
)


def test_a_file_name_that_is_no_text_survives() -> None:
    assert there_and_back(Prediction("a\udcff", 1, 0.5)).label == "a\udcff"


@pytest.mark.parametrize("change", ["missing", "unknown", "no object"])
def test_another_shape_is_an_error(change: str) -> None:
    value = frozen_json.to_json(START)
    if change == "missing":
        del value["settings"]["thing"]
    elif change == "unknown":
        value["settings"]["new"] = 1
    else:
        value["settings"] = 5
    with pytest.raises(TypeError):
        frozen_json.from_json(Start, value)
