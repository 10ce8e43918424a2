"""Functions of each number that layers end with."""

from __future__ import annotations

import math

from mli.models.mxnet.building import Tensor
from mli.models.mxnet.call import Call, Table, Translate

_ACTIVATIONS = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softrelu": "Softplus",
    "softsign": "Softsign",
}
"""Kinds of Activation, and ONNX's operators for them."""
_LEAKY = ("leaky", "prelu", "elu", "selu", "gelu", "rrelu")


def activation(call: Call) -> Tensor:
    """Activation: one of five functions."""
    data = call.input(0, "data")
    return call.emit(_ACTIVATIONS[call.attributes.text("act_type", "", tuple(_ACTIVATIONS))], data, shape=data.shape)


def leaky_relu(call: Call) -> Tensor:
    """LeakyReLU: functions that leave negative numbers something."""
    data = call.input(0, "data")
    kind = call.attributes.text("act_type", "leaky", _LEAKY)
    if kind == "prelu":
        return _prelu(call, data)
    if kind == "gelu":
        return _gelu(call, data)
    if kind == "selu":
        return call.emit("Selu", data, shape=data.shape)
    if kind == "rrelu":  # drawn at random in training, the middle in prediction
        lower = call.attributes.number("lower_bound", 0.125)
        upper = call.attributes.number("upper_bound", 0.334)
        return call.emit("LeakyRelu", data, shape=data.shape, alpha=(lower + upper) / 2)
    slope = call.attributes.number("slope", 0.25)
    return call.emit("Elu" if kind == "elu" else "LeakyRelu", data, shape=data.shape, alpha=slope)


def hard_sigmoid(call: Call) -> Tensor:
    """hard_sigmoid: alpha · x + beta, kept in 0 to 1."""
    data = call.input(0, "data")
    alpha, beta = call.attributes.number("alpha", 0.2), call.attributes.number("beta", 0.5)
    return call.emit("HardSigmoid", data, shape=data.shape, alpha=alpha, beta=beta)


def _prelu(call: Call, data: Tensor) -> Tensor:
    """A learnt slope a channel, or one for all."""
    gamma = call.input(1, "gamma")
    if gamma.shape != (1,):
        call.expect_shape(gamma, data.shape[1:2])
        gamma = call.reshape(gamma, (*gamma.shape, *(1,) * (len(data.shape) - 2)))
    return call.emit("PRelu", data, gamma, shape=data.shape)


def _gelu(call: Call, data: Tensor) -> Tensor:
    """x · (1 + erf(x / √2)) / 2, in the nodes that onnxruntime makes one of."""
    part = call.scalar("Div", data, math.sqrt(2))
    erf = call.emit("Erf", part, shape=data.shape)
    product = call.elementwise("Mul", data, call.scalar("Add", erf, 1.0))
    return call.scalar("Mul", product, 0.5)


def _function(op_type: str) -> Translate:
    """An ONNX operator of one input without attributes."""

    def translate(call: Call) -> Tensor:
        data = call.input(0, "data")
        return call.emit(op_type, data, shape=data.shape)

    return translate


OPERATORS: Table = {
    "Activation": activation,
    "_npx_activation": activation,
    "LeakyReLU": leaky_relu,
    "_npx_leaky_relu": leaky_relu,
    "relu": _function("Relu"),
    "_sparse_relu": _function("Relu"),
    "_npx_relu": _function("Relu"),
    "sigmoid": _function("Sigmoid"),
    "_sparse_sigmoid": _function("Sigmoid"),
    "_npx_sigmoid": _function("Sigmoid"),
    "tanh": _function("Tanh"),
    "_sparse_tanh": _function("Tanh"),
    "_npi_tanh": _function("Tanh"),
    "softsign": _function("Softsign"),
    "erf": _function("Erf"),
    "_npx_erf": _function("Erf"),
    "hard_sigmoid": hard_sigmoid,
}
