"""Device and deployment files, and arguments, to settings; every error at once, with file, line and key."""

from __future__ import annotations

import copy
import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

from mli.config.broker_url import parse_broker_url
from mli.config.build import build_deployment, build_device, build_preprocess
from mli.config.schema import PipelineFile, PreprocessFile, RunFile
from mli.config.settings import DeploymentSettings, DeviceSettings, PreprocessSettings
from mli.config.yaml_places import Location, PlacedYaml, parse_yaml
from mli.errors import UsageError
from mli.nearest import nearest

MAX_FILE_BYTES = 1024 * 1024
SHORT_NAME = "main"
"""Name of the one model and the one pipeline of a short form."""

_SOURCE_KEYS = ("interval", "once", "frames")
_PUBLISH_KEYS = ("topic", "payload", "qos", "image_name")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """A device and what it runs, and the long form that they came from."""

    device: DeviceSettings
    deployment: DeploymentSettings
    expanded: dict[str, Any] = field(repr=False)


def load_run_file(path: Path, overrides: dict[str, Any] | None = None) -> RunSettings:
    """Read one file with device and deployment, short or long form.

    Args:
        overrides: top-level keys that the command line sets instead.

    Raises:
        UsageError: everything that is wrong with it, each with its line.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError("the file is too large to be settings", where=str(path), expected="at most 1 MB")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8 text", where=str(path)) from error
    placed = parse_yaml(text, str(path))
    value = {**placed.value, **(overrides or {})}
    return _settings(PlacedYaml(placed.name, value, placed.lines), path.resolve().parent)


def settings_of_arguments(value: dict[str, Any]) -> RunSettings:
    """Settings of a command line, given as the short form of a file; paths are relative to the working directory.

    Raises:
        UsageError: everything that is wrong with it.
    """
    return _settings(PlacedYaml("command line", value, {}), Path.cwd())


def shown(settings: RunSettings) -> dict[str, Any]:
    """The long form for people to read: every default, and no password."""
    expanded = copy.deepcopy(settings.expanded)
    expanded.setdefault("root", settings.device.root)
    mqtt = expanded.get("mqtt", {})
    if "password" in mqtt and not mqtt["password"].startswith("secret:"):
        mqtt["password"] = "********"
    return expanded


def preprocess_of_arguments(value: dict[str, Any]) -> PreprocessSettings:
    """Preprocessing as the command line gives it.

    Raises:
        UsageError: everything that is wrong with it.
    """
    placed = PlacedYaml("command line", value, {})
    try:
        return build_preprocess(PreprocessFile.model_validate(value))
    except pydantic.ValidationError as error:
        raise _refusal(placed, [_problem(placed, {}, item) for item in error.errors()]) from error


def default_thing() -> str:
    """This machine's name, as a thing may be called."""
    return re.sub(r"[^A-Za-z0-9:_-]", "-", socket.gethostname())[:128] or "mli"


def default_root(thing: str) -> Path:
    """The user's state folder for a thing."""
    base = os.environ.get("XDG_STATE_HOME")
    state = Path(base) if base else Path.home() / ".local" / "state"
    return state / "mli" / thing.replace(":", "_")


def _settings(placed: PlacedYaml, folder: Path) -> RunSettings:
    expanded, origins = expand(placed.value)
    try:
        file = RunFile.model_validate(expanded)
    except pydantic.ValidationError as error:
        raise _refusal(placed, [_problem(placed, origins, item) for item in error.errors()]) from error
    problems: list[tuple[Location, str]] = []
    device = build_device(file, folder, default_root(file.thing), problems)
    deployment = build_deployment(file, device, folder, problems)
    if problems:
        raise _refusal(placed, [_placed(placed, origins, location, text) for location, text in problems])
    return RunSettings(device, deployment, file.model_dump(mode="json", exclude_none=True))


def expand(value: dict[str, Any]) -> tuple[dict[str, Any], dict[Location, Location]]:
    """Turn the short form into the long one.

    Returns:
        The long form, and for each part of it that was moved where it stood before.
    """
    value = copy.deepcopy(value)
    origins: dict[Location, Location] = {}
    if "broker" in value and "mqtt" not in value:
        url = value.pop("broker")
        value["mqtt"] = mqtt_section(url) if isinstance(url, str) else url
        origins[("mqtt",)] = ("broker",)
    value.setdefault("thing", default_thing())
    if "pipelines" not in value and ("source" in value or "model" in value):
        _expand_pipeline(value, origins)
    for location, pipeline in _pipelines(value):
        _expand_inside(location, pipeline, value, origins)
    return value, origins


