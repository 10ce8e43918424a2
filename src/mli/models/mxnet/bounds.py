"""Between which numbers an output lies, as far as the softmax and sigmoid operators in front of it tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mli.models.mxnet.attributes import Attributes, OperatorProblem
from mli.models.mxnet.symbol import Node, Symbol
from mli.models.mxnet.translate import inputs_of

Bounds = tuple[float, float]
UNKNOWN: Bounds = (-math.inf, math.inf)

PASSING = (
    *("MakeLoss", "make_loss", "BlockGrad", "stop_gradient", "Dropout", "identity", "_copy", "Flatten", "flatten"),
    *("_CrossDeviceCopy", "amp_cast"),
)
"""Operators that only pass on what they get …"""
RESHAPING = ("Reshape", "reshape", "squeeze", "expand_dims", "Cast", "cast")
"""… or give it another shape or type."""
_CHOOSING = (
    *("slice", "crop", "slice_axis", "_npx_slice", "Crop", "SliceChannel", "split", "take", "pick", "tile", "repeat"),
    *("transpose", "_np_transpose", "SwapAxis", "swapaxes", "UpSampling"),
    *("mean", "max", "max_axis", "min", "min_axis"),
)
"""What they give lies between the least and the largest of what they get."""
_PROBABILITIES = (
    *("SoftmaxOutput", "Softmax", "softmax", "_npx_softmax", "softmin", "SoftmaxActivation"),
    *("LogisticRegressionOutput", "sigmoid", "_npx_sigmoid", "_sparse_sigmoid", "hard_sigmoid"),
)
_ACTIVATIONS = ("Activation", "_npx_activation")
_SUMS = (
    *("_Plus", "_plus", "_add", "elemwise_add", "broadcast_add", "broadcast_plus"),
    *("add_n", "ElementWiseSum", "_sum"),
)
_PRODUCTS = ("_Mul", "_mul", "elemwise_mul", "broadcast_mul")
_JOINS = ("Concat", "concat", "stack")
_TIMES, _BY = ("_mul_scalar", "_MulScalar"), ("_div_scalar", "_DivScalar")


def bounds_of(symbol: Symbol) -> list[Bounds]:
    """The bounds of every node's outputs, in the order of ``symbol.nodes``."""
    found: list[Bounds] = []
    for node in symbol.nodes:
        # Inputs come first, but for auxiliary states that were added at the end; those tell nothing.
        given = [found[entry.node] if entry.node < len(found) else UNKNOWN for entry in inputs_of(node)]
        try:
            found.append(_bounds(node, given))
        except (OperatorProblem, ZeroDivisionError):
            found.append(UNKNOWN)  # told when the node is translated
    return found


def _bounds(node: Node, given: Sequence[Bounds]) -> Bounds:
    op, attributes = node.op, Attributes(node.attributes)
    if op in _PROBABILITIES or (op in _ACTIVATIONS and node.attributes.get("act_type") == "sigmoid"):
        return (0.0, 1.0)
    if not given:
        return UNKNOWN
    low, high = given[0]
    if op in PASSING + RESHAPING + _CHOOSING:
        return low, high
    if op == "clip":
        return max(low, attributes.number("a_min")), min(high, attributes.number("a_max"))
    if op in _TIMES + _BY:
        factor = attributes.number("scalar") if op in _TIMES else 1 / attributes.number("scalar")
        return (low * factor, high * factor) if factor > 0 else UNKNOWN
    lows, highs = [low for low, _ in given], [high for _, high in given]
    if op in _SUMS:
        return sum(lows), sum(highs)
    if op in _JOINS:
        return min(lows), max(highs)
    if op in _PRODUCTS and min(lows) >= 0:
        return math.prod(lows), math.prod(highs)
    return UNKNOWN
