"""Convolution, Deconvolution and FullyConnected, against sums written out in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused
from mli.models.mxnet.translate import ShapesRefused

Array = NDArray[Any]


def random(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).uniform(-1, 1, shape).astype(np.float32)


def convolved(data: Array, weight: Array, stride: int = 1, pad: int = 0, dilate: int = 1, groups: int = 1) -> Array:
    """Every output as a sum over one window."""
    kernel = weight.shape[2:]
    padded = np.pad(data.astype(np.float64), [(0, 0), (0, 0), *[(pad, pad)] * len(kernel)])
    reach = [dilate * (length - 1) + 1 for length in kernel]
    sizes = [(size - whole) // stride + 1 for size, whole in zip(padded.shape[2:], reach, strict=True)]
    result = np.zeros((data.shape[0], weight.shape[0], *sizes))
    per_group = weight.shape[0] // groups
    for place in np.ndindex(*sizes):
        begins = [index * stride for index in place]
        cut = tuple(slice(begin, begin + whole, dilate) for begin, whole in zip(begins, reach, strict=True))
        window = padded[(slice(None), slice(None), *cut)]
        for filter_ in range(weight.shape[0]):
            first = filter_ // per_group * weight.shape[1]
            part = window[:, first : first + weight.shape[1]]
            result[(slice(None), filter_, *place)] = (part * weight[filter_]).reshape(len(data), -1).sum(1)
    return result


def scattered(data: Array, weight: Array, stride: int = 1, groups: int = 1) -> Array:
    """Every input spread over one window; nothing cut off."""
    kernel, sizes = weight.shape[2:], data.shape[2:]
    whole = [stride * (size - 1) + length for size, length in zip(sizes, kernel, strict=True)]
    per_group = data.shape[1] // groups
    result = np.zeros((data.shape[0], weight.shape[1] * groups, *whole))
    for channel in range(data.shape[1]):
        first = channel // per_group * weight.shape[1]
        for place in np.ndindex(*sizes):
            cut = tuple(slice(i * stride, i * stride + length) for i, length in zip(place, kernel, strict=True))
            numbers = data[(slice(None), channel, *place)].reshape(-1, 1, *[1] * len(kernel))
            result[(slice(None), slice(first, first + weight.shape[1]), *cut)] += numbers * weight[channel]
    return result


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], dict[str, int]]] = [
    ((2, 3, 7), (4, 3, 3), {"kernel": (3,), "pad": (1,)}, {"pad": 1}),
    ((2, 3, 6, 7), (4, 3, 3, 2), {"kernel": "[3, 2]", "stride": "(2L, 2L)", "pad": "()"}, {"stride": 2}),
    ((2, 4, 7, 7), (6, 2, 3, 3), {"kernel": (3, 3), "num_group": 2, "dilate": (2, 2)}, {"groups": 2, "dilate": 2}),
    ((2, 2, 4, 5, 4), (3, 2, 2, 3, 2), {"kernel": (2, 3, 2), "workspace": 512}, {}),
]


@pytest.mark.parametrize(("shape", "weight_shape", "attributes", "how"), CONVOLUTIONS)
@pytest.mark.parametrize("op", ["Convolution", "Convolution_v1"])
def test_a_convolution_sums_over_windows(
    op: str,
    shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    attributes: dict[str, Any],
    how: dict[str, int],
) -> None:
    data, weight, bias = random(*shape), random(*weight_shape), random(weight_shape[0])
    attributes = {"num_filter": weight_shape[0], **attributes}
    expected = convolved(data, weight, **how)
    plain = run_operator(
        op, {**attributes, "no_bias": True}, data, params={"weight": weight, "bias": bias}, dynamic_batch=True
    )
    np.testing.assert_allclose(plain[0], expected, rtol=0, atol=1e-5)
    biased = run_operator(op, attributes, data, params={"weight": weight, "bias": bias})
    column = bias.reshape(-1, *[1] * (data.ndim - 2))
    np.testing.assert_allclose(biased[0], expected + column, rtol=0, atol=1e-5)


def test_channels_last_have_their_weights_in_the_same_order() -> None:
    data, weight = random(2, 3, 6, 5), random(4, 3, 3, 2)
    attributes = {"num_filter": 4, "kernel": (3, 2), "no_bias": True, "layout": "NHWC"}
    turned = {"weight": weight.transpose(0, 2, 3, 1)}
    (found,) = run_operator("Convolution", attributes, data.transpose(0, 2, 3, 1), params=turned, dynamic_batch=True)
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), convolved(data, weight), rtol=0, atol=1e-5)


def test_a_deconvolution_has_no_bias_unless_it_is_asked_for() -> None:
    data, weight, bias = random(2, 4, 3, 4), random(4, 3, 3, 3), random(6)
    attributes = {"num_filter": 6, "kernel": (3, 3), "stride": (2, 2), "num_group": 2}
    params = {"weight": weight, "bias": bias}
    expected = scattered(data, weight, 2, 2)
    (plain,) = run_operator("Deconvolution", attributes, data, params=params, dynamic_batch=True)
    np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-5)
    (biased,) = run_operator("Deconvolution", {**attributes, "no_bias": "False"}, data, params=params)
    np.testing.assert_allclose(biased, expected + bias.reshape(-1, 1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "before", "size"),
    [
        ({"pad": (1,)}, 1, 7),
        ({"pad": (1,), "adj": (1,)}, 1, 8),
        ({"target_shape": (8,)}, 1, 8),  # of 9: more is cut off before than after
        ({"target_shape": (6,), "pad": (3,), "adj": (1,)}, 2, 6),
    ],
)
def test_a_deconvolution_is_cut_as_its_attributes_say(attributes: dict[str, Any], before: int, size: int) -> None:
    data, weight = random(2, 3, 4), random(3, 2, 3)
    whole = np.pad(scattered(data, weight, 2), [(0, 0), (0, 0), (0, 2)])
    attributes = {"num_filter": 2, "kernel": (3,), "stride": (2,), **attributes}
    (found,) = run_operator("Deconvolution", attributes, data, params={"weight": weight}, dynamic_batch=True)
    np.testing.assert_allclose(found, whole[:, :, before : before + size], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("flatten", "shape", "columns"), [(None, (2, 3, 4), 12), (True, (2, 5), 5), (False, (2, 3, 4), 4)]
)
def test_fully_connected_takes_an_item_or_its_last_axis(
    flatten: bool | None, shape: tuple[int, ...], columns: int
) -> None:
    data, weight, bias = random(*shape), random(6, columns), random(6)
    flat = data if flatten is False else data.reshape(2, -1)
    params = {"weight": weight, "bias": bias}
    for no_bias, added in ((None, bias), (True, 0)):
        attributes = {"num_hidden": 6, "flatten": flatten, "no_bias": no_bias}
        (found,) = run_operator("FullyConnected", attributes, data, params=params, dynamic_batch=True)
        np.testing.assert_allclose(found, flat @ weight.T + added, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "attributes", "weight", "expected"),
    [
        ("Convolution", {"num_filter": 4, "kernel": (3, 3)}, (4, 3, 5, 5), r"parameter weight.*\(4, 3, 3, 3\)"),
        ("Convolution", {"num_filter": 4, "kernel": (9, 9)}, (4, 3, 9, 9), "larger than its input"),
        ("Convolution", {"num_filter": 4, "kernel": (3, 3), "num_group": 2}, (4, 3, 3, 3), "num_group"),
        ("Deconvolution", {"num_filter": 4, "kernel": (3, 3), "target_shape": (9, 9)}, (3, 4, 3, 3), "target_shape"),
        ("Convolution", {"num_filter": 5, "kernel": (3, 3)}, (5, 3, 3, 3), r"parameter bias.*\(5\)"),
        ("FullyConnected", {"num_hidden": 4}, (4, 10), r"parameter weight.*\(4, 108\)"),
    ],
)
def test_what_does_not_fit_is_refused(
    op: str, attributes: dict[str, Any], weight: tuple[int, ...], expected: str
) -> None:
    params = {"weight": random(*weight), "bias": random(4)}
    with pytest.raises(ShapesRefused, match="(?s)" + expected):
        translate_operator(op, attributes, random(1, 3, 6, 6), params=params)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Convolution", {"layout": "CHWN"}),
        ("Convolution", {"kernel": (3, 3, 3, 3)}),
        ("Convolution", {"stride": (0, 1)}),
        ("Convolution", {"pad": (-1, 0)}),
        ("Deconvolution", {"adj": (1, 0)}),
        ("Deconvolution", {"stride": (2, 2), "dilate": (2, 2)}),
    ],
)
def test_what_cannot_be_done_is_refused(op: str, attributes: dict[str, Any]) -> None:
    attributes = {"num_filter": 3, "kernel": (3, 3), "no_bias": True, **attributes}
    with pytest.raises(ModelRefused, match="attribute"):
        translate_operator(op, attributes, random(1, 3, 6, 6), params={"weight": random(3, 3, 3, 3)})
