"""Heads of detectors: anchors, boxes from offsets, and the suppression of boxes that overlap a better one.

A row is one detection; MXNet fills rows that hold none with -1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Tensor, is_open, shape_text
from mli.models.mxnet.call import Call, Table
from mli.models.mxnet.operators.suppression import best, compared, only, padded, sort, survivors, take

_FORMATS = ("corner", "center")


def multibox_prior(call: Call) -> Tensor:
    """MultiBoxPrior: anchors (1, height * width * n, 4) of a feature map, a constant: only its size counts."""
    data = call.input(0, "data")
    call.expect_rank(data, 4)
    height, width = data.shape[2:]
    sizes = np.asarray(call.attributes.numbers("sizes", (1.0,)), np.float32)
    ratios = np.asarray(call.attributes.numbers("ratios", (1.0,)), np.float32)
    steps = np.asarray(_several(call, "steps", (-1.0, -1.0)), np.float32)
    offsets = np.asarray(_several(call, "offsets", (0.5, 0.5)), np.float32)
    if not sizes.size or not ratios.size or (ratios <= 0).any():
        raise OperatorProblem("attributes sizes and ratios", expected="one number or more, ratios above 0")
    if (steps <= 0).any():
        steps = np.asarray((1 / np.float32(height), 1 / np.float32(width)), np.float32)
    # Every size with the first ratio, then the first size with every other ratio; float32 throughout, as in MXNet.
    roots = np.sqrt(np.concatenate([np.repeat(ratios[:1], sizes.size), ratios[1:]]))
    scales = np.concatenate([sizes, np.repeat(sizes[:1], ratios.size - 1)])
    half_width = scales * np.float32(height) / np.float32(width) * roots / np.float32(2)
    half_height = scales / roots / np.float32(2)
    y = ((np.arange(height, dtype=np.float32) + offsets[0]) * steps[0])[:, None, None]
    x = ((np.arange(width, dtype=np.float32) + offsets[1]) * steps[1])[None, :, None]
    edges = np.broadcast_arrays(x - half_width, y - half_height, x + half_width, y + half_height)
    anchors = np.stack(edges, axis=-1).reshape(1, -1, 4)
    return call.constant(anchors.clip(0, 1) if call.attributes.boolean("clip", False) else anchors)


def multibox_detection(call: Call) -> Tensor:
    """MultiBoxDetection: rows (batch, anchors, 6) of [class id, score, left, top, right, bottom], best first.

    Each anchor has its best class, counted without class 0, the background (``background_id`` is without effect in
    MXNet too). A suppressed row has the id -1. Rows that ``nms_topk`` leaves out are -1 throughout; MXNet
    gives them the id -1 too, but leaves old numbers behind it.
    """
    probabilities, boxes = call.input(0, "cls_prob"), _multibox_boxes(call)
    count = boxes.shape[1]
    threshold = call.attributes.number("threshold", 0.01)
    overlap = np.float32(call.attributes.number("nms_threshold", 0.5))
    limit = call.attributes.integer("nms_topk", -1)
    score, ids, valid = _best_class(call, probabilities, threshold)
    parts = (call.reshape(part, (*part.shape, 1)) for part in (call.cast(ids, "float32"), score))
    rows = call.concat([*parts, boxes], 2)
    if not 0 < overlap <= 1:
        found, order = sort(call, call.cast(valid, "float32"), count)
        return only(call, compared(call, "Greater", found, 0), take(call, rows, order))
    kept = min(limit, count) if limit > 0 else count
    rows, valid = best(call, rows, score, valid, kept)
    ids = call.slice(rows, 2, 0, 1)
    classes = None if call.attributes.boolean("force_suppress", False) else ids
    # MXNet suppresses from the threshold on, ONNX above it.
    above = float(np.nextafter(overlap, np.float32(0)))
    survived = survivors(call, call.slice(rows, 2, 2, 6), valid, classes, above)
    shown_ids = only(call, compared(call, "Greater", survived, 0), ids)
    rows = call.concat([shown_ids, only(call, valid, call.slice(rows, 2, 1, 6))], 2)
    return padded(call, rows, count)


def _multibox_boxes(call: Call) -> Tensor:
    """The boxes (batch, anchors, 4) that the offsets make of the anchors; inputs that do not fit are refused."""
    probabilities, offsets, anchors = (
        call.input(i, what) for i, what in enumerate(("cls_prob", "loc_pred", "anchor"))
    )
    call.expect_rank(probabilities, 3)
    batch, classes, count = probabilities.shape
    for tensor, shape in ((offsets, (batch, count * 4)), (anchors, (1, count, 4))):
        if tensor.shape != shape:
            wanted = f"{shape_text(shape)} for scores {shape_text(probabilities.shape)}"
            raise ShapeProblem(f"input {tensor.name}", expected=wanted, found=shape_text(tensor.shape))
    if classes < 2:
        raise ShapeProblem("the scores", expected="two classes or more, background first", found=str(classes))
    low, high = call.slice(anchors, 2, 0, 2), call.slice(anchors, 2, 2, 4)
    center = call.scalar("Div", call.elementwise("Add", low, high), 2)
    variances = _several(call, "variances", (0.1, 0.1, 0.2, 0.2))
    offsets = call.reshape(offsets, (batch, count, 4))
    boxes = _decoded(call, offsets, center, call.elementwise("Sub", high, low), variances)
    if not call.attributes.boolean("clip", True):
        return boxes
    return call.emit("Clip", boxes, call.constant(0.0), call.constant(1.0), shape=boxes.shape)


def _best_class(call: Call, probabilities: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Score and id (counted without background) of each anchor's best class, and whether it is good enough."""
    batch, classes, count = probabilities.shape
    foreground = call.slice(probabilities, 1, 1, classes)
    score = call.emit("ReduceMax", foreground, shape=(batch, count), axes=[1], keepdims=0)
    ids = call.emit("ArgMax", foreground, shape=(batch, count), dtype="int64", axis=1, keepdims=0)
    # MXNet's search for the best class begins at a score of -1.
    op_type, limit = ("GreaterOrEqual", threshold) if threshold > -1 else ("Greater", -1.0)
    return score, ids, compared(call, op_type, score, limit)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where the numbers of a row stand; ``ids`` is None where rows have no class."""

    score: int
    box: int
    ids: int | None

    @classmethod
    def of(cls, call: Call, width: int) -> Self:
        """Those that the attributes name, among ``width``."""
        box = call.attributes.integer("coord_start", 2)
        score = call.attributes.integer("score_index", 1)
        ids = call.attributes.integer("id_index", -1)
        named = [score, *([ids] if ids >= 0 else []), *range(box, box + 4)]
        if len(set(named)) < len(named) or not all(0 <= place < width for place in named):
            raise ShapeProblem(
                "attributes coord_start, score_index and id_index",
                expected=f"different places among {width}",
                found=f"{box} to {box + 3}, {score} and {ids}",
            )
        return cls(score, box, ids if ids >= 0 else None)


def box_nms(call: Call) -> tuple[Tensor]:
    """box_nms: of rows (…, boxes, width) those that survive, best first, then rows of -1."""
    data = call.input(0, "data")
    if len(data.shape) < 2 or is_open(data.shape[-2]):
        raise ShapeProblem(f"input {data.name}", expected="(…, boxes, numbers)", found=shape_text(data.shape))
    count, width = data.shape[-2:]
    columns = _Columns.of(call, width)
    limit = call.attributes.integer("topk", -1)
    if limit == 0:
        return (data,)
    kept = min(limit, count) if limit > 0 else count
    overlap = call.attributes.number("overlap_thresh", 0.5)
    if overlap < 0:
        raise OperatorProblem("attribute overlap_thresh", expected="0 or more", found=str(overlap))
    source = call.attributes.text("in_format", "corner", _FORMATS)
    wanted = call.attributes.text("out_format", "corner", _FORMATS)
    rows = call.reshape(data, (math.prod(data.shape[:-2]), count, width))
    rows, valid = best(call, rows, *_scored(call, rows, columns), kept)
    classes = None
    if columns.ids is not None and not call.attributes.boolean("force_suppress", False):
        classes = call.slice(rows, 2, columns.ids, columns.ids + 1)
    boxes = call.slice(rows, 2, columns.box, columns.box + 4)
    survived = survivors(call, boxes, valid, classes, min(overlap, 1.0), center=source == "center")
    found, order = sort(call, survived, kept)
    rows = only(call, compared(call, "Greater", found, 0), take(call, rows, order))
    if wanted != source:
        rows = _reformatted(call, rows, columns.box, wanted)
    return (call.reshape(padded(call, rows, count), data.shape),)


def _scored(call: Call, rows: Tensor, columns: _Columns) -> tuple[Tensor, Tensor]:
    """Scores (batch, boxes), and which rows count at all: above valid_thresh, not of the background class."""
    shape = rows.shape[:2]
    score = call.reshape(call.slice(rows, 2, columns.score, columns.score + 1), shape)
    valid = compared(call, "Greater", score, call.attributes.number("valid_thresh", 0.0))
    if columns.ids is None:
        return score, valid
    ids = call.reshape(call.slice(rows, 2, columns.ids, columns.ids + 1), shape)
    background = compared(call, "Equal", ids, call.attributes.integer("background_id", -1))
    return score, call.elementwise("And", valid, call.emit("Not", background, shape=shape))


def _reformatted(call: Call, rows: Tensor, start: int, wanted: str) -> Tensor:
    """Rows with the box in the other format; MXNet leaves boxes alone whose first number is below 0."""
    width = rows.shape[2]
    box = call.slice(rows, 2, start, start + 4)
    first, second = call.slice(box, 2, 0, 2), call.slice(box, 2, 2, 4)
    if wanted == "center":
        middle = call.scalar("Div", call.elementwise("Add", first, second), 2)
        parts = [middle, call.elementwise("Sub", second, first)]
    else:
        half = call.scalar("Div", second, 2)
        parts = [call.elementwise("Sub", first, half), call.elementwise("Add", first, half)]
    left_alone = compared(call, "Less", call.slice(box, 2, 0, 1), 0)
    box = call.emit("Where", left_alone, box, call.concat(parts, 2), shape=box.shape, dtype="float32")
    before = [call.slice(rows, 2, 0, start)] if start else []
    behind = [call.slice(rows, 2, start + 4, width)] if start + 4 < width else []
    return call.concat([*before, box, *behind], 2)


def box_iou(call: Call) -> Tensor:
    """box_iou: intersection over union of every left box with every right one, shape (left…, right…)."""
    left, right = call.input(0, "lhs"), call.input(1, "rhs")
    for tensor in (left, right):
        if len(tensor.shape) < 2 or tensor.shape[-1] != 4:
            raise ShapeProblem(f"input {tensor.name}", expected="(…, 4)", found=shape_text(tensor.shape))
    shape = (*left.shape[:-1], *right.shape[:-1])
    center = call.attributes.text("format", "corner", _FORMATS) == "center"
    left = call.reshape(left, (math.prod(left.shape[:-1]), 1, 4))
    right = call.reshape(right, (1, math.prod(right.shape[:-1]), 4))
    (low, high, area), (other_low, other_high, other_area) = (_corners(call, box, center) for box in (left, right))
    inner_high = call.elementwise("Min", high, other_high)
    common = _area(call, call.elementwise("Sub", inner_high, call.elementwise("Max", low, other_low)))
    union = call.elementwise("Sub", call.elementwise("Add", area, other_area), common)
    ratio = call.elementwise("Div", common, union)
    nothing = compared(call, "Equal", common, 0)
    found = call.emit("Where", nothing, call.constant(0.0), ratio, shape=ratio.shape, dtype="float32")
    return call.reshape(found, shape)


def _corners(call: Call, boxes: Tensor, center: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and higher corner (n, m, 2) and area (n, m, 1) of boxes (n, m, 4)."""
    first, second = call.slice(boxes, 2, 0, 2), call.slice(boxes, 2, 2, 4)
    if not center:
        return first, second, _area(call, call.elementwise("Sub", second, first))
    half = call.scalar("Div", second, 2)
    low, high = call.elementwise("Sub", first, half), call.elementwise("Add", first, half)
    return low, high, _area(call, second)


