"""Tensors that hold constants, and other element types."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mli.models.mxnet.attributes import OperatorProblem
from mli.models.mxnet.building import Shape, Tensor, is_open
from mli.models.mxnet.call import Call, Table, Translate

_FLOAT = "float32"
_MOST_ELEMENTS = 2**24
"""Constants larger than that are in no honest network."""


def cast(call: Call) -> Tensor:
    """Cast: another element type."""
    return call.cast(call.input(0, "data"), call.attributes.dtype("dtype", _FLOAT))


def shape_array(call: Call) -> Tensor:
    """shape_array: the sizes, int64."""
    data = call.input(0, "data")
    return call.emit("Shape", data, shape=(len(data.shape),), dtype="int64")


def filled_like(value: float) -> Translate:
    """zeros_like and ones_like: one number in the input's shape."""

    def translate(call: Call) -> Tensor:
        data = call.input(0, "data")
        number = call.constant(value, data.dtype)
        sizes = call.emit("Shape", data, shape=(len(data.shape),), dtype="int64")
        return call.emit("Expand", number, sizes, shape=data.shape)

    return translate


def filled(value: float | None) -> Translate:
    """_zeros, _ones and _full: one number in a shape."""

    def translate(call: Call) -> Tensor:
        shape = call.attributes.integers("shape")
        _expect_modest(shape)
        dtype = call.attributes.dtype("dtype", _FLOAT)
        number = call.attributes.number("value") if value is None else value
        if dtype.startswith(("int", "uint")) and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
            raise OperatorProblem("attribute value", expected=f"a number of the type {dtype}", found=str(number))
        return call.constant(np.full(shape, number, dtype), dtype)

    return translate


def arange(call: Call) -> Tensor:
    """_arange: numbers at equal distances, each ``repeat`` times."""
    start, step = _finite(call, "start", 0.0), _finite(call, "step", 1.0)
    start, stop = (start, _finite(call, "stop", 0.0)) if "stop" in call.attributes else (0.0, start)
    times = call.attributes.integer("repeat", 1)
    if call.attributes.boolean("infer_range", False):
        raise OperatorProblem("attribute infer_range", expected="False", found="True")
    count = math.ceil((stop - start) / step) if step and math.isfinite((stop - start) / step) else 0
    _expect_modest((count, times))
    dtype = call.attributes.dtype("dtype", _FLOAT)
    return call.constant(np.repeat(start + step * np.arange(count), times).astype(dtype), dtype)


def arange_like(call: Call) -> Tensor:
    """_contrib_arange_like: as many numbers as the input has, or as one of its axes has."""
    data = call.input(0, "data")
    start, step = _finite(call, "start", 0.0), _finite(call, "step", 1.0)
    times = call.attributes.integer("repeat", 1)
    if times < 1:
        raise OperatorProblem("attribute repeat", expected="1 or more", found=str(times))
    axis = None
    if "axis" in call.attributes:
        axis = call.axis(call.attributes.integer("axis"), len(data.shape))
    shape: Shape = data.shape if axis is None else (data.shape[axis],)
    count = math.prod(shape)
    if not is_open(count):
        _expect_modest(shape)
        return call.constant((start + step * (np.arange(count) // times)).reshape(shape))
    zero, one = call.constant(0, "int64"), call.constant(1, "int64")
    places = call.emit("Range", zero, _count_at_run(call, data, axis), one, shape=(count,), dtype="int64")
    if times > 1:
        places = call.scalar("Div", places, times)
    numbers = call.scalar("Add", call.scalar("Mul", call.cast(places, _FLOAT), step), start)
    return call.reshape(numbers, shape)


def _count_at_run(call: Call, data: Tensor, axis: int | None) -> Tensor:
    """A size that is known when the model runs, or how many numbers there are: int64 ()."""
    if axis is None:
        return call.emit("Size", data, shape=(), dtype="int64")
    sizes = call.emit("Shape", data, shape=(len(data.shape),), dtype="int64")
    return call.emit("Gather", sizes, call.constant(axis, "int64"), shape=(), dtype="int64", axis=0)


def _finite(call: Call, name: str, default: float) -> float:
    value = call.attributes.number(name, default)
    if not math.isfinite(value):
        raise OperatorProblem(f"attribute {name}", expected="a number", found=str(value))
    return value


def _expect_modest(shape: Sequence[int]) -> None:
    if any(size < 1 for size in shape) or math.prod(shape) > _MOST_ELEMENTS:
        raise OperatorProblem("the size of a constant", expected=f"1 to {_MOST_ELEMENTS} numbers", found=str(shape))


OPERATORS: Table = {
    **dict.fromkeys(("Cast", "cast", "_npx_cast"), cast),
    "shape_array": shape_array,
    "zeros_like": filled_like(0.0),
    "ones_like": filled_like(1.0),
    "_zeros": filled(0.0),
    "_ones": filled(1.0),
    "_full": filled(None),
    "_arange": arange,
    **dict.fromkeys(("_contrib_arange_like", "_npx_arange_like"), arange_like),
}
