"""Pooling: one number for each window of an image.

Windows that reach over the end of the padded input, as rounding up makes them, are padded by hand and their divisors
corrected by a constant: runtimes disagree on what ONNX's ``ceil_mode`` does there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Tensor, shape_text
from mli.models.mxnet.call import Call, Table
from mli.models.mxnet.operators.convolution import channels_first, channels_restored, per_axis, stated_layout

_LOWEST = float(np.finfo(np.float32).min)
_LARGEST = 1 << 16
_CONVENTIONS = ("valid", "full", "same")


@dataclass(frozen=True, slots=True)
class _Axis:
    """The windows along one axis: ``count`` of them, over ``size`` elements with ``pad`` on both sides."""

    size: int
    kernel: int
    stride: int
    pad: int
    count: int

    @property
    def end_pad(self) -> int:
        """Padding at the end that the last window needs; at least ``pad``."""
        reached = (self.count - 1) * self.stride + self.kernel - self.pad
        return max(self.pad, reached - self.size)

    def elements(self, *, padding: bool) -> list[int]:
        """How many elements each window has, those of the stated padding counted or not."""
        first, last = (-self.pad, self.size + self.pad) if padding else (0, self.size)
        starts = (place * self.stride - self.pad for place in range(self.count))
        return [max(0, min(start + self.kernel, last) - max(start, first)) for start in starts]


def pooling(call: Call) -> Tensor:
    """Pooling: the maximum, mean, sum or p-norm of windows, or of every whole channel (global_pool)."""
    kind = call.attributes.text("pool_type", "max", ("max", "avg", "sum", "lp"))
    data = call.input(0, "data")
    call.expect_rank(data, 3, 4, 5)
    layout = stated_layout(call, len(data.shape) - 2)
    data = channels_first(call, data, layout)
    if call.attributes.boolean("global_pool", False):
        return channels_restored(call, _whole_channels(call, data, kind), layout)
    axes = _axes(call, data)
    if kind == "max":
        result = _maxima(call, data, axes, _LOWEST)
    elif kind == "avg":
        result = _averages(call, data, axes, padding=call.attributes.boolean("count_include_pad", True))
    else:
        power = _power(call, kind)
        sums = call.scalar("Mul", _means(call, _raised(call, data, power), axes), _volume(axes))
        result = _root(call, sums, power)
    return channels_restored(call, result, layout)


def pooling_v1(call: Call) -> Tensor:
    """Pooling_v1: padding is 0 for maxima too, and a mean's divisor is always the whole window."""
    kind = call.attributes.text("pool_type", "max", ("max", "avg", "sum"))
    data = call.input(0, "data")
    call.expect_rank(data, 4)
    data = channels_first(call, data, "NCHW")
    if call.attributes.boolean("global_pool", False):
        return _whole_channels(call, data, kind)
    axes = _axes(call, data)
    if any(min(axis.elements(padding=True)) == 0 for axis in axes):
        raise ShapeProblem("a window is outside of its input", found=shape_text(data.shape))
    if kind == "max":
        return _maxima(call, data, axes, 0.0)
    means = _means(call, data, axes)
    return means if kind == "avg" else call.scalar("Mul", means, _volume(axes))


