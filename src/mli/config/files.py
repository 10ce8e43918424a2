"""Device and deployment files, and arguments, to settings; every error at once, with file, line and key."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from mli.config.build import Problems, build_deployment, build_device, build_preprocess
from mli.config.problems import problem_of
from mli.config.schema import PreprocessFile, RunFile
from mli.config.settings import DeploymentSettings, DeviceSettings, PreprocessSettings
from mli.config.short_form import SHORT_NAME, Expansion, default_thing, expand, mqtt_section
from mli.config.yaml_places import Location, PlacedYaml, parse_yaml
from mli.errors import UsageError

__all__ = [
    "SHORT_NAME",
    "RunSettings",
    "default_root",
    "default_thing",
    "load_run_file",
    "mqtt_section",
    "preprocess_of_arguments",
    "settings_of_arguments",
    "shown",
]

MAX_FILE_BYTES = 1024 * 1024


COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """A device and what it runs, and the long form that they came from."""

    device: DeviceSettings
    deployment: DeploymentSettings
    expanded: dict[str, Any] = field(repr=False)


def load_run_file(path: Path, overrides: dict[str, Any] | None = None) -> RunSettings:
    """Read one file with device and deployment, short or long form; its paths are relative to its folder.

    Args:
        overrides: keys of the short form that the command line sets instead; they hold for every pipeline.

    Raises:
        UsageError: everything that is wrong with it, each with its line.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError("this is no file", where=str(path), expected="a YAML file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError("the file is too large to be settings", where=str(path), expected="at most 1 MB")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8 text", where=str(path)) from error
    return _settings(parse_yaml(text, str(path)), path.resolve().parent, overrides)


def settings_of_arguments(value: dict[str, Any]) -> RunSettings:
    """Settings of a command line, given as the short form of a file; paths are relative to the working directory.

    Raises:
        UsageError: everything that is wrong with it.
    """
    return _settings(PlacedYaml(COMMAND_LINE, value, {}), Path.cwd())


def shown(settings: RunSettings) -> dict[str, Any]:
    """The long form for people to read: every default, and no password."""
    expanded = copy.deepcopy(settings.expanded)
    expanded.setdefault("root", settings.device.root)
    if settings.device.mqtt is not None:
        mqtt = expanded["mqtt"]
        mqtt.setdefault("port", settings.device.mqtt.port)
        mqtt.setdefault("client_id", settings.device.mqtt.client_id)
        if not mqtt.get("password", "secret:").startswith("secret:"):
            mqtt["password"] = "********"
    return expanded


def preprocess_of_arguments(value: dict[str, Any]) -> PreprocessSettings:
    """Preprocessing as the command line gives it.

    Raises:
        UsageError: everything that is wrong with it.
    """
    try:
        return build_preprocess(PreprocessFile.model_validate(value))
    except pydantic.ValidationError as error:
        problems = [problem_of(item, {}) for item in error.errors()]
        raise _refusal(PlacedYaml(COMMAND_LINE, value, {}), Expansion({}), problems) from error


def default_root(thing: str) -> Path:
    """The user's state folder for a thing."""
    base = os.environ.get("XDG_STATE_HOME")
    state = Path(base) if base else Path.home() / ".local" / "state"
    return state / "mli" / thing.replace(":", "_")


def _settings(placed: PlacedYaml, folder: Path, options: dict[str, Any] | None = None) -> RunSettings:
    expansion = expand(placed.value, options)
    problems = list(expansion.problems)
    try:
        file = RunFile.model_validate(expansion.value)
    except pydantic.ValidationError as error:
        problems += [problem_of(item, placed.value) for item in error.errors()]
        raise _refusal(placed, expansion, problems) from error
    device = build_device(file, folder, default_root(file.thing), problems)
    deployment = build_deployment(file, device, folder, problems)
    if problems:
        raise _refusal(placed, expansion, problems)
    return RunSettings(device, deployment, file.model_dump(mode="json", exclude_none=True))


def _refusal(placed: PlacedYaml, expansion: Expansion, problems: Problems) -> UsageError:
    lines = [(*_place(placed, expansion, location), text) for location, text in problems]
    told = list(dict.fromkeys(f"  {place}: {text}" for _, place, text in sorted(lines, key=lambda line: line[0])))
    count = "1 error" if len(told) == 1 else f"{len(told)} errors"
    return UsageError("\n".join([f"{placed.name}: {count}", *told]))


def _place(placed: PlacedYaml, expansion: Expansion, location: Location) -> tuple[int, str]:
    """Line (0 for none) and ``file:line: key`` of a part of the long form, as the user wrote it."""
    original = location
    for length in range(len(location), -1, -1):
        start, rest = location[:length], location[length:]
        if start in expansion.options:
            return 0, ".".join([f"command line: {expansion.options[start]}", *map(str, rest)])
        if start in expansion.origins:
            original = (*expansion.origins[start], *rest)
            break
    if placed.name == COMMAND_LINE and original:
        word = str(original[0])
        return 0, word.upper() if word in ("model", "source") else f"--{word.replace('_', '-')}"
    line = placed.line(original)
    place = f"{placed.name}:{line}" if line else placed.name
    key = ".".join(str(part) for part in original)
    return line or 0, f"{place}: {key}" if key else place
