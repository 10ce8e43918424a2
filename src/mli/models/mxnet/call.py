"""What an operator's translation works with: one node, its inputs, and how ONNX nodes are made from it.

A translation takes a :class:`Call` and returns the node's outputs. It says every shape itself; a shape that cannot be
is a ShapeProblem, an attribute that is not supported an OperatorProblem.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mli.models.mxnet.attributes import Attributes, OperatorProblem, ShapeProblem
from mli.models.mxnet.building import GraphBuilder, Shape, Tensor, is_open, shape_text

_FLOAT = "float32"
_LARGEST_SIZE = 2**62
"""Sizes beyond it do not fit into ONNX's numbers; only a hostile file has them."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operator of the network.

    Attributes:
        name: of the node.
        op: MXNet's name of the operator, as the file spells it.
        inputs: its inputs; label inputs of losses are left out.
        round_up: pooling without a stated convention rounds up, as before MXNet had one.
    """

    name: str
    op: str
    attributes: Attributes
    inputs: tuple[Tensor, ...]
    graph: GraphBuilder
    round_up: bool = False

    def input(self, index: int, what: str) -> Tensor:
        """Input ``index``, which this operator cannot do without."""
        if index >= len(self.inputs):
            raise OperatorProblem(f"its input {what} is missing", expected=f"{index + 1} inputs or more")
        return self.inputs[index]

    def emit(
        self,
        op_type: str,
        *inputs: Tensor | None,
        shape: Sequence[int],
        dtype: str | None = None,
        **attributes: Any,
    ) -> Tensor:
        """Add an ONNX node with one output of this shape; its type is the first input's unless said."""
        return self.emit_many(op_type, inputs, (shape,), dtype, **attributes)[0]

    def emit_many(
        self,
        op_type: str,
        inputs: Sequence[Tensor | None],
        shapes: Sequence[Sequence[int]],
        dtype: str | None = None,
        **attributes: Any,
    ) -> tuple[Tensor, ...]:
        """Add an ONNX node with an output for each of ``shapes``."""
        for shape in shapes:
            if max(shape, default=0) > _LARGEST_SIZE:
                raise ShapeProblem("a tensor larger than any memory", found=shape_text(tuple(shape)))
        if dtype is None:
            dtype = next((tensor.dtype for tensor in inputs if tensor is not None), _FLOAT)
        names = self.graph.node(op_type, self.name, inputs, len(shapes), attributes)
        return tuple(Tensor(name, tuple(shape), dtype) for name, shape in zip(names, shapes, strict=True))

    def constant(self, values: Any, dtype: str = _FLOAT) -> Tensor:
        """Numbers as a tensor of the graph."""
        return self.graph.constant(np.asarray(values, dtype), f"{self.name}_const")

    def sizes(self, values: Sequence[int]) -> Tensor:
        """Whole numbers as ONNX wants shapes, axes and steps: int64."""
        if max(values, default=0) > _LARGEST_SIZE:
            raise ShapeProblem("a tensor larger than any memory", found=str(tuple(values)))
        return self.constant(np.asarray(values, np.int64), "int64")

    # --- what many operators need ------------------------------------------------------------------------------

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The same numbers in another shape; at most one of its sizes may be open."""
        wanted = tuple(shape)
        if math.prod(wanted) != math.prod(tensor.shape):
            raise ShapeProblem(
                "the number of elements changes", expected=shape_text(tensor.shape), found=shape_text(wanted)
            )
        if wanted == tensor.shape:
            return tensor
        open_places = [place for place, size in enumerate(wanted) if is_open(size)]
        if len(open_places) > 1:
            raise OperatorProblem("a shape in which the batch size comes twice", found=shape_text(wanted))
        numbers = list(wanted)
        for place in open_places:
            kept = place < len(tensor.shape) and tensor.shape[place] == wanted[place]
            numbers[place] = 0 if kept else -1
        return self.emit("Reshape", tensor, self.sizes(numbers), shape=wanted)

    def transpose(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        """Axes in another order."""
        if list(order) == list(range(len(tensor.shape))):
            return tensor
        return self.emit("Transpose", tensor, shape=[tensor.shape[axis] for axis in order], perm=list(order))

    def cast(self, tensor: Tensor, dtype: str) -> Tensor:
        """Another element type."""
        if tensor.dtype == dtype:
            return tensor
        numbers = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9}
        return self.emit("Cast", tensor, shape=tensor.shape, dtype=dtype, to=numbers[dtype])

    def elementwise(self, op_type: str, one: Tensor, other: Tensor, dtype: str | None = None) -> Tensor:
        """An ONNX operator on two tensors that are broadcast as numpy does it."""
        return self.emit(op_type, one, other, shape=broadcast(one.shape, other.shape), dtype=dtype)

    def scalar(self, op_type: str, tensor: Tensor, value: float, *, reverse: bool = False) -> Tensor:
        """An ONNX operator on a tensor and one number; ``reverse`` puts the number first."""
        number = self.constant(np.asarray(value, tensor.dtype), tensor.dtype)
        pair = (number, tensor) if reverse else (tensor, number)
        return self.emit(op_type, *pair, shape=tensor.shape, dtype=tensor.dtype)

    def slice(self, tensor: Tensor, axis: int, begin: int, end: int, step: int = 1) -> Tensor:
        """Part of one axis: ``begin`` ≤ place < ``end``, both counted from 0 and inside; step ≥ 1."""
        size = tensor.shape[axis]
        if (begin, end, step) == (0, size, 1):
            return tensor
        if is_open(size):
            raise OperatorProblem("a part of the batch cannot be taken")
        shape = list(tensor.shape)
        shape[axis] = len(range(begin, end, step))
        numbers = (self.sizes([value]) for value in (begin, end, axis, step))
        return self.emit("Slice", tensor, *numbers, shape=shape)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        """Tensors one behind the other along an axis; every other size is the same."""
        first = tensors[0].shape
        for tensor in tensors[1:]:
            same = len(tensor.shape) == len(first) and all(
                size == other
                for place, (size, other) in enumerate(zip(tensor.shape, first, strict=True))
                if place != axis
            )
            if not same:
                shapes = ", ".join(shape_text(item.shape) for item in tensors)
                raise ShapeProblem(
                    "its inputs do not fit each other", expected=f"the same sizes but on axis {axis}", found=shapes
                )
        shape = list(first)
        shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
        if len(tensors) == 1:
            return tensors[0]
        return self.emit("Concat", *tensors, shape=shape, axis=axis)

    def axis(self, value: int, rank: int) -> int:
        """An axis counted from 0.

        Raises:
            ShapeProblem: there is no such axis.
        """
        if not -rank <= value < rank:
            raise ShapeProblem("attribute axis", expected=f"an axis of {rank}", found=str(value))
        return value % rank

    def expect_rank(self, tensor: Tensor, *ranks: int) -> None:
        """Refuse a tensor with another number of dimensions."""
        if len(tensor.shape) not in ranks:
            wanted = " or ".join(str(rank) for rank in ranks)
            raise ShapeProblem(
                f"input {tensor.name}", expected=f"{wanted} dimensions", found=shape_text(tensor.shape)
            )

    def expect_shape(self, tensor: Tensor, shape: Sequence[int]) -> None:
        """Refuse a parameter of another shape."""
        if tensor.shape != tuple(shape):
            raise ShapeProblem(
                f"parameter {tensor.name}", expected=shape_text(tuple(shape)), found=shape_text(tensor.shape)
            )


Outputs = Tensor | tuple[Tensor, ...]
"""A tuple where MXNet numbers the names of an operator's outputs, be it of one."""
Translate = Callable[[Call], Outputs]
Table = Mapping[str, Translate]
"""MXNet's names of operators, legacy spellings included, and what translates them."""


def broadcast(one: Shape, other: Shape) -> Shape:
    """The shape of two tensors together, as numpy broadcasts them.

    Raises:
        ShapeProblem: they do not fit.
    """
    rank = max(len(one), len(other))
    first = (1,) * (rank - len(one)) + one
    second = (1,) * (rank - len(other)) + other
    result = []
    for a, b in zip(first, second, strict=True):
        if a != b and 1 not in (a, b):
            raise ShapeProblem("its inputs do not fit each other", expected=shape_text(one), found=shape_text(other))
        result.append(b if a == 1 else a)
    return tuple(result)


def full(shape: Shape, value: float, dtype: str = _FLOAT) -> NDArray[Any]:
    """An array of one value; its shape must be closed."""
    if any(is_open(size) for size in shape):
        raise OperatorProblem("a constant of the batch's size", found=shape_text(shape))
    return np.full(shape, value, dtype)