def adaptive_average_pooling(call: Call) -> Tensor:
    """_contrib_AdaptiveAvgPooling2D: means of as many windows as the output has places, which may overlap."""
    data = call.input(0, "data")
    call.expect_rank(data, 4)
    data = channels_first(call, data, "NCHW")
    wanted = call.attributes.integers("output_size", (1, 1)) or (1, 1)
    height, width = wanted * 2 if len(wanted) == 1 else call.attributes.integers("output_size", wanted, 2)
    if not 1 <= min(height, width) <= max(height, width) < _LARGEST:
        raise OperatorProblem("attribute output_size", expected="1 or more", found=str(wanted))
    if (height, width) == (1, 1):
        return _whole_channels(call, data, "avg")
    if data.shape[2] % height == 0 and data.shape[3] % width == 0:
        kernel = (data.shape[2] // height, data.shape[3] // width)
        shape = (*data.shape[:2], height, width)
        return call.emit("AveragePool", data, shape=shape, kernel_shape=kernel, strides=kernel)
    rows = call.constant(_shares(data.shape[2], height))
    columns = call.constant(_shares(data.shape[3], width).T)
    narrow = call.emit("MatMul", data, columns, shape=(*data.shape[:3], width))
    return call.emit("MatMul", rows, narrow, shape=(*data.shape[:2], height, width))


def _shares(size: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """What each of ``size`` elements gives to each of ``count`` means: (count, size)."""
    shares = np.zeros((count, size), np.float32)
    for place in range(count):
        begin, end = place * size // count, -(-(place + 1) * size // count)
        shares[place, begin:end] = 1 / (end - begin)
    return shares


def _axes(call: Call, data: Tensor) -> list[_Axis]:
    """The windows along each spatial axis."""
    sizes = data.shape[2:]
    rank = len(sizes)
    kernel = call.attributes.integers("kernel", None, rank)
    strides = per_axis(call, "stride", 1, rank)
    convention = call.attributes.text("pooling_convention", "full" if call.round_up else "valid", _CONVENTIONS)
    if convention == "same" and (rank != 1 or any(call.attributes.integers("pad", ()))):
        expected = "valid or full, or one axis without padding"
        raise OperatorProblem("attribute pooling_convention", expected=expected, found="same")
    pads = (0,) if convention == "same" else per_axis(call, "pad", 0, rank)
    if min(kernel + strides) < 1 or min(pads) < 0 or max(kernel + strides + pads) >= _LARGEST:
        raise OperatorProblem(
            "attributes kernel, stride and pad", expected=f"numbers from 1 (pad: 0) to {_LARGEST - 1}"
        )
    axes = []
    for size, length, stride, pad in zip(sizes, kernel, strides, pads, strict=True):
        room = size + 2 * pad - length
        if room < 0:
            raise ShapeProblem(
                "its windows are larger than its input",
                expected=f"{length} or more, padding included",
                found=shape_text(data.shape),
            )
        count = {"valid": room // stride + 1, "full": -(-room // stride) + 1, "same": -(-size // stride)}[convention]
        axes.append(_Axis(size, length, stride, pad, count))
    return axes


def _whole_channels(call: Call, data: Tensor, kind: str) -> Tensor:
    """One number for each channel."""
    shape = (*data.shape[:2], *(1,) * (len(data.shape) - 2))
    if kind in ("max", "avg"):
        return call.emit("GlobalMaxPool" if kind == "max" else "GlobalAveragePool", data, shape=shape)
    power = _power(call, kind)
    places = call.sizes(range(2, len(data.shape)))
    return _root(call, call.emit("ReduceSum", _raised(call, data, power), places, shape=shape, keepdims=1), power)


def _maxima(call: Call, data: Tensor, axes: Sequence[_Axis], padding: float) -> Tensor:
    """Maxima, with padding of this value; what a window has over the end of it does not count."""
    if _paddable(axes) and (padding == _LOWEST or not any(axis.pad for axis in axes)):
        pads = [axis.pad for axis in axes] + [axis.end_pad for axis in axes]
        return _pool(call, "MaxPool", data, axes, pads=pads)
    if padding != _LOWEST:
        stated = [axis.pad for axis in axes]
        data = _padded(call, data, stated, stated, padding)
        inner = [_Axis(axis.size + 2 * axis.pad, axis.kernel, axis.stride, 0, axis.count) for axis in axes]
        return _maxima(call, data, inner, _LOWEST)
    data = _padded(call, data, [axis.pad for axis in axes], [axis.end_pad for axis in axes], padding)
    return _pool(call, "MaxPool", data, axes)


def _averages(call: Call, data: Tensor, axes: Sequence[_Axis], *, padding: bool) -> Tensor:
    """Means over what each window has of the input, and of its stated padding where that counts.

    A window without any element has the mean 0.
    """
    if not padding and _paddable(axes):  # then every window has an element
        pads = [axis.pad for axis in axes] + [axis.end_pad for axis in axes]
        return _pool(call, "AveragePool", data, axes, pads=pads)
    means = _means(call, data, axes)
    factors = [
        np.array([axis.kernel / number if number else 0 for number in axis.elements(padding=padding)])
        for axis in axes
    ]
    if all((factor == 1).all() for factor in factors):
        return means
    return call.elementwise("Mul", means, call.constant(functools.reduce(np.multiply.outer, factors)))


def _means(call: Call, data: Tensor, axes: Sequence[_Axis]) -> Tensor:
    """Means over whole windows, everything outside of the input being 0."""
    before, after = [axis.pad for axis in axes], [axis.end_pad for axis in axes]
    if not any(before + after):
        return _pool(call, "AveragePool", data, axes)
    if _paddable(axes):
        return _pool(call, "AveragePool", data, axes, pads=before + after, count_include_pad=1)
    return _pool(call, "AveragePool", _padded(call, data, before, after, 0.0), axes)


def _pool(call: Call, op_type: str, data: Tensor, axes: Sequence[_Axis], **attributes: Any) -> Tensor:
    return call.emit(
        op_type,
        data,
        shape=(*data.shape[:2], *(axis.count for axis in axes)),
        kernel_shape=[axis.kernel for axis in axes],
        strides=[axis.stride for axis in axes],
        **attributes,
    )


def _paddable(axes: Sequence[_Axis]) -> bool:
    """Whether a pooling node may do the padding itself: less than a window on every side."""
    return all(axis.end_pad < axis.kernel for axis in axes)


def _padded(call: Call, data: Tensor, before: Sequence[int], after: Sequence[int], value: float) -> Tensor:
    pads = call.sizes([0, 0, *before, 0, 0, *after])
    sizes = (size + first + last for size, first, last in zip(data.shape[2:], before, after, strict=True))
    return call.emit("Pad", data, pads, call.constant(value), shape=(*data.shape[:2], *sizes), mode="constant")


def _volume(axes: Sequence[_Axis]) -> int:
    return math.prod(axis.kernel for axis in axes)


def _power(call: Call, kind: str) -> int:
    """Of the p-norm; a sum is one with the power 1, for signs are kept."""
    power = call.attributes.integer("p_value") if kind == "lp" else 1
    if power not in (1, 2, 3):
        raise OperatorProblem("attribute p_value", expected="1, 2 or 3", found=str(power))
    return power


def _raised(call: Call, data: Tensor, power: int) -> Tensor:
    result = data
    for _ in range(power - 1):
        result = call.elementwise("Mul", result, data)
    return result


def _root(call: Call, data: Tensor, power: int) -> Tensor:
    if power == 1:
        return data
    if power == 2:
        return call.emit("Sqrt", data, shape=data.shape)
    sign = call.emit("Sign", data, shape=data.shape)
    positive = call.emit("Abs", data, shape=data.shape)
    return call.elementwise("Mul", sign, call.scalar("Pow", positive, 1 / 3))


OPERATORS: Table = {
    "Pooling": pooling,
    "_npx_pooling": pooling,
    "Pooling_v1": pooling_v1,
    "_contrib_AdaptiveAvgPooling2D": adaptive_average_pooling,
}
