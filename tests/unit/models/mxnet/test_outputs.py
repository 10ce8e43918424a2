"""The ends of networks, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused

Array = NDArray[Any]
DATA = np.random.default_rng(1).uniform(-2, 2, (2, 3, 4)).astype(np.float32)


def softmax(data: Array, axis: int | tuple[int, ...]) -> Array:
    powers: Array = np.exp(data.astype(np.float64))
    total: Array = powers / powers.sum(axis=axis, keepdims=True)
    return total


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("SoftmaxOutput", {}, softmax(DATA, (1, 2))),
        ("Softmax", {"grad_scale": 2}, softmax(DATA, (1, 2))),
        ("SoftmaxOutput", {"multi_output": True}, softmax(DATA, 1)),
        ("SoftmaxOutput", {"preserve_shape": True}, softmax(DATA, -1)),
        ("SoftmaxActivation", {}, softmax(DATA, -1)),
        ("SoftmaxActivation", {"mode": "channel"}, softmax(DATA, 1)),
        ("softmax", {}, softmax(DATA, -1)),
        ("softmax", {"axis": 1, "temperature": 2.0}, softmax(DATA / 2, 1)),
        ("softmin", {"axis": 1}, softmax(-DATA, 1)),
        ("log_softmax", {"axis": -2, "temperature": 0.5}, np.log(softmax(DATA * 2, 1))),
        ("LogisticRegressionOutput", {}, 1 / (1 + np.exp(-DATA))),
        ("LinearRegressionOutput", {}, DATA),
        ("MakeLoss", {}, DATA),
        ("BlockGrad", {}, DATA),
        ("Dropout", {"p": 0.9}, DATA),
        ("amp_cast", {"dtype": "float16"}, DATA),
    ],
)
def test_only_the_prediction_remains(op: str, attributes: dict[str, Any], expected: Array) -> None:
    (found,) = run_operator(op, attributes, DATA, dynamic_batch=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_labels_are_not_asked_for() -> None:
    label = {"label": np.zeros(2, np.float32)}
    (found,) = run_operator("SoftmaxOutput", {}, DATA[0], params=label)
    np.testing.assert_allclose(found, softmax(DATA[0], 1), rtol=1e-5)


def test_large_numbers_do_not_overflow() -> None:
    data = np.array([[1000, 0, -1000]], np.float32)
    np.testing.assert_array_equal(run_operator("softmax", {}, data)[0], [[1, 0, 0]])
    np.testing.assert_array_equal(run_operator("log_softmax", {}, data)[0], [[0, -1000, -2000]])


@pytest.mark.parametrize(
    ("op", "attributes", "named"),
    [
        ("softmax", {"use_length": True}, "use_length"),
        ("softmax", {"axis": 3}, "axis"),
        ("SoftmaxActivation", {"mode": "row"}, "mode"),
    ],
)
def test_what_cannot_be_done_is_refused(op: str, attributes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelRefused, match=named):
        translate_operator(op, attributes, DATA)


def test_the_softmax_of_whole_numbers_is_refused() -> None:
    with pytest.raises(ModelRefused, match="another type"):
        translate_operator("softmax", {}, params={"data": np.zeros((2, 3), np.int32)})
