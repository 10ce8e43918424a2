"""Load a model as a pipeline would and see what it says of given images: for packing and for verifying."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mli.config.settings import PipelineSettings, PreprocessSettings, PublishSettings, SourceSettings
from mli.errors import ModelRefused

if TYPE_CHECKING:
    from mli.pipeline.estimators.estimator import Estimator
    from mli.pipeline.model_io import ModelIo
    from mli.types import GoldenSample, ModelSpec, Prediction

GOLDEN_TOP = 5
"""Predictions that a golden sample keeps."""
SEEN_FROM = 0.25
"""A detector is asked for less than it is held to, so that an object near the threshold is no mismatch."""
HELD_TO = 0.5


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of one golden sample.

    Attributes:
        difference: largest difference of a confidence or box edge from what is expected.
        infer_ms: decoding, preprocessing and inference together, milliseconds.
    """

    image: str
    difference: float
    tolerance: float
    infer_ms: float


class Prover:
    """A loaded model that answers for single images.

    Args:
        estimator: the model as it is loaded already; None loads it.

    Raises:
        ModelRefused: the model cannot be loaded, or does not fit its labels or specification.
        StopError: its backend is not installed.
    """

    def __init__(
        self,
        model: ModelSpec,
        *,
        preprocess: PreprocessSettings = PreprocessSettings(),
        backend: str = "auto",
        estimator: Estimator | None = None,
    ) -> None:
        from mli.pipeline.estimators.registry import open_estimator
        from mli.pipeline.loop import FrameProcessor

        settings = PipelineSettings(
            name="prove",
            thing="prove",
            source=SourceSettings("images"),
            model=model.name,
            publish=PublishSettings(""),
            preprocess=preprocess,
            top=max(GOLDEN_TOP, len(model.labels)) if model.task == "classification" else 10 * GOLDEN_TOP,
            min_confidence=0.0 if model.task == "classification" else SEEN_FROM,
        )
        self._model = model
        self._estimator = estimator or open_estimator(model, backend)
        self._processor = FrameProcessor(settings, model, self._estimator)

    @property
    def io(self) -> ModelIo:
        """The model's input and outputs, complete."""
        return self._processor.io

    @property
    def backend(self) -> str:
        """Name and version of the runtime."""
        return self._estimator.backend

    def predict(self, image: Path) -> tuple[Prediction, ...]:
        """The five most confident predictions for an encoded image.

        Raises:
            ImageRefused: the image cannot be used.
        """
        least = 0.0 if self._model.task == "classification" else HELD_TO
        return tuple(item for item in self._all(image) if item.confidence >= least)[:GOLDEN_TOP]

    def _all(self, image: Path) -> tuple[Prediction, ...]:
        from mli.pipeline.sources.images import decode_file

        return self._processor(decode_file(str(image), SourceSettings("images").max_pixels))

    def prove(self, samples: Sequence[GoldenSample]) -> list[Proof]:
        """Check the model against golden samples.

        Raises:
            ModelRefused: a prediction is another than expected, or its confidence is too far off.
        """
        return [self._prove(sample) for sample in samples]

    def _prove(self, sample: GoldenSample) -> Proof:
        started = time.perf_counter()
        found = self._all(Path(self._model.directory) / sample.image)
        infer_ms = (time.perf_counter() - started) * 1000
        difference = _difference(sample.expected, found)
        if difference > sample.tolerance:
            raise ModelRefused(
                f"{self._model.name}: the model does not give what its golden sample {sample.image} expects",
                expected=f"{_told(sample.expected)}, within {sample.tolerance:g}",
                got=f"{_told(found)}: {difference:.4f} off",
                remedy="the model file, its preprocessing or this device's backend differ from what was packed",
            )
        return Proof(sample.image, difference, sample.tolerance, infer_ms)


def _difference(expected: Sequence[Prediction], found: Sequence[Prediction]) -> float:
    """Largest difference between two frames' predictions; what is missing on one side counts with its confidence."""
    remaining = list(found)
    difference = 0.0
    for wanted in expected:
        same = [item for item in remaining if item.class_id == wanted.class_id]
        if not same:
            difference = max(difference, wanted.confidence)
            continue
        nearest = min(same, key=lambda item: _apart(wanted, item))
        remaining.remove(nearest)
        difference = max(difference, _apart(wanted, nearest))
    surplus = [item.confidence - HELD_TO for item in remaining if item.box is not None]
    return max([difference, *surplus[: 0 if len(expected) == GOLDEN_TOP else None]])


def _apart(one: Prediction, other: Prediction) -> float:
    apart = abs(one.confidence - other.confidence)
    if one.box is None or other.box is None:
        return apart
    edges = ("left", "top", "right", "bottom")
    offsets = [abs(float(getattr(one.box, edge)) - float(getattr(other.box, edge))) for edge in edges]
    return max(apart, *offsets)


def _told(predictions: Sequence[Prediction]) -> str:
    return ", ".join(f"{item.label} {item.confidence:.4f}" for item in predictions[:2]) or "nothing"
