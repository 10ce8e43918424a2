"""What pydantic says of a wrong value, in words for whoever wrote the file."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

from mli.config.fields import NAME, REGION, ROLE_ALIAS, SHA256, THING
from mli.config.paths import Problems
from mli.config.schema import DeploymentFile, DeviceFile, RunFile, Section, WantedFile
from mli.config.short_form import PIPELINE_KEYS
from mli.config.uris import shown_uri
from mli.config.yaml_places import Location
from mli.nearest import nearest

MAX_TOLD = 50
_KEY = "[key]"
_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "dict_type": "a section of keys",
    "tuple_type": "a list",
}
_PATTERNS = {
    NAME: "a name of 1 to 64 letters, digits, _ and -",
    THING: "a name of 1 to 128 letters, digits, :, _ and -",
    SHA256: "a sha256 digest, 64 lower-case hexadecimal digits",
    REGION: "a region such as eu-central-1",
    ROLE_ALIAS: "the name of a role alias",
}
_SECRET_KEYS = {"password", "secret_access_key", "access_key_id", "proxy"}
WANTED_KEYS = frozenset({*PIPELINE_KEYS, *WantedFile.model_fields})
DEVICE_KEYS = frozenset({*DeviceFile.model_fields, "broker"})
"""What stands at the top of a deployment, and of a device's file, in long or short form."""


def problems_of(
    error: pydantic.ValidationError, written: Mapping[str, Any], root: type[Section] = RunFile
) -> Problems:
    """Everything that is wrong, see ``problem_of``; a hostile file, which has no end of errors, is cut off."""
    every = error.errors(include_url=False)
    problems = [problem_of(item, written, root) for item in every[:MAX_TOLD]]
    if len(every) > MAX_TOLD:
        problems.append(((), f"{len(every) - MAX_TOLD:,} more errors"))
    return problems


def problem_of(
    error: ErrorDetails, written: Mapping[str, Any], root: type[Section] = RunFile
) -> tuple[Location, str]:
    """Where in the long form something is wrong, and what.

    Args:
        written: the file as it stands, which may be the short form.
        root: what the whole file is.
    """
    location: Location = tuple(error["loc"])
    kind = error["type"]
    if location[-1:] == (_KEY,):
        location = location[:-1]
    if kind == "extra_forbidden":
        return location, _unknown_key(location, written, root)
    if kind == "missing":
        return location, "this key is missing"
    if kind == "value_error":
        return location, str(error["ctx"]["error"])
    return location, f"expected {_expected(error)}, found {_shown(location, error['input'])}"


def _expected(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind == "string_pattern_mismatch":
        return _PATTERNS[context["pattern"]]
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "greater_than_equal":
        return f"at least {_number(context['ge'])}"
    if kind == "less_than_equal":
        return f"at most {_number(context['le'])}"
    if kind == "too_long":
        return f"at most {context['max_length']:,} entries"
    if kind in ("too_short", "string_too_short"):
        return "at least one entry" if kind == "too_short" else "text that is not empty"
    message = error["msg"]
    return message[0].lower() + message[1:]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _unknown_key(location: Location, written: Mapping[str, Any], root: type[Section]) -> str:
    key = str(location[-1])
    if len(location) == 1 and root is DeploymentFile and key in DEVICE_KEYS:
        return (
            "this key belongs to the device: it stands in its device.yaml, and never comes over the network, so that "
            "no deployment can cut the device's line, run a command or open a folder"
        )
    if len(location) == 1 and root is DeviceFile and key in WANTED_KEYS:
        return "this key belongs to a deployment, which is a file of its own"
    if len(location) == 1 and key in PIPELINE_KEYS and "pipelines" in written:
        return f"this key belongs to one of the pipelines: `pipelines: {{NAME: {{{key}: …}}}}`"
    known = known_keys(location[:-1], root)
    if len(location) == 3 and location[0] == "pipelines" and "pipelines" not in written:
        known = known_keys((), root)  # the short form has them at the top of the file
    return f"unknown key{nearest(key, known)}"


def known_keys(location: Location, root: type[Section] = RunFile) -> list[str]:
    """The keys that may stand at ``location`` of the long form, with those of the short form there."""
    model: Any = root
    own_names = False
    for part in location:
        if isinstance(part, int):
            continue
        if own_names:  # a name of the user's own, such as a pipeline's
            own_names = False
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        model = _section_of(annotation) or model
        own_names = getattr(annotation, "__origin__", None) is dict
    keys = list(model.model_fields)
    if issubclass(model, DeviceFile):
        keys.append("broker")
    if issubclass(model, WantedFile):
        keys += PIPELINE_KEYS
    return [*PIPELINE_KEYS] if "source" in keys else keys


def _section_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_of(argument)
        if found is not None:
            return found
    return None


def _shown(location: Location, value: object) -> str:
    if _SECRET_KEYS & set(location):
        return "something else (not shown)"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a section of keys"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return "true or false (yes, no, on and off mean these in YAML; quotes make them text)"
    if isinstance(value, datetime.date):
        return "a date (quotes make it text)"
    text = repr(shown_uri(value) if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."
