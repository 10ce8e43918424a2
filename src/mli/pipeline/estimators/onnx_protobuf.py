"""The fields of an ONNX file's protobuf, by their numbers: a worker needs no onnx package, and no weight is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(data: Any, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field that holds bytes; raises ValueError where the bytes are no protobuf."""
    while at < end:
        tag, at = _varint(data, at)
        tag &= 0xFFFF_FFFF  # as protobuf's own parser does: higher bits must not hide a field
        kind = tag & 7
        if kind == _BYTES:
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a field reaches beyond its message")
            yield tag >> 3, at, at + length
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of the unknown wire type {kind}")
        if at > end:
            raise ValueError("a field reaches beyond its message")


def _varint(data: Any, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number of more than ten bytes")
