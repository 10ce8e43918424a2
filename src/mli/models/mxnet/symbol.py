"""Reads symbol files: the JSON graph that MXNet saved as ``NAME-symbol.json``, from version 0.8 (2015) to 1.9.

Over the years an operator's attributes moved from ``param`` to ``attr`` to ``attrs``, inputs grew a third element,
and auxiliary states became inputs. What comes out here is one form for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mli.errors import ModelRefused
from mli.models.json_check import parse_json
from mli.models.members import MEBIBYTE
from mli.models.rules import shown

SYMBOL_LIMIT_BYTES = 64 * MEBIBYTE
_NODES = 200_000
_NAMES_LENGTH = 1000
_VARIABLE = "null"
# Operators whose auxiliary states the oldest files leave out of the inputs: name → (inputs before them, their names).
_AUXILIARY = {
    "BatchNorm": (3, ("moving_mean", "moving_var")),
    "BatchNorm_v1": (3, ("moving_mean", "moving_var")),
    "CuDNNBatchNorm": (3, ("moving_mean", "moving_var")),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One output of one node, by its place in ``Symbol.nodes``."""

    node: int
    output: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A variable or an operator.

    Attributes:
        op: MXNet's name of the operator; empty for a variable.
        attributes: as text, as MXNet keeps them.
    """

    name: str
    op: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Entry, ...] = ()

    @property
    def is_variable(self) -> bool:
        """Whether its value comes from outside: data, labels, parameters."""
        return not self.op


@dataclass(frozen=True, slots=True)
class Symbol:
    """A network: every node's inputs come before it.

    Attributes:
        heads: the network's outputs.
        version: of the MXNet that wrote it, as far as the file tells.
        old_style: written before MXNet 0.9, so that every attribute its operators knew is listed.
    """

    nodes: tuple[Node, ...]
    heads: tuple[Entry, ...]
    version: str
    old_style: bool
    file_name: str

    def variables(self) -> dict[str, Node]:
        """All variables by name."""
        return {node.name: node for node in self.nodes if node.is_variable}


def read_symbol(path: Path) -> Symbol:
    """Read a symbol file.

    Raises:
        ModelRefused: it is no symbol file, or its graph contradicts itself; saying where.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SYMBOL_LIMIT_BYTES + 1)
    except OSError as error:
        raise _refused(path.name, "a readable file", error.strerror or str(error)) from error
    return parse_symbol(data, path.name)


def parse_symbol(data: bytes, file_name: str) -> Symbol:
    """The network in the bytes of a symbol file.

    Raises:
        ModelRefused: as :func:`read_symbol`.
    """
    if len(data) > SYMBOL_LIMIT_BYTES:
        raise _refused(file_name, f"at most {SYMBOL_LIMIT_BYTES} bytes", "more")
    try:
        value = parse_json(data)
    except ValueError as error:
        raise _refused(file_name, "MXNet's symbol JSON", str(error)) from error
    return _Reader(file_name).symbol(value)


class _Reader:
    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._old_style = False

    def symbol(self, value: Any) -> Symbol:
        if not isinstance(value, dict) or not isinstance(value.get("nodes"), list) or "heads" not in value:
            raise self._wrong("an object with nodes and heads", _kind(value))
        listed = value["nodes"]
        if not 1 <= len(listed) <= _NODES:
            raise self._wrong(f"1 to {_NODES} nodes", str(len(listed)))
        nodes = [self._node(index, item) for index, item in enumerate(listed)]
        outputs = value["heads"]
        if not isinstance(outputs, list) or not outputs:
            raise self._wrong("a list of heads, at least one", _kind(outputs))
        heads = tuple(self._entry(f"heads[{place}]", head, len(nodes)) for place, head in enumerate(outputs))
        _add_auxiliary(nodes)
        return Symbol(tuple(nodes), heads, self._version(value), self._old_style, self._file_name)

    def _node(self, index: int, value: Any) -> Node:
        where = f"nodes[{index}]"
        if not isinstance(value, dict) or not isinstance(value.get("op"), str):
            raise self._wrong("an object with op, name and inputs", _kind(value), where)
        name, inputs = value.get("name"), value.get("inputs", [])
        if not isinstance(name, str) or not isinstance(inputs, list):
            raise self._wrong("a name (text) and inputs (a list)", shown(str(value)[:200]), where)
        words = f"{name} {value['op']}"
        if not words.isprintable() or len(words) > _NAMES_LENGTH:
            raise self._wrong(f"names without control characters, of at most {_NAMES_LENGTH}", shown(words), where)
        self._old_style |= "param" in value
        attributes: dict[str, str] = {}
        for key in ("param", "attr", "attrs"):
            attributes.update(self._attributes(f"{where} {shown(name)}", key, value.get(key, {})))
        entries = tuple(
            self._entry(f"{where} {shown(name)}, inputs[{i}]", item, index) for i, item in enumerate(inputs)
        )
        op = "" if value["op"] == _VARIABLE else value["op"]
        if not op and entries:
            raise self._wrong("a variable without inputs", f"{len(entries)} inputs", f"{where} {shown(name)}")
        return Node(name, op, attributes, entries)

    def _attributes(self, where: str, key: str, value: Any) -> dict[str, str]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(f"an object of texts in {key}", _kind(value), where)
        for name, text in value.items():
            if not isinstance(text, str):
                raise self._wrong(f"text as the value of {key}.{shown(name)}", _kind(text), where)
        return value

    def _entry(self, where: str, value: Any, below: int) -> Entry:
        """[node, output] or [node, output, version]; only nodes before ``below`` can be meant."""
        whole = isinstance(value, list) and all(
            isinstance(item, int) and not isinstance(item, bool) for item in value
        )
        if not whole or len(value) not in (2, 3):
            raise self._wrong("[node, output] or [node, output, version]", shown(str(value)[:80]), where)
        if not 0 <= value[0] < below or not 0 <= value[1] < _NODES:
            raise self._wrong(f"a node before this one (0 to {below - 1})", str(value), where)
        return Entry(value[0], value[1])

    def _version(self, value: dict[str, Any]) -> str:
        """``1.9.1`` from ``{"mxnet_version": ["int", 10901]}``."""
        try:
            number = int(value["attrs"]["mxnet_version"][1])
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            return "0.8 or older" if self._old_style else "unknown"
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"

    def _wrong(self, expected: str, found: str, where: str | None = None) -> ModelRefused:
        return _refused(f"{self._file_name}, {where}" if where else self._file_name, expected, found)


def _add_auxiliary(nodes: list[Node]) -> None:
    """Give the oldest files' operators the auxiliary states that later versions list as inputs."""
    places = {node.name: index for index, node in enumerate(nodes) if node.is_variable}
    for index, node in enumerate(list(nodes)):
        before, names = _AUXILIARY.get(node.op, (0, ()))
        if not names or len(node.inputs) != before:
            continue
        added = []
        for name in names:
            variable = f"{node.name}_{name}"
            if variable not in places:
                places[variable] = len(nodes)
                nodes.append(Node(variable, ""))
            added.append(Entry(places[variable]))
        nodes[index] = Node(node.name, node.op, node.attributes, (*node.inputs, *added))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _refused(where: str, expected: str, found: str) -> ModelRefused:
    return ModelRefused(
        "The MXNet symbol file cannot be read.",
        where=where,
        expected=expected,
        got=found,
        remedy="save it again with `symbol.save(...)` or `net.export(...)`, or take the file of the training job",
    )
