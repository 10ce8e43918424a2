"""Rows of a detector that has already chosen its boxes: class id, score, box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mli.errors import ModelRefused
from mli.pipeline.decoders.decoder import real_values
from mli.pipeline.decoders.detection import DEFAULT_CONFIDENCE, in_frame
from mli.types import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mli.pipeline.model_io import ModelIo
    from mli.pipeline.preprocess import Placement
    from mli.types import ModelSpec

_ROW = 6


class DetectionRowsDecoder:
    """Threshold, then the ``top`` rows in the frame's own coordinates; the model has taken out overlapping boxes."""

    def __init__(self, model: ModelSpec, io: ModelIo, *, top: int, min_confidence: float) -> None:
        self._model = model
        self._output = io.outputs[0]
        self._top = top
        self._min_confidence = min_confidence or DEFAULT_CONFIDENCE

    def __call__(self, outputs: Mapping[str, NDArray[Any]], placement: Placement) -> tuple[Prediction, ...]:
        values = real_values(outputs[self._output.name], self._output)
        if values.shape[-1:] != (_ROW,):
            raise self._refused("its rows do not fit", "[1, boxes, 6]", str(list(values.shape)))
        rows = values.reshape(-1, _ROW)
        rows = rows[~(rows[:, 0] < 0)]
        self._check(rows)
        rows = rows[rows[:, 1] >= self._min_confidence]
        # A stable sort: equal confidences keep the model's order.
        rows = rows[np.argsort(-rows[:, 1], kind="stable")]
        found = [self._prediction(row, placement) for row in rows]
        return tuple(item for item in found if item.label != self._model.background)[: self._top]

    def _check(self, rows: NDArray[np.float32]) -> None:
        if not np.isfinite(rows).all():
            raise ModelRefused(
                f"{self._model.name}: output {self._output.name!r} holds NaN or infinite values",
                remedy="check the model's weights and its input scaling (mean, scale)",
            )
        ids = rows[:, 0]
        broken = ids[ids != np.rint(ids)]
        if broken.size:
            row = "class id, score, left, top, right, bottom"
            raise self._refused("its class ids are no whole numbers", f"rows of {row}", f"{broken[0]:g} as an id")
        if ids.size and ids.max() >= len(self._model.labels):
            wanted = f"at least {int(ids.max()) + 1} labels"
            raise self._refused("there is no label for a class", wanted, f"{len(self._model.labels)} labels")

    def _refused(self, problem: str, expected: str, got: str) -> ModelRefused:
        return ModelRefused(
            f"{self._model.name}: output {self._output.name!r} is not what was said of it: {problem}",
            expected=expected,
            got=got,
            remedy="pack the model with the labels it was trained with, without one for the background, "
            "and with the right kind for each output",
        )

    def _prediction(self, row: NDArray[np.float32], placement: Placement) -> Prediction:
        class_id = int(row[0])
        return Prediction(self._model.labels[class_id], class_id, float(row[1]), in_frame(row[2:], placement))
