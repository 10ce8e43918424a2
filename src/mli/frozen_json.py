"""Frozen dataclasses to JSON values and back, by their own type hints.

Both sides of a process border run the same version of mli, so this checks shapes only as far as needed to
fail loudly on a programming error; files that people write are checked in ``mli.config.files``.

Every frame crosses the border, so what a type's hints say is worked out once a type, not once a value.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar, Union

T = TypeVar("T")

_Maker = Callable[[Any], Any]
_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_json(value: Any) -> Any:
    """Turn a dataclass, or a tuple or dict of them, into JSON values."""
    kind: Any = type(value)  # mypy takes no type for hashable
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:
        return [to_json(item) for item in value]
    if kind is dict:
        return {key: to_json(item) for key, item in value.items()}
    if kind is bytes:
        return value.decode()
    names = _names(kind)
    return {name: to_json(getattr(value, name)) for name in names} if names is not None else value


def from_json(kind: type[T], value: Any) -> T:
    """Build ``kind`` from JSON values.

    Raises:
        TypeError: a field is missing, unknown, or of another shape.
    """
    wanted: Any = kind
    make = _maker(wanted)
    return typing.cast(T, value if make is None else make(value))


@functools.cache
def _names(kind: Any) -> tuple[str, ...] | None:
    """The fields of a dataclass; None for another type."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


@functools.cache
def _maker(kind: Any) -> _Maker | None:
    """What makes a value of ``kind`` from JSON; None where JSON's own value is it."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass_maker(kind)
    if kind is bytes:
        return str.encode
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return _tuple_maker(_maker(arguments[0]))
    if origin is dict:
        return _dict_maker(_maker(arguments[1]))
    if origin in (Union, types.UnionType):
        return _optional_maker(_maker(arguments[0]))
    return None


def _tuple_maker(make: _Maker | None) -> _Maker:
    return tuple if make is None else lambda values: tuple([make(value) for value in values])


def _dict_maker(make: _Maker | None) -> _Maker | None:
    return None if make is None else lambda values: {key: make(value) for key, value in values.items()}


def _optional_maker(make: _Maker | None) -> _Maker | None:
    return None if make is None else lambda value: None if value is None else make(value)


def _dataclass_maker(kind: type[Any]) -> _Maker:
    found = {name: _maker(hint) for name, hint in typing.get_type_hints(kind).items()}
    makers = {name: make for name, make in found.items() if make is not None}

    def make_dataclass(value: dict[str, Any]) -> Any:
        fields = dict(value)
        for name, make in makers.items():
            if name in fields:
                fields[name] = make(fields[name])
        return kind(**fields)

    return make_dataclass
