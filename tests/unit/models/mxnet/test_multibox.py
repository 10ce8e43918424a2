"""Anchors, decoded boxes and suppression, against the same rules written down with numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused

Array = NDArray[Any]
NOTHING = [-1.0] * 6


def f32(values: Any) -> Array:
    return np.asarray(values, np.float32)


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes: left, top, right, bottom."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(sides.clip(0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / union if common else 0.0


def kept_rows(rows: Array, threshold: float, *, by_class: bool) -> list[int]:
    """Places of the rows (class, score, box), best first, that no better one of their class overlaps."""
    kept: list[int] = []
    for place in np.argsort(-rows[:, 1], kind="stable"):
        rivals = [k for k in kept if not by_class or rows[k, 0] == rows[place, 0]]
        if all(overlap(rows[k, 2:], rows[place, 2:]) <= threshold for k in rivals):
            kept.append(int(place))
    return kept


def random_boxes(random: np.random.Generator, *shape: int) -> Array:
    center, half = random.uniform(0.3, 0.7, (*shape, 2)), random.uniform(0.02, 0.25, (*shape, 2))
    return f32(np.concatenate([center - half, center + half], -1))


# --- anchors -------------------------------------------------------------------------------------------------------


def test_anchors_are_every_size_and_then_every_ratio_at_each_place() -> None:
    attributes = {"sizes": "(0.5, 0.25)", "ratios": "(1, 4)"}
    (found,) = run_operator("_contrib_MultiBoxPrior", attributes, f32(np.zeros((1, 3, 1, 2))), params=None)
    # Half widths are stretched by height / width = 0.5; the centers are at 0.25 and 0.75, and 0.5.
    halves = [(0.125, 0.25), (0.0625, 0.125), (0.25, 0.125)]
    expected = [[x - w, 0.5 - h, x + w, 0.5 + h] for x in (0.25, 0.75) for w, h in halves]
    np.testing.assert_allclose(found, f32([expected]), atol=1e-7)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, [0.0, 0.0, 1.0, 1.0]),
        ({"sizes": "(2,)"}, [-0.5, -0.5, 1.5, 1.5]),
        ({"sizes": "(2,)", "clip": "True"}, [0.0, 0.0, 1.0, 1.0]),
        ({"ratios": "(4,)"}, [-0.5, 0.25, 1.5, 0.75]),
        ({"steps": "(0.5, 0.25)"}, [-0.375, -0.25, 0.625, 0.75]),
        ({"offsets": "(0, 0.25)", "steps": "(-1, -1)"}, [-0.25, -0.5, 0.75, 0.5]),
    ],
)
def test_one_anchor_of_a_map_of_one_place(attributes: dict[str, str], expected: list[float]) -> None:
    (found,) = run_operator("MultiBoxPrior", attributes, f32(np.zeros((1, 1, 1, 1))))
    np.testing.assert_allclose(found, f32([[expected]]), atol=1e-7)


# --- detection -----------------------------------------------------------------------------------------------------

# One box for each anchor: two that overlap by two thirds, one apart.
ANCHORS = f32([[[0.0, 0.0, 0.4, 0.5], [0.08, 0.0, 0.48, 0.5], [0.5, 0.5, 0.9, 0.9]]])


def detect(scores: Any, attributes: dict[str, Any] | None = None, offsets: Array | None = None) -> Array:
    """Rows of one image; ``scores`` are (classes, 3), background first."""
    offsets = f32(np.zeros((1, 12))) if offsets is None else offsets
    params = {"anchor": ANCHORS}
    name = "_contrib_MultiBoxDetection"
    (found,) = run_operator(name, attributes or {}, f32([scores]), offsets, params=params, dynamic_batch=True)
    assert found.shape == (1, 3, 6)
    rows: Array = found[0]
    return rows


def row(class_id: int, score: float, anchor: int) -> list[float]:
    return [class_id, score, *ANCHORS[0, anchor]]


TWO_CLASSES = [[0.1, 0.2, 0.1], [0.7, 0.1, 0.1], [0.2, 0.7, 0.8]]
ONE_CLASS = [[0.3, 0.2, 0.9], [0.7, 0.8, 0.1]]


@pytest.mark.parametrize(
    ("scores", "attributes", "expected"),
    [
        (ONE_CLASS, {}, [row(0, 0.8, 1), row(-1, 0.7, 0), row(0, 0.1, 2)]),
        (ONE_CLASS, {"nms_threshold": 0.9}, [row(0, 0.8, 1), row(0, 0.7, 0), row(0, 0.1, 2)]),
        (ONE_CLASS, {"threshold": 0.1}, [row(0, 0.8, 1), row(-1, 0.7, 0), row(0, 0.1, 2)]),
        (ONE_CLASS, {"threshold": 0.2}, [row(0, 0.8, 1), row(-1, 0.7, 0), NOTHING]),
        (ONE_CLASS, {"threshold": 0.99}, [NOTHING] * 3),
        (ONE_CLASS, {"nms_topk": 1}, [row(0, 0.8, 1), NOTHING, NOTHING]),
        (ONE_CLASS, {"nms_threshold": 0, "threshold": 0.2}, [row(0, 0.7, 0), row(0, 0.8, 1), NOTHING]),
        (TWO_CLASSES, {}, [row(1, 0.8, 2), row(0, 0.7, 0), row(1, 0.7, 1)]),
        (TWO_CLASSES, {"force_suppress": True}, [row(1, 0.8, 2), row(0, 0.7, 0), row(-1, 0.7, 1)]),
    ],
)
def test_rows_are_best_first_and_suppressed_ones_lose_their_class(
    scores: Any, attributes: dict[str, Any], expected: Any
) -> None:
    np.testing.assert_allclose(detect(scores, attributes), f32(expected), atol=1e-6)


def test_boxes_that_overlap_by_the_threshold_itself_are_suppressed() -> None:
    anchors = f32([[[0, 0, 0.5, 1], [0, 0, 1, 1]]])
    scores, offsets = f32([[[0.1, 0.1], [0.9, 0.8]]]), f32(np.zeros((1, 8)))
    attributes = {"nms_threshold": 0.5}
    (found,) = run_operator("MultiBoxDetection", attributes, scores, offsets, params={"anchor": anchors})
    assert found[0, :, 0].tolist() == [0, -1]


@pytest.mark.parametrize("clip", [None, True, False])
def test_offsets_move_and_stretch_the_anchors(clip: bool | None) -> None:
    offsets = f32(np.zeros((1, 3, 4)))
    offsets[0, 2] = [1.0, -2.0, 1.5, 2.0]
    attributes = {"clip": clip, "variances": "(0.5, 0.25, 0.8, 0.7)"}
    found = detect([[0.1] * 3, [0.2, 0.3, 0.9]], attributes, offsets.reshape(1, 12))
    middle = np.array([0.7 + 1.0 * 0.5 * 0.4, 0.7 - 2.0 * 0.25 * 0.4])
    half = np.exp([1.5 * 0.8, 2.0 * 0.7]) * 0.4 / 2
    box = np.concatenate([middle - half, middle + half])
    np.testing.assert_allclose(found[0, 2:], box if clip is False else box.clip(0, 1), atol=1e-6)


def test_of_equal_scores_the_earlier_anchor_comes_first() -> None:
    found = detect([[0.1] * 3, [0.5] * 3], {"nms_threshold": 0.9, "nms_topk": 2})
    np.testing.assert_allclose(found, f32([row(0, 0.5, 0), row(0, 0.5, 1), NOTHING]), atol=1e-6)


def test_many_boxes_of_several_images_survive_as_by_the_rules() -> None:
    random = np.random.default_rng(5)
    count, classes = 80, 4
    anchors = random_boxes(random, 1, count)
    scores = f32(random.dirichlet(np.ones(classes) / 2, (3, count)).transpose(0, 2, 1))
    (found,) = run_operator(
        "MultiBoxDetection", {"nms_threshold": 0.4, "nms_topk": 40}, scores, f32(np.zeros((3, 4 * count))),
        params={"anchor": anchors}, dynamic_batch=True,
    )  # fmt: skip
    for image in range(3):
        best = scores[image, 1:].argmax(0)
        rows = np.column_stack([best, scores[image, 1:].max(0), anchors[0]])
        rows = rows[np.argsort(-rows[:, 1], kind="stable")][:40]
        kept = kept_rows(rows[rows[:, 1] >= 0.01], 0.4, by_class=True)
        assert 3 < len(kept) < 40
        np.testing.assert_allclose(found[image][found[image, :, 0] >= 0], rows[kept], atol=1e-6)
        assert (found[image, 40:] == -1).all()


# --- box_nms -------------------------------------------------------------------------------------------------------

NEAR = [0.1, 0.1, 0.2, 0.2]
ROWS = f32(
    [
        [0, 0.5, *NEAR],
        [1, 0.4, *NEAR],
        [0, 0.3, 0.1, 0.1, 0.19, 0.2],
        [2, 0.6, 0.5, 0.5, 0.7, 0.8],
        [-1, 0.55, 0.0, 0.7, 0.1, 0.9],
    ]
)


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ({}, [3, 4, 0]),
        ({"id_index": 0}, [3, 0, 1]),
        ({"id_index": 0, "background_id": 2}, [4, 0, 1]),
        ({"id_index": 0, "force_suppress": True}, [3, 0]),
        ({"overlap_thresh": 0.95}, [3, 4, 0, 2]),
        ({"valid_thresh": 0.5}, [3, 4]),
        ({"valid_thresh": 0.9}, []),
        ({"topk": 1}, [3]),
        ({"topk": 4}, [3, 4, 0]),
    ],
)
def test_surviving_rows_are_best_first_and_the_rest_is_filled_up(attributes: dict[str, Any], kept: list[int]) -> None:
    expected = np.vstack([ROWS[kept], np.full((5 - len(kept), 6), -1)])
    (found,) = run_operator("_contrib_box_nms", attributes, ROWS)
    np.testing.assert_array_equal(found, expected)


def test_without_a_threshold_only_scores_above_0_count() -> None:
    rows = ROWS.copy()
    rows[3:, 1] = [0, -0.5]
    (found,) = run_operator("_contrib_box_nms", {}, rows)
    np.testing.assert_array_equal(found, np.vstack([rows[0], np.full((4, 6), -1)]))


@pytest.mark.parametrize(
    ("format_", "boxes"),
    [
        ("corner", [[0.2, 0.2, 0.1, 0.1], [0.1, 0.1, 0.2, 0.2]]),
        ("center", [[0.5, 0.5, -0.2, -0.2], [0.5, 0.5, 0.2, 0.2]]),
    ],
)
def test_a_box_turned_inside_out_overlaps_nothing(format_: str, boxes: list[list[float]]) -> None:
    rows = f32([[0, score, *box] for score, box in zip((0.9, 0.8), boxes, strict=True)])
    (found,) = run_operator("_contrib_box_nms", {"in_format": format_, "out_format": format_}, rows)
    np.testing.assert_array_equal(found, rows)


def test_with_topk_of_nothing_rows_stay_as_they_are() -> None:
    (found,) = run_operator("_contrib_box_nms", {"topk": 0}, ROWS)
    np.testing.assert_array_equal(found, ROWS)


@pytest.mark.parametrize("by_class", [True, False])
def test_rows_of_several_images_are_apart(by_class: bool) -> None:
    random = np.random.default_rng(6)
    rows = np.concatenate([random.integers(0, 3, (3, 60, 1)), random.permutation(180).reshape(3, 60, 1) / 180], -1)
    rows = f32(np.concatenate([rows, random_boxes(random, 3, 60)], -1))
    attributes = {"id_index": 0, "force_suppress": not by_class, "overlap_thresh": 0.3, "valid_thresh": -1}
    (found,) = run_operator("_contrib_box_nms", attributes, rows, dynamic_batch=True)
    for image, expected in zip(found, rows, strict=True):
        kept = kept_rows(expected, 0.3, by_class=by_class)
        np.testing.assert_array_equal(image, np.vstack([expected[kept], np.full((60 - len(kept), 6), -1)]))


def test_boxes_may_come_and_go_as_center_and_size() -> None:
    boxes = f32([[0.5, 0.5, 0.2, 0.4, 0.9], [0.5, 0.55, 0.2, 0.4, 0.8], [-0.5, 0.5, 0.2, 0.4, 0.7]])
    places = {"coord_start": 0, "score_index": 4, "in_format": "center"}
    (kept,) = run_operator("_contrib_box_nms", {**places, "out_format": "center"}, boxes)
    np.testing.assert_array_equal(kept, np.vstack([boxes[[0, 2]], np.full((1, 5), -1)]))
    # MXNet does not convert a box whose first number is below 0.
    (corners,) = run_operator("_contrib_box_nms", places, boxes)
    np.testing.assert_allclose(corners, f32([[0.4, 0.3, 0.6, 0.7, 0.9], boxes[2], [-1] * 5]), atol=1e-6)


# --- overlap and decoding ------------------------------------------------------------------------------------------


def test_every_box_is_compared_with_every_other() -> None:
    left, right = f32([[[0, 0, 2, 2], [5, 5, 5, 5]]]), f32([[1, 1, 3, 3], [0, 0, 2, 1], [5, 5, 5, 5]])
    (found,) = run_operator("_contrib_box_iou", {}, left, params={"right": right}, dynamic_batch=True)
    np.testing.assert_allclose(found, f32([[[1 / 7, 0.5, 0], [0, 0, 0]]]), atol=1e-7)
    centers = f32([[[1, 1, 2, 2], [0.5, 0.5, 1, 1]]]), f32([[2, 2, 2, 2], [1, 0.5, 2, 1], [5, 5, 0, 0]])
    (found,) = run_operator("_contrib_box_iou", {"format": "center"}, *centers)
    np.testing.assert_allclose(found, f32([[[1 / 7, 0.5, 0], [0, 0.5, 0]]]), atol=1e-7)


@pytest.mark.parametrize("format_", ["center", "corner"])
def test_boxes_are_decoded_from_anchors(format_: str) -> None:
    anchor = [0.5, 0.5, 0.2, 0.4] if format_ == "center" else [0.4, 0.3, 0.6, 0.7]
    attributes = {"std0": 0.1, "std1": 0.2, "std2": 0.5, "std3": 2, "clip": 1.0, "format": format_}
    offsets = f32([[[1, -1, 1, 3]], [[0, 0, 0, 0]]])
    params = {"anchors": f32([[anchor]])}
    (found,) = run_operator("_contrib_box_decode", attributes, offsets, params=params, dynamic_batch=True)
    x, y, half_width, half_height = 0.52, 0.42, 0.1 * np.exp(0.5), 0.2 * np.e
    expected = [[[x - half_width, y - half_height, x + half_width, y + half_height]], [[0.4, 0.3, 0.6, 0.7]]]
    np.testing.assert_allclose(found, f32(expected), atol=1e-6)


# --- refused -------------------------------------------------------------------------------------------------------

MAP, BOXES = (1, 3, 2, 2), (1, 4, 6)


@pytest.mark.parametrize(
    ("op", "attributes", "shapes", "told"),
    [
        ("MultiBoxPrior", {}, [(1, 3)], "4 dimensions"),
        ("MultiBoxPrior", {"ratios": "(0,)"}, [MAP], "ratios above 0"),
        ("MultiBoxPrior", {"steps": "(0.1,)"}, [MAP], "2 numbers"),
        ("MultiBoxDetection", {}, [(1, 3, 4), (1, 16), (1, 5, 4)], "(1, 4, 4) for scores (1, 3, 4)"),
        ("MultiBoxDetection", {}, [(1, 3, 4), (1, 12), (1, 4, 4)], "(1, 16) for scores (1, 3, 4)"),
        ("MultiBoxDetection", {}, [(1, 1, 4), (1, 16), (1, 4, 4)], "two classes or more"),
        ("MultiBoxDetection", {"variances": "(1, 1)"}, [(1, 3, 4), (1, 16), (1, 4, 4)], "4 numbers"),
        ("_contrib_box_nms", {"coord_start": 3}, [BOXES], "different places among 6"),
        ("_contrib_box_nms", {"score_index": 3}, [BOXES], "different places among 6"),
        ("_contrib_box_nms", {"overlap_thresh": -0.1}, [BOXES], "0 or more"),
        ("_contrib_box_nms", {"in_format": "polar"}, [BOXES], "corner or center"),
        ("_contrib_box_iou", {}, [(4, 4), (4, 5)], "(…, 4)"),
        ("_contrib_box_decode", {}, [(1, 3, 4), (1, 2, 4)], "(1, 3, 4)"),
        ("_contrib_box_decode", {}, [(1, 3, 5), (1, 3, 5)], "(batch, boxes, 4)"),
    ],
)
def test_what_cannot_be_is_refused(op: str, attributes: Any, shapes: list[tuple[int, ...]], told: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        translate_operator(op, attributes, *[f32(np.zeros(shape)) for shape in shapes])
    assert told in str(refused.value)