def _area(call: Call, sides: Tensor) -> Tensor:
    """Width times height, shape (n, m, 1), of sides (n, m, 2); nothing where one is below 0."""
    positive = call.emit("Relu", sides, shape=sides.shape)
    return call.emit("ReduceProd", positive, shape=(*sides.shape[:2], 1), axes=[2], keepdims=1)


def box_decode(call: Call) -> Tensor:
    """box_decode: boxes (batch, boxes, 4), left, top, right, bottom, from offsets and anchors (1, boxes, 4)."""
    offsets, anchors = call.input(0, "data"), call.input(1, "anchors")
    call.expect_rank(offsets, 3)
    if offsets.shape[2] != 4:
        raise ShapeProblem(f"input {offsets.name}", expected="(batch, boxes, 4)", found=shape_text(offsets.shape))
    call.expect_shape(anchors, (1, *offsets.shape[1:]))
    first, second = call.slice(anchors, 2, 0, 2), call.slice(anchors, 2, 2, 4)
    if call.attributes.text("format", "center", _FORMATS) == "corner":
        second = call.elementwise("Sub", second, first)
        first = call.elementwise("Add", first, call.scalar("Div", second, 2))
    scales = [call.attributes.number(f"std{index}", 1.0) for index in range(4)]
    return _decoded(call, offsets, first, second, scales, call.attributes.number("clip", -1.0))


