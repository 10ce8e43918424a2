"""Some of the numbers: slices, parts, elements found by their place, and places found by their order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Shape, Tensor, is_open, shape_text
from mli.models.mxnet.call import Call, Outputs, Table, Translate

_FLOAT = "float32"
_DEEPEST = 2**24
_MOST_PARTS = 2**14
"""More classes, or outputs of one operator, are in no honest network."""
_ONE_BEFORE_FIRST = -(2**62)
"""Where a slice that runs backwards to the first element ends."""


# --- slices ----------------------------------------------------------------------------------------------------


def slice_(call: Call) -> Tensor:
    """slice: begin, end and step for the first axes, as Python slices."""
    data = call.input(0, "data")
    bounds = [call.attributes.optional_integers(name) for name in ("begin", "end", "step")]
    count = max(len(numbers) for numbers in bounds)
    if count > len(data.shape):
        raise ShapeProblem("attribute begin", expected=f"{len(data.shape)} numbers or fewer", found=str(bounds[0]))
    begins, ends, steps = ((*numbers, *[None] * (count - len(numbers))) for numbers in bounds)
    return _sliced(
        call, data, {axis: slice(*parts) for axis, parts in enumerate(zip(begins, ends, steps, strict=True))}
    )


def slice_axis(call: Call) -> Tensor:
    """slice_axis: begin and end for one axis."""
    data = call.input(0, "data")
    axis = call.axis(call.attributes.integer("axis"), len(data.shape))
    begin = call.attributes.integer("begin")
    end = call.attributes.integer("end") if "end" in call.attributes else None
    return _sliced(call, data, {axis: slice(begin, end)})


def slice_like(call: Call) -> Tensor:
    """slice_like: the beginning, as long as another tensor is, at all axes or some."""
    data, like = call.input(0, "data"), call.input(1, "shape_like")
    rank = len(data.shape)
    axes = [call.axis(axis, rank) for axis in call.attributes.integers("axes", ())] or list(range(rank))
    if max(axes, default=0) >= len(like.shape) or any(like.shape[axis] > data.shape[axis] for axis in axes):
        raise ShapeProblem("its inputs", expected=f"at most {shape_text(data.shape)}", found=shape_text(like.shape))
    return _sliced(call, data, {axis: slice(0, like.shape[axis]) for axis in axes})


def _sliced(call: Call, data: Tensor, parts: Mapping[int, slice]) -> Tensor:
    """One Slice for all axes that change."""
    shape, chosen = list(data.shape), []
    for axis, part in parts.items():
        size = shape[axis]
        if part.step == 0:
            raise OperatorProblem("attribute step", expected="a number other than 0", found="0")
        begin, end, step = part.indices(size)
        if (begin, end, step) == (0, size, 1):
            continue
        if is_open(size) and (begin, end, step) != (size - 1, -1, -1):
            raise OperatorProblem("a part of the batch cannot be taken")
        shape[axis] = len(range(begin, end, step))
        if not shape[axis]:
            raise ShapeProblem(f"nothing is left of axis {axis}", found=shape_text(data.shape))
        first = -1 if is_open(size) else begin
        chosen.append((first, _ONE_BEFORE_FIRST if end < 0 else end, axis, step))
    if not chosen:
        return data
    return call.emit("Slice", data, *(call.sizes(numbers) for numbers in zip(*chosen, strict=True)), shape=shape)


# --- several parts ---------------------------------------------------------------------------------------------


def slice_channel(call: Call) -> tuple[Tensor, ...]:
    """SliceChannel: equal parts of one axis, each an output."""
    data = call.input(0, "data")
    axis = call.axis(call.attributes.integer("axis", 1), len(data.shape))
    return _parts(call, data, axis, _equal_parts(data.shape, axis, call.attributes.integer("num_outputs")))


def split_v2(call: Call) -> Outputs:
    """_split_v2: equal parts (sections), or parts that begin at ``indices``."""
    parts = _split(call)
    return parts[0] if len(parts) == 1 else parts


def _split(call: Call) -> tuple[Tensor, ...]:
    data = call.input(0, "data")
    axis = call.axis(call.attributes.integer("axis", 0), len(data.shape))
    sections = call.attributes.integer("sections", 0)
    if sections:
        return _parts(call, data, axis, _equal_parts(data.shape, axis, sections))
    begins = call.attributes.integers("indices")
    sizes = [end - begin for begin, end in itertools.pairwise((*begins, data.shape[axis]))]
    if begins[:1] != (0,) or min(sizes) < 1:
        raise ShapeProblem("attribute indices", expected="0 and growing numbers", found=str(begins))
    return _parts(call, data, axis, sizes)


def _equal_parts(shape: Shape, axis: int, count: int) -> list[int]:
    if count > _MOST_PARTS:
        raise OperatorProblem("the number of parts", expected=f"{_MOST_PARTS} or fewer", found=str(count))
    if count < 1 or shape[axis] % count:
        raise ShapeProblem(f"axis {axis}", expected=f"a multiple of {count}", found=shape_text(shape))
    return [shape[axis] // count] * count


def _parts(call: Call, data: Tensor, axis: int, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    before, after = data.shape[:axis], data.shape[axis + 1 :]
    if len(sizes) == 1:
        parts: tuple[Tensor, ...] = (data,)
    elif is_open(data.shape[axis]):
        raise OperatorProblem("a part of the batch cannot be taken")
    else:
        shapes = [(*before, size, *after) for size in sizes]
        parts = call.emit_many("Split", (data, call.sizes(sizes)), shapes, axis=axis)
    if not call.attributes.boolean("squeeze_axis", False):
        return parts
    if set(sizes) != {1}:
        raise ShapeProblem(f"axis {axis}", expected=f"size {len(sizes)}", found=shape_text(data.shape))
    return tuple(call.reshape(part, (*before, *after)) for part in parts)


# --- elements by their place -----------------------------------------------------------------------------------


def take(call: Call) -> Tensor:
    """take: rows of an axis; places outside are the nearest one (clip), or go around (wrap)."""
    data, indices = call.input(0, "a"), call.input(1, "indices")
    axis = call.axis(call.attributes.integer("axis", 0), len(data.shape))
    places = _places(call, indices, data.shape[axis], call.attributes.text("mode", "clip", ("clip", "wrap", "raise")))
    return _gathered(call, data, places, axis)


def embedding(call: Call) -> Tensor:
    """Embedding: rows of a learned table."""
    data, weight = call.input(0, "data"), call.input(1, "weight")
    rows, columns = call.attributes.integer("input_dim"), call.attributes.integer("output_dim")
    call.expect_shape(weight, (rows, columns))
    return _gathered(call, weight, _places(call, data, rows, "clip"), 0)


def _gathered(call: Call, data: Tensor, places: Tensor, axis: int) -> Tensor:
    shape = (*data.shape[:axis], *places.shape, *data.shape[axis + 1 :])
    return call.emit("Gather", data, places, shape=shape, axis=axis)


def _places(call: Call, indices: Tensor, size: int, mode: str) -> Tensor:
    """Places along an axis of this size, cut to whole numbers as MXNet does it."""
    places = call.cast(indices, "int64")
    if mode == "raise":
        return places
    if is_open(size):
        raise OperatorProblem("a part of the batch cannot be taken")
    if mode == "wrap":
        return call.scalar("Mod", places, size)
    return call.emit("Clip", places, call.constant(0, "int64"), call.constant(size - 1, "int64"), shape=places.shape)


def pick(call: Call) -> Tensor:
    """pick: one element along an axis for each place of the others."""
    data, index = call.input(0, "data"), call.input(1, "index")
    if call.attributes.says_none("axis"):
        raise OperatorProblem("attribute axis", expected="an axis", found="None")
    axis = call.axis(call.attributes.integer("axis", -1), len(data.shape))
    mode = call.attributes.text("mode", "clip", ("clip", "wrap"))
    return _picked(call, data, index, axis, mode, keep=call.attributes.boolean("keepdims", False))


def batch_take(call: Call) -> Tensor:
    """batch_take: one element of each row."""
    data, index = call.input(0, "a"), call.input(1, "indices")
    call.expect_rank(data, 2)
    return _picked(call, data, index, 1, "clip", keep=False)


def _picked(call: Call, data: Tensor, index: Tensor, axis: int, mode: str, *, keep: bool) -> Tensor:
    before, after = data.shape[:axis], data.shape[axis + 1 :]
    kept, dropped = (*before, 1, *after), (*before, *after) or (1,)
    if index.shape not in (kept, dropped):
        raise ShapeProblem("input index", expected=shape_text(dropped), found=shape_text(index.shape))
    places = call.reshape(_places(call, index, data.shape[axis], mode), kept)
    found = call.emit("GatherElements", data, places, shape=kept, axis=axis)
    return found if keep else call.reshape(found, dropped)


def gather_nd(call: Call) -> Tensor:
    """gather_nd: elements, or parts of later axes, at places whose axes lie along the first axis of indices."""
    data, indices = call.input(0, "data"), call.input(1, "indices")
    rank, depth = len(indices.shape), indices.shape[0] if indices.shape else 0
    if rank < 2 or depth > len(data.shape):
        expected = f"two axes or more, the first no longer than {len(data.shape)}"
        raise ShapeProblem("input indices", expected=expected, found=shape_text(indices.shape))
    places = call.transpose(call.cast(indices, "int64"), [*range(1, rank), 0])
    return call.emit("GatherND", data, places, shape=(*indices.shape[1:], *data.shape[depth:]))


def where(call: Call) -> Tensor:
    """where: of the one tensor where the condition is not 0, of the other elsewhere."""
    condition, one, other = call.input(0, "condition"), call.input(1, "x"), call.input(2, "y")
    if one.shape != other.shape or one.dtype != other.dtype:
        raise ShapeProblem("its inputs differ", expected=shape_text(one.shape), found=shape_text(other.shape))
    if condition.shape != one.shape:
        call.expect_rank(condition, 1)
        if condition.shape != one.shape[:1]:
            raise ShapeProblem("the condition", expected=shape_text(one.shape), found=shape_text(condition.shape))
        condition = call.reshape(condition, (*condition.shape, *(1,) * (len(one.shape) - 1)))
    return call.emit("Where", call.cast(condition, "bool"), one, other, shape=one.shape, dtype=one.dtype)


def one_hot(call: Call) -> Tensor:
    """one_hot: a new last axis with one number at the place and another elsewhere."""
    indices = call.input(0, "indices")
    depth = call.attributes.integer("depth")
    if not 1 <= depth <= _DEEPEST:
        raise OperatorProblem("attribute depth", expected=f"1 to {_DEEPEST}", found=str(depth))
    dtype = call.attributes.dtype("dtype", _FLOAT)
    values = [call.attributes.number(name, default) for name, default in (("on_value", 1.0), ("off_value", 0.0))]
    on, off = (call.cast(call.constant(value), dtype) for value in values)
    places = call.reshape(call.cast(indices, "int64"), (*indices.shape, 1))
    here = call.elementwise("Equal", places, call.sizes(np.arange(depth).tolist()), dtype="bool")
    return call.emit("Where", here, on, off, shape=here.shape, dtype=dtype)


# --- places by order -------------------------------------------------------------------------------------------


def _extreme(op_type: str) -> Translate:
    """argmax and argmin: the first place of the largest or smallest number, as a number of the input's type."""

    def translate(call: Call) -> Tensor:
        data, axis = _along(call, None)
        keep = call.attributes.boolean("keepdims", False)
        found = _extreme_places(call, op_type, data, axis)
        if keep and len(data.shape) > 1:
            return found
        if keep and "axis" not in call.attributes:
            return call.reshape(found, (1,) * len(call.input(0, "data").shape))
        return call.reshape(found, (*data.shape[:axis], *data.shape[axis + 1 :]) or (1,))

    return translate


