"""YAML and JSON with the line of every key, so that an error can name it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mli.config.paths import why_unreadable
from mli.errors import UsageError

Location = tuple[str | int, ...]
MAX_FILE_BYTES = 1024 * 1024
MAX_DEPTH = 20
_MAX_DIGITS = 64
_TEXT, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float"))
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


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


def read_settings(path: Path) -> PlacedYaml:
    """Read and parse a file of settings.

    Raises:
        UsageError: it cannot be read, or see ``parse_settings``.
    """
    return parse_settings(read_bounded(path), str(path))


def read_bounded(path: Path) -> bytes:
    """All of a file, which may not be larger than settings are.

    Raises:
        UsageError: no file, too large, or it may not be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError("this is no file", where=str(path), expected="a YAML file")
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the file cannot be read: {why_unreadable(error)}", where=str(path)) from error


def parse_settings(data: bytes, name: str) -> PlacedYaml:
    """Parse a mapping in YAML or JSON; ``name`` is the file's, for errors.

    Raises:
        UsageError: too large, neither, a key given twice, nested too deeply, or no mapping at the top.
    """
    if len(data) > MAX_FILE_BYTES:
        raise UsageError("the file is too large to be settings", where=name, expected="at most 1 MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8 text", where=name) from error
    if text.lstrip().startswith("{"):
        placed = _json(text, name)
        if placed is not None:
            return placed
    return parse_yaml(text, name)


def parse_yaml(text: str, name: str) -> PlacedYaml:
    """Parse a YAML mapping.

    Raises:
        UsageError: not YAML, a key given twice, nested too deeply, or no mapping at the top.
    """
    lines: dict[Location, int] = {}
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if not isinstance(root, yaml.MappingNode):
                raise _Refusal(
                    "the file holds no settings", None, expected="keys such as `thing:`, `model:` and `source:`"
                )
            _walk(root, (), lines)
            value = loader.construct_document(root)
        finally:
            loader.dispose()
    except _Refusal as refusal:
        where = name if refusal.line is None else f"{name}:{refusal.line}"
        raise UsageError(refusal.what, where=where, expected=refusal.expected, remedy=refusal.remedy) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError("the file is not valid YAML", where=f"{name}{line}", got=error.problem) from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError("the file is not valid YAML", where=name, got=str(error)) from error
    return PlacedYaml(name, value, lines)


class _Refusal(Exception):
    """What YAML allows and settings do not."""

    def __init__(
        self, what: str, line: int | None, *, expected: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(what)
        self.what, self.line, self.expected, self.remedy = what, line, expected, remedy


class _Loader(yaml.SafeLoader):
    """Refuses in its one pass what no settings need and what can cost much."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1 if event.start_mark else None
        # A few lines of aliases can stand for gigabytes.
        if isinstance(event, yaml.AliasEvent):
            raise _Refusal("YAML aliases (*name) are not read here", line, remedy="write the value out")
        if isinstance(event, yaml.CollectionStartEvent) and self.depth >= MAX_DEPTH:
            raise _Refusal(
                "the file is nested too deeply to be settings", line, expected=f"at most {MAX_DEPTH} levels"
            )
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if ":" in text:  # 1:30 is 90 to YAML, which nobody means
        line = node.start_mark.line + 1 if node.start_mark else None
        raise _Refusal(f"{text[:20]} is a number of base 60 to YAML", line, remedy="write 90s, or quotes for a text")
    if len(text) > _MAX_DIGITS:
        line = node.start_mark.line + 1 if node.start_mark else None
        raise _Refusal(f"a number of {len(text):,} characters", line, expected=f"at most {_MAX_DIGITS}")
    make = yaml.SafeLoader.construct_yaml_int if node.tag == _INT else yaml.SafeLoader.construct_yaml_float
    return make(loader, node)


_Loader.add_constructor(_INT, _number)
_Loader.add_constructor(_FLOAT, _number)


def _walk(node: yaml.Node, location: Location, lines: dict[Location, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, child in node.value:
            line = key.start_mark.line + 1
            text = str(key.value) if isinstance(key, yaml.ScalarNode) else "…"
            if key.tag != _TEXT:
                remedy = f"write it in quotes: '{text}'" if isinstance(key.value, str) else "write a plain name"
                raise _Refusal(f"the key `{text}` is no text to YAML", line, remedy=remedy)
            if text in seen:
                raise _Refusal(f"the key `{text}` is given twice", line)
            seen.add(text)
            lines[(*location, text)] = line
            _walk(child, (*location, text), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[(*location, index)] = child.start_mark.line + 1
            _walk(child, (*location, index), lines)


def _json(text: str, name: str) -> PlacedYaml | None:
    """JSON as it is meant (PyYAML reads tabs, ``1e5`` and surrogate pairs differently); None for any other text.

    Raises:
        UsageError: JSON that is nested too deeply, or with a key given twice.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_json_int)
    except RecursionError:
        depth = MAX_DEPTH + 1
    except _Refusal as refusal:
        raise UsageError(refusal.what, where=name) from None
    except ValueError:
        return None
    else:
        depth = _depth(text)
    if depth > MAX_DEPTH:
        raise UsageError(
            "the file is nested too deeply to be settings", where=name, expected=f"at most {MAX_DEPTH} levels"
        )
    try:
        # Tabs of JSON stand between its tokens only.
        lines = parse_yaml(text.replace("\t", " "), name).lines
    except UsageError:
        lines = {}  # valid JSON that PyYAML cannot read: then errors name the key alone
    return PlacedYaml(name, value, lines)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise _Refusal(f"the key `{key}` is given twice", None)
        value[key] = item
    return value


def _json_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise _Refusal(f"a number of {len(digits):,} digits", None)
    return int(digits)


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _depth(text: str) -> int:
    """Levels of objects and lists in valid JSON."""
    depth = deepest = 0
    for character in _JSON_STRING.sub("", text):
        depth += (character in "{[") - (character in "}]")
        deepest = max(deepest, depth)
    return deepest
