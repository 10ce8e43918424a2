"""Numbers to numbers: of one tensor, of two, of a tensor and a number.

Whole numbers stay whole numbers, as in MXNet; what ONNX only has for floating point is computed in it and cut off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Tensor, shape_text
from mli.models.mxnet.call import Call, Table, Translate, broadcast

_FLOAT = "float32"
_LIMITS = {"int32": 2**31, "int64": 2**63}
_BIG_ENOUGH = 0.5
"""From here on exp(x) - 1 is exact enough."""
_LEAST_SQUARE = 1e-30

Unary = Callable[[Call, Tensor], Tensor]
Binary = Callable[[Call, Tensor, Tensor], Tensor]


# --- of two tensors --------------------------------------------------------------------------------------------


def _node(op_type: str) -> Binary:
    def compute(call: Call, one: Tensor, other: Tensor) -> Tensor:
        return call.elementwise(op_type, one, other)

    return compute


def _comparison(op_type: str, *, negated: bool = False) -> Binary:
    """1 where it is so and 0 where not, in the type of the inputs."""

    def compute(call: Call, one: Tensor, other: Tensor) -> Tensor:
        found = call.elementwise(op_type, one, other, dtype="bool")
        if negated:
            found = call.emit("Not", found, shape=found.shape)
        return call.cast(found, one.dtype)

    return compute


def _logical(op_type: str) -> Binary:
    """1 or 0; every number but 0 counts as true."""

    def compute(call: Call, one: Tensor, other: Tensor) -> Tensor:
        return call.cast(call.elementwise(op_type, call.cast(one, "bool"), call.cast(other, "bool")), one.dtype)

    return compute


def _modulo(call: Call, one: Tensor, other: Tensor) -> Tensor:
    """The rest with the divisor's sign; 0 where the divisor is 0."""
    zero, unit = (call.constant(value, other.dtype) for value in (0, 1))
    never_zero = other.value is not None and bool(np.all(other.value))
    is_zero = None if never_zero else call.elementwise("Equal", other, zero, dtype="bool")
    if one.dtype != _FLOAT:
        if is_zero is not None:
            other = call.emit("Where", is_zero, unit, other, shape=other.shape, dtype=other.dtype)
        return call.elementwise("Mod", one, other)
    shape = broadcast(one.shape, other.shape)
    rest = call.emit("Mod", one, other, shape=shape, fmod=1)
    opposite = call.elementwise("Less", call.elementwise("Mul", rest, other), zero, dtype="bool")
    rest = call.emit("Where", opposite, call.elementwise("Add", rest, other), rest, shape=shape, dtype=_FLOAT)
    if is_zero is None:
        return rest
    return call.emit("Where", is_zero, zero, rest, shape=shape, dtype=_FLOAT)


def _hypotenuse(call: Call, one: Tensor, other: Tensor) -> Tensor:
    """√(one² + other²)."""
    first, second = (call.cast(tensor, _FLOAT) for tensor in (one, other))
    total = call.elementwise("Add", _square(call, first), _square(call, second))
    return call.cast(call.emit("Sqrt", total, shape=total.shape), one.dtype)


_PAIRS: Mapping[str, Binary] = {
    "add": _node("Add"),
    "sub": _node("Sub"),
    "mul": _node("Mul"),
    "div": _node("Div"),
    "mod": _modulo,
    "power": _node("Pow"),
    "maximum": _node("Max"),
    "minimum": _node("Min"),
    "hypot": _hypotenuse,
    "equal": _comparison("Equal"),
    "not_equal": _comparison("Equal", negated=True),
    "greater": _comparison("Greater"),
    "greater_equal": _comparison("GreaterOrEqual"),
    "lesser": _comparison("Less"),
    "lesser_equal": _comparison("LessOrEqual"),
    "logical_and": _logical("And"),
    "logical_or": _logical("Or"),
    "logical_xor": _logical("Xor"),
}


