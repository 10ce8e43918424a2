"""Heads of single-shot detectors."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from conformance.spec import Attribute, GraphSpec, Input, Values
from conformance.strategies.drawing import Draw, Strategy, pairs, shapes, some


@st.composite
def prior(draw: Draw) -> GraphSpec:
    numbers = st.sampled_from([0.1, 0.2, 0.272, 0.5, 0.9])
    ratios = st.sampled_from([1.0, 2.0, 0.5, 3.0, 0.3333])
    several = st.lists(numbers, min_size=1, max_size=3).map(tuple)
    attrs = some(
        draw,
        {
            "sizes": several,
            "ratios": st.lists(ratios, min_size=1, max_size=3).map(tuple),
            "clip": st.booleans(),
            "steps": st.tuples(numbers, numbers),
            "offsets": st.tuples(numbers, numbers),
        },
    )
    return GraphSpec("_contrib_MultiBoxPrior", attrs, (Input((*draw(pairs(2, 1, 3)), *draw(pairs(2, 1, 6)))),))


@st.composite
def detection(draw: Draw) -> GraphSpec:
    batch, classes, anchors = draw(st.integers(1, 3)), draw(st.integers(2, 5)), draw(st.integers(1, 12))
    options: dict[str, st.SearchStrategy[Any]] = {
        "clip": st.booleans(),
        "threshold": st.sampled_from([0.01, 0.2, 0.4]),
        "background_id": st.just(0),
        "nms_threshold": st.sampled_from([0.1, 0.3, 0.5, 0.7]),
        "force_suppress": st.booleans(),
        "variances": st.sampled_from([(0.1, 0.1, 0.2, 0.2), (0.2, 0.1, 0.3, 0.1)]),
        "nms_topk": st.sampled_from([-1, 1, 3, 400]),
    }
    inputs = (
        Input((batch, classes, anchors), Values("probabilities", -2, 2)),
        Input((batch, 4 * anchors), Values("uniform", -1, 1)),
        Input((1, anchors, 4), Values("corners"), learned=draw(st.booleans())),
    )
    dynamic = inputs[2].learned and draw(st.booleans())
    return GraphSpec("_contrib_MultiBoxDetection", some(draw, options), inputs, dynamic_batch=dynamic)


@st.composite
def box_nms(draw: Draw) -> GraphSpec:
    shape = (*draw(shapes(0, 2, largest=3)), draw(st.integers(1, 10)), 6)
    attrs: dict[str, Attribute] = {"coord_start": 2, "score_index": 1}
    attrs |= some(
        draw,
        {
            "overlap_thresh": st.sampled_from([0.1, 0.3, 0.5, 0.7]),
            "valid_thresh": st.sampled_from([0.0, 0.2, 0.5]),
            "topk": st.sampled_from([-1, 1, 3, 400]),
            "id_index": st.just(0),
            "background_id": st.sampled_from([-1, 0]),
            "force_suppress": st.booleans(),
            "in_format": st.sampled_from(["corner", "center"]),
            "out_format": st.sampled_from(["corner", "center"]),
        },
    )
    return GraphSpec("_contrib_box_nms", attrs, (Input(shape, Values("scored")),))


@st.composite
def box_iou(draw: Draw) -> GraphSpec:
    attrs = some(draw, {"format": st.sampled_from(["corner", "center"])})
    inputs = tuple(Input((*draw(shapes(1, 2, largest=4)), 4), Values("corners")) for _ in range(2))
    return GraphSpec("_contrib_box_iou", attrs, inputs)


@st.composite
def box_decode(draw: Draw) -> GraphSpec:
    deviation = st.sampled_from([0.1, 0.2, 1.0])
    attrs = some(
        draw,
        {
            **{f"std{index}": deviation for index in range(4)},
            "clip": st.sampled_from([-1.0, 0.1]),
            "format": st.sampled_from(["corner", "center"]),
        },
    )
    batch, count = draw(pairs(2, 1, 4))
    inputs = (Input((batch, count, 4)), Input((1, count, 4), Values("corners"), learned=draw(st.booleans())))
    return GraphSpec("_contrib_box_decode", attrs, inputs)


STRATEGIES: dict[str, Strategy] = {
    "_contrib_MultiBoxPrior": prior(),
    "_contrib_MultiBoxDetection": detection(),
    "_contrib_box_nms": box_nms(),
    "_contrib_box_iou": box_iou(),
    "_contrib_box_decode": box_decode(),
}
