"""The short form of a file, and options of the command line, into the long form, which remembers where they stood."""

from __future__ import annotations

import copy
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mli.config.broker_url import parse_broker_url
from mli.config.schema import PUBLISH_KEYS, SOURCE_KEYS, PipelineFile
from mli.config.yaml_places import Location
from mli.errors import UsageError

SHORT_NAME = "main"
"""Name of the one model and the one pipeline of a short form."""
PIPELINE_KEYS = (*PipelineFile.model_fields, *SOURCE_KEYS, *PUBLISH_KEYS)
"""What may stand in a pipeline, and in the short form at the top of the file."""

_SECTIONS = (("source", SOURCE_KEYS), ("publish", PUBLISH_KEYS))
_OPTION_SECTIONS = (*_SECTIONS, ("limits", ("memory",)))
"""Where options of the command line belong, which are no keys of the short form."""


@dataclass(slots=True)
class Expansion:
    """The long form of a file.

    Attributes:
        origins: for each part that was moved, where it stood before.
        options: for each part that the command line set, the option's name.
        problems: what is wrong already, and where in the long form.
    """

    value: dict[str, Any]
    origins: dict[Location, Location] = field(default_factory=dict)
    options: dict[Location, str] = field(default_factory=dict)
    problems: list[tuple[Location, str]] = field(default_factory=list)

    def pipelines(self) -> list[tuple[Location, dict[str, Any]]]:
        """Each pipeline that is a section, with its place."""
        pipelines = self.value.get("pipelines")
        if not isinstance(pipelines, dict):
            return []
        return [(("pipelines", str(name)), item) for name, item in pipelines.items() if isinstance(item, dict)]


def expand(value: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Expansion:
    """Turn the short form of a file for ``mli run`` into the long one; the long form stays as it is.

    Args:
        options: keys of the short form that the command line sets instead; they hold for every pipeline.
    """
    expansion = Expansion(copy.deepcopy(dict(value)))
    _expand_broker(expansion)
    expansion.value.setdefault("thing", default_thing())
    _expand_wanted(expansion)
    for key, item in (options or {}).items():
        _set_option(key, item, expansion)
    return expansion


def expand_device(value: Mapping[str, Any]) -> Expansion:
    """The long form of a device file."""
    expansion = Expansion(copy.deepcopy(dict(value)))
    _expand_broker(expansion)
    return expansion


def expand_deployment(value: Mapping[str, Any]) -> Expansion:
    """The long form of a deployment."""
    expansion = Expansion(copy.deepcopy(dict(value)))
    _expand_wanted(expansion)
    return expansion


def default_thing() -> str:
    """This machine's name, as a thing may be called."""
    return re.sub(r"[^A-Za-z0-9:_-]", "-", socket.gethostname())[:128] or "mli"


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


def _expand_broker(expansion: Expansion) -> None:
    value = expansion.value
    if "broker" not in value:
        return
    url = value.pop("broker")
    where: Location = ("broker",)
    if "mqtt" in value:
        expansion.problems.append((where, "`broker` and `mqtt` both name the broker; keep one of them"))
    elif not isinstance(url, str):
        expansion.problems.append((where, "expected an address such as mqtt://host; a section of keys is `mqtt:`"))
    else:
        try:
            value["mqtt"] = mqtt_section(url)
        except UsageError as error:
            told = [error.what.rstrip("."), error.expected and f"expected {error.expected}", error.got]
            expansion.problems.append((where, "; ".join(part for part in told if part)))
        expansion.origins[("mqtt",)] = where


def _expand_wanted(expansion: Expansion) -> None:
    if "pipelines" not in expansion.value:
        _expand_pipeline(expansion)
    _expand_models(expansion)
    for location, pipeline in expansion.pipelines():
        _expand_inside(location, pipeline, expansion)


def _expand_pipeline(expansion: Expansion) -> None:
    value, base = expansion.value, ("pipelines", SHORT_NAME)
    pipeline: dict[str, Any] = {}
    if "model" in value and "models" not in value:
        value["models"] = {SHORT_NAME: value.pop("model")}
        expansion.origins[("models", SHORT_NAME)] = ("model",)
        pipeline["model"] = SHORT_NAME
    value.setdefault("models", {})
    for key in PIPELINE_KEYS:
        if key in value:
            pipeline[key] = value.pop(key)
            expansion.origins[(*base, key)] = (key,)
    value["pipelines"] = {SHORT_NAME: pipeline}
    # What is missing is told of the short form's own place, the top of the file.
    expansion.origins[base] = ()


def _expand_models(expansion: Expansion) -> None:
    models = expansion.value.get("models")
    if not isinstance(models, dict):
        return
    for name, model in models.items():
        if isinstance(model, str):
            models[name] = {"uri": model}
            here: Location = ("models", str(name))
            expansion.origins[(*here, "uri")] = expansion.origins.get(here, here)
    for _, pipeline in expansion.pipelines():
        if "model" not in pipeline and len(models) == 1:
            pipeline["model"] = str(next(iter(models)))


def _expand_inside(base: Location, pipeline: dict[str, Any], expansion: Expansion) -> None:
    origins = expansion.origins
    source = pipeline.get("source")
    if isinstance(source, str):
        pipeline["source"] = {"kind": "demo"} if source == "demo" else {"uri": source}
        origins[(*base, "source", "uri")] = origins.get((*base, "source"), (*base, "source"))
    for section, keys in _SECTIONS:
        for key in keys:
            if key not in pipeline:
                continue
            inner = pipeline.setdefault(section, {})
            if not isinstance(inner, dict):
                pipeline.pop(key)  # the section itself is wrong, which is told
                continue
            moved = origins.pop((*base, key), (*base, key))
            if key in inner:
                expansion.problems.append(((*base, section, key), f"given twice: here and as `{moved[-1]}` outside"))
                pipeline.pop(key)
                continue
            inner[key] = pipeline.pop(key)
            origins[(*base, section, key)] = moved


def _set_option(key: str, item: Any, expansion: Expansion) -> None:
    option = "--broker" if key == "mqtt" else f"--{key.replace('_', '-')}"
    section = next((name for name, keys in _OPTION_SECTIONS if key in keys), None)
    if section is None and key not in PIPELINE_KEYS:
        expansion.value[key] = item
        _forget((key,), expansion)
        expansion.options[(key,)] = option
        return
    for base, pipeline in expansion.pipelines():
        inner = pipeline if section is None else pipeline.setdefault(section, {})
        where = (*base, key) if section is None else (*base, section, key)
        if isinstance(inner, dict):
            inner[key] = item
            _forget(where, expansion)
            expansion.options[where] = option


def _forget(location: Location, expansion: Expansion) -> None:
    """What the file said there no longer counts, neither its place nor what was wrong with it."""
    where = expansion.origins.pop(location, location)
    expansion.problems = [item for item in expansion.problems if item[0] not in (location, where)]
