"""Images made larger or smaller, against numpy."""

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


def repeated(data: Array, scale: int) -> Array:
    return data.repeat(scale, axis=2).repeat(scale, axis=3)


def linear(data: Array, sizes: tuple[int, int], *, corners: bool) -> Array:
    """One axis after the other, each place between its two neighbours."""
    for axis, size in zip((2, 3), sizes, strict=True):
        old = data.shape[axis]
        if size == 1:
            places = np.zeros(1)
        elif corners:
            places = np.arange(size) * (old - 1) / (size - 1)
        else:
            places = ((np.arange(size) + 0.5) * old / size - 0.5).clip(0, old - 1)
        first = np.floor(places).astype(int)
        second = np.minimum(first + 1, old - 1)
        share = (places - first).reshape(-1, *[1] * (3 - axis))
        data = data.take(first, axis) * (1 - share) + data.take(second, axis) * share
    return data


def test_nearest_repeats_each_number() -> None:
    data = random(2, 3, 4, 5)
    (found,) = run_operator("UpSampling", {"scale": 3, "sample_type": "nearest"}, data, dynamic_batch=True)
    np.testing.assert_array_equal(found, repeated(data, 3))


@pytest.mark.parametrize(("mode", "joined"), [(None, True), ("concat", True), ("sum", False)])
def test_several_inputs_come_to_the_size_of_the_first_result(mode: str | None, joined: bool) -> None:
    one, other, large = random(2, 3, 2, 3), random(2, 3, 4, 6), random(2, 3, 8, 12)
    attributes = {"scale": 4, "sample_type": "nearest", "num_args": 3, "multi_input_mode": mode}
    (found,) = run_operator("UpSampling", attributes, one, other, large, dynamic_batch=True)
    images = [repeated(one, 4), repeated(other, 2), large]
    expected = np.concatenate(images, axis=1) if joined else sum(images)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("scale", "pad"), [(2, 1), (3, 1), (4, 2)])
def test_bilinear_up_sampling_uses_its_learnt_weights(scale: int, pad: int) -> None:
    kernel = 2 * scale - scale % 2
    data, weight = random(2, 2, 3, 4), random(2, 1, kernel, kernel)
    attributes = {"scale": scale, "sample_type": "bilinear", "num_filter": 2, "num_args": 2}
    (found,) = run_operator("UpSampling", attributes, data, params={"weight": weight}, dynamic_batch=True)
    whole = np.zeros((2, 2, 3 * scale + kernel, 4 * scale + kernel))
    for y, x in np.ndindex(3, 4):
        cut = (slice(y * scale, y * scale + kernel), slice(x * scale, x * scale + kernel))
        whole[(slice(None), slice(None), *cut)] += data[:, :, y, x, None, None] * weight[:, 0]
    np.testing.assert_allclose(found, whole[:, :, pad : pad + 3 * scale, pad : pad + 4 * scale], atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "how"),
    [
        ({"mode": "constant", "constant_value": 1.5}, {"mode": "constant", "constant_values": 1.5}),
        ({"mode": "constant"}, {"mode": "constant"}),
        ({"mode": "edge"}, {"mode": "edge"}),
        ({"mode": "reflect"}, {"mode": "reflect"}),
    ],
)
@pytest.mark.parametrize("op", ["Pad", "pad"])
def test_pad_adds_places_around(op: str, attributes: dict[str, Any], how: dict[str, Any]) -> None:
    data = random(2, 3, 4, 5)
    attributes = {**attributes, "pad_width": (0, 0, 0, 0, 1, 2, 3, 0)}
    (found,) = run_operator(op, attributes, data, dynamic_batch=True)
    np.testing.assert_array_equal(found, np.pad(data, [(0, 0), (0, 0), (1, 2), (3, 0)], **how))


