"""Where an ONNX model keeps weights outside of its own file: only beside it.

A model is somebody else's bytes, and a path in it could name any file of the device. onnxruntime itself checks
these paths only in its recent releases. This walks the protobuf by field numbers (onnx.proto of the ONNX project), so
that a worker needs no onnx package; weights inside the file are stepped over, not read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mli.errors import ModelRefused
from mli.pipeline.estimators.onnx_protobuf import fields

# Message → field number → message in it, for all that leads to a tensor.
FIELDS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "TensorProto": {13: "StringStringEntryProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
}
_ENTRY = "StringStringEntryProto"
_KEY, _VALUE = 1, 2
_MAX_DEPTH = 100


def check_external_data(path: Path) -> None:
    """Refuse a model whose external data is not a file in the model's own folder.

    Raises:
        ModelRefused: naming the path in the model; or the file is no protobuf, so that nobody knows its paths.
    """
    folder = path.parent.resolve()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            locations = sorted(set(_walk(data, 0, len(data), "ModelProto", 0)))
    except (ValueError, IndexError) as error:
        raise ModelRefused(
            f"{path.name}: this is no ONNX model, or a damaged one",
            expected="an ONNX file (a protobuf of the type ModelProto)",
            got=str(error) if path.stat().st_size else "an empty file",
        ) from error
    except OSError as error:
        raise ModelRefused(f"{path.name}: the model file cannot be read", got=error.strerror) from error
    for location in locations:
        if not _is_inside(folder, location):
            raise ModelRefused(
                f"{path.name}: the model wants to read weights from outside of its folder",
                expected="external data in files beside the model",
                got=repr(location),
                remedy="save the model with its external data beside it, and pack both",
            )
        if not (folder / location).is_file():
            raise ModelRefused(
                f"{path.name}: the model's external data is missing",
                expected=f"a file {location!r} beside the model",
                remedy="pack the model together with its external data",
            )


def _is_inside(folder: Path, location: str) -> bool:
    if not location or "\0" in location or "\\" in location or Path(location).is_absolute():
        return False
    if ".." in Path(location).parts:
        return False
    return (folder / location).resolve().is_relative_to(folder)


def _walk(data: Any, at: int, end: int, message: str, depth: int) -> Iterator[str]:
    """Locations in the message that lies from ``at`` to ``end``."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"graphs that are nested more than {_MAX_DEPTH} deep")
    inner = FIELDS[message]
    for field, start, stop in fields(data, at, end):
        kind = inner.get(field)
        if kind == _ENTRY:
            entry = {number: data[first:last] for number, first, last in fields(data, start, stop)}
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode("utf-8", "backslashreplace")
        elif kind is not None:
            yield from _walk(data, start, stop, kind, depth + 1)
