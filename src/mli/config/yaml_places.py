"""YAML with the line of every key, so that an error can name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from mli.errors import UsageError

Location = tuple[str | int, ...]
MAX_DEPTH = 20
_TEXT = "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True)
class PlacedYaml:
    """A parsed file and where each of its values stands.

    Attributes:
        lines: line number (from 1) of each key's path; of a list item, its own line.
    """

    name: str
    value: dict[str, Any]
    lines: dict[Location, int]

    def line(self, location: Location) -> int | None:
        """The line of the value at ``location``, or of the nearest part that holds it."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location)


def parse_yaml(text: str, name: str) -> PlacedYaml:
    """Parse a YAML mapping.

    Raises:
        UsageError: not YAML, a key given twice, or no mapping at the top.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise UsageError(
                    "the file is nested too deeply to be settings",
                    where=f"{name}:{event.start_mark.line + 1}" if event.start_mark else name,
                    expected=f"at most {MAX_DEPTH} levels",
                )
            # A few lines of aliases can stand for gigabytes, and no setting needs one.
            if isinstance(event, yaml.AliasEvent):
                raise UsageError(
                    "YAML aliases (*name) are not read here",
                    where=f"{name}:{event.start_mark.line + 1}" if event.start_mark else name,
                    remedy="write the value out",
                )
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError("the file is not valid YAML", where=f"{name}{line}", got=error.problem) from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError("the file is not valid YAML", where=name, got=str(error)) from error
    if not isinstance(root, yaml.MappingNode) or not isinstance(value, dict):
        raise UsageError(
            "the file holds no settings", where=name, expected="keys such as `thing:`, `model:` and `source:`"
        )
    lines: dict[Location, int] = {}
    _walk(root, (), lines, name)
    return PlacedYaml(name, value, lines)


def _walk(node: yaml.Node, location: Location, lines: dict[Location, int], name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, child in node.value:
            text = str(key.value)
            if key.tag != _TEXT:
                raise UsageError(
                    f"the key `{text}` is no text to YAML",
                    where=f"{name}:{key.start_mark.line + 1}",
                    remedy=f"write it in quotes: '{text}'" if isinstance(key.value, str) else "write a plain name",
                )
            if text in seen:
                raise UsageError(f"the key `{text}` is given twice", where=f"{name}:{key.start_mark.line + 1}")
            seen.add(text)
            lines[(*location, text)] = key.start_mark.line + 1
            _walk(child, (*location, text), lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[(*location, index)] = child.start_mark.line + 1
            _walk(child, (*location, index), lines, name)
