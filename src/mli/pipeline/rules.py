"""Rules: when predictions call for an action, and why they did not."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mli.errors import ModelRefused
from mli.nearest import nearest
from mli.types import RuleOutcome

if TYPE_CHECKING:
    from mli.config.settings import RuleSettings
    from mli.types import Prediction


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One rule's outcome for one frame, with the prediction that matched (None where none did)."""

    settings: RuleSettings
    outcome: RuleOutcome
    prediction: Prediction | None


class RuleEngine:
    """Evaluates a pipeline's rules in frame order; not thread-safe.

    The windows and cool-downs live as long as the worker: after a restart they begin anew.

    Raises:
        ModelRefused: a rule names a label that the model does not have.
    """

    def __init__(self, rules: Sequence[RuleSettings], labels: Sequence[str]) -> None:
        for rule in rules:
            for label in rule.labels:
                if label not in labels:
                    raise ModelRefused(
                        f"rule {rule.name}: the model has no label {label!r}",
                        expected=f"one of its {len(labels)} labels{nearest(label, labels)}",
                        remedy="correct `when` of the rule; labels are compared to the letter",
                    )
        self._rules = [_RuleState(rule) for rule in rules]

    def evaluate(self, predictions: Sequence[Prediction], captured_at: float) -> list[RuleVerdict]:
        """What each rule makes of a frame's predictions, taken at ``captured_at`` (Unix time, seconds)."""
        return [rule.evaluate(predictions, captured_at) for rule in self._rules]


class _RuleState:
    def __init__(self, settings: RuleSettings) -> None:
        self._settings = settings
        # Confidences are float32; 0.7 as a double is more than the nearest of those, and would refuse "0.7".
        self._least = _float32(settings.min_confidence)
        self._window: deque[bool] = deque(maxlen=settings.window)
        self._fired_at: float | None = None

    def evaluate(self, predictions: Sequence[Prediction], captured_at: float) -> RuleVerdict:
        rule = self._settings
        labelled = [prediction for prediction in predictions if prediction.label in rule.labels]
        best = max(labelled, key=lambda prediction: prediction.confidence, default=None)
        matched = best is not None and best.confidence >= self._least
        self._window.append(matched)
        reason = self._why_not(predictions, best, matched, captured_at)
        if reason is not None:
            return RuleVerdict(rule, RuleOutcome(rule.name, False, reason), best)
        assert best is not None
        self._fired_at = captured_at
        self._window.clear()
        reason = f"{best.label} {best.confidence:.2f}"
        return RuleVerdict(rule, RuleOutcome(rule.name, True, reason), best)

    def _why_not(
        self, predictions: Sequence[Prediction], best: Prediction | None, matched: bool, captured_at: float
    ) -> str | None:
        rule = self._settings
        if best is None:
            return f"saw {predictions[0].label}" if predictions else "saw nothing"
        if not matched:
            digits = 2 if best.confidence < self._least - 0.01 else 6
            return f"{best.label} {best.confidence:.{digits}f} is below {rule.min_confidence:g}"
        matches = sum(self._window)
        if matches < rule.matches:
            return f"matched {matches} of {rule.matches} in the last {rule.window} frames"
        # A clock that was set back must not lengthen a cool-down.
        if self._fired_at is not None and 0 <= captured_at - self._fired_at < rule.cooldown_s:
            return f"cool-down: {rule.cooldown_s - (captured_at - self._fired_at):.1f} s left"
        return None


def _float32(value: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded
