"""Shapes, slices, and picking of elements."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from conformance.spec import Attribute, GraphSpec, Input, Values
from conformance.strategies.drawing import Draw, Strategy, axis_of, one_input, pairs, shapes, some

DISTINCT = Values("distinct", -3, 3)


@st.composite
def concat(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    dim = draw(axis_of(len(shape)))
    inputs = []
    for index in range(draw(st.integers(1, 4))):
        sizes = list(shape)
        sizes[dim] = draw(st.integers(1, 4))
        inputs.append(Input(tuple(sizes), learned=index > 0 and draw(st.sampled_from([False, False, True]))))
    attrs: dict[str, Attribute] = {"num_args": len(inputs)}
    if dim != 1 or draw(st.booleans()):
        attrs["dim"] = dim
    return GraphSpec("Concat", attrs, tuple(inputs))


@st.composite
def stack(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 3))
    count = draw(st.integers(1, 4))
    attrs = {"num_args": count, **some(draw, {"axis": axis_of(len(shape) + 1)})}
    return GraphSpec("stack", attrs, (Input(shape),) * count, dynamic_batch=draw(st.booleans()))


@st.composite
def reshape(draw: Draw) -> GraphSpec:
    """Codes that fit the shape, axis by axis; reversed ones are left to luck."""
    shape = draw(shapes(1, 4, largest=6))
    codes: list[int] = []
    inferred = False
    position = 0
    while position < len(shape):
        kinds = ["copy", "size", "merge", "split", "infer", "rest", "one"]
        kind = draw(st.sampled_from(kinds))
        size = shape[position]
        if kind == "rest":
            codes.append(-2)
            break
        if kind == "merge" and position + 1 < len(shape):
            codes.append(-3)
            position += 2
            continue
        if kind == "one":
            codes.append(1)
            continue
        if kind == "split":
            factor = draw(st.sampled_from([part for part in range(1, size + 1) if size % part == 0]))
            codes += [-4, *draw(st.sampled_from([(factor, size // factor), (-1, factor), (factor, -1)]))]
        elif kind == "infer" and not inferred:
            inferred = True
            codes.append(-1)
        else:
            codes.append(0 if kind == "copy" else size)
        position += 1
    attrs: dict[str, Attribute] = {"shape": tuple(codes), **some(draw, {"reverse": st.booleans()})}
    return GraphSpec("Reshape", attrs, (Input(shape),), dynamic_batch=draw(st.booleans()))


@st.composite
def transpose(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 5))
    attrs = some(draw, {"axes": st.permutations(range(len(shape))).map(tuple)})
    return GraphSpec("transpose", attrs, (Input(shape),), dynamic_batch=draw(st.booleans()))


@st.composite
def swap_axis(draw: Draw) -> GraphSpec:
    shape = draw(shapes(2, 4))
    attrs = some(draw, {"dim1": axis_of(len(shape)), "dim2": axis_of(len(shape))})
    return GraphSpec("SwapAxis", attrs, (Input(shape),), dynamic_batch=draw(st.booleans()))


@st.composite
def expand_dims(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    attrs = {"axis": draw(axis_of(len(shape) + 1))}
    return GraphSpec("expand_dims", attrs, (Input(shape),), dynamic_batch=draw(st.booleans()))


@st.composite
def squeeze(draw: Draw) -> GraphSpec:
    shape = draw(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=2, max_size=5).map(tuple))
    single = [axis for axis, size in enumerate(shape) if size == 1] or [0]
    axis = st.one_of(
        st.sampled_from(single),
        st.sampled_from([axis - len(shape) for axis in single]),
        st.lists(st.sampled_from(single), unique=True, min_size=1).map(tuple),
    )
    return GraphSpec("squeeze", some(draw, {"axis": axis}), (Input(shape),))


@st.composite
def slice_(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4, largest=6))
    begin: list[int | None] = []
    end: list[int | None] = []
    step: list[int | None] = []
    for size in shape[: draw(st.integers(1, len(shape)))]:
        first = draw(st.integers(0, size - 1))
        last = draw(st.integers(first + 1, size + 1))
        if draw(st.sampled_from([False, False, False, True])):
            begin.append(draw(st.sampled_from([last - 1, None])))
            end.append(draw(st.sampled_from([first, None])))
            step.append(draw(st.sampled_from([-1, -2])))
        else:
            begin.append(draw(st.sampled_from([first, first - size, None])))
            end.append(draw(st.sampled_from([last, None])))
            step.append(draw(st.sampled_from([1, 2, None])))
    attrs: dict[str, Attribute] = {"begin": tuple(begin), "end": tuple(end)}
    if any(number is not None and number < 0 for number in step) or draw(st.booleans()):
        attrs["step"] = tuple(step)
    return GraphSpec("slice", attrs, (Input(shape),))


@st.composite
def slice_axis(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4, largest=6))
    axis = draw(axis_of(len(shape)))
    size = shape[axis]
    first = draw(st.integers(0, size - 1))
    last = draw(st.integers(first + 1, size))
    attrs: dict[str, Attribute] = {
        "axis": axis,
        "begin": draw(st.sampled_from([first, first - size])),
        "end": draw(st.sampled_from([last, last - size if last < size else None, None])),
    }
    dynamic = axis % len(shape) != 0 and draw(st.booleans())
    return GraphSpec("slice_axis", attrs, (Input(shape),), dynamic_batch=dynamic)


@st.composite
def slice_like(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    like = tuple(draw(st.integers(1, size)) for size in shape)
    axes = st.lists(axis_of(len(shape)), min_size=1, max_size=len(shape), unique_by=lambda axis: axis % len(shape))
    return GraphSpec("slice_like", some(draw, {"axes": axes.map(tuple)}), (Input(shape), Input(like)))


@st.composite
def slice_channel(draw: Draw) -> GraphSpec:
    count = draw(st.integers(1, 4))
    shape = list(draw(shapes(2, 4, largest=4)))
    axis = draw(axis_of(len(shape)))
    shape[axis] = count * draw(st.integers(1, 3))
    attrs: dict[str, Attribute] = {"num_outputs": count}
    if axis != 1 or draw(st.booleans()):
        attrs["axis"] = axis
    if shape[axis] == count:
        attrs |= some(draw, {"squeeze_axis": st.booleans()})
    dynamic = axis % len(shape) != 0 and draw(st.booleans())
    return GraphSpec("SliceChannel", attrs, (Input(tuple(shape)),), dynamic_batch=dynamic)


@st.composite
def tile(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    # With two more repetitions than axes, MXNet gives memory that it never wrote.
    reps = draw(st.lists(st.integers(1, 3), min_size=1, max_size=len(shape) + 1).map(tuple))
    return GraphSpec("tile", {"reps": reps}, (Input(shape),))


@st.composite
def repeat(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    attrs = {"repeats": draw(st.integers(1, 3)), **some(draw, {"axis": axis_of(len(shape))})}
    return GraphSpec("repeat", attrs, (Input(shape),))


@st.composite
def pad(draw: Draw) -> GraphSpec:
    mode = draw(st.sampled_from(["constant", "edge", "reflect"]))
    width = [0, 0, 0, 0, *(draw(st.integers(0, 2)) for _ in range(4))]
    attrs: dict[str, Attribute] = {"mode": mode, "pad_width": tuple(width)}
    if mode == "constant":
        attrs |= some(draw, {"constant_value": st.sampled_from([0, 1.5, -2])})
    inputs = (Input((*draw(pairs(2, 1, 3)), *draw(pairs(2, 3, 5)))),)
    return GraphSpec("Pad", attrs, inputs, dynamic_batch=draw(st.booleans()))


@st.composite
def crop(draw: Draw) -> GraphSpec:
    batch, channels = draw(pairs(2, 1, 3))
    high, wide = draw(pairs(2, 3, 8))
    size = (draw(st.integers(1, high)), draw(st.integers(1, wide)))
    attrs: dict[str, Attribute] = {}
    if draw(st.booleans()):
        attrs["center_crop"] = True
    elif draw(st.booleans()):
        attrs["offset"] = (draw(st.integers(0, high - size[0])), draw(st.integers(0, wide - size[1])))
    inputs = [Input((batch, channels, high, wide))]
    if draw(st.booleans()):
        inputs.append(Input((batch, draw(st.integers(1, 3)), *size)))
    else:
        attrs["h_w"] = size
    attrs["num_args"] = len(inputs)
    return GraphSpec("Crop", attrs, tuple(inputs), dynamic_batch=draw(st.booleans()))


@st.composite
def embedding(draw: Draw) -> GraphSpec:
    rows = draw(st.integers(1, 6))
    values = Values("integers", *draw(st.sampled_from([(0, rows - 1), (-2, rows + 2)])))
    attrs: dict[str, Attribute] = {"input_dim": rows, "output_dim": draw(st.integers(1, 5))}
    return GraphSpec("Embedding", attrs, (Input(draw(shapes(1, 3)), values),), dynamic_batch=draw(st.booleans()))


@st.composite
def dot(draw: Draw) -> GraphSpec:
    left, shared, right = draw(shapes(0, 2)), draw(st.integers(1, 4)), draw(shapes(0, 2))
    attrs = some(draw, {"transpose_a": st.booleans(), "transpose_b": st.booleans()})
    one = (shared, *left) if attrs.get("transpose_a") else (*left, shared)
    two = (*right, shared) if attrs.get("transpose_b") else (shared, *right)
    return GraphSpec("dot", attrs, (Input(one), Input(two, learned=draw(st.booleans()))))


@st.composite
def batch_dot(draw: Draw) -> GraphSpec:
    batch, left, shared, right = draw(pairs(4, 1, 4))
    attrs = some(draw, {"transpose_a": st.booleans(), "transpose_b": st.booleans()})
    one = (shared, left) if attrs.get("transpose_a") else (left, shared)
    two = (right, shared) if attrs.get("transpose_b") else (shared, right)
    return GraphSpec(
        "batch_dot", attrs, (Input((batch, *one)), Input((batch, *two))), dynamic_batch=draw(st.booleans())
    )


@st.composite
def where(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    condition = draw(st.sampled_from([shape, shape[:1]]))
    inputs = (Input(condition, Values("integers", 0, 1)), Input(shape), Input(shape))
    return GraphSpec("where", {}, inputs)


@st.composite
def index_of_extreme(draw: Draw, op: str) -> GraphSpec:
    shape = draw(shapes(1, 4))
    attrs = some(draw, {"axis": axis_of(len(shape)), "keepdims": st.booleans()})
    dynamic = "axis" in attrs and draw(st.booleans())
    return GraphSpec(op, attrs, (Input(shape, DISTINCT),), dynamic_batch=dynamic)


@st.composite
def topk(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 3))
    options: dict[str, st.SearchStrategy[Any]] = {
        "axis": axis_of(len(shape)),
        "ret_typ": st.sampled_from(["value", "indices", "mask", "both"]),
        "is_ascend": st.booleans(),
        "dtype": st.sampled_from(["float32", "int32"]),
    }
    attrs = some(draw, options)
    axis = attrs.get("axis", -1)
    assert isinstance(axis, int)
    attrs |= some(draw, {"k": st.integers(1, shape[axis])})
    return GraphSpec("topk", attrs, (Input(shape, DISTINCT),))


@st.composite
def sort(draw: Draw, op: str) -> GraphSpec:
    shape = draw(shapes(1, 3))
    attrs = some(draw, {"axis": axis_of(len(shape)), "is_ascend": st.booleans()})
    return GraphSpec(op, attrs, (Input(shape, DISTINCT),))


@st.composite
def cast(draw: Draw) -> GraphSpec:
    dtype = draw(st.sampled_from(["float32", "float64", "float16", "int32", "int64", "int8", "uint8"]))
    low = 0 if dtype == "uint8" else -90
    inputs = (Input(draw(shapes(1, 4)), Values("uniform", low, 90)),)
    return GraphSpec("Cast", {"dtype": dtype}, inputs, dynamic_batch=draw(st.booleans()))


@st.composite
def broadcast_to(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    small = tuple(draw(st.sampled_from([size, 1])) for size in shape)
    target = tuple(
        draw(st.sampled_from([size, 0])) if size == have else size for size, have in zip(shape, small, strict=True)
    )
    return GraphSpec("broadcast_to", {"shape": target}, (Input(small),))


@st.composite
def broadcast_axis(draw: Draw) -> GraphSpec:
    shape = list(draw(shapes(1, 4)))
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=2, unique=True).map(sorted))
    for axis in axes:
        shape[axis] = 1
    attrs: dict[str, Attribute] = {"axis": tuple(axes), "size": tuple(draw(st.integers(1, 4)) for _ in axes)}
    return GraphSpec("broadcast_axis", attrs, (Input(tuple(shape)),))


@st.composite
def broadcast_like(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    small = tuple(draw(st.sampled_from([size, 1])) for size in shape)
    return GraphSpec("broadcast_like", {}, (Input(small), Input(shape)))


@st.composite
def reverse(draw: Draw) -> GraphSpec:
    shape = draw(shapes(1, 4))
    return GraphSpec("reverse", {"axis": draw(st.integers(0, len(shape) - 1))}, (Input(shape),))


STRATEGIES: dict[str, Strategy] = {
    "Concat": concat(),
    "stack": stack(),
    "Flatten": one_input("Flatten", low=2),
    "Reshape": reshape(),
    "transpose": transpose(),
    "SwapAxis": swap_axis(),
    "expand_dims": expand_dims(),
    "squeeze": squeeze(),
    "slice": slice_(),
    "slice_axis": slice_axis(),
    "slice_like": slice_like(),
    "SliceChannel": slice_channel(),
    "tile": tile(),
    "repeat": repeat(),
    "Pad": pad(),
    "Crop": crop(),
    "Embedding": embedding(),
    "dot": dot(),
    "batch_dot": batch_dot(),
    "where": where(),
    "argmax": index_of_extreme("argmax"),
    "argmin": index_of_extreme("argmin"),
    "topk": topk(),
    "sort": sort("sort"),
    "argsort": sort("argsort"),
    "Cast": cast(),
    "broadcast_to": broadcast_to(),
    "broadcast_axis": broadcast_axis(),
    "broadcast_like": broadcast_like(),
    "reverse": reverse(),
}