def argmax_channel(call: Call) -> Tensor:
    """argmax_channel: argmax over axis 1."""
    data = call.input(0, "data")
    axis = call.axis(1, len(data.shape))
    found = _extreme_places(call, "ArgMax", data, axis)
    return call.reshape(found, (data.shape[0], *data.shape[2:]))


def _extreme_places(call: Call, op_type: str, data: Tensor, axis: int) -> Tensor:
    shape = [1 if place == axis else size for place, size in enumerate(data.shape)]
    return call.cast(call.emit(op_type, data, shape=shape, dtype="int64", axis=axis, keepdims=1), data.dtype)


def topk(call: Call) -> Tensor | tuple[Tensor, ...]:
    """topk: the k largest or smallest along an axis: their values, places, both, or a mask.

    As in MXNet, places follow values also where only these are asked for; that names the outputs.
    """
    kind = call.attributes.text("ret_typ", "indices", ("value", "indices", "mask", "both"))
    data, axis = _along(call, -1)
    ascending = call.attributes.boolean("is_ascend", False)
    values, places = _ordered(call, data, axis, call.attributes.integer("k", 1), ascending=ascending)
    if kind == "mask":
        return _mask(call, data, places, axis)
    numbers = call.cast(places, call.attributes.dtype("dtype", _FLOAT))
    return numbers if kind == "indices" else (values, numbers)


