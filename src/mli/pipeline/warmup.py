"""A first inference before the first frame, so that the first frame is not the slow one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mli.pipeline.estimators.estimator import Estimator
    from mli.pipeline.model_io import ModelIo
    from mli.types import InputSpec


def warm_up(estimator: Estimator, io: ModelIo) -> None:
    """Run the model once on a plain grey frame."""
    spec = io.input
    channels = 1 if spec.color == "gray" else 3
    sizes = (channels, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, channels)
    estimator.infer({spec.name: np.full((1, *sizes), 127, spec.dtype)})


def describe_input(spec: InputSpec) -> str:
    """An input specification in a few words: ``128 x 128 RGB uint8 NHWC, stretch``."""
    return f"{spec.width} x {spec.height} {spec.color} {spec.dtype} {spec.layout}, {spec.resize}"
