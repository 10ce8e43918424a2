"""The k most confident labels of a classifier."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mli.errors import ModelRefused
from mli.pipeline.decoders.decoder import real_values
from mli.pipeline.model_io import labels_differ
from mli.types import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mli.pipeline.model_io import ModelIo
    from mli.pipeline.preprocess import Placement
    from mli.types import ModelSpec

log = logging.getLogger(__name__)

_ROUNDING = 1e-3


class ClassificationDecoder:
    """Softmax where the model gives logits, then the ``top`` labels with at least ``min_confidence``."""

    def __init__(self, model: ModelSpec, io: ModelIo, *, top: int, min_confidence: float) -> None:
        self._model = model
        self._output = io.outputs[0]
        self._top = min(top, len(model.labels))
        self._min_confidence = min_confidence
        self._told = bool(model.outputs)  # who says what an output means knows it

    def __call__(self, outputs: Mapping[str, NDArray[Any]], placement: Placement) -> tuple[Prediction, ...]:  # noqa: ARG002
        values = real_values(outputs[self._output.name], self._output).ravel()
        if values.size != len(self._model.labels):
            raise labels_differ(self._model, self._output.name, values.size)
        if not np.isfinite(values).all():
            raise ModelRefused(
                f"{self._model.name}: output {self._output.name!r} holds NaN or infinite values",
                remedy="check the model's weights and its input scaling (mean, scale)",
            )
        if self._output.kind == "logits":
            values = softmax(values)
        elif not self._told:
            self._tell_unbounded(values)
        # A stable sort: equal confidences keep the order of the labels.
        best = np.argsort(-values, kind="stable")[: self._top]
        return tuple(
            Prediction(self._model.labels[index], int(index), float(values[index]))
            for index in best
            if not self._min_confidence or values[index] >= self._min_confidence  # a regression's may be below 0
        )

    def _tell_unbounded(self, values: NDArray[np.float32]) -> None:
        """Warn once, where nobody said what the output means, of values that are no probabilities."""
        low, high = float(values.min()), float(values.max())
        if low >= -_ROUNDING and high <= 1 + _ROUNDING:
            return
        self._told = True
        log.warning(
            "%s: output %r holds values from %.2f to %.2f, which are no probabilities; "
            "if the model ends before softmax, pack it with `mli model pack … --logits`",
            self._model.name,
            self._output.name,
            low,
            high,
        )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of logits, shape kept (n,), computed in float32 without overflow."""
    with np.errstate(over="ignore"):  # differences beyond float32 are minus infinity, and their powers 0
        powers = np.exp(logits - logits.max())
    probabilities: NDArray[np.float32] = powers / powers.sum(dtype=np.float32)
    return probabilities
