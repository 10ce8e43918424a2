"""The JSON Schemas of the files, for documentation and editors: long and short form."""

from __future__ import annotations

from typing import Any

from mli.config.fields import NAME
from mli.config.schema import PUBLISH_KEYS, SOURCE_KEYS, DeploymentFile, DeviceFile, RunFile

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_BROKER = {"type": "string", "description": "address of the broker: mqtt://host or mqtts://host"}


def run_file_json_schema() -> dict[str, Any]:
    """Of a file for ``mli run``: device and deployment."""
    schema = _with_short_form(RunFile.model_json_schema())
    schema["properties"]["broker"] = _BROKER
    return schema


def deployment_json_schema() -> dict[str, Any]:
    """Of a deployment alone."""
    return _with_short_form(DeploymentFile.model_json_schema())


def device_json_schema() -> dict[str, Any]:
    """Of ``device.yaml``; what it leaves out may stand in ``config/config.json``."""
    schema = DeviceFile.model_json_schema()
    schema["$schema"] = _DIALECT
    schema["properties"]["broker"] = _BROKER
    del schema["required"]
    schema["$defs"]["MqttFile"].pop("required", None)
    return schema


def _with_short_form(schema: dict[str, Any]) -> dict[str, Any]:
    schema["$schema"] = _DIALECT
    parts = schema["$defs"]
    model: dict[str, Any] = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/ModelFile"}]}
    pipeline = parts["PipelineFile"]["properties"]
    pipeline["source"] = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/SourceFile"}]}
    pipeline |= {key: parts["SourceFile"]["properties"][key] for key in SOURCE_KEYS}
    pipeline |= {key: parts["PublishFile"]["properties"][key] for key in PUBLISH_KEYS}
    parts["PipelineFile"]["required"] = ["source"]
    top = schema["properties"]
    top["models"]["patternProperties"] = {NAME: model}
    top |= {**pipeline, "model": model}
    del schema["required"]
    schema["anyOf"] = [{"required": ["models", "pipelines"]}, {"required": ["source"]}]
    return schema
