"""Parameters files in every format, and what is wrong with damaged ones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_files import (
    MAGICS,
    ParamsFormat,
    array_bytes,
    list_bytes,
    params_bytes,
    row_sparse_bytes,
)

from mli.errors import ModelRefused
from mli.models.mxnet.params import Params, parse_params, read_params

FORMATS: tuple[ParamsFormat, ...] = ("raw", "v1", "v2", "v3")
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3) / 7


def parsed(data: bytes) -> Params:
    return parse_params(memoryview(data), "net-0000.params")


def refusal(data: bytes) -> ModelRefused:
    with pytest.raises(ModelRefused) as caught:
        parsed(data)
    return caught.value


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_gives_names_shapes_and_values(format_: ParamsFormat) -> None:
    arrays: dict[str, NDArray[Any]] = {"fc_weight": WEIGHT, "bn_moving_mean": np.array([1.5, -2.0], np.float32)}
    found = parsed(params_bytes(arrays, format_)).arrays
    assert set(found) == {"fc_weight", "bn_moving_mean"}
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        assert np.array_equal(found[name].read(), array)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floating_point_numbers_become_float32(dtype: str) -> None:
    values = np.array([[0.5, -1.25], [3.0, 1024.0]], dtype)
    (array,) = parsed(params_bytes({"w": values})).arrays.values()
    assert array.stored_dtype == dtype
    assert array.dtype == array.read().dtype == np.float32
    assert array.read().tolist() == values.tolist()


def test_bfloat16_becomes_float32() -> None:
    values = np.array([1.0, -2.5, 0.15625], np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    (array,) = parsed(params_bytes({"w": bits})).arrays.values()
    assert array.stored_dtype == "bfloat16"
    assert array.read().tolist() == values.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64", "bool"])
def test_whole_numbers_stay_what_they_are(dtype: str) -> None:
    values = np.array([0, 1, 1], dtype)
    (array,) = parsed(params_bytes({"w": values})).arrays.values()
    assert array.dtype == values.dtype
    assert array.read().tolist() == values.tolist()


def test_prefixes_are_taken_off_and_may_be_missing() -> None:
    data = list_bytes([array_bytes(WEIGHT)] * 3, ["arg:a", "aux:b", "c"])
    assert set(parsed(data).arrays) == {"a", "b", "c"}


def test_scalars_of_the_numpy_format() -> None:
    (array,) = parsed(params_bytes({"s": np.array(2.5, np.float32)}, "v3")).arrays.values()
    assert array.shape == ()
    assert float(array.read()) == 2.5


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_cut_anywhere_is_truncated(format_: ParamsFormat) -> None:
    whole = params_bytes({"fc_weight": WEIGHT, "fc_bias": WEIGHT[0]}, format_)
    for length in range(8, len(whole)):
        assert "truncated" in (refusal(whole[:length]).got or ""), length


def test_the_message_of_a_truncated_file_says_where_and_how_much(tmp_path: Path) -> None:
    path = tmp_path / "net-0001.params"
    path.write_bytes(params_bytes({"fc_weight": WEIGHT})[:70])
    with pytest.raises(ModelRefused) as caught:
        read_params(path)
    error = caught.value
    assert error.where == "net-0001.params, byte 64"
    assert error.expected == "24 bytes for array 1 of 1, shape [2, 3] float32"
    assert error.got is not None
    assert error.got.startswith("6 bytes to the end of the file")


def test_sparse_arrays_are_refused_by_name() -> None:
    data = list_bytes([array_bytes(WEIGHT), row_sparse_bytes(1000, 8)], ["arg:fc_weight", "arg:embedding"])
    assert "'arg:embedding' is row_sparse" in (refusal(data).got or "")


def test_sizes_beyond_the_file_need_no_memory() -> None:
    for count in (2**31, 2**62):
        head = struct.pack("<Iiiq", MAGICS["v2"], 0, 1, count) + struct.pack("<iii", 1, 0, 0)
        assert "truncated" in (refusal(list_bytes([head], ["arg:w"])).got or "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04 and so on", "50 4b 03 04"),
        (list_bytes([array_bytes(WEIGHT)], []), "a list without names"),
        (list_bytes([array_bytes(WEIGHT)], ["a", "b"]), "2"),
        (list_bytes([array_bytes(WEIGHT)] * 2, ["arg:a", "a"]), "comes twice"),
        (params_bytes({"w": WEIGHT}) + b"x", "1 more bytes"),
        (list_bytes([struct.pack("<IiiqiiI", MAGICS["v2"], 0, 1, 1, 1, 0, 99) + b"\0" * 8], ["w"]), "number 99"),
        (list_bytes([struct.pack("<Ii", MAGICS["v2"], 7)], ["w"]), "7"),
        (list_bytes([struct.pack("<Iiiq", MAGICS["v2"], 0, 1, -5) + b"\0" * 20], ["w"]), "[-5]"),
    ],
    ids=["empty", "zip", "no names", "more names", "twice", "trailing", "type", "storage", "negative size"],
)
def test_what_came_instead_is_said(data: bytes, said: str) -> None:
    assert said in (refusal(data).got or "")
