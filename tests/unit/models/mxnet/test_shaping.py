"""Shapes and orders, against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused
from mli.models.mxnet.building import BATCH
from mli.models.mxnet.translate import ShapesRefused

Array = NDArray[Any]


def numbered(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


RESHAPES: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"shape": (-1, 12)}, (2, 12)),
    ({"shape": (0, -1)}, (2, 12)),
    ({"shape": (0, 4, 3)}, (2, 4, 3)),
    ({"shape": (-3, 0)}, (6, 4)),
    ({"shape": (0, -2)}, (2, 3, 4)),
    ({"shape": (0, 0, -4, 2, -1)}, (2, 3, 2, 2)),
    ({"shape": (0, 0, -4, -1, 4)}, (2, 3, 1, 4)),
    ({"shape": (0, -2, 1)}, (2, 3, 4, 1)),
    ({"shape": (-1, 0), "reverse": True}, (6, 4)),
    ({"shape": (0, 0, 2, 2, -4), "reverse": True}, (2, 3, 2, 2)),
    ({"target_shape": (0, 12)}, (2, 12)),
    ({"target_shape": (9, 0), "keep_highest": True}, (2, 12)),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("attributes", "shape"), RESHAPES)
def test_reshape_codes_make_the_shapes_of_mxnet(
    attributes: dict[str, Any], shape: tuple[int, ...], dynamic: bool
) -> None:
    data = numbered(2, 3, 4)
    (found,) = run_operator("Reshape", attributes, data, dynamic_batch=dynamic)
    np.testing.assert_array_equal(found, data.reshape(shape))


def test_reshape_for_one_image_keeps_the_batch_open() -> None:
    (output,) = translate_operator("reshape", {"shape": (-1, 12)}, numbered(1, 3, 4), dynamic_batch=True).outputs
    assert output.shape == (BATCH, 12)


CASES: list[tuple[str, dict[str, Any], Callable[[Array], Array]]] = [
    ("Flatten", {}, lambda x: x.reshape(2, 12)),
    ("transpose", {}, lambda x: x.T),
    ("transpose", {"axes": (0, 2, 1)}, lambda x: x.transpose(0, 2, 1)),
    ("SwapAxis", {"dim1": 0, "dim2": 2}, lambda x: x.swapaxes(0, 2)),
    ("expand_dims", {"axis": -1}, lambda x: x[..., None]),
    ("expand_dims", {"axis": 0}, lambda x: x[None]),
    ("tile", {"reps": (2, 1, 3)}, lambda x: np.tile(x, (2, 1, 3))),
    ("tile", {"reps": (2, 1, 1, 2)}, lambda x: np.tile(x, (2, 1, 1, 2))),
    ("tile", {"reps": (2,)}, lambda x: np.tile(x, 2)),
    ("repeat", {"repeats": 2}, lambda x: np.repeat(x, 2)),
    ("repeat", {"repeats": 3, "axis": 1}, lambda x: np.repeat(x, 3, 1)),
    ("repeat", {"repeats": 2, "axis": 0}, lambda x: np.repeat(x, 2, 0)),
    ("flip", {"axis": (0, 2)}, lambda x: x[::-1, :, ::-1]),
    ("Cast", {"dtype": "uint8"}, lambda x: x.astype(np.uint8)),
    ("zeros_like", {}, np.zeros_like),
    ("ones_like", {}, np.ones_like),
    ("shape_array", {}, lambda x: np.array(x.shape)),
    ("_contrib_arange_like", {"axis": 0, "start": 1, "step": 0.5}, lambda _: np.array([1, 1.5], np.float32)),
    ("_contrib_arange_like", {"repeat": 2}, lambda x: x // 2),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("op", "attributes", "expected"), CASES)
def test_one_tensor(op: str, attributes: dict[str, Any], expected: Callable[[Array], Array], dynamic: bool) -> None:
    data = numbered(2, 3, 4)
    (found,) = run_operator(op, attributes, data, dynamic_batch=dynamic)
    np.testing.assert_array_equal(found, expected(data))


@pytest.mark.parametrize(
    ("shape", "attributes", "expected"),
    [((2, 1, 3, 1), {}, (2, 3)), ((2, 1, 3, 1), {"axis": -1}, (2, 1, 3)), ((2, 1, 1), {"axis": (1, 2)}, (2,))],
)
def test_squeeze(shape: tuple[int, ...], attributes: dict[str, Any], expected: tuple[int, ...]) -> None:
    data = numbered(*shape)
    (found,) = run_operator("squeeze", attributes, data, dynamic_batch=True)
    np.testing.assert_array_equal(found, data.reshape(expected))


def test_squeeze_leaves_one_axis() -> None:
    assert run_operator("squeeze", {}, numbered(1, 1))[0].shape == (1,)


def test_space_and_depth() -> None:
    data = numbered(2, 8, 2, 3)
    wide = data.reshape(2, 2, 2, 2, 2, 3).transpose(0, 3, 4, 1, 5, 2).reshape(2, 2, 4, 6)
    np.testing.assert_array_equal(run_operator("depth_to_space", {"block_size": 2}, data)[0], wide)
    np.testing.assert_array_equal(run_operator("space_to_depth", {"block_size": 2}, wide)[0], data)


def test_concat_and_stack() -> None:
    one, other = numbered(2, 3), numbered(2, 3) + 10
    for op, attributes, expected in (
        ("Concat", {"num_args": 2}, np.concatenate([one, other], 1)),
        ("concat", {"dim": -2}, np.concatenate([one, other], 0)),
        ("stack", {}, np.stack([one, other])),
        ("stack", {"axis": -1}, np.stack([one, other], -1)),
    ):
        np.testing.assert_array_equal(run_operator(op, attributes, one, other, dynamic_batch=True)[0], expected)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("broadcast_to", {"shape": (0, 4, 3)}), ("broadcast_axis", {"axis": 1, "size": 4}), ("broadcast_like", {})],
)
def test_broadcasting(op: str, attributes: dict[str, Any]) -> None:
    data = numbered(2, 1, 3)
    others = [numbered(2, 4, 3)] if op == "broadcast_like" else []
    (found,) = run_operator(op, attributes, data, *others, dynamic_batch=True)
    np.testing.assert_array_equal(found, np.broadcast_to(data, (2, 4, 3)))


def test_broadcast_like_takes_the_open_batch_of_its_model() -> None:
    data = numbered(5, 1)
    attributes = {"lhs_axes": (1,), "rhs_axes": (0,)}
    (found,) = run_operator("broadcast_like", attributes, data, numbered(5, 2), dynamic_batch=True)
    np.testing.assert_array_equal(found, np.broadcast_to(data, (5, 5)))


def test_reshape_like_some_axes() -> None:
    attributes = {"lhs_begin": 1, "lhs_end": 2, "rhs_begin": 1, "rhs_end": 3}
    data = numbered(2, 12)
    (found,) = run_operator("reshape_like", attributes, data, numbered(2, 3, 4), dynamic_batch=True)
    np.testing.assert_array_equal(found, data.reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("_zeros", {"shape": (2, 3)}, np.zeros((2, 3), np.float32)),
        ("_ones", {"shape": 2, "dtype": "int32"}, np.ones(2, np.int32)),
        ("_full", {"shape": (2,), "value": 1.5}, np.full(2, 1.5, np.float32)),
        ("_arange", {"start": 3, "stop": "None"}, np.arange(3, dtype=np.float32)),
        ("_arange", {"start": 3, "stop": 0, "step": -1}, np.array([3, 2, 1], np.float32)),
        (
            "_arange",
            {"start": 0, "stop": 1, "step": 0.3, "repeat": 2},
            np.array([0, 0, 0.3, 0.3, 0.6, 0.6, 0.9, 0.9], np.float32),
        ),
    ],
)
def test_constants(op: str, attributes: dict[str, Any], expected: Array) -> None:
    (found,) = run_operator(op, attributes)
    np.testing.assert_allclose(found, expected)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Reshape", {"shape": (5, -1)}),
        ("Reshape", {"shape": (0, 0, 0, 0)}),
        ("Reshape", {"shape": (-4, 3, 2, -2)}),
        ("transpose", {"axes": (0, 1)}),
        ("transpose", {"axes": (0, 1, 1)}),
        ("squeeze", {"axis": 1}),
        ("broadcast_to", {"shape": (2, 5, 4)}),
        ("SwapAxis", {"dim1": 3}),
    ],
)
def test_shapes_that_cannot_be_are_refused(op: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(ShapesRefused, match="node"):
        translate_operator(op, attributes, numbered(2, 3, 4))


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Reshape", {"shape": (-1, -1)}),
        ("Reshape", {"shape": (-5, 0)}),
        ("Reshape", {}),
        ("repeat", {"repeats": 0}),
        ("tile", {"reps": (10**12, 10**12, 10**12)}),
        ("_zeros", {"shape": (10**6, 10**6)}),
        ("_full", {"shape": 2, "value": 300, "dtype": "uint8"}),
        ("_arange", {"start": 0, "stop": 5, "infer_range": True}),
    ],
)
def test_attributes_without_a_meaning_are_refused(op: str, attributes: dict[str, Any]) -> None:
    arrays = [] if op.startswith("_") else [numbered(2, 3, 4)]
    if op == "tile":
        arrays = [numbered(1, 1, 10**7)]
    with pytest.raises(ModelRefused, match="node"):
        translate_operator(op, attributes, *arrays)


def test_a_fixed_size_behind_the_batch_is_refused() -> None:
    params = {"more": numbered(1, 4)}
    with pytest.raises(ModelRefused, match="a fixed size behind the batch size"):
        translate_operator("Concat", {"dim": 0}, numbered(2, 4), params=params, dynamic_batch=True)
