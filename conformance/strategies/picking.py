"""Elements picked by indices, and layouts changed."""

from __future__ import annotations

from hypothesis import strategies as st

from conformance.spec import Attribute, GraphSpec, Input, Values
from conformance.strategies.drawing import Draw, Strategy, axis_of, pairs, shapes, some
from conformance.strategies.tensor import DISTINCT


@st.composite
def take(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 3))
    attrs = some(draw, {"axis": axis_of(len(shape)), "mode": st.sampled_from(["clip", "wrap"])})
    indices = Input(draw(shapes(1, 2)), Values("integers", -3, 6))
    return GraphSpec("take", attrs, (Input(shape, learned=draw(st.booleans())), indices))


@st.composite
def pick(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 3))
    attrs = some(
        draw, {"axis": axis_of(len(shape)), "keepdims": st.booleans(), "mode": st.sampled_from(["clip", "wrap"])}
    )
    axis = attrs.get("axis", -1)
    assert isinstance(axis, int)
    rest = list(shape)
    del rest[axis]
    return GraphSpec("pick", attrs, (Input(shape), Input(tuple(rest) or (1,), Values("integers", -3, 6))))


@st.composite
def one_hot(draw: Draw) -> GraphSpec:
    attrs: dict[str, Attribute] = {"depth": draw(st.integers(1, 5))}
    attrs |= some(draw, {"on_value": st.sampled_from([1.0, 3.5]), "off_value": st.sampled_from([0.0, -1.0])})
    attrs |= some(draw, {"dtype": st.sampled_from(["float32", "int32"])})
    return GraphSpec("one_hot", attrs, (Input(draw(shapes(1, 3)), Values("integers", -2, 6)),))


@st.composite
def gather_nd(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 3))
    indices = (draw(st.integers(1, len(shape))), *draw(shapes(1, 2)))
    return GraphSpec("gather_nd", {}, (Input(shape), Input(indices, Values("integers", 0, min(shape) - 1))))


@st.composite
def batch_take(draw: Draw) -> GraphSpec:
    rows, columns = draw(pairs(2, 1, 5))
    inputs = (Input((rows, columns)), Input((rows,), Values("integers", -2, 6), dtype="int32"))
    return GraphSpec("batch_take", {}, inputs)


@st.composite
def argmax_channel(draw: Draw) -> GraphSpec:
    inputs = (Input(draw(shapes(2, 4)), DISTINCT),)
    return GraphSpec("argmax_channel", {}, inputs, dynamic_batch=draw(st.booleans()))


@st.composite
def blocks(draw: Draw, op: str) -> GraphSpec:
    size = draw(st.integers(1, 3))
    batch, channels, high, wide = draw(pairs(4, 1, 3))
    shape = (
        (batch, channels * size**2, high, wide)
        if op == "depth_to_space"
        else (batch, channels, high * size, wide * size)
    )
    return GraphSpec(op, {"block_size": size}, (Input(shape),), dynamic_batch=draw(st.booleans()))


@st.composite
def reshape_like(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    return GraphSpec("reshape_like", {}, (Input(shape), Input(draw(st.permutations(shape).map(tuple)))))


@st.composite
def gemm2(draw: Draw) -> GraphSpec:
    batch, left, shared, right = draw(pairs(4, 1, 4))
    attrs = some(
        draw, {"transpose_a": st.booleans(), "transpose_b": st.booleans(), "alpha": st.sampled_from([1.0, 0.3])}
    )
    one = (shared, left) if attrs.get("transpose_a") else (left, shared)
    two = (right, shared) if attrs.get("transpose_b") else (shared, right)
    return GraphSpec("_linalg_gemm2", attrs, (Input((batch, *one)), Input((batch, *two))))


@st.composite
def div_sqrt_dim(draw: Draw) -> GraphSpec:
    return GraphSpec("_contrib_div_sqrt_dim", {}, (Input(draw(shapes(2, 4))),), dynamic_batch=draw(st.booleans()))


@st.composite
def split_v2(draw: Draw) -> GraphSpec:
    shape = list(draw(shapes(1, 4)))
    axis = draw(st.integers(0, len(shape) - 1))
    attrs: dict[str, Attribute] = {"axis": axis, "squeeze_axis": False}
    if draw(st.booleans()):
        count = draw(st.integers(1, 3))
        shape[axis] *= count
        attrs |= {"indices": (), "sections": count}
    else:
        cuts = draw(st.lists(st.integers(1, max(1, shape[axis] - 1)), unique=True, max_size=2).map(sorted))
        attrs |= {"indices": (0, *cuts), "sections": 0}
    return GraphSpec("_split_v2", attrs, (Input(tuple(shape)),))


STRATEGIES: dict[str, Strategy] = {
    "take": take(),
    "pick": pick(),
    "one_hot": one_hot(),
    "gather_nd": gather_nd(),
    "batch_take": batch_take(),
    "argmax_channel": argmax_channel(),
    "depth_to_space": blocks("depth_to_space"),
    "space_to_depth": blocks("space_to_depth"),
    "reshape_like": reshape_like(),
    "_split_v2": split_v2(),
    "_linalg_gemm2": gemm2(),
    "_contrib_div_sqrt_dim": div_sqrt_dim(),
}
