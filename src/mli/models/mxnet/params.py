"""Reads ``.params`` files: MXNet's list of named arrays, in every format it ever wrote.

The file is mapped, not read: an array is looked at when its values are needed. Every size in a header is compared
with what the file still holds before anything is made of it.

Layout (little-endian): u64 0x112, u64 0, u64 count, the arrays, u64 count, the names (u64 length, bytes). An array
begins with a magic number (V1, V2, V3) or, in the first format, with its number of dimensions.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mli.errors import ModelRefused
from mli.models.rules import shown

_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE, _ROW_SPARSE, _CSR = 0, 1, 2
_INDICES = {_DENSE: 0, _ROW_SPARSE: 1, _CSR: 2}
_SPARSE_NAMES = {_ROW_SPARSE: "row_sparse", _CSR: "csr"}
_MAX_DIMENSIONS = 32
_MAX_ARRAYS = 1_000_000
_MAX_NAME_BYTES = 4096
_BFLOAT16 = 12
_DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f8"),
    2: np.dtype("<f2"),
    3: np.dtype("u1"),
    4: np.dtype("<i4"),
    5: np.dtype("i1"),
    6: np.dtype("<i8"),
    7: np.dtype("?"),
    _BFLOAT16: np.dtype("<u2"),  # its bits
}
_NAMES = {0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool"}


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array of the file.

    Attributes:
        stored_dtype: as the file has it: float32, bfloat16, int8 …
    """

    name: str
    shape: tuple[int, ...]
    stored_dtype: str
    _raw: NDArray[Any]

    @property
    def dtype(self) -> np.dtype[Any]:
        """What :meth:`read` gives: float32 for every kind of floating-point numbers, else the stored type."""
        if self.stored_dtype.startswith(("float", "bfloat")):
            return np.dtype(np.float32)
        return self._raw.dtype.newbyteorder("=")

    def read(self) -> NDArray[Any]:
        """The values, shape ``shape``."""
        if self.stored_dtype == "bfloat16":
            bits: NDArray[Any] = (self._raw.astype(np.uint32) << 16).view(np.float32)
            return bits.reshape(self.shape)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is found by the canary
            return self._raw.reshape(self.shape).astype(self.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class Params:
    """The arrays by the name that the symbol's variables have; ``arg:`` and ``aux:`` are taken off."""

    arrays: Mapping[str, StoredArray]
    file_name: str

    def size_bytes(self) -> int:
        """Of all arrays as stored."""
        return sum(array._raw.nbytes for array in self.arrays.values())


def read_params(path: Path) -> Params:
    """Read a ``.params`` file.

    Raises:
        ModelRefused: it is none, it is truncated, or holds what cannot be read (sparse arrays, unknown types), each
            by name.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise _refused(path.name, "a readable file", error.strerror or str(error)) from error
    return parse_params(memoryview(data), path.name)


def parse_params(data: memoryview, file_name: str) -> Params:
    """The arrays in the bytes of a ``.params`` file.

    Raises:
        ModelRefused: as :func:`read_params`.
    """
    return _Reader(data, file_name).params()


@dataclass(frozen=True, slots=True)
class _Found:
    """An array before its name is known. ``problem`` says why it cannot be used."""

    shape: tuple[int, ...]
    dtype_code: int
    raw: NDArray[Any]
    problem: str | None = None


class _Reader:
    def __init__(self, data: memoryview, file_name: str) -> None:
        self._data = data
        self._file_name = file_name
        self._at = 0

    def params(self) -> Params:
        if len(self._data) < 8 or self._number("<Q", "the file's magic number") != _LIST_MAGIC:
            found = bytes(self._data[:8]).hex(" ") or "an empty file"
            raise _refused(
                self._file_name, "an MXNet parameters file (it begins with 12 01 00 00 00 00 00 00)", found
            )
        self._number("<Q", "the header")
        count = self._count("the number of arrays", 4)
        found_arrays = [self._array(f"array {index + 1} of {count}") for index in range(count)]
        names = self._names(count)
        if self._at != len(self._data):
            raise self._wrong("the end of the file", f"{len(self._data) - self._at} more bytes")
        return Params(self._named(names, found_arrays), self._file_name)

    def _names(self, count: int) -> list[str]:
        named = self._count("the number of names", 8)
        if named != count:
            if not named:
                raise self._wrong(f"a name for each of the {count} arrays", "a list without names")
            raise self._wrong(f"{count} names, one for each array", str(named))
        return [self._name(f"name {index + 1} of {named}") for index in range(named)]

    def _named(self, names: list[str], found_arrays: list[_Found]) -> dict[str, StoredArray]:
        problems: list[str] = []
        arrays: dict[str, StoredArray] = {}
        for full, found in zip(names, found_arrays, strict=True):
            name = full.removeprefix("arg:").removeprefix("aux:")
            if found.problem is not None:
                problems.append(f"{shown(full)} {found.problem}")
            elif name in arrays:
                problems.append(f"{shown(full)} comes twice")
            else:
                dtype = _NAMES.get(found.dtype_code, "bfloat16")
                arrays[name] = StoredArray(name, found.shape, dtype, found.raw)
        if problems:
            more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
            raise _refused(
                self._file_name,
                "dense arrays of float16, bfloat16, float32, float64, bool, uint8, int8, int32 or int64",
                "; ".join(problems[:10]) + more,
                remedy="save the parameters dense: `array.tostype('default')`, and as one of these types",
            )
        return arrays

    def _array(self, what: str) -> _Found:
        start = self._number("<I", what)
        if start in (_V2, _V3):
            return self._array_v2(what, scalars=start == _V3)
        if start == _V1:
            shape = self._dimensions(what, self._number("<I", what), "<q")
        else:
            shape = self._dimensions(what, start, "<I")
        return self._dense(what, shape) if shape else _empty(shape)

    def _array_v2(self, what: str, *, scalars: bool) -> _Found:
        storage = self._number("<i", what)
        if storage not in _INDICES:
            raise self._wrong(f"{what}: a storage type (0, 1 or 2)", str(storage))
        stored_shape = self._shape(what) if storage != _DENSE else None
        shape = self._shape(what)
        if shape is None or (not shape and not scalars):
            return _empty(())
        if stored_shape is not None:
            return self._skip_sparse(what, storage, stored_shape, shape)
        return self._dense(what, shape)

    def _shape(self, what: str) -> tuple[int, ...] | None:
        """None for a shape that was unknown when the file was written."""
        dimensions = self._number("<i", what)
        return None if dimensions == -1 else self._dimensions(what, dimensions, "<q")

    def _dimensions(self, what: str, count: int, each: str) -> tuple[int, ...]:
        if not 0 <= count <= _MAX_DIMENSIONS:
            raise self._wrong(f"{what}: at most {_MAX_DIMENSIONS} dimensions", str(count))
        shape = tuple(self._number(each, what) for _ in range(count))
        if any(size < 0 for size in shape):
            raise self._wrong(f"{what}: sizes of at least 0", str(list(shape)))
        return shape

    def _dense(self, what: str, shape: tuple[int, ...]) -> _Found:
        self._number("<q", what)  # the device it lay on
        code = self._number("<i", what)
        dtype = _DTYPES.get(code)
        if dtype is None:
            raise self._wrong(f"{what}: a known element type", f"number {code}")
        return _Found(shape, code, self._values(what, shape, dtype))

    def _skip_sparse(self, what: str, storage: int, stored: tuple[int, ...], shape: tuple[int, ...]) -> _Found:
        """Step over a sparse array, so that it can be refused by its name, which comes at the end of the file."""
        self._number("<q", what)
        code = self._number("<i", what)
        indices = []
        for _ in range(_INDICES[storage]):
            kind = self._number("<i", what)
            indices.append((self._shape(what) or (), kind))
        for part, kind in [(stored, code), *indices]:
            if kind not in _DTYPES:
                raise self._wrong(f"{what}: a known element type", f"number {kind}")
            self._values(what, part, _DTYPES[kind])
        return _Found(shape, code, np.empty(0), f"is {_SPARSE_NAMES[storage]}")

    def _values(self, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        count = 1
        for size in shape:
            count *= size  # exact: Python's integers do not overflow
        needed = count * dtype.itemsize
        self._need(needed, f"{what}, shape {list(shape)} {dtype.name}")
        values = np.frombuffer(self._data, dtype, count, self._at)
        self._at += needed
        return values

    def _name(self, what: str) -> str:
        length = self._number("<Q", what)
        if length > _MAX_NAME_BYTES:
            raise self._wrong(f"{what}: at most {_MAX_NAME_BYTES} bytes", str(length))
        self._need(length, what)
        data = bytes(self._data[self._at : self._at + length])
        self._at += length
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self._wrong(f"{what}: text in UTF-8", shown(repr(data[:80]))) from error

    def _count(self, what: str, each_bytes: int) -> int:
        """A number of things that take at least ``each_bytes`` each."""
        count = self._number("<Q", what)
        if count > _MAX_ARRAYS:
            raise self._wrong(f"{what}: at most {_MAX_ARRAYS}", str(count))
        self._need(count * each_bytes, f"{count} items, {what}")
        return count

    def _number(self, layout: str, what: str) -> int:
        size = struct.calcsize(layout)
        self._need(size, what)
        (number,) = struct.unpack_from(layout, self._data, self._at)
        self._at += size
        return int(number)

    def _need(self, size: int, what: str) -> None:
        left = len(self._data) - self._at
        if size > left:
            raise _refused(
                f"{self._file_name}, byte {self._at}",
                f"{size} bytes for {what}",
                f"{left} bytes to the end of the file: it is truncated or damaged",
                remedy="copy the file again from the training job, and compare its size there",
            )

    def _wrong(self, expected: str, found: str) -> ModelRefused:
        return _refused(f"{self._file_name}, byte {self._at}", expected, found)


def _empty(shape: tuple[int, ...]) -> _Found:
    return _Found(shape, 0, np.empty(0, np.float32), "holds no values")


def _refused(where: str, expected: str, found: str, remedy: str | None = None) -> ModelRefused:
    return ModelRefused(
        "The MXNet parameters file cannot be read.",
        where=where,
        expected=expected,
        got=found,
        remedy=remedy or "check that it is the .params file that belongs to the symbol file",
    )
