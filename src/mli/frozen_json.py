"""Frozen dataclasses to JSON values and back, by their own type hints.

Both sides of a process border run the same version of mli, so this checks shapes only as far as needed to
fail loudly on a programming error; files that people write are checked in ``mli.config.files``.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar, Union

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Turn a dataclass, or a tuple or dict of them, into JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode()
    return value


def from_json(kind: type[T], value: Any) -> T:
    """Build ``kind`` from JSON values.

    Raises:
        TypeError: a field is missing, unknown, or of another shape.
    """
    return typing.cast(T, _build(kind, value))


@functools.cache
def _fields(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _fields(kind)
        return typing.cast("type[Any]", kind)(
            **{name: _build(hints[name], item) for name, item in value.items()}
        )
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(_build(arguments[0], item) for item in value)
    if origin is dict:
        return {key: _build(arguments[1], item) for key, item in value.items()}
    if origin in (Union, types.UnionType):
        return None if value is None else _build(arguments[0], value)
    if kind is bytes:
        return value.encode()
    return value
