"""Writes a revision into a deployment file and leaves the rest as its author wrote it, comments and all."""

from __future__ import annotations

import re
from typing import Any

from mli.config.yaml_places import PlacedYaml, parse_settings
from mli.errors import UsageError

_IN_LINE = re.compile(r"""(["']?revision["']?\s*:\s*)[^\s,}#]+""")


def with_revision(text: str, revision: int, name: str = "deployment") -> str:
    """The file with ``revision``, in place of its own where it has one.

    Raises:
        UsageError: no settings.
    """
    placed = parse_settings(text.encode(), name)
    wanted = {**placed.value, "revision": revision}
    if placed.value.get("revision") == revision and type(placed.value["revision"]) is int:
        return text
    for edited in (_in_place(text, placed, revision), _as_first_key(text, placed, revision)):
        if edited is not None and _holds(edited, wanted):
            return edited
    return _written_anew(wanted)


def _in_place(text: str, placed: PlacedYaml, revision: int) -> str | None:
    line = placed.lines.get(("revision",))
    if line is None:
        return None
    lines = text.splitlines(keepends=True)
    lines[line - 1] = _IN_LINE.sub(rf"\g<1>{revision}", lines[line - 1], count=1)
    return "".join(lines)


def _as_first_key(text: str, placed: PlacedYaml, revision: int) -> str | None:
    if "revision" in placed.value:
        return None
    lines = text.splitlines(keepends=True)
    first = min((line for location, line in placed.lines.items() if len(location) == 1), default=1) - 1
    before = "".join(lines[:first])
    if "{" in before or lines[first].lstrip().startswith("{"):  # all of it stands in braces, as JSON does
        start = text.index("{") + 1
        return f'{text[:start]}"revision": {revision}, {text[start:]}'
    return f"{before}revision: {revision}\n{''.join(lines[first:])}"


def _holds(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return parse_settings(text.encode(), "").value == wanted
    except UsageError:
        return False


def _written_anew(value: dict[str, Any]) -> str:
    """For files whose form the edits above do not understand; comments are lost."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False))
