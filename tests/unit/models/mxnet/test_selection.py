"""Slices, parts, and elements by place or order, against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused
from mli.models.mxnet.translate import ShapesRefused

Array = NDArray[Any]


def numbered(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def shuffled(*shape: int) -> Array:
    return np.random.default_rng(3).permutation(numbered(*shape).ravel()).reshape(shape)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


SLICES: list[tuple[str, dict[str, Any], Callable[[Array], Array]]] = [
    ("slice", {"begin": (None, 1), "end": (None, 3)}, lambda x: x[:, 1:3]),
    ("crop", {"begin": (None, -3, 0), "end": (None, None, -1)}, lambda x: x[:, -3:, :-1]),
    ("slice", {"begin": (None, 3, None), "end": (None, 0, None), "step": (1, -2, -1)}, lambda x: x[:, 3:0:-2, ::-1]),
    ("slice", {"begin": (None,), "end": (None,), "step": (-1,)}, lambda x: x[::-1]),
    ("slice", {"begin": (0, 0), "end": (None, 99)}, lambda x: x),
    ("slice_axis", {"axis": 1, "begin": 1, "end": "None"}, lambda x: x[:, 1:]),
    ("slice_axis", {"axis": -1, "begin": -2, "end": -1}, lambda x: x[..., -2:-1]),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("op", "attributes", "expected"), SLICES)
def test_slices(op: str, attributes: dict[str, Any], expected: Callable[[Array], Array], dynamic: bool) -> None:
    data = numbered(2, 4, 3)
    np.testing.assert_array_equal(run_operator(op, attributes, data, dynamic_batch=dynamic)[0], expected(data))


def test_slice_like_at_all_axes_or_some() -> None:
    data = numbered(2, 4, 3)
    (found,) = run_operator("slice_like", {}, data, numbered(2, 3, 1), dynamic_batch=True)
    np.testing.assert_array_equal(found, data[:, :3, :1])
    (found,) = run_operator("slice_like", {"axes": (-1,)}, data, numbered(2, 9, 2), dynamic_batch=True)
    np.testing.assert_array_equal(found, data[..., :2])


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("SliceChannel", {"num_outputs": 2}, lambda x: np.split(x, 2, 1)),
        ("split", {"num_outputs": 3, "axis": -1}, lambda x: np.split(x, 3, -1)),
        ("SliceChannel", {"num_outputs": 4, "squeeze_axis": True}, lambda x: [x[:, index] for index in range(4)]),
        ("_split_v2", {"indices": "[0, 1, 3]", "axis": 1, "sections": 0}, lambda x: np.split(x, [1, 3], 1)),
        ("_split_v2", {"indices": "()", "axis": 1, "sections": 2}, lambda x: np.split(x, 2, 1)),
    ],
)
def test_parts(op: str, attributes: dict[str, Any], expected: Callable[[Array], list[Array]]) -> None:
    data = numbered(2, 4, 3)
    wanted = expected(data)
    found = run_operator(op, attributes, data, dynamic_batch=True, outputs=len(wanted))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


PLACES = floats(-3, 0.9, 2, 3, 7)
CLIPPED, WRAPPED = [0, 0, 2, 2, 2], [0, 0, 2, 0, 1]


@pytest.mark.parametrize(("mode", "places"), [("clip", CLIPPED), ("wrap", WRAPPED)])
def test_take_cuts_places_and_brings_them_inside(mode: str, places: list[int]) -> None:
    data = numbered(3, 4)
    (found,) = run_operator("take", {"mode": mode}, data, PLACES)
    np.testing.assert_array_equal(found, data[places])


def test_embedding_gives_rows_of_its_table() -> None:
    weight = numbered(3, 4)
    attributes = {"input_dim": 3, "output_dim": 4}
    (found,) = run_operator(
        "Embedding", attributes, PLACES.reshape(5, 1), params={"weight": weight}, dynamic_batch=True
    )
    np.testing.assert_array_equal(found, weight[CLIPPED][:, None])


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("mode", "places"), [("clip", CLIPPED), ("wrap", WRAPPED)])
def test_pick(mode: str, places: list[int], keep: bool) -> None:
    data = numbered(5, 3)
    (found,) = run_operator("pick", {"mode": mode, "keepdims": keep}, data, PLACES, dynamic_batch=True)
    expected = data[range(5), places]
    np.testing.assert_array_equal(found, expected[:, None] if keep else expected)


def test_pick_along_another_axis() -> None:
    data, index = numbered(2, 3, 4), np.tile(floats(0, 2, 1, 2), (2, 1))
    (found,) = run_operator("pick", {"axis": 1}, data, index, dynamic_batch=True)
    np.testing.assert_array_equal(found, np.take_along_axis(data, index[:, None].astype(int), 1)[:, 0])


def test_gather_nd() -> None:
    data, indices = numbered(3, 4, 2), np.array([[0, 2, 1], [3, 0, 1]], np.float32)
    (found,) = run_operator("gather_nd", {}, data, indices)
    np.testing.assert_array_equal(found, data[[0, 2, 1], [3, 0, 1]])


def test_where_with_a_condition_a_row_or_an_element() -> None:
    one, other = numbered(2, 3), -numbered(2, 3)
    rows, elements = floats(0, 2), one % 2
    (found,) = run_operator("where", {}, rows, one, other, dynamic_batch=True)
    np.testing.assert_array_equal(found, np.where(rows[:, None] != 0, one, other))
    (found,) = run_operator("where", {}, elements, one, other, dynamic_batch=True)
    np.testing.assert_array_equal(found, np.where(elements != 0, one, other))


def test_one_hot_is_off_everywhere_for_a_place_outside() -> None:
    attributes = {"depth": 3, "on_value": 2, "off_value": -1, "dtype": "int32"}
    (found,) = run_operator("one_hot", attributes, floats(-1, 0, 2.7, 3), dynamic_batch=True)
    expected = np.full((4, 3), -1, np.int32)
    expected[1, 0] = expected[2, 2] = 2
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32


DATA = shuffled(3, 4)


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("argmax", {"axis": 1}, DATA.argmax(1)),
        ("argmin", {"axis": -1, "keepdims": True}, DATA.argmin(1)[:, None]),
        ("argmax", {}, [DATA.argmax()]),
        ("argmax", {"keepdims": True}, [[DATA.argmax()]]),
        ("argmax_channel", {}, DATA.argmax(1)),
        ("argsort", {}, DATA.argsort(1)),
        ("argsort", {"is_ascend": False}, (-DATA).argsort(1)),
        ("sort", {}, np.sort(DATA, 1)),
        ("sort", {"is_ascend": False}, -np.sort(-DATA, 1)),
        ("topk", {}, DATA.argmax(1)[:, None]),
        ("topk", {"k": 2}, (-DATA).argsort(1)[:, :2]),
        ("topk", {"k": 2, "ret_typ": "value", "is_ascend": True}, np.sort(DATA, 1)[:, :2]),
        ("topk", {"k": 0, "ret_typ": "value"}, -np.sort(-DATA, 1)),
        ("topk", {"k": 2, "ret_typ": "mask"}, DATA.argsort(1).argsort(1) >= 2),
    ],
)
def test_order_is_told_in_float32(op: str, attributes: dict[str, Any], expected: Any) -> None:
    (found,) = run_operator(op, attributes, DATA, dynamic_batch=True)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_order_of_all_numbers() -> None:
    (found,) = run_operator("topk", {"axis": "None", "k": 3}, DATA)
    np.testing.assert_array_equal(found, (-DATA.ravel()).argsort()[:3])
    (mask,) = run_operator("topk", {"axis": "None", "k": 3, "ret_typ": "mask"}, DATA)
    np.testing.assert_array_equal(mask, DATA > 8)
    np.testing.assert_array_equal(run_operator("sort", {"axis": "None"}, DATA)[0], np.arange(12))


def test_topk_gives_values_and_places() -> None:
    values, places = run_operator("topk", {"k": 2, "ret_typ": "both", "dtype": "int32"}, DATA, outputs=2)
    np.testing.assert_array_equal(values, -np.sort(-DATA, 1)[:, :2])
    np.testing.assert_array_equal(places, (-DATA).argsort(1)[:, :2])
    assert places.dtype == np.int32


def test_equal_numbers_keep_their_order() -> None:
    data = floats(1, 3, 3, 3, 1)
    np.testing.assert_array_equal(run_operator("argsort", {}, data)[0], [0, 4, 1, 2, 3])
    np.testing.assert_array_equal(run_operator("argsort", {"is_ascend": False}, data)[0], [1, 2, 3, 0, 4])
    np.testing.assert_array_equal(run_operator("argmax", {"axis": 0}, data)[0], [1])


@pytest.mark.parametrize(
    ("op", "attributes", "named"),
    [
        ("slice", {"begin": (1,), "end": (1,)}, "nothing is left"),
        ("slice", {"begin": (0, 0, 0), "end": (1, 1, 1)}, "attribute begin"),
        ("SliceChannel", {"num_outputs": 3}, "axis 1"),
        ("_split_v2", {"indices": "(1, 2)", "axis": 1}, "attribute indices"),
        ("topk", {"k": 5}, "attribute k"),
        ("slice_axis", {"axis": 2, "begin": 0, "end": 1}, "attribute axis"),
    ],
)
def test_shapes_that_cannot_be_are_refused(op: str, attributes: dict[str, Any], named: str) -> None:
    with pytest.raises(ShapesRefused, match=named):
        translate_operator(op, attributes, DATA)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("slice_axis", {"axis": 0, "begin": 0, "end": 1}),
        ("_split_v2", {"axis": 0, "indices": "(0, 1)"}),
        ("sort", {"axis": 0}),
    ],
)
def test_a_part_of_an_open_batch_is_refused(op: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused, match="the batch"):
        translate_operator(op, attributes, DATA, dynamic_batch=True)


def test_a_table_of_another_network_is_refused() -> None:
    attributes = {"input_dim": 3, "output_dim": 4}
    with pytest.raises(ShapesRefused, match="parameter weight") as caught:
        translate_operator("Embedding", attributes, PLACES, params={"weight": numbered(3, 5)})
    assert (caught.value.expected, caught.value.got) == ("(3, 4)", "(3, 5)")
