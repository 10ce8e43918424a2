"""Pooling, against windows written out in numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused
from mli.models.mxnet.attributes import Attributes
from mli.models.mxnet.building import BATCH, GraphBuilder
from mli.models.mxnet.call import Call
from mli.models.mxnet.operators.pooling import pooling
from mli.models.mxnet.translate import ShapesRefused

Array = NDArray[Any]


def random(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).uniform(-1, 1, shape).astype(np.float32)


def pooled(data: Array, kind: str, attributes: dict[str, Any], counts: tuple[int, ...], divisor: str) -> Array:
    """Window by window. A mean's divisor: elements of the input (``real``), with its padding, or of the window."""
    kernel = attributes["kernel"]
    stride = attributes.get("stride", (1,) * len(kernel))
    pad = attributes.get("pad", (0,) * len(kernel))
    result = np.zeros((*data.shape[:2], *counts))
    for place in np.ndindex(*counts):
        begins = [index * step - before for index, step, before in zip(place, stride, pad, strict=True)]
        ends = [
            min(begin + length, size + after)
            for begin, length, size, after in zip(begins, kernel, data.shape[2:], pad, strict=True)
        ]
        cut = tuple(slice(max(begin, 0), max(end, 0)) for begin, end in zip(begins, ends, strict=True))
        window = data[(slice(None), slice(None), *cut)].reshape(*data.shape[:2], -1).astype(np.float64)
        padded = math.prod(end - begin for begin, end in zip(begins, ends, strict=True))
        number = {"real": window.shape[2], "padded": padded, "whole": math.prod(kernel)}[divisor]
        index = (slice(None), slice(None), *place)
        if kind == "max":
            result[index] = window.max(2)
        elif kind == "avg":
            result[index] = window.sum(2) / number
        else:
            power = attributes.get("p_value", 1)
            result[index] = np.cbrt((window**3).sum(2)) if power == 3 else (window**power).sum(2) ** (1 / power)
    return result


WINDOWS: list[tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]] = [
    ((7,), {"kernel": (3,), "stride": (2,)}, (3,)),
    ((6, 7), {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1)}, (3, 4)),
    ((6, 6), {"kernel": (3, 3), "stride": (2, 2), "pooling_convention": "full"}, (3, 3)),
    ((6, 6), {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "pooling_convention": "full"}, (4, 4)),
    ((6, 7), {"kernel": (2, 2), "stride": (3, 3), "pad": (1, 0), "pooling_convention": "full"}, (3, 3)),
    ((4, 5, 4), {"kernel": (2, 3, 2), "stride": (1, 2, 2), "pad": (0, 1, 1)}, (3, 3, 3)),
]
KINDS = [
    ("max", {}, "padded"),
    ("avg", {}, "padded"),
    ("avg", {"count_include_pad": False}, "real"),
    ("sum", {}, "padded"),
    ("lp", {"p_value": 2}, "padded"),
    ("lp", {"p_value": 3}, "padded"),
]


@pytest.mark.parametrize(("kind", "more", "divisor"), KINDS)
@pytest.mark.parametrize(("sizes", "attributes", "counts"), WINDOWS)
def test_windows_end_where_the_padded_input_does(
    sizes: tuple[int, ...],
    attributes: dict[str, Any],
    counts: tuple[int, ...],
    kind: str,
    more: dict[str, Any],
    divisor: str,
) -> None:
    data = random(2, 3, *sizes)
    attributes = {**attributes, **more, "pool_type": kind}
    (found,) = run_operator("Pooling", attributes, data, dynamic_batch=True)
    np.testing.assert_allclose(found, pooled(data, kind, attributes, counts, divisor), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "nothing"),
    [
        ({"pool_type": "max"}, np.finfo(np.float32).min),
        ({"pool_type": "avg"}, 0),
        ({"pool_type": "avg", "count_include_pad": False}, 0),
        ({"pool_type": "sum"}, 0),
    ],
)
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(1, 2, 1), (2, 3, 2)])
def test_windows_may_lie_in_the_padding_alone(
    kernel: int, stride: int, pad: int, attributes: dict[str, Any], nothing: float
) -> None:
    data = np.full((1, 1, 3), 6, np.float32)
    windows = {"kernel": (kernel,), "stride": (stride,), "pad": (pad,), "pooling_convention": "full"}
    (found,) = run_operator("Pooling", {**attributes, **windows}, data, dynamic_batch=True)
    middle = 6 * kernel if attributes["pool_type"] == "sum" else 6
    np.testing.assert_array_equal(found, np.array([[[nothing, middle, nothing]]], np.float32))


@pytest.mark.parametrize(("padding", "expected"), [(True, [3, 6, 0]), (False, [6, 6, 0])])
def test_a_window_over_the_end_counts_what_it_has(padding: bool, expected: list[float]) -> None:
    windows = {"kernel": (2,), "stride": (3,), "pad": (1,), "pooling_convention": "full"}
    attributes = {**windows, "pool_type": "avg", "count_include_pad": padding}
    (found,) = run_operator("Pooling", attributes, np.full((1, 1, 4), 6, np.float32))
    assert found.tolist() == [[expected]]


@pytest.mark.parametrize("kind", ["max", "avg", "sum"])
def test_the_old_operator_pads_with_zeros_and_divides_by_the_whole_window(kind: str) -> None:
    data = random(2, 3, 6, 7) - 2
    attributes = {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1), "pooling_convention": "full", "pool_type": kind}
    (found,) = run_operator("Pooling_v1", attributes, data, dynamic_batch=True)
    padded = np.pad(data, [(0, 0), (0, 0), (1, 1), (1, 1)])
    expected = pooled(padded, kind, {**attributes, "pad": (0, 0)}, (4, 5), "whole")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", ["Pooling", "Pooling_v1"])
