"""From pixels to tensors, against plain numpy and OpenCV written another way."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.unit.pipeline.encoded_images import Pixels

from mli.pipeline.preprocess import Placement, Preprocessor
from mli.types import Color, Dtype, InputSpec, Interpolation, Layout, Quantization, Resize

INTERPOLATIONS: dict[Interpolation, int] = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
RESIZES: tuple[Resize, ...] = ("stretch", "letterbox", "crop")
COLORS: tuple[Color, ...] = ("RGB", "BGR", "gray")
LAYOUTS: tuple[Layout, ...] = ("NCHW", "NHWC")
DTYPES: tuple[Dtype, ...] = ("uint8", "int8", "float16", "float32")

WIDTH, HEIGHT = 24, 16
"""Of the model's input; frames of 96 x 32 and 48 x 64 letterbox and crop to whole pixels."""


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def reference(image: Pixels, spec: InputSpec) -> NDArray[Any]:
    """Resize, colour, scale and layout, one plain step after the other."""
    way = INTERPOLATIONS[spec.interpolation]
    height, width = image.shape[:2]
    if spec.resize == "stretch":
        sized = cv2.resize(image, (spec.width, spec.height), interpolation=way)
    elif spec.resize == "letterbox":
        ratio = min(spec.width / width, spec.height / height)
        inner = cv2.resize(image, (round(width * ratio), round(height * ratio)), interpolation=way)
        above, left = (spec.height - inner.shape[0]) // 2, (spec.width - inner.shape[1]) // 2
        below, right = spec.height - inner.shape[0] - above, spec.width - inner.shape[1] - left
        sized = cv2.copyMakeBorder(inner, above, below, left, right, cv2.BORDER_CONSTANT, value=(spec.pad,) * 3)
    else:
        ratio = max(spec.width / width, spec.height / height)
        cut_width, cut_height = round(spec.width / ratio), round(spec.height / ratio)
        left, top = (width - cut_width) // 2, (height - cut_height) // 2
        part = image[top : top + cut_height, left : left + cut_width]
        sized = cv2.resize(part, (spec.width, spec.height), interpolation=way)
    if spec.color == "RGB":
        pixels: NDArray[Any] = sized[:, :, [2, 1, 0]].astype(np.float64)
    elif spec.color == "BGR":
        pixels = sized.astype(np.float64)
    else:
        pixels = np.rint(sized.astype(np.float64) @ [0.114, 0.587, 0.299])[:, :, None]
    real = (pixels - np.array(spec.mean)) * np.array(spec.scale)
    plain = spec.mean == (0.0,) and spec.scale == (1.0,)
    if spec.dtype == "int8" and plain:
        real = real - 128
    elif spec.quantization is not None and not plain:
        real = real / spec.quantization.scale + spec.quantization.zero_point
    if spec.layout == "NCHW":
        real = np.moveaxis(real, -1, 0)
    tensor: NDArray[Any] = real[None]
    return tensor


