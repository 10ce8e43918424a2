"""What the operators in front of an output tell of its numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.fixtures.mxnet_files import Net

from mli.models.mxnet.bounds import bounds_of
from mli.models.mxnet.symbol import parse_symbol


@pytest.mark.parametrize(
    ("op", "attributes", "bounds"),
    [
        ("softmax", {}, (0, 1)),
        ("Activation", {"act_type": "sigmoid"}, (0, 1)),
        ("Activation", {"act_type": "relu"}, (-math.inf, math.inf)),
        ("log_softmax", {}, (-math.inf, math.inf)),
        ("FullyConnected", {}, (-math.inf, math.inf)),
        ("clip", {"a_min": -2, "a_max": 3}, (-2, 3)),
        ("clip", {"a_min": "x", "a_max": 3}, (-math.inf, math.inf)),
    ],
)
def test_one_operator(op: str, attributes: dict[str, Any], bounds: tuple[float, float]) -> None:
    net = Net()
    symbol = parse_symbol(net.json(net.op(op, "out", net.variable("data"), **attributes)), "x")
    assert bounds_of(symbol)[-1] == bounds


def behind_softmax(op: str, **attributes: Any) -> tuple[float, float]:
    """The bounds of an operator on two outputs of softmax."""
    net = Net()
    pair = [net.op("softmax", name, net.variable("data")) for name in ("one", "two")]
    return bounds_of(parse_symbol(net.json(net.op(op, "out", *pair, **attributes)), "x"))[-1]


@pytest.mark.parametrize(
    ("op", "attributes", "bounds"),
    [
        ("elemwise_add", {}, (0, 2)),
        ("broadcast_mul", {}, (0, 1)),
        ("Concat", {}, (0, 1)),
        ("slice_axis", {"axis": 1, "begin": 1, "end": "None"}, (0, 1)),
        ("_mul_scalar", {"scalar": 0.5}, (0, 0.5)),
        ("_div_scalar", {"scalar": 2}, (0, 0.5)),
        ("_div_scalar", {"scalar": 0}, (-math.inf, math.inf)),
        ("_mul_scalar", {"scalar": -1}, (-math.inf, math.inf)),
        ("elemwise_sub", {}, (-math.inf, math.inf)),
    ],
)
def test_operators_behind_softmax(op: str, attributes: dict[str, Any], bounds: tuple[float, float]) -> None:
    assert behind_softmax(op, **attributes) == bounds


def test_the_mean_of_an_ensemble_is_a_probability() -> None:
    net = Net()
    total = net.op("_plus", "sum", *(net.op("softmax", name, net.variable("data")) for name in "ab"))
    symbol = parse_symbol(net.json(net.op("_div_scalar", "mean", total, scalar=2)), "x")
    assert bounds_of(symbol)[-1] == (0, 1)