def _paired(call: Call, pair: str, one: Tensor, other: Tensor) -> Tensor:
    """Both of one type; ONNX computes in whole numbers of 32 bits and more only."""
    if one.dtype != other.dtype:
        raise OperatorProblem("its inputs are of two types", expected=one.dtype, found=other.dtype)
    if one.dtype in (_FLOAT, *_LIMITS):
        return _PAIRS[pair](call, one, other)
    return call.cast(_PAIRS[pair](call, call.cast(one, "int32"), call.cast(other, "int32")), one.dtype)


def _elementwise(pair: str) -> Translate:
    def translate(call: Call) -> Tensor:
        one, other = call.input(0, "lhs"), call.input(1, "rhs")
        _expect_same(one, other)
        return _paired(call, pair, one, other)

    return translate


def _broadcast(pair: str) -> Translate:
    return lambda call: _paired(call, pair, call.input(0, "lhs"), call.input(1, "rhs"))


def _with_scalar(pair: str, *, reverse: bool = False) -> Translate:
    def translate(call: Call) -> Tensor:
        data = call.input(0, "data")
        value = call.attributes.number("scalar", 1.0)
        if data.dtype == _FLOAT or not call.attributes.boolean("is_int", True):
            wide, number = call.cast(data, _FLOAT), call.constant(value)
            return _PAIRS[pair](call, number, wide) if reverse else _PAIRS[pair](call, wide, number)
        wide = call.cast(data, data.dtype if data.dtype in _LIMITS else "int32")
        if not abs(value) < _LIMITS[wide.dtype]:
            raise OperatorProblem("attribute scalar", expected=f"a number of the type {wide.dtype}", found=str(value))
        number = call.constant(int(value), wide.dtype)
        result = _PAIRS[pair](call, number, wide) if reverse else _PAIRS[pair](call, wide, number)
        return call.cast(result, data.dtype)

    return translate


def add_n(call: Call) -> Tensor:
    """add_n: the sum of tensors of one shape."""
    first = call.input(0, "args")
    for tensor in call.inputs[1:]:
        _expect_same(first, tensor)
    if len(call.inputs) > 2 and first.dtype == _FLOAT:
        return call.emit("Sum", *call.inputs, shape=first.shape)
    total = first
    for tensor in call.inputs[1:]:
        total = _paired(call, "add", total, tensor)
    return total


# --- of one tensor ---------------------------------------------------------------------------------------------


def _function(compute: str | Unary) -> Translate:
    """An ONNX operator, or a function of several."""

    def translate(call: Call) -> Tensor:
        data = call.input(0, "data")
        wide = call.cast(data, _FLOAT)
        found = call.emit(compute, wide, shape=data.shape) if isinstance(compute, str) else compute(call, wide)
        return call.cast(found, data.dtype)

    return translate


def _square(call: Call, data: Tensor) -> Tensor:
    return call.elementwise("Mul", data, data)


def _inverse_root(call: Call, data: Tensor) -> Tensor:
    return call.emit("Reciprocal", call.emit("Sqrt", data, shape=data.shape), shape=data.shape)


def _cube_root(call: Call, data: Tensor) -> Tensor:
    size = call.scalar("Pow", call.emit("Abs", data, shape=data.shape), 1 / 3)
    return call.elementwise("Mul", call.emit("Sign", data, shape=data.shape), size)


def _inverse_cube_root(call: Call, data: Tensor) -> Tensor:
    return call.emit("Reciprocal", _cube_root(call, data), shape=data.shape)


def _logarithm(base: float) -> Unary:
    def compute(call: Call, data: Tensor) -> Tensor:
        return call.scalar("Mul", call.emit("Log", data, shape=data.shape), 1 / math.log(base))

    return compute