@pytest.mark.parametrize(
    ("attributes", "like", "rows", "columns"),
    [
        ({"h_w": (2, 3)}, None, slice(0, 2), slice(0, 3)),
        ({"h_w": (2, 3), "offset": (1, 4)}, None, slice(1, 3), slice(4, 7)),
        ({"h_w": (2, 3), "offset": (1, 0), "center_crop": True}, None, slice(1, 3), slice(2, 5)),
        ({"offset": (2, 1), "num_args": 2}, (2, 1, 3, 4), slice(2, 5), slice(1, 5)),
        ({"center_crop": True, "num_args": 2}, (2, 1, 3, 7), slice(1, 4), slice(0, 7)),
    ],
)
def test_crop_takes_a_part(
    attributes: dict[str, Any], like: tuple[int, ...] | None, rows: slice, columns: slice
) -> None:
    data = random(2, 3, 5, 7)
    others = [random(*like)] if like else []
    (found,) = run_operator("Crop", attributes, data, *others, dynamic_batch=True)
    np.testing.assert_array_equal(found, data[:, :, rows, columns])


@pytest.mark.parametrize("corners", [None, True, False])
@pytest.mark.parametrize("size", [(9, 13), (5, 7), (2, 3), (1, 7), (3, 31)])
def test_bilinear_resize_mixes_neighbours(corners: bool | None, size: tuple[int, int]) -> None:
    data = random(2, 3, 5, 7)
    attributes = {"height": size[0], "width": size[1], "align_corners": corners}
    (found,) = run_operator("_contrib_BilinearResize2D", attributes, data, dynamic_batch=True)
    np.testing.assert_allclose(found, linear(data, size, corners=corners is not False), atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"scale_height": 2, "scale_width": 1.5}, (10, 12)),
        ({"mode": "odd_scale", "scale_height": 2, "scale_width": 0.5}, (9, 4)),
        ({"mode": "to_even_down"}, (4, 8)),
        ({"mode": "to_even_up"}, (6, 8)),
        ({"mode": "to_odd_down"}, (5, 7)),
        ({"mode": "to_odd_up"}, (5, 9)),
    ],
)
def test_bilinear_resize_finds_its_size(attributes: dict[str, Any], size: tuple[int, int]) -> None:
    data = random(2, 3, 5, 8)
    (found,) = run_operator("_contrib_BilinearResize2D", attributes, data, dynamic_batch=True)
    np.testing.assert_allclose(found, linear(data, size, corners=True), atol=1e-5)
    (liked,) = run_operator("_contrib_BilinearResize2D", {"mode": "like"}, data, random(2, 1, *size))
    np.testing.assert_allclose(liked, found, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "attributes", "others"),
    [
        ("UpSampling", {"scale": 2, "sample_type": "nearest"}, [(1, 3, 4, 4)]),
        ("UpSampling", {"scale": 2, "sample_type": "nearest", "multi_input_mode": "sum"}, [(1, 1, 10, 14)]),
        ("UpSampling", {"scale": 2, "sample_type": "nearest"}, [(1, 3, 4, 7)]),
        ("UpSampling", {"scale": 2, "sample_type": "bilinear"}, [(3, 1, 3, 3)]),
        ("Pad", {"mode": "reflect", "pad_width": (0, 0, 0, 0, 5, 0, 0, 0)}, []),
        ("Crop", {"h_w": (6, 3)}, []),
        ("Crop", {"h_w": (3, 3), "offset": (3, 0)}, []),
        ("_contrib_BilinearResize2D", {"height": 0, "width": 3}, []),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    op: str, attributes: dict[str, Any], others: list[tuple[int, ...]]
) -> None:
    with pytest.raises(ShapesRefused):
        translate_operator(op, attributes, random(1, 3, 5, 7), *(random(*shape) for shape in others))


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("UpSampling", {"scale": 0, "sample_type": "nearest"}),
        ("UpSampling", {"scale": 2, "sample_type": "cubic"}),
        ("UpSampling", {"scale": 2, "sample_type": "nearest", "multi_input_mode": "max"}),
        ("Pad", {"mode": "wrap", "pad_width": (0, 0, 0, 0, 1, 1, 1, 1)}),
        ("Pad", {"mode": "edge", "pad_width": (1, 1)}),
        ("Pad", {"mode": "edge", "pad_width": (0, 0, 0, 0, -1, 0, 0, 0)}),
        ("Pad", {"mode": "edge", "pad_width": (1, 0, 0, 0, 0, 0, 0, 0)}),
        ("_contrib_BilinearResize2D", {"mode": "cubic"}),
    ],
)
def test_what_cannot_be_done_is_refused(op: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused, match=r"attribute|batch"):
        translate_operator(op, attributes, random(1, 3, 5, 7), dynamic_batch=True)
