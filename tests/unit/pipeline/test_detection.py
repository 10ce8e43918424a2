"""Boxes of a detector: threshold, suppression of overlaps, coordinates of the frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mli.errors import ModelRefused
from mli.pipeline.decoders.decoder import make_decoder
from mli.pipeline.decoders.detection import suppress
from mli.pipeline.model_io import ModelIo
from mli.pipeline.preprocess import Placement
from mli.types import Box, InputSpec, ModelSpec, OutputSpec, Prediction, Quantization

LABELS = ("background", "face", "hand")
WHOLE = Placement()


def decode(
    scores: Any,
    boxes: Any,
    *,
    placement: Placement = WHOLE,
    top: int = 10,
    min_confidence: float = 0.0,
    background: str | None = "background",
    quantization: Quantization | None = None,
) -> tuple[Prediction, ...]:
    model = ModelSpec("eyes", "1", "0" * 64, "onnx", "detection", "/", "m.onnx", LABELS, background=background)
    outputs = (OutputSpec("boxes", "boxes"), OutputSpec("scores", "scores", quantization))
    decoder = make_decoder(model, ModelIo(InputSpec("x", 8, 8), outputs), top=top, min_confidence=min_confidence)
    dtype = np.float32 if quantization is None else np.uint8
    return decoder({"scores": np.array([scores], dtype), "boxes": np.array([boxes], np.float32)}, placement)


def edges(box: Box | None) -> tuple[float, float, float, float]:
    assert box is not None
    return (box.left, box.top, box.right, box.bottom)


def test_most_confident_first_without_background() -> None:
    found = decode([[0.9, 0.6, 0.1], [0.99, 0.0, 0.8]], [[0, 0, 0.25, 0.5], [0.5, 0.5, 1, 1]])
    assert [(item.label, item.class_id) for item in found] == [("hand", 2), ("face", 1)]
    assert edges(found[0].box) == (0.5, 0.5, 1.0, 1.0)
    assert found[1].confidence == float(np.float32(0.6))


def test_without_a_background_every_label_counts() -> None:
    found = decode([[0.9, 0.6, 0.1]], [[0, 0, 1, 1]], background=None)
    assert [item.label for item in found] == ["background", "face"]


def test_half_is_the_default_threshold_and_min_confidence_replaces_it() -> None:
    scores, boxes = [[0, 0.49, 0], [0, 0.5, 0]], [[0, 0, 0.1, 0.1], [0.5, 0.5, 1, 1]]
    assert [item.confidence for item in decode(scores, boxes)] == [0.5]
    assert len(decode(scores, boxes, min_confidence=0.4)) == 2
    assert decode(scores, boxes, min_confidence=0.6) == ()


def test_top_limits_all_labels_together() -> None:
    boxes = [[0.1 * index, 0, 0.1 * index + 0.09, 0.1] for index in range(8)]
    assert len(decode([[0, 0.9, 0]] * 8, boxes, top=3)) == 3


def test_overlapping_boxes_of_a_label_are_one_object() -> None:
    boxes = [[0.10, 0.10, 0.50, 0.50], [0.12, 0.10, 0.52, 0.50], [0.6, 0.6, 0.9, 0.9]]
    found = decode([[0, 0.8, 0], [0, 0.9, 0], [0, 0.7, 0]], boxes)
    assert [round(item.confidence, 2) for item in found] == [0.9, 0.7]


def test_overlapping_boxes_of_two_labels_are_two_objects() -> None:
    assert len(decode([[0, 0.8, 0], [0, 0, 0.9]], [[0.1, 0.1, 0.5, 0.5]] * 2)) == 2


def test_overlap_is_intersection_over_union() -> None:
    """Two boxes of 1.0 x 1.0 that share 0.6: 0.6 / 1.4 = 0.43 stay two; 0.65 / 1.35 = 0.48 become one."""
    assert suppress(np.array([[0, 0, 1, 1], [0.40, 0, 1.40, 1]], np.float32), 0.45) == [0, 1]
    assert suppress(np.array([[0, 0, 1, 1], [0.35, 0, 1.35, 1]], np.float32), 0.45) == [0]


def test_a_suppressed_box_suppresses_nothing() -> None:
    row = np.array([[0, 0, 1, 1], [0.3, 0, 1.3, 1], [0.6, 0, 1.6, 1]], np.float32)
    assert suppress(row, 0.45) == [0, 2]


def test_boxes_without_area_do_no_harm() -> None:
    assert suppress(np.array([[0.5, 0.5, 0.5, 0.5], [0.9, 0.9, 0.1, 0.1], [0, 0, 1, 1]], np.float32), 0.45) == [
        0,
        1,
        2,
    ]
    assert suppress(np.zeros((0, 4), np.float32), 0.45) == []


# On a grid: an overlap of boxes that are next to nothing is a matter of rounding.
BOXES = st.lists(st.tuples(*[st.integers(0, 64).map(lambda step: step / 64)] * 4), min_size=1, max_size=12)


@settings(deadline=None)
@given(BOXES)
def test_kept_boxes_never_overlap_and_each_dropped_one_had_a_better(raw: list[tuple[float, ...]]) -> None:
    boxes = np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in raw], np.float32)
    kept = suppress(boxes, 0.45)

    def overlap(one: int, two: int) -> float:
        a, b = boxes[one].astype(float), boxes[two].astype(float)
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        common = max(0.0, width) * max(0.0, height)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
        return common / union if union > 1e-9 else 0.0

    assert kept[0] == 0
    assert all(overlap(a, b) < 0.4501 for a in kept for b in kept if a < b)
    dropped = set(range(len(boxes))) - set(kept)
    assert all(any(overlap(a, b) > 0.4499 for a in kept if a < b) for b in dropped)


@settings(deadline=None)
@given(
    left=st.floats(-2, 0.9),
    top=st.floats(-2, 0.9),
    width=st.floats(0.1, 4),
    height=st.floats(0.1, 4),
    box=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.5, 1), st.floats(0.5, 1)),
)
def test_boxes_are_told_in_parts_of_the_frame(
    left: float, top: float, width: float, height: float, box: tuple[float, float, float, float]
) -> None:
    """A box of the frame, seen in the input by any placement, comes back as it was."""
    placement = Placement(left, top, width, height)
    seen = [left + box[0] * width, top + box[1] * height, left + box[2] * width, top + box[3] * height]
    (found,) = decode([[0, 0.9, 0]], [seen], placement=placement)
    assert edges(found.box) == pytest.approx(box, abs=1e-4)


def test_boxes_end_at_the_frames_edge() -> None:
    (found,) = decode([[0, 0.9, 0]], [[-0.5, 0.2, 1.5, 0.4]])
    assert edges(found.box) == pytest.approx((0.0, 0.2, 1.0, 0.4))


def test_quantised_scores_are_made_real() -> None:
    (found,) = decode([[0, 192, 0]], [[0, 0, 1, 1]], quantization=Quantization(1 / 256, 0))
    assert found.confidence == 0.75


@pytest.mark.parametrize("where", ["scores", "boxes"])
def test_values_that_are_no_numbers_are_refused(where: str) -> None:
    bad = float("nan")
    with pytest.raises(ModelRefused, match="NaN"):
        decode([[0, bad if where == "scores" else 0.9, 0]], [[bad if where == "boxes" else 0, 0, 1, 1]])


def test_scores_without_boxes_are_refused() -> None:
    with pytest.raises(ModelRefused, match="2 scores for 1 boxes"):
        decode([[0, 0.9, 0]] * 2, [[0, 0, 1, 1]])
