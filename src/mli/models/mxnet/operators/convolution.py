"""Layers whose weights are multiplied with windows of an image, or with all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mli.models.mxnet.attributes import OperatorProblem, ShapeProblem
from mli.models.mxnet.building import Tensor, is_open, shape_text
from mli.models.mxnet.call import Call, Table

_PLACES = {1: "W", 2: "HW", 3: "DHW"}
"""Letters of a layout's spatial axes, by their number."""


def convolution(call: Call) -> Tensor:
    """Convolution over 1 to 3 spatial axes; weights (num_filter, channels / num_group, *kernel)."""
    kernel = call.attributes.integers("kernel")
    rank = len(kernel)
    layout = stated_layout(call, rank)
    data = channels_first(call, call.input(0, "data"), layout)
    filters, groups = _filters_and_groups(call, data)
    weight = _weight(call, (filters, data.shape[1] // groups, *kernel), layout)
    strides, dilations = per_axis(call, "stride", 1, rank), per_axis(call, "dilate", 1, rank)
    pads = per_axis(call, "pad", 0, rank)
    _expect_positive(kernel + strides + dilations, pads)
    sizes = []
    for size, length, stride, dilation, pad in zip(data.shape[2:], kernel, strides, dilations, pads, strict=True):
        room = size + 2 * pad - (dilation * (length - 1) + 1)
        if room < 0:
            raise ShapeProblem(
                "its kernel is larger than its input",
                expected=f"{length} or more with the padding" if dilation == 1 else "a larger input",
                found=shape_text(data.shape),
            )
        sizes.append(room // stride + 1)
    inputs = (data, weight, *_bias(call, filters, no_bias=False))
    windows: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads + pads,
    }
    result = call.emit("Conv", *inputs, shape=(data.shape[0], filters, *sizes), group=groups, **windows)
    return channels_restored(call, result, layout)


def deconvolution(call: Call) -> Tensor:
    """The transposed convolution; weights (channels, num_filter / num_group, *kernel)."""
    kernel = call.attributes.integers("kernel")
    rank = len(kernel)
    layout = stated_layout(call, rank)
    data = channels_first(call, call.input(0, "data"), layout)
    filters, groups = _filters_and_groups(call, data)
    weight = _weight(call, (data.shape[1], filters // groups, *kernel), layout)
    strides, dilations = per_axis(call, "stride", 1, rank), per_axis(call, "dilate", 1, rank)
    _expect_positive(kernel + strides + dilations, per_axis(call, "pad", 0, rank))
    if any(stride > 1 and dilation > 1 for stride, dilation in zip(strides, dilations, strict=True)):
        # MXNet's own two implementations for a CPU give different numbers here.
        raise OperatorProblem(
            "attributes stride and dilate", expected="one of them 1", found=f"{strides}, {dilations}"
        )
    whole = [
        stride * (size - 1) + dilation * (length - 1) + 1
        for size, length, stride, dilation in zip(data.shape[2:], kernel, strides, dilations, strict=True)
    ]
    before, after, added = _cut(call, whole, strides)
    sizes = [size - first - last + more for size, first, last, more in zip(whole, before, after, added, strict=True)]
    if min(sizes) < 1:
        raise ShapeProblem("its padding takes all of its output", found=shape_text(data.shape))
    inputs = (data, weight, *_bias(call, filters, no_bias=True))
    windows: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    windows["pads"], windows["output_padding"] = before + after, added if any(added) else None
    result = call.emit("ConvTranspose", *inputs, shape=(data.shape[0], filters, *sizes), group=groups, **windows)
    return channels_restored(call, result, layout)


def fully_connected(call: Call) -> Tensor:
    """Every output from every input: of an item (flatten), or of its last axis."""
    data, weight = call.input(0, "data"), call.input(1, "weight")
    hidden = call.attributes.integer("num_hidden")
    flatten = call.attributes.boolean("flatten", True)
    kept = data.shape[:1] if flatten else data.shape[:-1]
    rows, columns = math.prod(kept), math.prod(data.shape[len(kept) :])
    call.expect_shape(weight, (hidden, columns))
    flat = call.reshape(data, (rows, columns))
    result = call.emit("Gemm", flat, weight, *_bias(call, hidden, no_bias=False), shape=(rows, hidden), transB=1)
    return call.reshape(result, (*kept, hidden))


def stated_layout(call: Call, rank: int) -> str:
    """The order of the axes, as ``NCHW`` or ``NHWC``, for an operator with ``rank`` spatial axes."""
    if rank not in _PLACES:
        raise OperatorProblem("attribute kernel", expected="1, 2 or 3 numbers", found=f"{rank} numbers")
    places = _PLACES[rank]
    return call.attributes.text("layout", f"NC{places}", (f"NC{places}", f"N{places}C"))


def per_axis(call: Call, name: str, usual: int, rank: int) -> tuple[int, ...]:
    """An attribute with a number for each of ``rank`` axes; ``()`` is as good as none."""
    stated = call.attributes.integers(name, ())
    return call.attributes.integers(name, None, rank) if stated else (usual,) * rank


def channels_first(call: Call, tensor: Tensor, layout: str) -> Tensor:
    """Data or weights of this layout with axis 1 for the channels, as ONNX has them."""
    call.expect_rank(tensor, len(layout))
    if any(is_open(size) for size in tensor.shape[1:]):
        raise OperatorProblem("only the first axis may be the batch's", found=shape_text(tensor.shape))
    if layout[1] == "C":
        return tensor
    last = len(layout) - 1
    return call.transpose(tensor, [0, last, *range(1, last)])


def channels_restored(call: Call, tensor: Tensor, layout: str) -> Tensor:
    """The way back from :func:`channels_first`."""
    if layout[1] == "C":
        return tensor
    return call.transpose(tensor, [0, *range(2, len(layout)), 1])


def _cut(
    call: Call, whole: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """What a transposed convolution takes away before and after each axis, and what it adds after it."""
    rank = len(whole)
    target = per_axis(call, "target_shape", 0, rank)
    if any(target):  # decides alone: pad and adj do not count
        surplus = [size - wanted for size, wanted in zip(whole, target, strict=True)]
        if min(surplus) < 0 or min(target) < 1:
            found = ", ".join(str(size) for size in target)
            raise ShapeProblem("attribute target_shape", expected=f"1 to {tuple(whole)}", found=f"({found})")
        return tuple((size + 1) // 2 for size in surplus), tuple(size // 2 for size in surplus), (0,) * rank
    pads, added = per_axis(call, "pad", 0, rank), per_axis(call, "adj", 0, rank)
    if any(not 0 <= more < stride for more, stride in zip(added, strides, strict=True)):
        raise OperatorProblem("attribute adj", expected=f"less than stride {tuple(strides)}", found=str(added))
    return pads, pads, added


def _filters_and_groups(call: Call, data: Tensor) -> tuple[int, int]:
    filters = call.attributes.integer("num_filter")
    groups = call.attributes.integer("num_group", 1)
    if filters < 1:
        raise OperatorProblem("attribute num_filter", expected="1 or more", found=str(filters))
    if groups < 1 or filters % groups or data.shape[1] % groups:
        raise ShapeProblem(
            "attribute num_group",
            expected=f"a divisor of {data.shape[1]} channels and {filters} filters",
            found=str(groups),
        )
    return filters, groups


def _weight(call: Call, shape: Sequence[int], layout: str) -> Tensor:
    """The weights with their channels on axis 1, of ``shape``; they are stored in the layout of the data."""
    weight = call.input(1, "weight")
    call.expect_shape(weight, shape if layout[1] == "C" else (shape[0], *shape[2:], shape[1]))
    return channels_first(call, weight, layout)


def _expect_positive(counts: Sequence[int], pads: Sequence[int]) -> None:
    if min(counts) < 1 or min(pads) < 0:
        found = f"{tuple(counts)}, pad {tuple(pads)}"
        raise OperatorProblem(
            "attributes kernel, stride, dilate and pad", expected="1 or more (pad: 0 or more)", found=found
        )


def _bias(call: Call, filters: int, *, no_bias: bool) -> tuple[Tensor, ...]:
    """The bias as a third input, where there is one; ``no_bias`` is the operator's default."""
    if call.attributes.boolean("no_bias", no_bias):
        return ()
    bias = call.input(2, "bias")
    call.expect_shape(bias, (filters,))
    return (bias,)


OPERATORS: Table = {
    "Convolution": convolution,
    "Convolution_v1": convolution,
    "CuDNNConvolution": convolution,
    "_npx_convolution": convolution,
    "Deconvolution": deconvolution,
    "_npx_deconvolution": deconvolution,
    "FullyConnected": fully_connected,
    "_sparse_FullyConnected": fully_connected,
    "_npx_fully_connected": fully_connected,
}