def _decoded(
    call: Call, offsets: Tensor, center: Tensor, size: Tensor, scales: Sequence[float], limit: float = 0.0
) -> Tensor:
    """Boxes (batch, n, 4), left, top, right, bottom: anchors moved and stretched by offsets (batch, n, 4).

    Args:
        center, size: of the anchors, each (1, n, 2).
        limit: of the logarithm that stretches, where above 0.
    """
    moved = call.elementwise("Mul", call.slice(offsets, 2, 0, 2), call.constant(list(scales[:2])))
    stretched = call.elementwise("Mul", call.slice(offsets, 2, 2, 4), call.constant(list(scales[2:])))
    if limit > 0:
        stretched = call.scalar("Min", stretched, limit)
    middle = call.elementwise("Add", call.elementwise("Mul", moved, size), center)
    powers = call.emit("Exp", stretched, shape=stretched.shape)
    half = call.scalar("Div", call.elementwise("Mul", powers, size), 2)
    return call.concat([call.elementwise("Sub", middle, half), call.elementwise("Add", middle, half)], 2)


def _several(call: Call, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """As many numbers as the default has."""
    numbers = call.attributes.numbers(name, default)
    if len(numbers) != len(default):
        raise OperatorProblem(f"attribute {name}", expected=f"{len(default)} numbers", found=str(numbers))
    return numbers


OPERATORS: Table = {
    "_contrib_MultiBoxPrior": multibox_prior,
    "MultiBoxPrior": multibox_prior,
    "_npx_multibox_prior": multibox_prior,
    "_contrib_MultiBoxDetection": multibox_detection,
    "MultiBoxDetection": multibox_detection,
    "_npx_multibox_detection": multibox_detection,
    "_contrib_box_nms": box_nms,
    "_contrib_box_non_maximum_suppression": box_nms,
    "_npx_box_nms": box_nms,
    "_contrib_box_iou": box_iou,
    "_npx_box_iou": box_iou,
    "_contrib_box_decode": box_decode,
    "_npx_box_decode": box_decode,
}
