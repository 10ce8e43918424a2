"""The same numbers in another shape or order, repeated, or put together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Shape, Tensor, is_open, shape_text
from mli.models.mxnet.call import Call, Table

_ONE_BEFORE_FIRST = -(2**62)
"""Where a slice that runs backwards ends."""


# --- another shape ---------------------------------------------------------------------------------------------


def flatten(call: Call) -> Tensor:
    """Flatten: all axes but the first become one."""
    data = call.input(0, "data")
    call.axis(0, len(data.shape))
    return call.reshape(data, (data.shape[0], math.prod(data.shape[1:])))


def reshape(call: Call) -> Tensor:
    """Reshape: codes for sizes, or the ``target_shape`` of the first versions."""
    data = call.input(0, "data")
    codes = call.attributes.integers("shape", ())
    if codes:
        turn = -1 if call.attributes.boolean("reverse", False) else 1
        return call.reshape(data, _coded_shape(data.shape[::turn], codes[::turn])[::turn])
    target = list(call.attributes.integers("target_shape", ()))
    if not target or min(target) < 0:
        raise OperatorProblem("attribute shape", expected="sizes", found=str(tuple(target)))
    if call.attributes.boolean("keep_highest", False) and data.shape:
        target[0] = data.shape[0]
    if target.count(0) == 1:
        target[target.index(0)] = math.prod(data.shape) // (math.prod(size or 1 for size in target) or 1)
    return call.reshape(data, target)


def _coded_shape(shape: Shape, codes: Sequence[int]) -> Shape:
    """The shape that Reshape's codes make of another.

    0 keeps a size, -1 is what is left over (at most once), -2 keeps all that follow, -3 is the product of two,
    -4 splits one into the two sizes behind it, of which one may be -1.
    """
    sizes, waiting = list(shape), list(codes)
    found: list[int] = []
    open_place: int | None = None
    try:
        while waiting:
            code = waiting.pop(0)
            if code == -2:
                found += sizes
                sizes = []
            elif code == -3:
                found.append(sizes.pop(0) * sizes.pop(0))
            elif code == -4:
                found += _split_size(sizes.pop(0), waiting.pop(0), waiting.pop(0))
            elif code == 0:
                found.append(sizes.pop(0))
            elif code == -1 and open_place is None:
                open_place = len(found)
                found.append(1)
                del sizes[:1]
            elif code > 0:
                found.append(code)
                del sizes[:1]
            else:
                raise OperatorProblem(
                    "attribute shape", expected="-1 at most once, no code below -4", found=str(codes)
                )
    except IndexError as error:
        text = f"at least as many sizes as {tuple(codes)} uses"
        raise ShapeProblem("attribute shape", expected=text, found=shape_text(shape)) from error
    if open_place is not None:
        found[open_place] = math.prod(shape) // math.prod(found)
    return tuple(found)


def _split_size(size: int, one: int, other: int) -> tuple[int, int]:
    if one == -1 and other > 0:
        one = size // other
    elif other == -1 and one > 0:
        other = size // one
    if one < 1 or one * other != size:
        raise ShapeProblem("code -4 of attribute shape", expected=f"two factors of {size}", found=f"{one}, {other}")
    return one, other


def reshape_like(call: Call) -> Tensor:
    """reshape_like: some axes of the one take the sizes of some axes of the other."""
    data, like = call.input(0, "lhs"), call.input(1, "rhs")

    def part(side: str, rank: int) -> slice:
        begin = call.attributes.integer(f"{side}_begin", 0)
        end = call.attributes.integer(f"{side}_end", rank)
        return slice(*slice(begin, end).indices(rank))

    left, right = part("lhs", len(data.shape)), part("rhs", len(like.shape))
    return call.reshape(data, data.shape[: left.start] + like.shape[right] + data.shape[left.stop :])


def transpose(call: Call) -> Tensor:
    """transpose: axes in another order, backwards where none is said."""
    data = call.input(0, "data")
    rank = len(data.shape)
    order = call.attributes.integers("axes", ()) or tuple(reversed(range(rank)))
    if sorted(order) != list(range(rank)):
        raise ShapeProblem("attribute axes", expected=f"each of {rank} axes once", found=str(order))
    return call.transpose(data, order)


def swap_axis(call: Call) -> Tensor:
    """SwapAxis: two axes change places."""
    data = call.input(0, "data")
    rank = len(data.shape)
    one, other = (call.axis(call.attributes.integer(name, 0), rank) for name in ("dim1", "dim2"))
    order = list(range(rank))
    order[one], order[other] = other, one
    return call.transpose(data, order)


def expand_dims(call: Call) -> Tensor:
    """expand_dims: one more axis, of size 1."""
    data = call.input(0, "data")
    axis = call.axis(call.attributes.integer("axis"), len(data.shape) + 1)
    return call.reshape(data, (*data.shape[:axis], 1, *data.shape[axis:]))


def squeeze(call: Call) -> Tensor:
    """squeeze: without some axes of size 1, or without all of them; one axis stays. An open batch stays too."""
    data = call.input(0, "data")
    rank = len(data.shape)
    axes = {call.axis(axis, rank) for axis in call.attributes.integers("axis", ())}
    for axis in axes:
        if data.shape[axis] != 1:
            raise ShapeProblem(f"axis {axis}", expected="size 1", found=shape_text(data.shape))
    if not axes and "axis" not in call.attributes:
        axes = {axis for axis, size in enumerate(data.shape) if size == 1}
    return call.reshape(data, [size for axis, size in enumerate(data.shape) if axis not in axes] or (1,))


def depth_to_space(call: Call) -> Tensor:
    """depth_to_space: channels become blocks of neighbouring places."""
    data, block = _blocks(call)
    batch, channels, high, wide = data.shape
    if channels % block**2:
        raise ShapeProblem("the channels", expected=f"a multiple of {block**2}", found=shape_text(data.shape))
    shape = (batch, channels // block**2, high * block, wide * block)
    return call.emit("DepthToSpace", data, shape=shape, blocksize=block)


def space_to_depth(call: Call) -> Tensor:
    """space_to_depth: blocks of neighbouring places become channels."""
    data, block = _blocks(call)
    batch, channels, high, wide = data.shape
    if high % block or wide % block:
        raise ShapeProblem("height and width", expected=f"multiples of {block}", found=shape_text(data.shape))
    shape = (batch, channels * block**2, high // block, wide // block)
    return call.emit("SpaceToDepth", data, shape=shape, blocksize=block)


def _blocks(call: Call) -> tuple[Tensor, int]:
    data, block = call.input(0, "data"), call.attributes.integer("block_size")
    call.expect_rank(data, 4)
    if block < 1:
        raise OperatorProblem("attribute block_size", expected="1 or more", found=str(block))
    return data, block


def reverse(call: Call) -> Tensor:
    """reverse: some axes from back to front."""
    data = call.input(0, "data")
    axes = [call.axis(axis, len(data.shape)) for axis in call.attributes.integers("axis")]
    begins, ends, steps = ([value] * len(axes) for value in (-1, _ONE_BEFORE_FIRST, -1))
    numbers = (call.sizes(values) for values in (begins, ends, axes, steps))
    return call.emit("Slice", data, *numbers, shape=data.shape)


# --- several tensors, or one several times ---------------------------------------------------------------------


def concat(call: Call) -> Tensor:
    """Concat: one behind the other along ``dim``."""
    return _joined(call, call.inputs, call.attributes.integer("dim", 1))


def concatenate(call: Call) -> Tensor:
    """_npi_concatenate: Concat along ``axis``, the first where not said."""
    return _joined(call, call.inputs, call.attributes.integer("axis", 0))


def stack(call: Call) -> Tensor:
    """stack: side by side along a new axis."""
    first = call.input(0, "data")
    axis = call.axis(call.attributes.integer("axis", 0), len(first.shape) + 1)
    return _joined(
        call, [call.reshape(item, (*item.shape[:axis], 1, *item.shape[axis:])) for item in call.inputs], axis
    )


def _joined(call: Call, tensors: Sequence[Tensor], axis: int) -> Tensor:
    first = call.input(0, "data")
    for tensor in tensors:
        if tensor.dtype != first.dtype:
            raise OperatorProblem("its inputs are of several types", expected=first.dtype, found=tensor.dtype)
    axis = call.axis(axis, len(tensors[0].shape))
    if len({is_open(tensor.shape[axis]) for tensor in tensors if axis < len(tensor.shape)}) > 1:
        shapes = ", ".join(shape_text(tensor.shape) for tensor in tensors)
        raise OperatorProblem("a fixed size behind the batch size", found=shapes)
    return call.concat(tensors, axis)


def tile(call: Call) -> Tensor:
    """tile: the whole several times along each axis."""
    data = call.input(0, "data")
    times = call.attributes.integers("reps")
    rank = max(len(data.shape), len(times))
    data = call.reshape(data, (*(1,) * (rank - len(data.shape)), *data.shape))
    return _tiled(call, data, (*(1,) * (rank - len(times)), *times))


def repeat(call: Call) -> Tensor:
    """repeat: each element several times, along an axis or of all numbers in a row."""
    data = call.input(0, "data")
    times = call.attributes.integer("repeats")
    if "axis" not in call.attributes:
        data = call.reshape(data, (math.prod(data.shape),))
    axis = call.axis(call.attributes.integer("axis", 0), len(data.shape))
    before, size, after = data.shape[:axis], data.shape[axis], data.shape[axis + 1 :]
    wide = call.reshape(data, (*before, size, 1, *after))
    tiled = _tiled(call, wide, [times if place == axis + 1 else 1 for place in range(len(wide.shape))])
    return call.reshape(tiled, (*before, size * times, *after))


def _tiled(call: Call, data: Tensor, times: Sequence[int]) -> Tensor:
    if any(number < 1 for number in times):
        raise OperatorProblem("how often to repeat", expected="1 or more", found=str(tuple(times)))
    if all(number == 1 for number in times):
        return data
    shape = [size * number for size, number in zip(data.shape, times, strict=True)]
    return call.emit("Tile", data, call.sizes(times), shape=shape)


# --- larger by repeating axes of size 1 ------------------------------------------------------------------------


def broadcast_to(call: Call) -> Tensor:
    """broadcast_to: a shape in which 0 keeps the size."""
    data = call.input(0, "data")
    wanted = call.attributes.integers("shape")
    if len(wanted) != len(data.shape):
        raise ShapeProblem("attribute shape", expected=f"{len(data.shape)} sizes", found=str(wanted))
    return _expanded(call, data, [new or size for new, size in zip(wanted, data.shape, strict=True)])


def broadcast_axis(call: Call) -> Tensor:
    """broadcast_axis: sizes for some axes."""
    data = call.input(0, "data")
    axes, sizes = call.attributes.integers("axis", ()), call.attributes.integers("size", ())
    if len(axes) != len(sizes):
        raise OperatorProblem("attribute size", expected=f"{len(axes)} sizes", found=str(sizes))
    shape = list(data.shape)
    for axis, size in zip(axes, sizes, strict=True):
        shape[call.axis(axis, len(shape))] = size
    return _expanded(call, data, shape)


def broadcast_like(call: Call) -> Tensor:
    """broadcast_like: the other tensor's shape, or its sizes at some axes."""
    data, like = call.input(0, "lhs"), call.input(1, "rhs")
    if "lhs_axes" not in call.attributes and "rhs_axes" not in call.attributes:
        if len(like.shape) != len(data.shape):
            raise ShapeProblem("its inputs differ", expected=shape_text(like.shape), found=shape_text(data.shape))
        return _expanded(call, data, like.shape, like)
    axes, others = call.attributes.integers("lhs_axes", ()), call.attributes.integers("rhs_axes", ())
    if len(axes) != len(others):
        raise OperatorProblem("attribute rhs_axes", expected=f"{len(axes)} axes", found=str(others))
    shape = list(data.shape)
    for axis, other in zip(axes, others, strict=True):
        shape[call.axis(axis, len(shape))] = like.shape[call.axis(other, len(like.shape))]
    return _expanded(call, data, shape, like)


