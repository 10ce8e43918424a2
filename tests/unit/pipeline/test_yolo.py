"""The one output of the YOLO family: both layouts, with and without a score of the box, pixels and parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.contract.tiny_models import write_onnx_constants

from mli.config.settings import PreprocessSettings
from mli.errors import ModelRefused
from mli.pipeline.decoders.decoder import make_decoder
from mli.pipeline.estimators.registry import open_estimator
from mli.pipeline.model_io import ModelIo, resolve
from mli.pipeline.preprocess import Placement
from mli.types import InputSpec, ModelSpec, OutputSpec, Prediction

LABELS = ("person", "cat", "dog")
WHOLE = Placement()
# A wide input: width and height must not be mixed up. Boxes as centre x and y, width, height in pixels.
INPUT = InputSpec("images", 200, 100)
BOXES = [[100, 50, 40, 20], [102, 50, 40, 20], [150, 75, 100, 50], [20, 20, 10, 10]]
SCORES = [[0.1, 0.9, 0.0], [0.0, 0.8, 0.2], [0.0, 0.0, 0.75], [0.4, 0.4, 0.4]]


def version_8(scale: tuple[float, float] = (1, 1)) -> NDArray[np.float32]:
    boxes = np.array(BOXES, np.float32) * np.array([*scale, *scale], np.float32)
    return np.concatenate([boxes, np.array(SCORES, np.float32)], axis=1).T[np.newaxis]


def version_5(own: list[float]) -> NDArray[np.float32]:
    parts = [np.array(BOXES, np.float32), np.array([own], np.float32).T, np.array(SCORES, np.float32)]
    return np.concatenate(parts, axis=1)[np.newaxis]


def decode(values: Any, placement: Placement = WHOLE, min_confidence: float = 0.0) -> tuple[Prediction, ...]:
    model = ModelSpec("zoo", "1", "0" * 64, "onnx", "detection", "/", "m.onnx", LABELS)
    io = ModelIo(INPUT, (OutputSpec("output0", "yolo"),))
    decoder = make_decoder(model, io, top=10, min_confidence=min_confidence)
    return decoder({"output0": values}, placement)


def seen(found: tuple[Prediction, ...]) -> list[tuple[str, float, list[float]]]:
    boxes = [item.box for item in found]
    assert all(box is not None for box in boxes)
    edges = [[round(edge, 4) for edge in (box.left, box.top, box.right, box.bottom)] for box in boxes if box]
    return [(item.label, round(item.confidence, 4), box) for item, box in zip(found, edges, strict=True)]


EXPECTED = [("cat", 0.9, [0.4, 0.4, 0.6, 0.6]), ("dog", 0.75, [0.5, 0.5, 1.0, 1.0])]


@pytest.mark.parametrize(
    "values",
    [version_8(), version_8().transpose(0, 2, 1), version_8((1 / 200, 1 / 100)), version_5([1, 1, 1, 1])],
    ids=["version 8", "rows", "parts", "version 5"],
)
def test_the_best_of_overlapping_boxes_in_parts_of_the_frame(values: NDArray[np.float32]) -> None:
    assert seen(decode(values)) == EXPECTED


def test_the_score_of_the_box_counts() -> None:
    found = decode(version_5([0.5, 1.0, 0.5, 0.1]), min_confidence=0.25)
    assert [(item.label, round(item.confidence, 3)) for item in found] == [("cat", 0.8), ("dog", 0.375)]


def test_a_letterboxed_frame_is_found_again() -> None:
    """A square frame in the middle half of the wide input."""
    (first, *_) = seen(decode(version_8(), Placement(left=0.25, width=0.5)))
    assert first[2] == [0.3, 0.4, 0.7, 0.6]


def resolved(folder: Path, shape: tuple[int | str, ...]) -> ModelIo:
    path = write_onnx_constants(
        folder / "m.onnx", {"output0": np.zeros(shape, np.float32)}, (1, 3, INPUT.height, INPUT.width)
    )
    outputs = (OutputSpec("output0", "yolo"),)
    model = ModelSpec("zoo", "1", "0" * 64, "onnx", "detection", str(folder), path.name, LABELS, outputs=outputs)
    return resolve(model, open_estimator(model), PreprocessSettings())


@pytest.mark.parametrize("shape", [(1, 7, 84), (1, 84, 7), (1, 84, 8), (1, 8, 84)])
def test_each_layout_is_taken(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert resolved(tmp_path, shape).outputs[0].kind == "yolo"


@pytest.mark.parametrize("shape", [(1, 84, 8400), (1, 300, 6), (1, 3, 20, 20, 8), (1, 7)])
def test_other_shapes_are_refused_with_those_that_fit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelRefused) as refused:
        resolved(tmp_path, shape)
    text = str(refused.value)
    assert "[1, 7, boxes] or [1, boxes, 8], with 3 labels" in text
    assert str(list(shape)) in text


def test_a_shape_that_was_left_open_is_looked_at_in_the_first_frame() -> None:
    with pytest.raises(ModelRefused, match=r"\[1, 7, boxes\] or \[1, boxes, 8\], with 3 labels"):
        decode(np.zeros((1, 84, 9), np.float32))
