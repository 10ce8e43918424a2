"""Softmax, top k, thresholds and de-quantisation of a classifier's output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from mli.errors import ModelRefused
from mli.pipeline.decoders.classification import softmax
from mli.pipeline.decoders.decoder import make_decoder, real_values
from mli.pipeline.model_io import ModelIo
from mli.pipeline.preprocess import Placement
from mli.types import InputSpec, ModelSpec, OutputKind, OutputSpec, Prediction, Quantization

LABELS = ("can", "box", "glass", "paper")


def decode(
    values: Any,
    *,
    kind: OutputKind = "probabilities",
    top: int = 4,
    min_confidence: float = 0.0,
    quantization: Quantization | None = None,
    labels: tuple[str, ...] = LABELS,
) -> tuple[Prediction, ...]:
    model = ModelSpec("pets", "1", "0" * 64, "onnx", "classification", "/", "m.onnx", labels)
    io = ModelIo(InputSpec("x", 8, 8), (OutputSpec("prob", kind, quantization),))
    array = values if isinstance(values, np.ndarray) else np.array([values], np.float32)
    return make_decoder(model, io, top=top, min_confidence=min_confidence)({"prob": array}, Placement())


def test_most_confident_first_with_their_class() -> None:
    found = decode([0.1, 0.6, 0.05, 0.25])
    assert [(item.label, item.class_id) for item in found] == [("box", 1), ("paper", 3), ("can", 0), ("glass", 2)]
    assert found[0] == Prediction("box", 1, float(np.float32(0.6)))


@pytest.mark.parametrize("top", [1, 2, 4, 1000])
def test_top_is_how_many_at_most(top: int) -> None:
    assert len(decode([0.1, 0.6, 0.05, 0.25], top=top)) == min(top, 4)


def test_equal_confidences_keep_the_order_of_the_labels() -> None:
    assert [item.class_id for item in decode([0.25, 0.25, 0.25, 0.25])] == [0, 1, 2, 3]
    assert [item.class_id for item in decode([0.2, 0.3, 0.2, 0.3], top=3)] == [1, 3, 0]
    many = [0.2 if number % 3 else 0.3 for number in range(1001)]
    found = decode(many, labels=tuple(map(str, range(1001))), top=1001)
    assert [item.class_id for item in found] == sorted(range(1001), key=lambda number: (number % 3 != 0, number))


def test_values_below_zero_stay_where_no_confidence_is_asked_for() -> None:
    """A regression's are no probabilities."""
    found = decode([-0.5, 2.0, -3.0, 0.0])
    assert [item.confidence for item in found] == [2.0, 0.0, -0.5, -3.0]


def test_less_certain_than_asked_is_left_out_and_the_bound_itself_is_not() -> None:
    assert [item.label for item in decode([0.1, 0.7, 0.05, 0.15], min_confidence=0.15)] == ["box", "paper"]
    assert [item.label for item in decode([0.1, 0.7, 0.05, 0.15], min_confidence=0.7)] == ["box"]
    assert decode([0.1, 0.7, 0.05, 0.15], min_confidence=0.71) == ()


def test_logits_become_probabilities() -> None:
    found = decode([1.0, 2.0, 3.0, 4.0], kind="logits")
    wanted = np.exp([4, 3, 2, 1]) / np.exp([4, 3, 2, 1]).sum()
    assert [item.confidence for item in found] == pytest.approx(wanted, rel=1e-6)


@settings(deadline=None)
@given(
    arrays.arrays(np.float32, st.integers(1, 50), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
)
def test_softmax_of_any_logits_sums_to_one(logits: NDArray[np.float32]) -> None:
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float32
    assert np.isfinite(probabilities).all()
    assert float(probabilities.sum(dtype=np.float64)) == pytest.approx(1, abs=1e-5)
    assert probabilities[np.argmax(logits)] == probabilities.max()


@settings(deadline=None)
@given(arrays.arrays(np.float32, 6, elements=st.floats(-20, 20, width=32)), st.floats(-1000, 1000, width=32))
def test_softmax_does_not_change_when_all_logits_move(logits: NDArray[np.float32], by: float) -> None:
    np.testing.assert_allclose(softmax(logits), softmax(logits + np.float32(by)), atol=2e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_values_that_are_no_numbers_are_refused_not_left_out(bad: float, kind: OutputKind) -> None:
    with pytest.raises(ModelRefused) as refusal:
        decode([0.5, bad, 0.1, 0.1], kind=kind)
    assert "pets" in str(refusal.value)
    assert "'prob'" in str(refusal.value)
    assert "mean, scale" in str(refusal.value)


def test_quantised_values_are_made_real() -> None:
    stored = np.array([[0, 128, 255, 3]], np.uint8)
    found = decode(stored, quantization=Quantization(1 / 256, 0))
    assert [item.confidence for item in found] == [255 / 256, 128 / 256, 3 / 256, 0.0]


def test_signed_values_are_made_real_without_overflow() -> None:
    spec = OutputSpec("x", "probabilities", Quantization(0.5, -128))
    stored = np.array([-128, 0, 127], np.int8)
    assert real_values(stored, spec).tolist() == [0.0, 64.0, 127.5]
    assert real_values(stored, OutputSpec("x", "probabilities")).tolist() == [-128.0, 0.0, 127.0]


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 4, 1, 1), (1, 1, 1, 4)])
def test_every_shape_of_one_value_a_label_will_do(shape: tuple[int, ...]) -> None:
    array = np.array([0.1, 0.2, 0.3, 0.4], np.float16).reshape(shape)
    assert [item.label for item in decode(array, top=1)] == ["paper"]


def test_another_number_of_values_than_labels_says_both() -> None:
    with pytest.raises(ModelRefused) as refusal:
        decode(np.zeros((1, 5), np.float32))
    assert "5 labels" in str(refusal.value)
    assert "4 labels" in str(refusal.value)


def test_two_labels_may_have_the_same_name() -> None:
    found = decode([0.4, 0.5], labels=("crane", "crane"))
    assert [(item.label, item.class_id) for item in found] == [("crane", 1), ("crane", 0)]


# --- where nobody said what the output means ---------------------------------------------------------------------


def warnings_of(
    caplog: pytest.LogCaptureFixture, *frames: list[float], outputs: tuple[OutputSpec, ...] = ()
) -> list[str]:
    model = ModelSpec("pets", "1", "0" * 64, "tflite", "classification", "/", "m.tflite", LABELS, outputs=outputs)
    io = ModelIo(InputSpec("x", 8, 8), (OutputSpec("prob", "probabilities"),))
    decoder = make_decoder(model, io, top=1, min_confidence=0.0)
    for values in frames:
        assert decoder({"prob": np.array([values], np.float32)}, Placement())[0].confidence == np.float32(max(values))
    return [record.getMessage() for record in caplog.records]


def test_values_that_are_no_probabilities_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    (text,) = warnings_of(caplog, [0.0, 1.0005, 0.0, 0.0], [-1.5, 7.25, 0, 0], [9.0, 0, 0, 0])
    assert text.startswith("pets: output 'prob' holds values from -1.50 to 7.25, which are no probabilities")
    assert "--logits" in text


def test_what_the_manifest_says_is_not_doubted(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings_of(caplog, [-1.5, 7.25, 0, 0], outputs=(OutputSpec("prob", "probabilities"),)) == []
