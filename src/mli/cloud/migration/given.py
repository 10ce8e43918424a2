"""Values of a template's parameters, as whoever migrates gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mli.cloud.migration.bounded_text import parse, read_text
from mli.errors import UsageError

_FILE = "file://"
_EXPECTED = "KEY=VALUE, or file:// and a file as `aws cloudformation describe-stacks` writes it"


def given_parameters(words: list[str]) -> dict[str, str]:
    """Name and value of each ``KEY=VALUE``, and of those in each ``file://PATH``; what comes later wins over a file.

    Raises:
        UsageError: neither of the two, or one name with two values.
    """
    said: dict[str, str] = {}
    files: dict[str, str] = {}
    for word in words:
        if word.startswith(_FILE):
            files |= _of_file(Path(word.removeprefix(_FILE)))
            continue
        key, mark, value = word.partition("=")
        if not mark or not key:
            raise UsageError("a parameter has a name and a value", expected=f"--parameter {_EXPECTED}", got=word)
        if said.setdefault(key, value) != value:
            raise UsageError(f"the parameter {key} is given twice", got=f"{said[key]} and {value}")
    return files | said


def _of_file(path: Path) -> dict[str, str]:
    """The AWS CLI's forms: ``[{ParameterKey, ParameterValue}]``, ``["KEY=VALUE"]``, and a stack's description."""
    value = parse(read_text(path), str(path))
    found: dict[str, str] = {}
    for item in _listed(value):
        pair: tuple[Any, Any] = (None, None)
        if isinstance(item, str) and "=" in item:
            key, _, text = item.partition("=")
            pair = (key, text)
        elif isinstance(item, dict):
            pair = (item.get("ParameterKey"), item.get("ResolvedValue", item.get("ParameterValue")))
        if not isinstance(pair[0], str) or not isinstance(pair[1], str):
            raise UsageError("the file holds no parameters of a stack", where=str(path), expected=_EXPECTED)
        found[pair[0]] = pair[1]
    if not found:
        raise UsageError("the file holds no parameters of a stack", where=str(path), expected=_EXPECTED)
    return found


def _listed(value: Any) -> list[Any]:
    if isinstance(value, dict):
        stacks = value.get("Stacks")
        one = stacks[0] if isinstance(stacks, list) and len(stacks) == 1 else value
        value = one.get("Parameters") if isinstance(one, dict) else None
    return value if isinstance(value, list) else []
