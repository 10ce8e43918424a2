"""Whether an ONNX classifier ends before its softmax, as most that were exported from PyTorch do.

Nothing in the file says so, but the operators in front of the output do: what a Gemm or a convolution gives is no
probability, whatever only passes it on, and behind a Softmax or a Sigmoid it is.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mli.pipeline.estimators.onnx_protobuf import fields

_BEFORE_SOFTMAX = {
    *("Gemm", "MatMul", "MatMulInteger", "QGemm", "QLinearMatMul"),
    *("Conv", "ConvInteger", "QLinearConv"),
    "LogSoftmax",  # logarithms of probabilities: softmax gives these back
}
_PASSING = {
    *("Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
    *("Relu", "BatchNormalization", "QuantizeLinear", "DequantizeLinear"),
    *("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "QLinearGlobalAveragePool", "ReduceMean"),
}
_COMBINING = {"Add", "Sub", "Mul"}
"""What knows no bounds knows none with something else added or multiplied, be it a bias or a scale."""
_MODEL_GRAPH = 7
_GRAPH_NODE = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4


class _Node(NamedTuple):
    operator: str
    inputs: list[str]


def ends_before_softmax(path: Path, output: str) -> bool:
    """Whether ``output`` surely holds values that softmax is still to be applied to.

    Args:
        path: an ONNX file that onnxruntime has loaded.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        makers = dict(_makers(data))
    pending = [output]
    while pending:
        node = makers.pop(pending.pop(), None)  # each is looked at once
        if node is None:
            continue
        if node.operator in _BEFORE_SOFTMAX:
            return True
        if node.operator in _COMBINING:
            pending += node.inputs
        elif node.operator in _PASSING or _is_scaling(node, makers):
            pending += node.inputs[:1]
    return False


def _is_scaling(node: _Node, makers: dict[str, _Node]) -> bool:
    """Divided by a constant. By a sum of its own values it would be a probability."""
    if node.operator != "Div":
        return False
    divisor = makers.get(node.inputs[1])
    return divisor is None or divisor.operator == "Constant"


def _makers(data: Any) -> Iterator[tuple[str, _Node]]:
    """The node of the graph itself that makes each value."""
    for start, stop in _inner(data, 0, len(data), _MODEL_GRAPH):
        for first, last in _inner(data, start, stop, _GRAPH_NODE):
            operator = "".join(_texts(data, first, last, _NODE_OPERATOR))
            node = _Node(operator, list(_texts(data, first, last, _NODE_INPUT)))
            for name in _texts(data, first, last, _NODE_OUTPUT):
                yield name, node


def _inner(data: Any, at: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each field of that number."""
    return ((start, stop) for field, start, stop in fields(data, at, end) if field == number)


def _texts(data: Any, at: int, end: int, number: int) -> Iterator[str]:
    return (data[start:stop].decode("utf-8", "replace") for start, stop in _inner(data, at, end, number))
