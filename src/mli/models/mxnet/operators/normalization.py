"""Normalisation: by running statistics, by statistics of the input itself, and by neighbouring channels."""

from __future__ import annotations

import math

import numpy as np

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Tensor, shape_text
from mli.models.mxnet.call import Call, Table


def batch_norm(call: Call) -> Tensor:
    """BatchNorm by its running statistics, along any axis; fix_gamma, the default, makes every gamma 1.

    Its outputs of mean and variance are those of training and are not made.
    """
    data = call.input(0, "data")
    axis = call.axis(call.attributes.integer("axis", 1), len(data.shape))
    channels = data.shape[axis]
    gamma, beta = call.input(1, "gamma"), call.input(2, "beta")
    mean, variance = call.input(3, "moving_mean"), call.input(4, "moving_var")
    for parameter in (gamma, beta, mean, variance):
        call.expect_shape(parameter, (channels,))
    if call.attributes.boolean("fix_gamma", True):
        gamma = call.constant(np.ones(channels))
    shaped = data
    if axis != 1:
        shaped = call.reshape(data, (math.prod(data.shape[:axis]), channels, math.prod(data.shape[axis + 1 :])))
    epsilon = call.attributes.number("eps", 1e-3)
    result = call.emit("BatchNormalization", shaped, gamma, beta, mean, variance, shape=shaped.shape, epsilon=epsilon)
    return call.reshape(result, data.shape)


def cudnn_batch_norm(call: Call) -> Tensor:
    """CuDNNBatchNorm of 2016, where it was saved with variances: cuDNN 4 kept inverse deviations instead."""
    variance = call.input(4, "moving_var")
    if variance.name.endswith("inv_var"):
        raise OperatorProblem("it was trained with cuDNN 4", expected="a moving_var", found=variance.name)
    return batch_norm(call)


def batch_norm_relu(call: Call) -> Tensor:
    """BatchNorm, and what is below 0 becomes 0."""
    data = batch_norm(call)
    return call.emit("Relu", data, shape=data.shape)


def instance_norm(call: Call) -> Tensor:
    """InstanceNorm: over the spatial axes of each channel of each item."""
    data, gamma, beta = _scaled(call)
    if len(data.shape) < 3:
        raise ShapeProblem("input data", expected="3 dimensions or more", found=shape_text(data.shape))
    for parameter in (gamma, beta):
        call.expect_shape(parameter, (data.shape[1],))
    epsilon = call.attributes.number("eps", 1e-3)
    return call.emit("InstanceNormalization", data, gamma, beta, shape=data.shape, epsilon=epsilon)


def layer_norm(call: Call) -> Tensor:
    """LayerNorm: along one axis."""
    data, gamma, beta = _scaled(call)
    rank = len(data.shape)
    axis = call.axis(call.attributes.integer("axis", -1), rank)
    for parameter in (gamma, beta):
        call.expect_shape(parameter, (data.shape[axis],))
    order = [place for place in range(rank) if place != axis] + [axis]
    turned = call.transpose(data, order)
    epsilon = call.attributes.number("eps", 1e-5)
    result = call.emit("LayerNormalization", turned, gamma, beta, shape=turned.shape, axis=-1, epsilon=epsilon)
    return call.transpose(result, [order.index(place) for place in range(rank)])


def group_norm(call: Call) -> Tensor:
    """GroupNorm: over all channels and places of a group; gamma and beta are one number a group."""
    data, gamma, beta = _scaled(call)
    if len(data.shape) < 3:
        raise ShapeProblem("input data", expected="3 dimensions or more", found=shape_text(data.shape))
    groups = call.attributes.integer("num_groups", 1)
    if groups < 1 or data.shape[1] % groups:
        raise ShapeProblem(
            "attribute num_groups", expected=f"a divisor of {data.shape[1]} channels", found=str(groups)
        )
    for parameter in (gamma, beta):
        call.expect_shape(parameter, (groups,))
    grouped = call.reshape(data, (data.shape[0], groups, math.prod(data.shape[1:]) // groups))
    epsilon = call.attributes.number("eps", 1e-5)
    result = call.emit("InstanceNormalization", grouped, gamma, beta, shape=grouped.shape, epsilon=epsilon)
    return call.reshape(result, data.shape)


def image_normalize(call: Call) -> Tensor:
    """_image_normalize: less a mean and by a deviation for each channel of (batch, C, H, W)."""
    data = call.input(0, "data")
    call.expect_rank(data, 4)
    shape = (1, -1, 1, 1)
    mean = call.constant(np.reshape(call.attributes.numbers("mean", (0.0,)), shape))
    deviation = call.constant(np.reshape(call.attributes.numbers("std", (1.0,)), shape))
    return call.elementwise("Div", call.elementwise("Sub", data, mean), deviation)


def lrn(call: Call) -> Tensor:
    """LRN: by the squares of ``nsize`` neighbouring channels."""
    data = call.input(0, "data")
    call.expect_rank(data, 4)
    size = call.attributes.integer("nsize")
    if size < 1 or size % 2 == 0:
        raise OperatorProblem("attribute nsize", expected="an odd number", found=str(size))
    return call.emit(
        "LRN",
        data,
        shape=data.shape,
        size=size,
        alpha=call.attributes.number("alpha", 1e-4),
        beta=call.attributes.number("beta", 0.75),
        bias=call.attributes.number("knorm", 2.0),
    )


def l2_normalization(call: Call) -> Tensor:
    """L2Normalization: over each item (instance), its channels (channel) or its places (spatial)."""
    data = call.input(0, "data")
    rank = len(data.shape)
    mode = call.attributes.text("mode", "instance", ("instance", "channel", "spatial"))
    least = {"instance": 1, "channel": 2, "spatial": 3}[mode]
    if rank < least + (mode == "instance"):
        raise ShapeProblem("input data", expected=f"more dimensions for mode {mode}", found=shape_text(data.shape))
    axes = {"instance": range(1, rank), "channel": range(1, 2), "spatial": range(2, rank)}[mode]
    shape = [1 if place in axes else size for place, size in enumerate(data.shape)]
    squares = call.emit("ReduceSumSquare", data, shape=shape, axes=list(axes), keepdims=1)
    total = call.scalar("Add", squares, call.attributes.number("eps", 1e-10))
    return call.elementwise("Div", data, call.emit("Sqrt", total, shape=shape))


def _scaled(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    return call.input(0, "data"), call.input(1, "gamma"), call.input(2, "beta")


OPERATORS: Table = {
    "BatchNorm": batch_norm,
    "BatchNorm_v1": batch_norm,
    "CuDNNBatchNorm": cudnn_batch_norm,
    "_npx_batch_norm": batch_norm,
    "_contrib_SyncBatchNorm": batch_norm,
    "_contrib_BatchNormWithReLU": batch_norm_relu,
    "InstanceNorm": instance_norm,
    "_npx_instance_norm": instance_norm,
    "LayerNorm": layer_norm,
    "_npx_layer_norm": layer_norm,
    "GroupNorm": group_norm,
    "_npx_group_norm": group_norm,
    "LRN": lrn,
    **dict.fromkeys(("_image_normalize", "_npx__image_normalize"), image_normalize),
    "L2Normalization": l2_normalization,
    "_npx_l2_normalization": l2_normalization,
}
