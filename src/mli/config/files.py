"""Files for ``mli run``, and arguments, to settings; every error at once, with file, line and key."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pydantic

from mli.config.build_deployment import Reach, build_deployment, build_preprocess
from mli.config.build_device import build_device
from mli.config.identity import canonical_form, identity_of
from mli.config.problems import problems_of
from mli.config.refusals import COMMAND_LINE, refusal
from mli.config.schema import PreprocessFile, RunFile
from mli.config.settings import DeploymentSettings, DeviceSettings, PreprocessSettings
from mli.config.short_form import SHORT_NAME, Expansion, default_thing, expand, mqtt_section
from mli.config.showing import shown_deployment, shown_device
from mli.config.yaml_places import MAX_FILE_BYTES, PlacedYaml, read_settings

__all__ = [
    "COMMAND_LINE",
    "MAX_FILE_BYTES",
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
    return _settings(read_settings(path), path.resolve().parent, overrides)


def settings_of_arguments(value: dict[str, Any], options: dict[str, Any] | None = None) -> RunSettings:
    """Settings of a command line, given as the short form of a file; paths are relative to the working directory.

    Args:
        options: see ``load_run_file``.

    Raises:
        UsageError: everything that is wrong with it.
    """
    return _settings(PlacedYaml(COMMAND_LINE, value, {}), Path.cwd(), options)


def shown(settings: RunSettings) -> dict[str, Any]:
    """The long form for people to read: every default, and no password."""
    expanded = copy.deepcopy(settings.expanded)
    return shown_deployment(shown_device(expanded, settings.device))


def preprocess_of_arguments(value: dict[str, Any]) -> PreprocessSettings:
    """Preprocessing as the command line gives it.

    Raises:
        UsageError: everything that is wrong with it.
    """
    try:
        return build_preprocess(PreprocessFile.model_validate(value))
    except pydantic.ValidationError as error:
        raise refusal(PlacedYaml(COMMAND_LINE, value, {}), Expansion({}), problems_of(error, {})) from error


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
        problems += problems_of(error, placed.value)
        raise refusal(placed, expansion, problems) from error
    device = build_device(file, folder, default_root(file.thing), problems)
    deployment = build_deployment(file, Reach(device, folder), problems)
    if problems:
        raise refusal(placed, expansion, problems)
    deployment = replace(deployment, identity=identity_of(canonical_form(file, folder)))
    return RunSettings(device, deployment, file.model_dump(mode="json", exclude_none=True))