def sort(call: Call) -> tuple[Tensor, Tensor]:
    """sort: all numbers along an axis in order; where they come from is an output that MXNet hides."""
    data, axis = _along(call, -1)
    values, places = _ordered(call, data, axis, 0, ascending=call.attributes.boolean("is_ascend", True))
    return values, call.cast(places, _FLOAT)


def argsort(call: Call) -> Tensor:
    """argsort: where the numbers in order come from."""
    data, axis = _along(call, -1)
    places = _ordered(call, data, axis, 0, ascending=call.attributes.boolean("is_ascend", True))[1]
    return call.cast(places, call.attributes.dtype("dtype", _FLOAT))


def _along(call: Call, default: int | None) -> tuple[Tensor, int]:
    """The input and its axis; all numbers in a row where the axis is None."""
    data = call.input(0, "data")
    if call.attributes.says_none("axis") or (default is None and "axis" not in call.attributes):
        return call.reshape(data, (math.prod(data.shape),)), 0
    return data, call.axis(call.attributes.integer("axis", default), len(data.shape))


def _ordered(call: Call, data: Tensor, axis: int, count: int, *, ascending: bool) -> tuple[Tensor, Tensor]:
    """The first ``count`` values in order (0: all), and their places (int64); equal ones keep their order."""
    size = data.shape[axis]
    if is_open(size):
        raise OperatorProblem("an order along the batch")
    count = size if count < 1 else count
    if count > size:
        raise ShapeProblem("attribute k", expected=f"{size} or less", found=str(count))
    shape = [count if place == axis else old for place, old in enumerate(data.shape)]
    values, places = call.emit_many(
        "TopK", (data, call.sizes([count])), (shape, shape), axis=axis, largest=int(not ascending), sorted=1
    )
    return values, Tensor(places.name, places.shape, "int64")


