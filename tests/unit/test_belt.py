"""The simulated camera draws what it says, the same each time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mli.pipeline.sources.belt import LABELS, label_of, render


def test_the_same_numbers_give_the_same_frame() -> None:
    for index in range(12):
        first, second = render(3, index), render(3, index)
        assert first.label == second.label
        assert np.array_equal(first.image, second.image)


def test_a_frame_does_not_depend_on_the_frames_drawn_before() -> None:
    alone = render(8, 20).image
    for index in range(20):
        render(8, index)
    assert np.array_equal(render(8, 20).image, alone)


@pytest.mark.parametrize("other", [(4, 5), (5, 4), (5, 6)])
def test_another_seed_or_index_gives_another_frame(other: tuple[int, int]) -> None:
    assert not np.array_equal(render(5, 5).image, render(*other).image)


def test_frames_are_what_opencv_would_decode() -> None:
    for index in range(60):
        image = render(1, index).image
        assert image.shape == (240, 320, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous


def test_no_frame_is_black_or_burnt_out() -> None:
    for index in range(60):
        image = render(2, index).image
        assert 8 < image.mean() < 245
        assert image.std() > 4


def test_every_label_comes_about_equally_often() -> None:
    count = 3000
    seen = Counter(label_of(6, index) for index in range(count))
    assert set(seen) == set(LABELS)
    assert min(seen.values()) > 0.7 * count / len(LABELS)
    assert max(seen.values()) < 1.3 * count / len(LABELS)


def test_the_label_is_known_before_the_frame_is_drawn() -> None:
    for index in range(60):
        assert label_of(11, index) == render(11, index).label


def test_labels_are_sorted_and_unique() -> None:
    assert list(LABELS) == sorted(set(LABELS))
