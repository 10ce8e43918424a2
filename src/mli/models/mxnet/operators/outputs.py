"""The ends of a network: softmax and its relatives, and losses, of which only the prediction remains."""

from __future__ import annotations

import math

from mli.models.mxnet.attributes import OperatorProblem
from mli.models.mxnet.building import Tensor
from mli.models.mxnet.call import Call, Table


def identity(call: Call) -> Tensor:
    """Operators that matter in training only."""
    return call.input(0, "data")


def identities(call: Call) -> tuple[Tensor, ...]:
    """amp_multicast: all floating-point types are one here."""
    return call.inputs


def softmax_output(call: Call) -> Tensor:
    """SoftmaxOutput: over axis 1 (multi_output), the last axis (preserve_shape), or all but the first."""
    data = call.input(0, "data")
    if call.attributes.boolean("multi_output", False):
        return _softmax(call, data, 1)
    if call.attributes.boolean("preserve_shape", False):
        return _softmax(call, data, -1)
    flat = call.reshape(data, (data.shape[call.axis(0, len(data.shape))], math.prod(data.shape[1:])))
    return call.reshape(_softmax(call, flat, 1), data.shape)


def softmax_activation(call: Call) -> Tensor:
    """SoftmaxActivation: over the last axis (instance; MXNet's documentation says otherwise), or axis 1 (channel)."""
    data = call.input(0, "data")
    channel = call.attributes.text("mode", "instance", ("instance", "channel")) == "channel"
    return _softmax(call, data, 1 if channel else -1)


def softmax(call: Call) -> Tensor:
    """softmax, along one axis, with a temperature."""
    return _softmax(call, _tempered(call), call.attributes.integer("axis", -1))


def softmin(call: Call) -> Tensor:
    """softmax of the negated numbers."""
    data = _tempered(call)
    return _softmax(call, call.emit("Neg", data, shape=data.shape), call.attributes.integer("axis", -1))


def log_softmax(call: Call) -> Tensor:
    """The logarithm of softmax, computed without leaving the range of float32."""
    data = _tempered(call)
    axis = call.axis(call.attributes.integer("axis", -1), len(data.shape))
    return call.emit("LogSoftmax", data, shape=data.shape, axis=axis)


def logistic_regression_output(call: Call) -> Tensor:
    """The sigmoid."""
    data = call.input(0, "data")
    return call.emit("Sigmoid", data, shape=data.shape)


def _tempered(call: Call) -> Tensor:
    data = call.input(0, "data")
    if call.attributes.boolean("use_length", False):
        raise OperatorProblem("attribute use_length", expected="False", found="True")
    _expect_floating(data)
    temperature = call.attributes.number("temperature", 1.0)
    return data if temperature == 1.0 else call.scalar("Div", data, temperature)


def _softmax(call: Call, data: Tensor, axis: int) -> Tensor:
    _expect_floating(data)
    return call.emit("Softmax", data, shape=data.shape, axis=call.axis(axis, len(data.shape)))


def _expect_floating(data: Tensor) -> None:
    if data.dtype != "float32":
        raise OperatorProblem("its input is of another type", expected="float32", found=data.dtype)


OPERATORS: Table = {
    "SoftmaxOutput": softmax_output,
    "Softmax": softmax_output,
    "SoftmaxActivation": softmax_activation,
    **dict.fromkeys(("softmax", "_npx_softmax"), softmax),
    "softmin": softmin,
    **dict.fromkeys(("log_softmax", "_npx_log_softmax"), log_softmax),
    "LogisticRegressionOutput": logistic_regression_output,
    "LinearRegressionOutput": identity,
    "MAERegressionOutput": identity,
    "SVMOutput": identity,
    "MakeLoss": identity,
    "make_loss": identity,
    "BlockGrad": identity,
    "stop_gradient": identity,
    "Dropout": identity,
    "identity": identity,
    "_copy": identity,
    "IdentityAttachKLSparseReg": identity,
    "_CrossDeviceCopy": identity,
    "_identity_with_attr_like_rhs": identity,
    "amp_cast": identity,
    "amp_multicast": identities,
}

LABEL_INPUTS = {
    "SoftmaxOutput": 1,
    "Softmax": 1,
    "LogisticRegressionOutput": 1,
    "LinearRegressionOutput": 1,
    "MAERegressionOutput": 1,
    "SVMOutput": 1,
}
"""Operators whose inputs from this place on are labels, which only training has."""
