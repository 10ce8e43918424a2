"""The one output of the YOLO family, from version 5 on, as scores and corners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mli.errors import ModelRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mli.types import InputSpec, ModelSpec

_BOX = 4
_RELATIVE_MOST = 2.0
"""Centres of a frame's boxes lie all over it: where none is beyond 2, they are no pixels."""


def yolo_widths(labels: int) -> tuple[int, int]:
    """Values a box: without and with a score of the box itself."""
    return _BOX + labels, _BOX + 1 + labels


def yolo_shape(labels: int) -> str:
    """The shapes that are taken, for messages."""
    without, with_ = yolo_widths(labels)
    return f"[1, {without}, boxes] or [1, boxes, {with_}], with {labels} labels"


def split_yolo(
    model: ModelSpec, spec: InputSpec, values: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (boxes, labels), and boxes (boxes, 4) as left, top, right, bottom in parts of the input.

    Args:
        values: (1, boxes, values a box) or (1, values a box, boxes).

    Raises:
        ModelRefused: neither size is that of a box.
    """
    count = len(model.labels)
    rows = values.reshape(values.shape[-2:]) if values.ndim == 3 and values.shape[0] == 1 else values
    if rows.ndim == 2 and rows.shape[1] not in yolo_widths(count):
        rows = rows.T
    if rows.ndim != 2 or rows.shape[1] not in yolo_widths(count):
        raise ModelRefused(
            f"{model.name}: the output is not one of YOLO's", expected=yolo_shape(count), got=str(list(values.shape))
        )
    scores = rows[:, -count:]
    if rows.shape[1] > _BOX + count:
        scores = scores * rows[:, _BOX : _BOX + 1]
    return scores, _corners(rows[:, :_BOX], spec)


def _corners(boxes: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    centres, halves = boxes[:, :2], boxes[:, 2:] / 2
    corners: NDArray[np.float32] = np.concatenate([centres - halves, centres + halves], axis=1)
    if centres.max(initial=0) > _RELATIVE_MOST:
        corners /= np.array([spec.width, spec.height] * 2, np.float32)
    return corners
