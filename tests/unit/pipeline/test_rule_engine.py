"""When rules fire, and every reason why they do not."""

from __future__ import annotations

import numpy as np
import pytest

from mli.config.settings import RuleSettings
from mli.errors import ModelRefused
from mli.pipeline.rules import RuleEngine
from mli.types import Prediction

LABELS = ("can", "box", "plastic bottle")


def saw(label: str, confidence: float = 0.9) -> tuple[Prediction, ...]:
    return (Prediction(label, LABELS.index(label), float(np.float32(confidence))),)


BOTTLE, CAN, NOTHING = saw("plastic bottle"), saw("can"), ()


class Watch:
    """One rule over frames that are a second apart."""

    def __init__(self, rule: RuleSettings) -> None:
        self.engine = RuleEngine([rule], LABELS)
        self.now = 1000.0

    def __call__(self, predictions: tuple[Prediction, ...], after_s: float = 1.0) -> str:
        self.now += after_s
        (verdict,) = self.engine.evaluate(predictions, self.now)
        assert (verdict.prediction is not None) or not verdict.outcome.fired
        return ("FIRED " if verdict.outcome.fired else "") + verdict.outcome.reason


def rule(**changes: object) -> RuleSettings:
    return RuleSettings(**{"name": "divert", "labels": ("plastic bottle",), **changes})  # type: ignore[arg-type]


def test_fires_at_each_match_and_says_what_it_saw() -> None:
    watch = Watch(rule())
    assert watch(BOTTLE) == "FIRED plastic bottle 0.90"
    assert watch(BOTTLE) == "FIRED plastic bottle 0.90"


def test_why_not_names_what_was_seen_instead() -> None:
    watch = Watch(rule())
    assert watch(CAN) == "saw can"
    assert watch(NOTHING) == "saw nothing"


def test_why_not_names_confidence_and_bound() -> None:
    watch = Watch(rule(min_confidence=0.8))
    assert watch(saw("plastic bottle", 0.55)) == "plastic bottle 0.55 is below 0.8"
    assert watch(saw("plastic bottle", 0.7999)) == "plastic bottle 0.799900 is below 0.8"
    assert watch(saw("plastic bottle", 0.81)).startswith("FIRED")


@pytest.mark.parametrize("bound", [0.1, 0.7, 0.8, 0.9, 1.0])
def test_a_confidence_that_is_printed_like_the_bound_reaches_it(bound: float) -> None:
    """The float32 nearest to 0.7 is less than the double 0.7."""
    assert Watch(rule(min_confidence=bound))(saw("plastic bottle", bound)).startswith("FIRED")


def test_n_of_the_last_m_frames() -> None:
    watch = Watch(rule(matches=3, window=5))
    assert watch(BOTTLE) == "matched 1 of 3 in the last 5 frames"
    assert watch(CAN) == "saw can"
    assert watch(BOTTLE) == "matched 2 of 3 in the last 5 frames"
    assert watch(CAN) == "saw can"
    assert watch(BOTTLE).startswith("FIRED")


def test_frames_that_left_the_window_do_not_count() -> None:
    watch = Watch(rule(matches=2, window=3))
    assert watch(BOTTLE) == "matched 1 of 2 in the last 3 frames"
    for _ in range(2):
        watch(CAN)
    assert watch(BOTTLE) == "matched 1 of 2 in the last 3 frames"
    assert watch(BOTTLE).startswith("FIRED")


def test_below_the_bound_is_no_match_in_the_window() -> None:
    watch = Watch(rule(matches=2, window=4, min_confidence=0.5))
    watch(BOTTLE)
    watch(saw("plastic bottle", 0.4))
    assert watch(BOTTLE).startswith("FIRED")


def test_a_window_begins_anew_after_a_firing() -> None:
    watch = Watch(rule(matches=2, window=2))
    assert [watch(BOTTLE).startswith("FIRED") for _ in range(6)] == [False, True] * 3


def test_a_frame_that_does_not_match_never_fires() -> None:
    watch = Watch(rule(matches=1, window=5))
    watch(BOTTLE)
    assert watch(CAN) == "saw can"


def test_cool_down_tells_how_long_it_still_lasts() -> None:
    watch = Watch(rule(cooldown_s=10.0))
    assert watch(BOTTLE).startswith("FIRED")
    assert watch(BOTTLE, after_s=2.5) == "cool-down: 7.5 s left"
    assert watch(BOTTLE, after_s=7.4) == "cool-down: 0.1 s left"
    assert watch(BOTTLE, after_s=0.1).startswith("FIRED")


def test_a_clock_that_is_set_back_does_not_lengthen_a_cool_down() -> None:
    watch = Watch(rule(cooldown_s=10.0))
    assert watch(BOTTLE).startswith("FIRED")
    assert watch(BOTTLE, after_s=-86_400).startswith("FIRED")


def test_any_of_several_labels_and_the_most_confident_of_them_counts() -> None:
    watch = Watch(rule(labels=("can", "plastic bottle"), min_confidence=0.5))
    both = (*saw("box", 0.95), *saw("can", 0.6), *saw("plastic bottle", 0.7))
    assert watch(both) == "FIRED plastic bottle 0.70"


def test_rules_do_not_share_their_windows() -> None:
    engine = RuleEngine([rule(name="a", matches=2, window=2), rule(name="b", labels=("can",))], LABELS)
    verdicts = [engine.evaluate(BOTTLE, 1.0), engine.evaluate(BOTTLE, 2.0)]
    assert [[item.outcome.fired for item in frame] for frame in verdicts] == [[False, False], [True, False]]
    assert [item.outcome.rule for item in verdicts[0]] == ["a", "b"]


@pytest.mark.parametrize(
    ("label", "hint"),
    [("plastic botle", "; did you mean 'plastic bottle'?"), ("Can", "; did you mean 'can'?"), ("zebra", "")],
)
def test_a_label_that_the_model_lacks_is_refused_with_the_nearest(label: str, hint: str) -> None:
    with pytest.raises(ModelRefused) as refusal:
        RuleEngine([rule(labels=("can", label))], LABELS)
    assert f"rule divert: the model has no label {label!r}" in str(refusal.value)
    assert f"one of its 3 labels{hint}\n" in str(refusal.value)