def mqtt_section(url: str, **options: str | None) -> dict[str, Any]:
    """The section ``mqtt`` that a broker's URL and the options of ``parse_broker_url`` stand for.

    Raises:
        UsageError: the URL is none, or a certificate comes without its key.
    """
    broker = parse_broker_url(url, **{name: value for name, value in options.items() if value is not None})
    section: dict[str, Any] = {"host": broker.host, "port": broker.port}
    section |= {"username": broker.username, "password": broker.password}
    if broker.tls is not None:
        tls = broker.tls
        paths = {"ca": tls.ca_path, "certificate": tls.certificate_path, "private_key": tls.private_key_path}
        section["tls"] = {key: str(Path(path).absolute()) for key, path in paths.items() if path is not None}
    return {key: item for key, item in section.items() if item is not None}


def _expand_pipeline(value: dict[str, Any], origins: dict[Location, Location]) -> None:
    base: Location = ("pipelines", SHORT_NAME)
    pipeline: dict[str, Any] = {}
    for key in [*PipelineFile.model_fields, *_SOURCE_KEYS, *_PUBLISH_KEYS]:
        if key in value and key != "model":
            pipeline[key] = value.pop(key)
            origins[(*base, key)] = (key,)
    if "model" in value:
        model = value.pop("model")
        value["models"] = {SHORT_NAME: model}
        origins[("models", SHORT_NAME)] = ("model",)
        pipeline["model"] = SHORT_NAME
    value["pipelines"] = {SHORT_NAME: pipeline}
    # What is missing is told of the short form's own place, the top of the file.
    origins[base] = ()


def _pipelines(value: dict[str, Any]) -> list[tuple[Location, dict[str, Any]]]:
    pipelines = value.get("pipelines")
    if not isinstance(pipelines, dict):
        return []
    return [(("pipelines", str(name)), item) for name, item in pipelines.items() if isinstance(item, dict)]


def _expand_inside(
    base: Location, pipeline: dict[str, Any], value: dict[str, Any], origins: dict[Location, Location]
) -> None:
    source = pipeline.get("source")
    if isinstance(source, str):
        pipeline["source"] = {"kind": "demo"} if source == "demo" else {"uri": source}
        origins[(*base, "source", "uri")] = origins.get((*base, "source"), (*base, "source"))
    for section, keys in (("source", _SOURCE_KEYS), ("publish", _PUBLISH_KEYS)):
        for key in keys:
            if key in pipeline:
                inner = pipeline.setdefault(section, {})
                if isinstance(inner, dict):
                    inner[key] = pipeline.pop(key)
                    origins[(*base, section, key)] = origins.pop((*base, key), (*base, key))
    models = value.get("models")
    if isinstance(models, dict):
        if "model" not in pipeline and len(models) == 1:
            pipeline["model"] = str(next(iter(models)))
        for name, model in models.items():
            if isinstance(model, str):
                models[name] = {"uri": model}
                here: Location = ("models", str(name))
                origins[(*here, "uri")] = origins.get(here, here)


def _problem(placed: PlacedYaml, origins: dict[Location, Location], error: ErrorDetails) -> str:
    location: Location = tuple(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        text = f"unknown key{nearest(str(location[-1]), _known_keys(location[:-1]))}"
    elif kind == "missing":
        text = "this key is missing"
    elif kind == "value_error":
        text = str(error["ctx"]["error"])
    else:
        text = f"{error['msg'][0].lower()}{error['msg'][1:]}, found {_shown(error['input'])}"
    return _placed(placed, origins, location, text)


def _placed(placed: PlacedYaml, origins: dict[Location, Location], location: Location, text: str) -> str:
    original = location
    for length in range(len(location), 0, -1):
        if location[:length] in origins:
            original = (*origins[location[:length]], *location[length:])
            break
    line = placed.line(original)
    place = f"{placed.name}:{line}" if line else placed.name
    key = ".".join(str(part) for part in original)
    return f"{place}: {key}: {text}" if key else f"{place}: {text}"


def _refusal(placed: PlacedYaml, problems: list[str]) -> UsageError:
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    return UsageError("\n".join([f"{placed.name}: {count}", *(f"  {problem}" for problem in problems)]))


def _known_keys(location: Location) -> list[str]:
    """The keys that may stand at ``location`` of the long form; at the top also those of the short form."""
    model: Any = RunFile
    for part in location:
        fields = getattr(model, "model_fields", {})
        if isinstance(part, int) or part not in fields:
            continue  # a name of the user's own, or a list item
        model = _section_of(fields[part].annotation) or model
    keys = list(getattr(model, "model_fields", {}))
    if model is RunFile:
        keys += [*PipelineFile.model_fields, *_SOURCE_KEYS, *_PUBLISH_KEYS, "broker"]
    return keys


def _section_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_of(argument)
        if found is not None:
            return found
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
