"""Activations, against their formulas in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused
from mli.models.mxnet.translate import ShapesRefused

Array = NDArray[Any]
DATA = np.linspace(-6, 6, 48, dtype=np.float32).reshape(2, 3, 8)

erf = np.vectorize(math.erf)


def leaky(slope: float) -> Callable[[Array], Array]:
    return lambda x: np.where(x > 0, x, slope * x)


def elu(slope: float) -> Callable[[Array], Array]:
    return lambda x: np.where(x > 0, x, slope * np.expm1(x))


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


CASES: list[tuple[str, dict[str, Any], Callable[[Array], Array]]] = [
    ("Activation", {"act_type": "relu"}, leaky(0)),
    ("Activation", {"act_type": "sigmoid"}, sigmoid),
    ("Activation", {"act_type": "tanh"}, np.tanh),
    ("Activation", {"act_type": "softrelu"}, lambda x: np.log1p(np.exp(x))),
    ("Activation", {"act_type": "softsign"}, lambda x: x / (1 + abs(x))),
    ("LeakyReLU", {}, leaky(0.25)),
    ("LeakyReLU", {"act_type": "leaky", "slope": 0.1}, leaky(0.1)),
    ("LeakyReLU", {"act_type": "elu"}, elu(0.25)),
    ("LeakyReLU", {"act_type": "elu", "slope": "2.0"}, elu(2)),
    ("LeakyReLU", {"act_type": "selu"}, lambda x: 1.0507009873554805 * elu(1.6732632423543772)(x)),
    ("LeakyReLU", {"act_type": "gelu"}, lambda x: x * (1 + erf(x / math.sqrt(2))) / 2),
    ("LeakyReLU", {"act_type": "rrelu", "lower_bound": 0.1, "upper_bound": 0.5}, leaky(0.3)),
    ("relu", {}, leaky(0)),
    ("sigmoid", {}, sigmoid),
    ("tanh", {}, np.tanh),
    ("softsign", {}, lambda x: x / (1 + abs(x))),
    ("erf", {}, erf),
    ("hard_sigmoid", {}, lambda x: (0.2 * x + 0.5).clip(0, 1)),
    ("hard_sigmoid", {"alpha": 0.1, "beta": 0.3}, lambda x: (0.1 * x + 0.3).clip(0, 1)),
]


@pytest.mark.parametrize(("op", "attributes", "function"), CASES)
def test_each_number_becomes_its_function(
    op: str, attributes: dict[str, Any], function: Callable[[Array], Array]
) -> None:
    (found,) = run_operator(op, attributes, DATA, dynamic_batch=True)
    np.testing.assert_allclose(found, function(DATA.astype(np.float64)), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("slopes", [[0.1, 0.2, 0.3], [0.5]])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 8), (2, 3, 2, 4)])
def test_prelu_has_a_slope_for_each_channel_or_one_for_all(slopes: list[float], shape: tuple[int, ...]) -> None:
    data = DATA.reshape(-1)[:: DATA.size // math.prod(shape)].reshape(shape)
    gamma = np.array(slopes, np.float32)
    (found,) = run_operator("LeakyReLU", {"act_type": "prelu"}, data, params={"gamma": gamma}, dynamic_batch=True)
    column = gamma.reshape(-1, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(found, np.where(data > 0, data, column * data), rtol=1e-6)


def test_slopes_of_another_network_are_told() -> None:
    with pytest.raises(ShapesRefused, match=r"parameter gamma"):
        translate_operator("LeakyReLU", {"act_type": "prelu"}, DATA, params={"gamma": np.ones(4, np.float32)})


@pytest.mark.parametrize(
    ("op", "attributes"),
    [("Activation", {"act_type": "mish"}), ("Activation", {}), ("LeakyReLU", {"act_type": "prelu6"})],
)
def test_unknown_kinds_are_refused(op: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(ModelRefused, match="attribute act_type"):
        translate_operator(op, attributes, DATA)