def _mask(call: Call, data: Tensor, places: Tensor, axis: int) -> Tensor:
    """1 at these places and 0 elsewhere, in the shape of the operator's input."""
    filled = []
    for value, tensor in ((0, data), (1, places)):
        sizes = call.emit("Shape", tensor, shape=(len(tensor.shape),), dtype="int64")
        filled.append(call.emit("Expand", call.constant(value, data.dtype), sizes, shape=tensor.shape))
    mask = call.emit("ScatterElements", filled[0], places, filled[1], shape=data.shape, axis=axis)
    return call.reshape(mask, call.input(0, "data").shape)


OPERATORS: Table = {
    **dict.fromkeys(("slice", "crop", "_npx_slice"), slice_),
    "slice_axis": slice_axis,
    "slice_like": slice_like,
    **dict.fromkeys(("SliceChannel", "split"), slice_channel),
    "_split_v2": split_v2,
    "take": take,
    **dict.fromkeys(("Embedding", "_contrib_SparseEmbedding", "_npx_embedding"), embedding),
    **dict.fromkeys(("pick", "choose_element_0index", "_npx_pick"), pick),
    "batch_take": batch_take,
    **dict.fromkeys(("gather_nd", "_npx_gather_nd"), gather_nd),
    "where": where,
    **dict.fromkeys(("one_hot", "_npx_one_hot"), one_hot),
    "argmax": _extreme("ArgMax"),
    "argmin": _extreme("ArgMin"),
    "argmax_channel": argmax_channel,
    **dict.fromkeys(("topk", "_npx_topk"), topk),
    "sort": sort,
    "argsort": argsort,
}