@pytest.mark.parametrize("size", [(96, 32), (48, 64), (24, 16), (12, 8), (12, 16)], ids=str)
@pytest.mark.parametrize("resize", RESIZES)
def test_each_way_of_resizing_and_interpolating(resize: Resize, size: tuple[int, int]) -> None:
    image = noise(*size)
    for interpolation in INTERPOLATIONS:
        spec = InputSpec("x", WIDTH, HEIGHT, resize=resize, interpolation=interpolation, pad=77)
        tensor, _ = Preprocessor(spec)(image)
        np.testing.assert_array_equal(tensor, reference(image, spec), err_msg=interpolation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("color", COLORS)
def test_each_colour_layout_and_dtype(color: Color, layout: Layout, dtype: Dtype) -> None:
    image = noise(96, 32)
    for resize in RESIZES:
        spec = InputSpec("x", WIDTH, HEIGHT, dtype, layout, color, resize, pad=9)
        tensor, _ = Preprocessor(spec)(image)
        channels = 1 if color == "gray" else 3
        shape = (1, channels, HEIGHT, WIDTH) if layout == "NCHW" else (1, HEIGHT, WIDTH, channels)
        assert (tensor.shape, tensor.dtype) == (shape, np.dtype(dtype))
        assert tensor.flags.c_contiguous
        difference = np.abs(tensor.astype(np.float64) - reference(image, spec)).max()
        assert difference <= (1 if color == "gray" else 0)  # grey is rounded by OpenCV's own integers


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_mean_and_scale_are_per_channel_in_the_models_order(dtype: Dtype, layout: Layout) -> None:
    image = noise(WIDTH, HEIGHT)
    for color in ("RGB", "BGR"):
        spec = InputSpec(
            "x", WIDTH, HEIGHT, dtype, layout, color, mean=(123.68, 116.78, 103.94), scale=(0.017, 0.018, 0.019)
        )
        tensor, _ = Preprocessor(spec)(image)
        np.testing.assert_allclose(
            tensor, reference(image, spec), rtol=2e-3 if dtype == "float16" else 1e-4, atol=1e-3
        )
        one = InputSpec("x", WIDTH, HEIGHT, dtype, layout, color, mean=(127.5,), scale=(1 / 127.5,))
        tensor, _ = Preprocessor(one)(image)
        assert (float(tensor.min()), float(tensor.max())) == (-1.0, 1.0)


def test_raw_pixels_stay_as_they_are_and_int8_is_shifted() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    raw, _ = Preprocessor(InputSpec("x", 16, 16, "uint8", "NHWC"))(image)
    np.testing.assert_array_equal(raw[0], image)
    shifted, _ = Preprocessor(InputSpec("x", 16, 16, "int8", "NHWC", quantization=Quantization(0.0078, 3)))(image)
    np.testing.assert_array_equal(shifted[0].astype(int), image.astype(int) - 128)


@pytest.mark.parametrize(
    ("dtype", "quantization"),
    [("uint8", Quantization(1 / 128, 128)), ("int8", Quantization(1 / 127, 0)), ("int8", Quantization(0.05, -7))],
)
def test_scaled_pixels_are_quantised_rounded_and_clipped(dtype: Dtype, quantization: Quantization) -> None:
    image = noise(WIDTH, HEIGHT)
    spec = InputSpec("x", WIDTH, HEIGHT, dtype, "NHWC", mean=(127.5,), scale=(1 / 100,), quantization=quantization)
    tensor, _ = Preprocessor(spec)(image)
    limits = np.iinfo(np.dtype(dtype))
    wanted = np.clip(reference(image, spec), limits.min, limits.max)
    assert np.abs(tensor - wanted).max() <= 0.5 + 1e-4
    back = (tensor.astype(np.float64) - quantization.zero_point) * quantization.scale
    inside = (wanted > limits.min) & (wanted < limits.max)
    real = (image[None, :, :, ::-1] - 127.5) / 100
    assert np.abs(back - real)[inside].max() <= quantization.scale / 2 + 1e-4


def test_the_frame_is_left_as_it_was() -> None:
    for resize, color, dtype in itertools.product(RESIZES, COLORS, DTYPES):
        image = noise(WIDTH, HEIGHT)
        before = image.copy()
        spec = InputSpec("x", WIDTH, HEIGHT, dtype, color=color, resize=resize, mean=(1.0,))
        tensor, _ = Preprocessor(spec)(image)
        tensor[:] = 0
        np.testing.assert_array_equal(image, before)


def test_letterbox_border_has_the_pads_value() -> None:
    image = np.full((10, 40, 3), 200, np.uint8)
    tensor, placement = Preprocessor(InputSpec("x", 40, 40, "uint8", "NHWC", resize="letterbox", pad=13))(image)
    assert (tensor[0, :15] == 13).all()
    assert (tensor[0, 25:] == 13).all()
    assert (tensor[0, 15:25] == 200).all()
    assert placement == Placement(0.0, 15 / 40, 1.0, 10 / 40)


def test_crop_keeps_the_centre() -> None:
    image = np.zeros((40, 120, 3), np.uint8)
    image[:, 40:80] = 255
    tensor, placement = Preprocessor(InputSpec("x", 40, 40, "uint8", "NHWC", resize="crop"))(image)
    assert (tensor == 255).all()
    assert placement == Placement(-1.0, 0.0, 3.0, 1.0)


SIZES = st.integers(1, 400)


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(SIZES, SIZES),
    wanted=st.tuples(st.integers(1, 96), st.integers(1, 96)),
    resize=st.sampled_from(RESIZES),
    interpolation=st.sampled_from(sorted(INTERPOLATIONS)),
)
def test_every_frame_fits_every_input(
    size: tuple[int, int], wanted: tuple[int, int], resize: Resize, interpolation: Interpolation
) -> None:
    spec = InputSpec("x", *wanted, "uint8", "NHWC", resize=resize, interpolation=interpolation)
    tensor, placement = Preprocessor(spec)(np.full((size[1], size[0], 3), 50, np.uint8))
    assert tensor.shape == (1, wanted[1], wanted[0], 3)
    edges = (placement.left, placement.left + placement.width), (placement.top, placement.top + placement.height)
    for begin, end in edges:
        if resize == "crop":
            assert begin <= 1e-9
            assert end >= 1 - 1e-9
            assert (tensor == 50).all()
        else:
            assert begin >= -1e-9
            assert end <= 1 + 1e-9


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(60, 300), st.integers(60, 300)),
    wanted=st.tuples(st.integers(100, 160), st.integers(100, 160)),
    resize=st.sampled_from(RESIZES),
    data=st.data(),
)
def test_placement_tells_where_a_spot_of_the_frame_is_in_the_input(
    size: tuple[int, int], wanted: tuple[int, int], resize: Resize, data: st.DataObject
) -> None:
    """A bright square is found in the tensor, and mapped back to where it is in the frame."""
    width, height = size
    side = 16
    left, top = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
    image = np.zeros((height, width, 3), np.uint8)
    image[top : top + side, left : left + side] = 255
    spec = InputSpec("x", *wanted, "uint8", "NHWC", "gray", resize)
    tensor, placement = Preprocessor(spec)(image)
    rows, columns = np.nonzero(tensor[0, :, :, 0] > 127)
    for found, begin, extent, length, at in (
        (columns, placement.left, placement.width, wanted[0], left / width),
        (rows, placement.top, placement.height, wanted[1], top / height),
    ):
        if not len(found) or found.min() == 0 or found.max() == length - 1:
            continue  # cut off, or it may go on beyond the border
        pixel = 1.5 / length / extent  # in parts of the frame
        assert (found.min() / length - begin) / extent == pytest.approx(at, abs=pixel)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
@pytest.mark.parametrize("resize", RESIZES)
def test_a_frame_like_a_thread_needs_no_gigabytes(resize: Resize, size: tuple[int, int]) -> None:
    """Resized whole before it is cropped, it would have 224 x 13,440,000 pixels."""
    image = np.full((size[1], size[0], 3), 9, np.uint8)
    for interpolation in INTERPOLATIONS:
        spec = InputSpec("x", 224, 224, "uint8", "NHWC", resize=resize, interpolation=interpolation)
        tensor, placement = Preprocessor(spec)(image)
        assert tensor.shape == (1, 224, 224, 3)
        if resize == "crop":
            assert max(placement.width, placement.height) == pytest.approx(60_000)
