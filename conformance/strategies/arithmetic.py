"""Numbers to numbers: one, two or a scalar; and reductions."""

from __future__ import annotations

from hypothesis import strategies as st

from conformance.spec import GraphSpec, Input, Values
from conformance.strategies.drawing import ANY, Draw, Strategy, one_input, shapes, some

POSITIVE, WHOLE = Values("uniform", 0.3, 3.0), Values("integers", -3, 3)
BITS, COUNTS = Values("integers", 0, 1), Values("integers", 1, 5)

UNARY = {
    **dict.fromkeys(("abs", "square", "exp", "negative", "relu", "sigmoid", "tanh", "softsign", "erf"), ANY),
    **dict.fromkeys(("sinh", "cosh", "arcsinh", "degrees", "radians"), ANY),
    **dict.fromkeys(("arcsin", "arccos", "arctanh"), Values("uniform", -0.9, 0.9)),
    "tan": Values("uniform", -1, 1),
    "arccosh": Values("uniform", 1.1, 3),
    **dict.fromkeys(("sin", "cos", "arctan", "expm1", "hard_sigmoid", "zeros_like", "ones_like"), ANY),
    **dict.fromkeys(("sqrt", "log", "rsqrt", "reciprocal", "log2", "log10", "log1p", "cbrt", "rcbrt"), POSITIVE),
    **dict.fromkeys(("floor", "ceil", "trunc", "fix"), ANY),
    **dict.fromkeys(("sign", "logical_not"), WHOLE),
    "round": Values("integers", -9, 9),
    "rint": ANY,
    "identity": ANY,
}
PAIRS = {
    **dict.fromkeys(("add", "sub", "mul", "maximum", "minimum"), (ANY, ANY)),
    "div": (ANY, POSITIVE),
    "power": (POSITIVE, ANY),
    "hypot": (ANY, ANY),
    "mod": (WHOLE, COUNTS),
    **dict.fromkeys(("equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal"), (WHOLE, WHOLE)),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), (BITS, BITS)),
}
SAME_SHAPE = {  # operator, and its name among the pairs
    "elemwise_add": "add",
    "elemwise_sub": "sub",
    "elemwise_mul": "mul",
    "elemwise_div": "div",
    **{
        f"_{pair}": pair
        for pair in ("power", "mod", "hypot", "maximum", "minimum", "equal", "not_equal", "greater", "greater_equal")
    },
    **{f"_{pair}": pair for pair in ("lesser", "lesser_equal", "logical_and", "logical_or", "logical_xor")},
}
SCALAR = {
    **dict.fromkeys(("_plus_scalar", "_minus_scalar", "_rminus_scalar", "_mul_scalar", "_div_scalar"), ANY),
    **dict.fromkeys(("_rpower_scalar", "_maximum_scalar", "_minimum_scalar", "_hypot_scalar"), ANY),
    **dict.fromkeys(("_rdiv_scalar", "_power_scalar"), POSITIVE),
    **dict.fromkeys(("_mod_scalar", "_equal_scalar", "_not_equal_scalar", "_greater_scalar"), WHOLE),
    **dict.fromkeys(("_greater_equal_scalar", "_lesser_scalar", "_lesser_equal_scalar"), WHOLE),
    **dict.fromkeys(("_logical_and_scalar", "_logical_or_scalar", "_logical_xor_scalar"), BITS),
    "_rmod_scalar": COUNTS,
}
REDUCTIONS = ("sum", "mean", "max", "min", "prod", "nansum", "nanprod")


@st.composite
def same_shape(draw: Draw, op: str, values: tuple[Values, Values]) -> GraphSpec:
    shape = draw(shapes(1, 4))
    learned = draw(st.booleans())
    inputs = (Input(shape, values[0]), Input(shape, values[1], learned=learned))
    return GraphSpec(op, {}, inputs, dynamic_batch=not learned and draw(st.booleans()))


@st.composite
def broadcast(draw: Draw, op: str, values: tuple[Values, Values]) -> GraphSpec:
    shape = draw(shapes(1, 4))
    left, right = ([draw(st.sampled_from([size, size, 1])) for size in shape] for _ in range(2))
    inputs = (Input(tuple(left), values[0]), Input(tuple(right), values[1], learned=draw(st.booleans())))
    return GraphSpec(op, {}, inputs)


@st.composite
def with_scalar(draw: Draw, op: str, values: Values) -> GraphSpec:
    scalar = draw(st.sampled_from([2, 3, 1] if values.kind == "integers" else [0.5, 2.0, 1.7, 3, 0.0078125]))
    return GraphSpec(op, {"scalar": scalar}, (Input(draw(shapes(1, 4)), values),), dynamic_batch=draw(st.booleans()))


@st.composite
def reduction(draw: Draw, op: str) -> GraphSpec:
    shape = draw(shapes(1, 4))
    axes = st.lists(st.integers(0, len(shape) - 1), unique=True, max_size=len(shape)).map(tuple)
    axis = draw(st.one_of(st.integers(-len(shape), len(shape) - 1), axes, st.none()))
    attrs = {
        **some(draw, {"axis": st.just(axis)}),
        **some(draw, {"keepdims": st.booleans(), "exclude": st.booleans()}),
    }
    return GraphSpec(op, attrs, (Input(shape),), dynamic_batch=draw(st.booleans()))


@st.composite
def norm(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    axis = st.one_of(st.integers(-len(shape), len(shape) - 1), st.none())
    attrs = some(draw, {"ord": st.sampled_from([1, 2]), "axis": axis, "keepdims": st.booleans()})
    return GraphSpec("norm", attrs, (Input(shape),))


@st.composite
def add_n(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    inputs = tuple(Input(shape) for _ in range(draw(st.integers(1, 4))))
    return GraphSpec("add_n", {}, inputs, dynamic_batch=draw(st.booleans()))


@st.composite
def clip(draw: Draw) -> GraphSpec:
    attrs = {"a_min": draw(st.sampled_from([-1.0, 0.0, -0.5])), "a_max": draw(st.sampled_from([0.0, 1.0, 6.0]))}
    return GraphSpec("clip", attrs, (Input(draw(shapes(1, 4))),), dynamic_batch=draw(st.booleans()))


@st.composite
def smooth_l1(draw: Draw) -> GraphSpec:
    attrs = some(draw, {"scalar": st.sampled_from([1.0, 3.0, 0.5])})
    return GraphSpec("smooth_l1", attrs, (Input(draw(shapes(1, 4))),), dynamic_batch=draw(st.booleans()))


STRATEGIES: dict[str, Strategy] = {
    **{op: one_input(op, values) for op, values in UNARY.items()},
    **{op: same_shape(op, PAIRS[pair]) for op, pair in SAME_SHAPE.items()},
    **{f"broadcast_{pair}": broadcast(f"broadcast_{pair}", values) for pair, values in PAIRS.items()},
    **{op: with_scalar(op, values) for op, values in SCALAR.items()},
    **{op: reduction(op) for op in REDUCTIONS},
    "norm": norm(),
    "add_n": add_n(),
    "clip": clip(),
    "smooth_l1": smooth_l1(),
}