def _log1p(call: Call, data: Tensor) -> Tensor:
    """log(1 + x), exact for small x: 1 + x loses digits, which x / ((1 + x) - 1) makes up for."""
    more = call.scalar("Add", data, 1.0)
    kept = call.scalar("Sub", more, 1.0)
    log = call.emit("Log", more, shape=data.shape)
    exact = call.elementwise("Div", call.elementwise("Mul", log, data), kept)
    none_kept = call.elementwise("Equal", kept, call.constant(0.0), dtype="bool")
    return call.emit("Where", none_kept, data, exact, shape=data.shape, dtype=_FLOAT)


def _expm1(call: Call, data: Tensor) -> Tensor:
    """exp(x) - 1, for small x as 2 t / (1 - t) with t = tanh(x / 2), which loses no digits."""
    tanh = call.emit("Tanh", call.scalar("Mul", data, 0.5), shape=data.shape)
    small = call.elementwise("Div", call.scalar("Mul", tanh, 2.0), call.scalar("Sub", tanh, 1.0, reverse=True))
    large = call.scalar("Sub", call.emit("Exp", data, shape=data.shape), 1.0)
    size = call.emit("Abs", data, shape=data.shape)
    is_small = call.elementwise("Less", size, call.constant(_BIG_ENOUGH), dtype="bool")
    return call.emit("Where", is_small, small, large, shape=data.shape, dtype=_FLOAT)


def _round(call: Call, data: Tensor) -> Tensor:
    """To the nearest whole number, halves away from 0; ONNX's own rounds halves to even."""
    size = call.emit("Abs", data, shape=data.shape)
    floor = call.emit("Floor", size, shape=data.shape)
    half = call.constant(0.5)
    up = call.elementwise("GreaterOrEqual", call.elementwise("Sub", size, floor), half, dtype="bool")
    rounded = call.elementwise("Add", floor, call.cast(up, _FLOAT))
    return call.elementwise("Mul", call.emit("Sign", data, shape=data.shape), rounded)


def _rint(call: Call, data: Tensor) -> Tensor:
    """To the nearest whole number, halves down."""
    floor = call.emit("Floor", data, shape=data.shape)
    up = call.elementwise("Greater", call.elementwise("Sub", data, floor), call.constant(0.5), dtype="bool")
    return call.elementwise("Add", floor, call.cast(up, _FLOAT))


def _towards_zero(call: Call, data: Tensor) -> Tensor:
    size = call.emit("Floor", call.emit("Abs", data, shape=data.shape), shape=data.shape)
    return call.elementwise("Mul", call.emit("Sign", data, shape=data.shape), size)


def _times(factor: float) -> Unary:
    return lambda call, data: call.scalar("Mul", data, factor)


def _not(call: Call, data: Tensor) -> Tensor:
    return _comparison("Equal")(call, data, call.constant(0, data.dtype))


def clip(call: Call) -> Tensor:
    """clip: no smaller than a_min, no larger than a_max."""
    data = call.input(0, "data")
    low, high = call.attributes.number("a_min"), call.attributes.number("a_max")
    if not low <= high:
        raise OperatorProblem("attribute a_min", expected=f"no more than a_max, {high}", found=str(low))
    wide = call.cast(data, _FLOAT)
    return call.cast(call.emit("Clip", wide, call.constant(low), call.constant(high), shape=data.shape), data.dtype)


def smooth_l1(call: Call) -> Tensor:
    """smooth_l1: (σ x)² / 2 where abs(x) < 1 / σ², and abs(x) - 1 / (2 σ²) elsewhere; σ is ``scalar``."""
    data = call.input(0, "data")
    if data.dtype != _FLOAT:
        raise OperatorProblem("its input is of another type", expected=_FLOAT, found=data.dtype)
    sigma = call.attributes.number("scalar", 1.0)
    squared = sigma * sigma
    if not _LEAST_SQUARE < squared < 1 / _LEAST_SQUARE:
        raise OperatorProblem("attribute scalar", expected="neither 0 nor huge", found=str(sigma))
    size = call.emit("Abs", data, shape=data.shape)
    near = call.elementwise("Less", size, call.constant(1 / squared), dtype="bool")
    curve = call.scalar("Mul", _square(call, data), 0.5 * squared)
    line = call.scalar("Sub", size, 0.5 / squared)
    return call.emit("Where", near, curve, line, shape=data.shape, dtype=_FLOAT)


