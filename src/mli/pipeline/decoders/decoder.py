"""What a decoder is, and which one a model needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mli.pipeline.model_io import ModelIo
    from mli.pipeline.preprocess import Placement
    from mli.types import ModelSpec, OutputSpec, Prediction


class Decoder(Protocol):
    """Makes predictions of one frame's outputs. Thread-safe."""

    def __call__(self, outputs: Mapping[str, NDArray[Any]], placement: Placement) -> tuple[Prediction, ...]:
        """The frame's predictions, most confident first."""
        ...


def make_decoder(model: ModelSpec, io: ModelIo, *, top: int, min_confidence: float) -> Decoder:
    """The decoder for a model's task and the kind of its outputs."""
    if io.outputs[0].kind == "detections":
        from mli.pipeline.decoders.detection_rows import DetectionRowsDecoder

        return DetectionRowsDecoder(model, io, top=top, min_confidence=min_confidence)
    if model.task == "detection":
        from mli.pipeline.decoders.detection import DetectionDecoder

        return DetectionDecoder(model, io, top=top, min_confidence=min_confidence)
    from mli.pipeline.decoders.classification import ClassificationDecoder

    return ClassificationDecoder(model, io, top=top, min_confidence=min_confidence)


def real_values(array: NDArray[Any], spec: OutputSpec) -> NDArray[np.float32]:
    """An output as float32, de-quantised where it is stored quantised."""
    if spec.quantization is None:
        return array.astype(np.float32, copy=False)
    stored = array.astype(np.float32)
    real: NDArray[np.float32] = (stored - spec.quantization.zero_point) * np.float32(spec.quantization.scale)
    return real
