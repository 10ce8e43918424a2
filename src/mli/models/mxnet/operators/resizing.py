"""Images made larger or smaller, their numbers kept or mixed."""

from __future__ import annotations

import numpy as np

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Tensor, is_open, shape_text
from mli.models.mxnet.call import Call, Table

_LARGEST = 1 << 16
_PAD_MODES = ("constant", "edge", "reflect")
_RESIZE_MODES = ("size", "like", "odd_scale", "to_even_down", "to_even_up", "to_odd_down", "to_odd_up")


def up_sampling(call: Call) -> Tensor:
    """UpSampling: each number repeated (nearest), or a learnt transposed convolution (bilinear).

    Several inputs, nearest only, are all brought to the size of the first one's result, then joined or added.
    """
    scale = call.attributes.integer("scale")
    if not 1 <= scale < _LARGEST:
        raise OperatorProblem("attribute scale", expected="1 or more", found=str(scale))
    if call.attributes.text("sample_type", "", ("nearest", "bilinear")) == "bilinear":
        return _learnt_up_sampling(call, _image(call, 0), scale)
    count = max(1, len(call.inputs))
    first = _image(call, 0)
    height, width = (size * scale for size in first.shape[2:])
    images = [_repeated(call, _image(call, index), height, width) for index in range(count)]
    if call.attributes.text("multi_input_mode", "concat", ("concat", "sum")) == "concat":
        return call.concat(images, 1)
    if any(image.shape != images[0].shape for image in images):
        found = ", ".join(shape_text(image.shape) for image in images)
        raise ShapeProblem("its inputs do not fit each other", expected=shape_text(images[0].shape), found=found)
    return images[0] if count == 1 else call.emit("Sum", *images, shape=images[0].shape)


def pad(call: Call) -> Tensor:
    """Pad: more places around, of a constant, as the edge has them, or mirrored."""
    data = call.input(0, "data")
    rank = len(data.shape)
    mode = call.attributes.text("mode", "", _PAD_MODES)
    widths = call.attributes.integers("pad_width")
    if len(widths) != 2 * rank or min(widths) < 0 or max(widths) >= _LARGEST:
        raise OperatorProblem(
            "attribute pad_width", expected=f"{2 * rank} numbers from 0 to {_LARGEST - 1}", found=str(widths)
        )
    before, after = widths[::2], widths[1::2]
    for size, first, last in zip(data.shape, before, after, strict=True):
        if first + last and is_open(size):
            raise OperatorProblem("the batch cannot be padded")
        if mode == "reflect" and max(first, last) >= size:
            raise ShapeProblem("attribute pad_width", expected=f"less than {size}", found=str(max(first, last)))
    shape = [size + first + last for size, first, last in zip(data.shape, before, after, strict=True)]
    value = call.constant(call.attributes.number("constant_value", 0.0), data.dtype) if mode == "constant" else None
    return call.emit("Pad", data, call.sizes(before + after), *([value] if value else []), shape=shape, mode=mode)


