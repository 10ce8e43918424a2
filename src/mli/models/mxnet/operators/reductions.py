"""Sums, means, extremes and norms over some axes."""

from __future__ import annotations

from collections.abc import Callable

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Tensor
from mli.models.mxnet.call import Call, Table, Translate

_FLOAT = "float32"
_WHOLE = {"ReduceSum": ("int32", "int64"), "ReduceMax": ("int32", "int64"), "ReduceMin": ("int32", "int64")}
"""Types besides floating point that ONNX operators are computed in; others are cast, and the result cut off."""

Prepare = Callable[[Call, Tensor], Tensor]


def norm(call: Call) -> Tensor:
    """norm: the sum of sizes (ord 1), or the root of the sum of squares (ord 2)."""
    order = call.attributes.integer("ord", 2)
    if order not in (1, 2):
        raise OperatorProblem("attribute ord", expected="1 or 2", found=str(order))
    data = call.input(0, "data")
    if data.dtype != _FLOAT:  # MXNet computes it in whole numbers, and not quite right
        raise OperatorProblem("the norm of whole numbers", expected=_FLOAT, found=data.dtype)
    if "out_dtype" in call.attributes:
        call.attributes.text("out_dtype", _FLOAT, (_FLOAT,))
    return _reduced(call, f"ReduceL{order}", data)


def _reduction(op_type: str, prepare: Prepare | None = None) -> Translate:
    def translate(call: Call) -> Tensor:
        data = call.input(0, "data")
        return _reduced(call, op_type, prepare(call, data) if prepare else data)

    return translate


def _instead_of_nan(value: float) -> Prepare:
    """Another number wherever there is none."""

    def prepare(call: Call, data: Tensor) -> Tensor:
        if data.dtype != _FLOAT:
            return data
        missing = call.emit("IsNaN", data, shape=data.shape, dtype="bool")
        return call.emit("Where", missing, call.constant(value), data, shape=data.shape, dtype=_FLOAT)

    return prepare


def _reduced(call: Call, op_type: str, data: Tensor) -> Tensor:
    """Reduced over the attributes' axes; MXNet keeps one axis of size 1 where none is left."""
    axes = _axes(call, len(data.shape))
    keep = call.attributes.boolean("keepdims", False)
    wide = data if data.dtype in _WHOLE.get(op_type, ()) else call.cast(data, _FLOAT)
    if not axes:
        found = call.emit("Abs", wide, shape=data.shape) if op_type in ("ReduceL1", "ReduceL2") else wide
        return call.cast(found, data.dtype)
    sizes = [1 if axis in axes else size for axis, size in enumerate(data.shape)]
    left = sizes if keep else [size for axis, size in enumerate(data.shape) if axis not in axes]
    if op_type == "ReduceSum":  # the only one whose axes are an input in this version of ONNX
        found = call.emit(op_type, wide, call.sizes(axes), shape=left, keepdims=int(keep))
    else:
        found = call.emit(op_type, wide, shape=left, axes=axes, keepdims=int(keep))
    return call.cast(call.reshape(found, left or (1,)), data.dtype)


def _axes(call: Call, rank: int) -> list[int]:
    """The axes to reduce, in order; no axes in the attribute, or an empty tuple, means all."""
    given = call.attributes.integers("axis", ())
    axes = sorted(call.axis(axis, rank) for axis in given)
    if len(set(axes)) != len(axes):
        raise ShapeProblem("attribute axis", expected="every axis once", found=str(given))
    if not axes:
        return list(range(rank))
    if call.attributes.boolean("exclude", False):
        return [axis for axis in range(rank) if axis not in axes]
    return axes


OPERATORS: Table = {
    **dict.fromkeys(("sum", "sum_axis"), _reduction("ReduceSum")),
    "mean": _reduction("ReduceMean"),
    "prod": _reduction("ReduceProd"),
    **dict.fromkeys(("max", "max_axis"), _reduction("ReduceMax")),
    **dict.fromkeys(("min", "min_axis"), _reduction("ReduceMin")),
    "nansum": _reduction("ReduceSum", _instead_of_nan(0.0)),
    "nanprod": _reduction("ReduceProd", _instead_of_nan(1.0)),
    "norm": norm,
}
