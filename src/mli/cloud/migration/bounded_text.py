"""YAML and JSON that nobody has checked, to plain values: bounded, without aliases, every scalar as it was written.

CloudFormation's short tags become their long form: ``!Sub x`` is ``{"Fn::Sub": "x"}``. Numbers and truth values stay
texts, so that an id of digits alone loses nothing.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mli.config.yaml_places import MAX_FILE_BYTES, read_bounded
from mli.errors import UsageError

MAX_DEPTH = 40
MAX_VALUES = 50_000
_LONG = {"Ref": "Ref", "Condition": "Condition"}
_FUNCTIONS = (
    *("And", "Base64", "Cidr", "Equals", "FindInMap", "ForEach", "GetAtt", "GetAZs", "If", "ImportValue", "Join"),
    *("Length", "Not", "Or", "Select", "Split", "Sub", "ToJsonString", "Transform"),
)
_SPACE = re.compile(r"\s*")
_NULL = "tag:yaml.org,2002:null"
_PLAIN = "tag:yaml.org,2002:"
_COLLECTIONS = (f"{_PLAIN}map", f"{_PLAIN}seq")
_SCALARS = frozenset(f"{_PLAIN}{name}" for name in ("str", "int", "float", "bool", "timestamp", "value"))


def read_text(path: Path) -> str:
    """All of a file, which may not be larger than CloudFormation allows.

    Raises:
        UsageError: no file, larger than 1 MB, or not UTF-8.
    """
    data = read_bounded(path)
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(
            "the file is too large to be a set-up of Greengrass", where=str(path), expected="at most 1 MB"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            "the file is not UTF-8 text",
            where=str(path),
            expected="a template or an answer of the AWS CLI, as YAML or JSON; an archive is said with --model",
        ) from error


def parse(text: str, name: str) -> Any:
    """What a text in JSON or YAML says; texts, lists, objects and None.

    Raises:
        UsageError: neither, a key given twice, aliases, an unknown tag, nested too deeply, or too many values.
    """
    start = text.lstrip()
    if not start:
        raise UsageError("the file is empty", where=name)
    try:
        return _json(text) if start[0] in "{[" else _yaml(text)
    except _Refusal as refusal:
        where = name if refusal.line is None else f"{name}:{refusal.line}"
        raise UsageError(refusal.what, where=where, remedy=refusal.remedy) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError("the file is not valid YAML", where=f"{name}{line}", got=error.problem) from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError("the file is neither valid YAML nor JSON", where=name, got=str(error)) from error


def parse_all(text: str, name: str) -> list[Any]:
    """The values of JSON documents that stand one after the other, as ``cat *.json`` gives them.

    Raises:
        UsageError: as ``parse``.
    """
    values: list[Any] = []
    decoder = _decoder()
    at = 0
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return values
        try:
            value, at = decoder.raw_decode(text, at)
            _count(value)
        except json.JSONDecodeError as error:
            raise UsageError("the file is not valid JSON", where=f"{name}:{error.lineno}", got=error.msg) from error
        except RecursionError as error:
            raise UsageError("the file is nested too deeply", where=name) from error
        except _Refusal as refusal:
            raise UsageError(refusal.what, where=name, remedy=refusal.remedy) from None
        values.append(value)
        if len(values) > MAX_VALUES:
            raise UsageError("the file holds too many values", where=name)


class _Refusal(Exception):
    """What YAML or JSON allow and no set-up needs."""

    def __init__(self, what: str, line: int | None = None, remedy: str | None = None) -> None:
        super().__init__(what)
        self.what, self.line, self.remedy = what, line, remedy


class _Loader(yaml.SafeLoader):
    """Refuses in its one pass what can cost much; nodes become values by ``_plain`` alone."""

    depth = values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1 if event.start_mark else None
        self.values += 1
        # A few lines of aliases can stand for gigabytes; CloudFormation's own templates have none.
        if isinstance(event, yaml.AliasEvent):
            remedy = "write the values out, or take what `aws cloudformation get-template` gives"
            raise _Refusal("YAML aliases (*name) are not read here", line, remedy)
        if self.values > MAX_VALUES:
            raise _Refusal(f"more than {MAX_VALUES:,} values are too many", line)
        if isinstance(event, yaml.CollectionStartEvent) and self.depth >= MAX_DEPTH:
            raise _Refusal(f"nested more than {MAX_DEPTH} levels deep", line)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    if node is None:
        raise _Refusal("the file holds nothing")
    return _plain(node)


def _plain(node: yaml.Node) -> Any:
    line = node.start_mark.line + 1 if node.start_mark else None
    if node.tag.startswith("!") and node.tag != "!":
        return _intrinsic(node, line)
    if isinstance(node, yaml.ScalarNode):
        if node.tag == _NULL:
            return None
        if node.tag in _SCALARS or node.tag == "!":
            return str(node.value)
        raise _Refusal(f"the tag {node.tag} means nothing here", line)
    return _collection(node)


def _intrinsic(node: yaml.Node, line: int | None) -> dict[str, Any]:
    name = node.tag[1:]
    if name not in _LONG and name not in _FUNCTIONS:
        raise _Refusal(f"!{name[:40]} is no function of CloudFormation", line)
    value = str(node.value) if isinstance(node, yaml.ScalarNode) else _collection(node)
    return {_LONG.get(name, f"Fn::{name}"): value}


def _collection(node: yaml.Node) -> Any:
    if node.tag.startswith("tag:") and node.tag not in _COLLECTIONS:
        raise _Refusal(f"the tag {node.tag} means nothing here", node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child) for child in node.value]
    value: dict[str, Any] = {}
    for key, child in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag not in _SCALARS:
            raise _Refusal("a key is no text", line)
        if key.value in value:
            raise _Refusal(f"the key `{str(key.value)[:80]}` is given twice", line)
        value[str(key.value)] = _plain(child)
    return value


def _json(text: str) -> Any:
    try:
        value = _decoder().decode(text)
    except RecursionError:
        raise _Refusal(f"nested more than {MAX_DEPTH} levels deep") from None
    except json.JSONDecodeError as error:
        raise _Refusal(f"the file is not valid JSON: {error.msg}", error.lineno) from None
    _count(value)
    return value


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_once, parse_int=str, parse_float=str, parse_constant=_no_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise _Refusal(f"the key `{key[:80]}` is given twice")
        value[key] = _scalar(item)
    return value


def _scalar(item: Any) -> Any:
    return ("true" if item else "false") if isinstance(item, bool) else item


def _no_constant(word: str) -> NoReturn:
    raise _Refusal(f"{word} is no JSON")


def _count(value: Any) -> None:
    """Refuse what is too deep or too much."""
    count, level = 0, [value]
    for _ in range(MAX_DEPTH + 1):
        count += len(level)
        if count > MAX_VALUES:
            raise _Refusal(f"more than {MAX_VALUES:,} values are too many")
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper += item.values()
            elif isinstance(item, list):
                deeper += item
        if not deeper:
            return
        level = deeper
    raise _Refusal(f"nested more than {MAX_DEPTH} levels deep")