@pytest.mark.parametrize("kind", ["max", "avg", "sum"])
def test_global_pooling_ignores_its_windows(op: str, kind: str) -> None:
    data = random(2, 3, 5, 4)
    attributes = {"global_pool": True, "kernel": (7, 7), "stride": (2, 2), "pad": (3, 3), "pool_type": kind}
    (found,) = run_operator(op, attributes, data, dynamic_batch=True)
    flat = data.reshape(2, 3, 1, -1)
    expected = {"max": flat.max(3), "avg": flat.mean(3), "sum": flat.sum(3)}[kind].reshape(2, 3, 1, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_same_pools_one_axis_from_its_begin_on() -> None:
    attributes = {"kernel": (3,), "stride": (2,), "pooling_convention": "same", "pad": (0, 0, 0)}
    (found,) = run_operator("Pooling", attributes, np.array([[[5, 4, 3, 2, 1, 0]]], np.float32))
    assert found.tolist() == [[[5, 3, 1]]]


def test_channels_last() -> None:
    data = random(2, 5, 6, 3)
    (found,) = run_operator("Pooling", {"kernel": (2, 3), "layout": "NHWC"}, data, dynamic_batch=True)
    expected = pooled(data.transpose(0, 3, 1, 2), "max", {"kernel": (2, 3)}, (4, 4), "real")
    np.testing.assert_array_equal(found, expected.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("size", "output", "wanted"),
    [((6, 8), "(3, 2)", (3, 2)), ((7, 5), "[3]", (3, 3)), ((6, 5), "(3, 2)", (3, 2))],
)
def test_adaptive_pooling_shares_the_input_out(size: tuple[int, int], output: str, wanted: tuple[int, int]) -> None:
    data = random(2, 3, *size)
    (found,) = run_operator("_contrib_AdaptiveAvgPooling2D", {"output_size": output}, data, dynamic_batch=True)
    for y, x in np.ndindex(*wanted):
        rows = slice(y * size[0] // wanted[0], math.ceil((y + 1) * size[0] / wanted[0]))
        columns = slice(x * size[1] // wanted[1], math.ceil((x + 1) * size[1] / wanted[1]))
        np.testing.assert_allclose(found[:, :, y, x], data[:, :, rows, columns].mean(axis=(2, 3)), atol=1e-6)
    (whole,) = run_operator("_contrib_AdaptiveAvgPooling2D", {}, data)
    np.testing.assert_allclose(whole, data.mean(axis=(2, 3), keepdims=True), atol=1e-6)


@pytest.mark.parametrize(("stated", "size"), [({}, 4), ({"pooling_convention": "valid"}, 3)])
def test_only_an_unstated_convention_may_be_told_to_round_up(stated: dict[str, str], size: int) -> None:
    graph = GraphBuilder()
    data = graph.input("data", (BATCH, 1, 8, 8))
    attributes = Attributes({"kernel": "(3, 3)", "stride": "(2, 2)", **stated})
    result = pooling(Call("pool", "Pooling", attributes, (data,), graph, round_up=True))
    assert not isinstance(result, tuple)
    assert result.shape == (BATCH, 1, size, size)


@pytest.mark.parametrize(
    ("attributes", "nodes"),
    [
        ({"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}, ["MaxPool"]),
        ({"kernel": (3, 3), "pad": (1, 1), "pool_type": "avg"}, ["AveragePool"]),
        ({"kernel": (3, 3), "stride": (2, 2), "pooling_convention": "full"}, ["MaxPool"]),
        ({"kernel": (7, 7), "global_pool": True, "pool_type": "avg"}, ["GlobalAveragePool"]),
    ],
)
def test_plain_pooling_is_one_node(attributes: dict[str, Any], nodes: list[str]) -> None:
    translation = translate_operator("Pooling", attributes, random(1, 3, 8, 8), dynamic_batch=True)
    assert [node.op_type for node in translation.graph.nodes] == nodes


def test_windows_larger_than_the_input_are_refused() -> None:
    with pytest.raises(ShapesRefused, match="larger than its input"):
        translate_operator("Pooling", {"kernel": (7, 7), "pad": (1, 1)}, random(1, 3, 4, 4))


def test_the_old_operator_refuses_windows_of_nothing() -> None:
    attributes = {"kernel": (1, 1), "stride": (2, 2), "pooling_convention": "full"}
    with pytest.raises(ShapesRefused, match="outside of its input"):
        translate_operator("Pooling_v1", attributes, random(1, 3, 4, 4))


def test_same_has_no_padding() -> None:
    with pytest.raises(ModelRefused, match="pooling_convention"):
        translate_operator("Pooling", {"kernel": (3,), "pooling_convention": "same", "pad": (1,)}, random(1, 3, 6))


@pytest.mark.parametrize(
    "attributes",
    [
        {"pool_type": "min"},
        {"pool_type": "lp"},
        {"pool_type": "lp", "p_value": 4},
        {"pooling_convention": "same"},
        {"stride": (0, 1)},
        {"pad": (-1, 0)},
        {"layout": "CHWN"},
        {"kernel": "(3, 3, 3)"},
        {"kernel": (100_000, 1), "pad": (100_000, 0)},
    ],
)
def test_what_cannot_be_done_is_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused, match="attribute"):
        translate_operator("Pooling", {"kernel": (2, 2), **attributes}, random(1, 3, 6, 6))