def crop(call: Call) -> Tensor:
    """Crop: a part of the image, of a stated size or of the size of a second input."""
    data = _image(call, 0)
    if len(call.inputs) > 1:
        height, width = _image(call, 1).shape[2:]
    else:
        height, width = call.attributes.integers("h_w", (0, 0), 2)
    spare = (data.shape[2] - height, data.shape[3] - width)
    offset = call.attributes.integers("offset", (0, 0), 2)
    if call.attributes.boolean("center_crop", False):
        offset = (spare[0] // 2, spare[1] // 2)
    fits = all(0 <= start <= room for start, room in zip(offset, spare, strict=True))
    if min(height, width) < 1 or not fits:
        raise ShapeProblem(
            "the part is not inside of its input",
            expected=f"a part of {data.shape[2]} × {data.shape[3]}",
            found=f"{height} × {width} from {offset[0]}, {offset[1]} on",
        )
    shape = (*data.shape[:2], height, width)
    if shape == data.shape:
        return data
    end = (offset[0] + height, offset[1] + width)
    return call.emit("Slice", data, call.sizes(offset), call.sizes(end), call.sizes((2, 3)), shape=shape)


def bilinear_resize(call: Call) -> Tensor:
    """_contrib_BilinearResize2D: to a size that is stated, or comes of the input's or of a second input."""
    data = _image(call, 0)
    height, width = _resized(call, data)
    if not 1 <= min(height, width) <= max(height, width) < _LARGEST:
        raise ShapeProblem("the size to resize to", expected=f"1 to {_LARGEST - 1}", found=f"{height} × {width}")
    corners = call.attributes.boolean("align_corners", True)
    return _resize(
        call,
        data,
        height,
        width,
        mode="linear",
        coordinate_transformation_mode="align_corners" if corners else "pytorch_half_pixel",
    )


def _resized(call: Call, data: Tensor) -> tuple[int, int]:
    """Height and width that BilinearResize2D's mode asks for."""
    attributes = call.attributes
    sizes = data.shape[2:]
    mode = attributes.text("mode", "size", _RESIZE_MODES)
    if mode == "like":
        height, width = _image(call, 1).shape[2:]
        return height, width
    if mode == "odd_scale" or (mode == "size" and "scale_height" in attributes):
        scales = (attributes.number("scale_height"), attributes.number("scale_width"))
        odd = [size % 2 if mode == "odd_scale" else 0 for size in sizes]
        height, width = (
            int(np.float32(size - one) * np.float32(scale)) + one
            for size, one, scale in zip(sizes, odd, scales, strict=True)
        )
        return height, width
    if mode == "size":
        return attributes.integer("height", 1), attributes.integer("width", 1)
    rest = 1 if "odd" in mode else 0
    step = 1 if mode.endswith("up") else -1
    height, width = (size if size % 2 == rest else size + step for size in sizes)
    return height, width


def _learnt_up_sampling(call: Call, data: Tensor, scale: int) -> Tensor:
    channels = data.shape[1]
    weight = call.input(1, "weight")
    kernel = 2 * scale - scale % 2
    call.expect_shape(weight, (channels, 1, kernel, kernel))
    return call.emit(
        "ConvTranspose",
        data,
        weight,
        shape=(*data.shape[:2], data.shape[2] * scale, data.shape[3] * scale),
        kernel_shape=[kernel, kernel],
        strides=[scale, scale],
        pads=[scale // 2] * 4,
        group=channels,
    )


def _repeated(call: Call, image: Tensor, height: int, width: int) -> Tensor:
    if height % image.shape[2] or width % image.shape[3]:
        raise ShapeProblem(
            f"input {image.name}", expected=f"a divisor of {height} × {width}", found=shape_text(image.shape)
        )
    return _resize(
        call,
        image,
        height,
        width,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _resize(call: Call, image: Tensor, height: int, width: int, **how: str) -> Tensor:
    """ONNX's Resize, by scales: sizes would have to name the batch's, which is open."""
    if (height, width) == image.shape[2:]:
        return image
    scales = call.constant([1, 1, _scale(image.shape[2], height), _scale(image.shape[3], width)])
    return call.emit("Resize", image, None, scales, shape=(*image.shape[:2], height, width), **how)


def _scale(size: int, wanted: int) -> np.float32:
    """The number by which a size becomes the wanted one, rounded down, in float32 and in exact arithmetic."""
    scale = np.float32(wanted / size)
    if float(scale) * size < wanted:
        scale = np.nextafter(scale, np.float32(np.inf))
    return scale


def _image(call: Call, index: int) -> Tensor:
    """An input with 4 axes, of which only the first may be the batch's."""
    image = call.input(index, "data")
    call.expect_rank(image, 4)
    if any(is_open(size) for size in image.shape[1:]):
        raise OperatorProblem("only the first axis may be the batch's", found=shape_text(image.shape))
    return image


OPERATORS: Table = {
    "UpSampling": up_sampling,
    "Pad": pad,
    "pad": pad,
    "Crop": crop,
    "_contrib_BilinearResize2D": bilinear_resize,
}
