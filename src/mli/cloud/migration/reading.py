"""What a path holds: a template, an exported group, or a device's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mli.cloud.migration.bounded_text import parse, parse_all, read_text
from mli.cloud.migration.export import Answer, answers_in, read_export
from mli.cloud.migration.folder import is_device_folder, read_folder
from mli.cloud.migration.setup import Setup, Unread
from mli.cloud.migration.template import is_template, read_template
from mli.config.paths import why_unreadable
from mli.errors import UsageError

MAX_FILES = 200
_SUFFIXES = (".json", ".yaml", ".yml", ".template")
_FORMS = (
    "a CloudFormation template with AWS::Greengrass::Group, the answers of `aws greengrass get-group-version` and "
    "`get-*-definition-version`, or a device's folder such as /greengrass"
)


def read_setup(path: Path, parameters: Mapping[str, str], core_name: str | None = None) -> Setup:
    """Find out what ``path`` is, and read it.

    Args:
        parameters: values for a template's parameters.
        core_name: of a template's parameter ``CoreName``, where it has one.

    Raises:
        UsageError: it is none of the three forms, or cannot be read.
    """
    try:
        is_folder = path.is_dir()
        if not is_folder and not path.exists():
            raise UsageError("there is no such file or folder", where=str(path), expected=_FORMS)
        if is_folder and is_device_folder(path):
            _no_parameters(parameters, "a device's folder")
            setup = Setup("folder", path)
            read_folder(setup)
            return setup
        if is_folder:
            return _read_folder_of_files(path, parameters, core_name)
        return _read_file(path, parameters, core_name)
    except OSError as error:
        raise UsageError(f"it cannot be read: {why_unreadable(error)}", where=str(path)) from error


def _read_file(path: Path, parameters: Mapping[str, str], core_name: str | None) -> Setup:
    text = read_text(path)
    value = _parsed(text, path)
    text, value = _template_body(text, value, path)
    if is_template(value):
        setup = Setup("template", path, [(path, path.name)])
        setup.processed = text if text.lstrip().startswith("{") and "Transform" not in value else None
        read_template(value, setup, parameters, core_name)
        return setup
    answers = answers_in(value, path.name)
    if not answers:
        raise _neither(value, path)
    _no_parameters(parameters, "an exported group")
    setup = Setup("export", path, [(path, path.name)])
    read_export(answers, setup)
    return setup


def _parsed(text: str, path: Path) -> Any:
    """One document, or several of JSON."""
    try:
        return parse(text, str(path))
    except UsageError:
        if text.lstrip()[:1] != "{":
            raise
        try:
            values = parse_all(text, str(path))
        except UsageError:
            values = []
        if len(values) < 2:
            raise
        return values


def _template_body(text: str, value: Any, path: Path) -> tuple[str, Any]:
    """The template in what ``aws cloudformation get-template`` gives; whatever else it is, as it is."""
    body = value.get("TemplateBody") if isinstance(value, dict) else None
    if isinstance(body, str):
        return body, parse(body, f"{path}: TemplateBody")
    if isinstance(body, dict):
        return json.dumps(json.loads(text)["TemplateBody"]) if text else "", body
    return text, value


def _read_folder_of_files(path: Path, parameters: Mapping[str, str], core_name: str | None) -> Setup:
    files = sorted(item for item in path.iterdir() if item.suffix.lower() in _SUFFIXES and item.is_file())
    if len(files) > MAX_FILES:
        raise UsageError("the folder holds too many files", where=str(path), expected=f"at most {MAX_FILES}")
    setup = Setup("export", path)
    answers: list[Answer] = []
    templates = []
    for file in files:
        value = _parsed(read_text(file), file)
        if is_template(_template_body("", value, file)[1]):
            templates.append(file)
            continue
        found = answers_in(value, file.name)
        answers += found
        if found:
            setup.files.append((file, file.name))
        else:
            setup.unread.append(Unread(file.name, "neither a template nor an answer of Greengrass"))
    if len(templates) == 1 and not answers:
        return _read_file(templates[0], parameters, core_name)
    if templates:
        names = ", ".join(file.name for file in templates[:8])
        raise UsageError(
            "the folder holds several set-ups", where=str(path), got=names, remedy="name one of the files"
        )
    if not answers:
        raise UsageError("the folder holds nothing of Greengrass V1", where=str(path), expected=_FORMS)
    _no_parameters(parameters, "an exported group")
    read_export(answers, setup)
    return setup


def _no_parameters(parameters: Mapping[str, str], form: str) -> None:
    if parameters:
        raise UsageError(f"{form} has no parameters", got=f"--parameter {next(iter(parameters))}")


def _neither(value: Any, path: Path) -> UsageError:
    keys = {str(key) for key in value} if isinstance(value, dict) else set()
    if {"RecipeFormatVersion", "ComponentName"} & keys:
        what = "this is a recipe of Greengrass V2, which needs no migration"
    elif "coreThing" in keys:
        what = "this is the device's config.json alone"
        return UsageError(what, where=str(path), remedy="name the device's folder: mli migrate /greengrass")
    elif {"pipelines", "models", "model"} & keys:
        what = "this is a file of mli already"
    else:
        what = "this is no set-up of Greengrass V1"
    return UsageError(what, where=str(path), expected=_FORMS)