def _expanded(call: Call, data: Tensor, shape: Sequence[int], like: Tensor | None = None) -> Tensor:
    """Axes of size 1 grow; an axis that grows to the batch's size takes it from ``like``."""
    sizes: list[Tensor] = []
    for old, new in zip(data.shape, shape, strict=True):
        if new < 1 or old not in (1, new):
            raise ShapeProblem("the shape", expected=shape_text(tuple(shape)), found=shape_text(data.shape))
        if old == new or not is_open(new):
            sizes.append(call.sizes([1 if old == new else new]))
        elif like is None:
            raise OperatorProblem("a shape of the batch's size", found=shape_text(tuple(shape)))
        else:
            sizes.append(_size_at_run(call, like, like.shape.index(new)))
    if tuple(shape) == data.shape:
        return data
    return call.emit("Expand", data, call.concat(sizes, 0), shape=shape)


def _size_at_run(call: Call, tensor: Tensor, axis: int) -> Tensor:
    """One size of a tensor, known when the model runs: int64 (1,)."""
    sizes = call.emit("Shape", tensor, shape=(len(tensor.shape),), dtype="int64")
    return call.emit("Gather", sizes, call.sizes([axis]), shape=(1,), dtype="int64", axis=0)


OPERATORS: Table = {
    **dict.fromkeys(("Flatten", "flatten", "_npx_batch_flatten"), flatten),
    **dict.fromkeys(("Reshape", "reshape"), reshape),
    "reshape_like": reshape_like,
    **dict.fromkeys(("transpose", "_np_transpose"), transpose),
    **dict.fromkeys(("SwapAxis", "swapaxes", "_npi_swapaxes"), swap_axis),
    **dict.fromkeys(("expand_dims", "_npi_expand_dims"), expand_dims),
    "squeeze": squeeze,
    "depth_to_space": depth_to_space,
    "space_to_depth": space_to_depth,
    **dict.fromkeys(("reverse", "flip"), reverse),
    **dict.fromkeys(("Concat", "concat"), concat),
    "_npi_concatenate": concatenate,
    "stack": stack,
    "tile": tile,
    "repeat": repeat,
    "broadcast_to": broadcast_to,
    **dict.fromkeys(("broadcast_axis", "broadcast_axes"), broadcast_axis),
    "broadcast_like": broadcast_like,
}