def _expect_same(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ShapeProblem("its inputs differ", expected=shape_text(one.shape), found=shape_text(other.shape))


_FUNCTIONS: Mapping[str, str | Unary] = {
    "abs": "Abs",
    "sign": "Sign",
    "negative": "Neg",
    "reciprocal": "Reciprocal",
    "square": _square,
    "sqrt": "Sqrt",
    "rsqrt": _inverse_root,
    "cbrt": _cube_root,
    "rcbrt": _inverse_cube_root,
    "exp": "Exp",
    "expm1": _expm1,
    "log": "Log",
    "log1p": _log1p,
    "log2": _logarithm(2),
    "log10": _logarithm(10),
    "floor": "Floor",
    "ceil": "Ceil",
    "round": _round,
    "rint": _rint,
    "fix": _towards_zero,
    "trunc": _towards_zero,
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "arcsin": "Asin",
    "arccos": "Acos",
    "arctan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "arcsinh": "Asinh",
    "arccosh": "Acosh",
    "arctanh": "Atanh",
    "degrees": _times(180 / math.pi),
    "radians": _times(math.pi / 180),
    "logical_not": _not,
}
_SPELLINGS = {"add": ("plus", "add"), "sub": ("minus", "sub")}
"""Pairs that MXNet has more than one word for."""
_REVERSED = ("sub", "div", "mod", "power")
_ELEMWISE = ("add", "sub", "mul", "div")


def _words(pair: str) -> tuple[str, ...]:
    return _SPELLINGS.get(pair, (pair,))


def _old(word: str, *, between: str = "") -> str:
    """``greater_equal`` as the first versions of MXNet wrote it."""
    return between.join(part.capitalize() for part in word.split("_"))


def _pair_table() -> dict[str, Translate]:
    table: dict[str, Translate] = {}
    for pair in _PAIRS:
        word = _words(pair)[0]
        names = [f"_{each}" for each in _words(pair)] + [f"_{_old(word, between='_')}"]
        names += [f"elemwise_{pair}"] if pair in _ELEMWISE else []
        table.update(dict.fromkeys(names, _elementwise(pair)))
        table.update(dict.fromkeys([f"broadcast_{each}" for each in _words(pair)], _broadcast(pair)))
        table.update(dict.fromkeys([f"_{word}_scalar", f"_{_old(word)}Scalar"], _with_scalar(pair)))
        if pair in _REVERSED:
            names = [f"_r{word}_scalar", f"_R{_old(word)}Scalar"]
            table.update(dict.fromkeys(names, _with_scalar(pair, reverse=True)))
    return table


_NUMPY = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "true_divide": "div",
    "mod": "mod",
    "power": "power",
    "maximum": "maximum",
    "minimum": "minimum",
}
"""Pairs as the numpy interface (mx.np) calls them."""


def _numpy_table() -> dict[str, Translate]:
    table: dict[str, Translate] = {}
    for word, pair in _NUMPY.items():
        table[f"_npi_{word}"] = _broadcast(pair)
        table[f"_npi_{word}_scalar"] = _with_scalar(pair)
        if pair in _REVERSED:
            table[f"_npi_r{word}_scalar"] = _with_scalar(pair, reverse=True)
    return table


OPERATORS: Table = {
    **_pair_table(),
    **_numpy_table(),
    **{name: _function(compute) for name, compute in _FUNCTIONS.items()},
    "_grad_add": _elementwise("add"),
    "add_n": add_n,
    "ElementWiseSum": add_n,
    "_sum": add_n,
    "clip": clip,
    **dict.fromkeys(("smooth_l1", "_npx_smooth_l1"), smooth_l1),
}
