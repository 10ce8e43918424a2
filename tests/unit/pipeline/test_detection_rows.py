"""Rows that a detector has finished itself: threshold, order, coordinates of the frame, and what cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mli.errors import ModelRefused
from mli.pipeline.decoders.decoder import make_decoder
from mli.pipeline.model_io import ModelIo
from mli.pipeline.preprocess import Placement
from mli.types import Box, InputSpec, ModelSpec, OutputSpec, Prediction

LABELS = ("face", "hand", "foot")
WHOLE = Placement()
BOX = [0.25, 0.5, 0.75, 1.0]


def decode(
    rows: Any,
    *,
    placement: Placement = WHOLE,
    top: int = 10,
    min_confidence: float = 0.0,
    background: str | None = None,
) -> tuple[Prediction, ...]:
    model = ModelSpec("eyes", "1", "0" * 64, "onnx", "detection", "/", "m.onnx", LABELS, background=background)
    io = ModelIo(InputSpec("x", 8, 8), (OutputSpec("rows", "detections"),))
    decoder = make_decoder(model, io, top=top, min_confidence=min_confidence)
    return decoder({"rows": np.array([rows], np.float32)}, placement)


def test_rows_become_predictions_most_confident_first() -> None:
    found = decode([[2, 0.6, *BOX], [0, 0.9, 0, 0, 1, 1]])
    assert found == (
        Prediction("face", 0, float(np.float32(0.9)), Box(0, 0, 1, 1)),
        Prediction("foot", 2, float(np.float32(0.6)), Box(*BOX)),
    )


def test_rows_that_hold_nothing_are_passed_over_whatever_else_is_in_them() -> None:
    assert decode([[-1] * 6, [-1, 0.99, *BOX], [-1, float("nan"), *BOX]]) == ()


def test_nothing_is_suppressed_a_second_time() -> None:
    assert len(decode([[0, 0.9, *BOX], [0, 0.8, *BOX]])) == 2


def test_equal_confidences_keep_the_models_order() -> None:
    rows = [[class_id, 0.75, *BOX] for class_id in (1, 0, 2)]
    assert [item.class_id for item in decode(rows)] == [1, 0, 2]


def test_half_is_the_default_threshold_and_min_confidence_replaces_it() -> None:
    rows = [[0, 0.5, *BOX], [0, 0.49, *BOX], [0, 0.3, *BOX]]
    assert len(decode(rows)) == 1
    assert len(decode(rows, min_confidence=0.4)) == 2
    assert decode(rows, min_confidence=0.6) == ()


def test_top_counts_without_the_background() -> None:
    rows = [[1, 0.9, *BOX], [0, 0.8, *BOX], [2, 0.7, *BOX]]
    assert [item.label for item in decode(rows, top=2)] == ["hand", "face"]
    assert [item.label for item in decode(rows, top=2, background="hand")] == ["face", "foot"]


def test_boxes_are_told_in_parts_of_the_frame_and_end_at_its_edge() -> None:
    (found,) = decode([[0, 0.9, 0.2, 0.25, 0.6, 1.0]], placement=Placement(0.0, 0.25, 1.0, 0.5))
    assert found.box is not None
    sides = (found.box.left, found.box.top, found.box.right, found.box.bottom)
    assert sides == pytest.approx((0.2, 0.0, 0.6, 1.0))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([0, float("nan"), *BOX], "NaN"),
        ([0, 0.9, 0, 0, float("inf"), 1], "NaN or infinite"),
        ([float("nan"), 0.9, *BOX], "NaN"),
        ([0.7, 0.9, *BOX], "0.7 as an id"),
        ([3, 0.1, *BOX], "at least 4 labels"),
        ([0, 0.9, 0.1], "[1, 1, 3]"),
    ],
)
def test_rows_that_cannot_be_are_refused(row: list[float], told: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        decode([row])
    assert told in str(refused.value)
