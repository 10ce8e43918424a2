"""Products of matrices."""

from __future__ import annotations

import math

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Tensor, is_open, shape_text
from mli.models.mxnet.call import Call, Table


def dot(call: Call) -> Tensor:
    """dot: over the last axis of the one and the first of the other; turned around, the first and the last."""
    one, other = call.input(0, "lhs"), call.input(1, "rhs")
    rank, other_rank = len(one.shape), len(other.shape)
    if not rank or not other_rank:
        raise ShapeProblem("its inputs do not fit each other", expected="an axis or more", found="a single number")
    if call.attributes.boolean("transpose_a", False):
        one = call.transpose(one, [*range(1, rank), 0])
    if call.attributes.boolean("transpose_b", False):
        other = call.transpose(other, [other_rank - 1, *range(other_rank - 1)])
    _expect_sizes(one.shape[-1], other.shape[0], one, other)
    shape = (*one.shape[:-1], *other.shape[1:])
    # Matrices on both sides: with a vector, onnxruntime's own merging of Transpose and MatMul gives wrong numbers.
    if rank == 1:
        one = call.reshape(one, (1, *one.shape))
    if other_rank != 2:
        other = call.reshape(other, (other.shape[0], math.prod(other.shape[1:])))
    product = call.emit("MatMul", one, other, shape=(*one.shape[:-1], *other.shape[1:]))
    return call.reshape(product, shape or (1,))


def batch_dot(call: Call) -> Tensor:
    """batch_dot: the product of the last two axes, for each place in the others."""
    return _matrices(call, call.input(0, "lhs"), call.input(1, "rhs"), least_rank=3)


def linalg_gemm2(call: Call) -> Tensor:
    """_linalg_gemm2: alpha times the product of the last two axes."""
    one, other = call.input(0, "A"), call.input(1, "B")
    axis, rank = call.attributes.integer("axis", -2), len(one.shape)
    if axis not in (-2, rank - 2):
        raise OperatorProblem("attribute axis", expected="-2", found=str(axis))
    product = _matrices(call, one, other, least_rank=2)
    alpha = call.attributes.number("alpha", 1.0)
    return product if alpha == 1.0 else call.scalar("Mul", product, alpha)


def div_sqrt_dim(call: Call) -> Tensor:
    """_contrib_div_sqrt_dim: divided by the root of the last axis's size."""
    data = call.input(0, "data")
    if data.dtype != "float32":
        raise OperatorProblem("its input is of another type", expected="float32", found=data.dtype)
    size = data.shape[call.axis(-1, len(data.shape))]
    if is_open(size):
        raise OperatorProblem("the root of the batch size")
    return call.scalar("Div", data, math.sqrt(size))


def _matrices(call: Call, one: Tensor, other: Tensor, least_rank: int) -> Tensor:
    rank = len(one.shape)
    if rank < least_rank or len(other.shape) != rank or one.shape[:-2] != other.shape[:-2]:
        raise ShapeProblem(
            "its inputs do not fit each other",
            expected=f"{least_rank} axes or more, and the same sizes but on the last two",
            found=f"{shape_text(one.shape)} and {shape_text(other.shape)}",
        )
    turned = [*range(rank - 2), rank - 1, rank - 2]
    if call.attributes.boolean("transpose_a", False):
        one = call.transpose(one, turned)
    if call.attributes.boolean("transpose_b", False):
        other = call.transpose(other, turned)
    _expect_sizes(one.shape[-1], other.shape[-2], one, other)
    return call.emit("MatMul", one, other, shape=(*one.shape[:-1], other.shape[-1]))


def _expect_sizes(size: int, other_size: int, one: Tensor, other: Tensor) -> None:
    for tensor in (one, other):
        if tensor.dtype != "float32":
            raise OperatorProblem("its inputs are of another type", expected="float32", found=tensor.dtype)
    if size != other_size:
        raise ShapeProblem(
            "its inputs do not fit each other", expected=shape_text(one.shape), found=shape_text(other.shape)
        )


OPERATORS: Table = {
    "dot": dot,
    **dict.fromkeys(("batch_dot", "_npx_batch_dot"), batch_dot),
    **dict.fromkeys(("_linalg_gemm2", "linalg_gemm2"), linalg_gemm2),
    "_contrib_div_sqrt_dim": div_sqrt_dim,
}
