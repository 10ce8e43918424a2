"""Boxes of a detector that gives scores and a box for each anchor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mli.errors import ModelRefused
from mli.pipeline.decoders.decoder import real_values
from mli.pipeline.decoders.yolo import split_yolo
from mli.types import Box, Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mli.pipeline.model_io import ModelIo
    from mli.pipeline.preprocess import Placement
    from mli.types import ModelSpec

DEFAULT_CONFIDENCE = 0.5
"""Used where a pipeline sets no min_confidence: a detector always scores every anchor."""
OVERLAP = 0.45
"""Boxes of one label that overlap more (intersection over union) are one object."""
CANDIDATES = 1000


class DetectionDecoder:
    """Threshold, non-maximum suppression per label, then the ``top`` boxes in the frame's own coordinates."""

    def __init__(self, model: ModelSpec, io: ModelIo, *, top: int, min_confidence: float) -> None:
        self._model = model
        self._io = io
        self._classes = [index for index, label in enumerate(model.labels) if label != model.background]
        self._top = top
        self._min_confidence = min_confidence or DEFAULT_CONFIDENCE

    def __call__(self, outputs: Mapping[str, NDArray[Any]], placement: Placement) -> tuple[Prediction, ...]:
        real = {output.kind: real_values(outputs[output.name], output) for output in self._io.outputs}
        if "yolo" in real:
            scores, boxes = split_yolo(self._model, self._io.input, real["yolo"])
        else:
            scores, boxes = real["scores"].reshape(-1, len(self._model.labels)), real["boxes"].reshape(-1, 4)
        if len(scores) != len(boxes):
            raise ModelRefused(f"{self._model.name}: {len(scores)} scores for {len(boxes)} boxes")
        if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
            raise ModelRefused(
                f"{self._model.name}: the outputs hold NaN or infinite values",
                remedy="check the model's weights and its input scaling (mean, scale)",
            )
        found: list[Prediction] = []
        for index in self._classes:
            found.extend(self._of_class(index, scores[:, index], boxes, placement))
        found.sort(key=lambda prediction: -prediction.confidence)
        return tuple(found[: self._top])

    def _of_class(
        self, index: int, scores: NDArray[np.float32], boxes: NDArray[np.float32], placement: Placement
    ) -> list[Prediction]:
        candidates = np.flatnonzero(scores >= self._min_confidence)
        candidates = candidates[np.argsort(-scores[candidates], kind="stable")][:CANDIDATES]
        kept = suppress(boxes[candidates], OVERLAP)
        label = self._model.labels[index]
        return [
            Prediction(label, index, float(scores[candidate]), in_frame(boxes[candidate], placement))
            for candidate in candidates[kept]
        ]


def suppress(boxes: NDArray[np.float32], overlap: float) -> list[int]:
    """Indices of the boxes, sorted by score, that no better box overlaps by more than ``overlap``.

    Args:
        boxes: (n, 4), left, top, right, bottom, best first.
    """
    areas = np.clip(boxes[:, 2] - boxes[:, 0], 0, None) * np.clip(boxes[:, 3] - boxes[:, 1], 0, None)
    kept: list[int] = []
    remaining = np.arange(len(boxes))
    while remaining.size:
        best, remaining = int(remaining[0]), remaining[1:]
        kept.append(best)
        corners = (
            np.maximum(boxes[best, :2], boxes[remaining, :2]),
            np.minimum(boxes[best, 2:], boxes[remaining, 2:]),
        )
        common = np.prod(np.clip(corners[1] - corners[0], 0, None), axis=1)
        union = areas[best] + areas[remaining] - common
        remaining = remaining[common <= overlap * np.maximum(union, 1e-12)]
    return kept


def in_frame(box: NDArray[np.float32], placement: Placement) -> Box:
    """A box (4,) of the model's input, left, top, right, bottom, as part of the frame; cut at its edges."""
    left, right = ((float(box[i]) - placement.left) / placement.width for i in (0, 2))
    top, bottom = ((float(box[i]) - placement.top) / placement.height for i in (1, 3))
    return Box(*(min(1.0, max(0.0, edge)) for edge in (left, top, right, bottom)))
