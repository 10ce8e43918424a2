"""Rows of detections in ONNX: sorted by score, the ones that overlap a better one taken out, the rest filled with -1.

NonMaxSuppression gets boxes that are already sorted, and their places for scores. So equal scores keep MXNet's order
(the earlier box first), whatever runtime it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mli.models.mxnet.building import Tensor
from mli.models.mxnet.call import Call

_NOTHING = -1.0
"""What MXNet fills rows with that hold no detection."""


def best(call: Call, rows: Tensor, score: Tensor, valid: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` best of the valid rows, sorted, invalid ones behind them.

    Args:
        rows: (batch, n, width).
        score, valid: (batch, n).

    Returns:
        Rows (batch, count, width), and which of them are valid, (batch, count).
    """
    least = call.constant(-np.inf)
    key = call.emit("Where", valid, score, least, shape=score.shape, dtype="float32")
    found, order = sort(call, key, count)
    return take(call, rows, order), compared(call, "Greater", found, -np.inf)


def sort(call: Call, key: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest numbers of (batch, n), largest first (of equal ones the earlier), and their places."""
    shape = (key.shape[0], count)
    found, order = call.emit_many("TopK", (key, call.sizes([count])), (shape, shape), axis=1)
    return found, replace(order, dtype="int64")


def take(call: Call, rows: Tensor, order: Tensor) -> Tensor:
    """Rows (batch, n, width) at places (batch, count)."""
    places = call.reshape(order, (*order.shape, 1))
    return call.emit("GatherND", rows, places, shape=(*order.shape, rows.shape[2]), batch_dims=1)


def only(call: Call, wanted: Tensor, rows: Tensor) -> Tensor:
    """Rows (batch, n, width) where ``wanted`` (batch, n) is true, -1 elsewhere."""
    condition = call.reshape(wanted, (*wanted.shape, 1))
    nothing = call.constant(_NOTHING)
    return call.emit("Where", condition, rows, nothing, shape=rows.shape, dtype="float32")


def padded(call: Call, rows: Tensor, count: int) -> Tensor:
    """Rows (batch, n, width) with rows of -1 behind them, ``count`` in all."""
    batch, found, width = rows.shape
    if found == count:
        return rows
    ends = call.sizes([0, 0, 0, 0, count - found, 0])
    return call.emit("Pad", rows, ends, call.constant(_NOTHING), shape=(batch, count, width))


def compared(call: Call, op_type: str, tensor: Tensor, value: float) -> Tensor:
    """Where a comparison with a number, in float32, holds."""
    return call.emit(op_type, tensor, call.constant(value), shape=tensor.shape, dtype="bool")


def survivors(
    call: Call, boxes: Tensor, valid: Tensor, classes: Tensor | None, overlap: float, *, center: bool = False
) -> Tensor:
    """Which boxes no better one overlaps by more than ``overlap`` (intersection over union, 0 to 1).

    Args:
        boxes: (batch, n, 4), best first: left, top, right, bottom, or ``center``: x, y, width, height.
        valid: (batch, n), the boxes that count.
        classes: (batch, n, 1), whose whole part tells which boxes can suppress each other; None for all.

    Returns:
        (batch, n): above 0 where a box survives, and falling from the best to the last.
    """
    batch, count = valid.shape
    ranks = call.constant(np.arange(count, 0, -1, dtype=np.float32)[None])
    nothing = call.constant(0.0)
    priority = call.emit("Where", valid, ranks, nothing, shape=valid.shape, dtype="float32")
    scores = call.reshape(priority, (batch, 1, count))
    if classes is not None:
        scores = _by_class(call, scores, call.reshape(classes, (batch, 1, count)))
    # The number of survivors is known only when it runs; nothing asks for the shapes claimed here.
    selected = call.emit(
        "NonMaxSuppression",
        _upright(call, boxes, center),
        scores,
        call.sizes([count]),
        call.constant([overlap]),
        call.constant([0.5]),
        shape=(count, 3),
        dtype="int64",
        center_point_box=int(center),
    )
    places = call.emit("Gather", selected, call.sizes([0, 2]), shape=(count, 2), axis=1)
    surviving = call.emit("GatherND", priority, places, shape=(count,))
    none = call.scalar("Mul", priority, 0)
    return call.emit("ScatterND", none, places, surviving, shape=priority.shape)


def _by_class(call: Call, priority: Tensor, classes: Tensor) -> Tensor:
    """Priorities (batch, classes, n), 0 where a box is of another class, of priorities (batch, 1, n).

    Only classes that occur get a place, of whose number nothing is known here.
    """
    batch, _, count = priority.shape
    whole = call.cast(classes, "int64")
    occurring = call.emit("Unique", whole, shape=(count,))
    occurring = call.emit("Reshape", occurring, call.sizes([1, -1, 1]), shape=(1, count, 1))
    same = call.emit("Equal", whole, occurring, shape=(batch, count, count), dtype="bool")
    nothing = call.constant(0.0)
    return call.emit("Where", same, priority, nothing, shape=same.shape, dtype="float32")


def _upright(call: Call, boxes: Tensor, center: bool) -> Tensor:
    """Boxes turned inside out become empty: they overlap nothing in MXNet, while ONNX turns them back."""
    first, second = call.slice(boxes, 2, 0, 2), call.slice(boxes, 2, 2, 4)
    least = call.constant(0.0) if center else first
    return call.concat([first, call.emit("Max", second, least, shape=second.shape)], 2)
