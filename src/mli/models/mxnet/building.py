"""An ONNX graph while it is made: tensors with known shapes, nodes, and weights that are written last.

Every shape is known while a network is translated. Its batch size is not, so it stands in shapes as a prime number
that no other size is a multiple of: products and quotients of sizes then stay plain whole numbers, and a size is open
in the ONNX model exactly if it is a multiple of ``BATCH``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from mli.models.mxnet.attributes import OperatorProblem

BATCH = 1_000_000_007
OPSET = 17
IR_VERSION = 8
MODEL_NAME = "model.onnx"
WEIGHTS_NAME = "model.onnx.data"
_INLINE_BYTES = 1024
"""Smaller values stay in the model's own file."""
_ALIGNMENT = 64

Shape = tuple[int, ...]
_ONNX_TYPES = {
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One value of the graph.

    Attributes:
        shape: sizes; a multiple of ``BATCH`` is open.
        dtype: numpy's name of the element type.
        value: its numbers, where they are few and known.
    """

    name: str
    shape: Shape
    dtype: str = "float32"
    value: NDArray[Any] | None = None


@dataclass(slots=True)
class GraphNode:
    """One ONNX node; an empty input name is an input that is left out."""

    op_type: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Weight:
    name: str
    shape: Shape
    dtype: str
    read: Callable[[], NDArray[Any]]
    is_parameter: bool = False


@dataclass(slots=True)
class GraphBuilder:
    """Collects the nodes and weights of one model; names are made unique.

    Attributes:
        not_finite: parameters that hold NaN or infinite values, known once they are written.
    """

    inputs: list[Tensor] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)
    nodes: list[GraphNode] = field(default_factory=list)
    _weights: dict[str, _Weight] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _next_number: dict[str, int] = field(default_factory=dict)
    _constants: dict[tuple[str, Shape, bytes], Tensor] = field(default_factory=dict)

    def input(self, name: str, shape: Shape, dtype: str = "float32") -> Tensor:
        """A value that the user of the model gives."""
        self._names.add(name)
        tensor = Tensor(name, shape, dtype)
        self.inputs.append(tensor)
        return tensor

    def weight(self, name: str, shape: Shape, dtype: str, read: Callable[[], NDArray[Any]]) -> Tensor:
        """A parameter, read when the model is written."""
        unique = self.unique(name)
        self._weights[unique] = _Weight(unique, shape, dtype, read, is_parameter=True)
        return Tensor(unique, shape, dtype)

    def constant(self, value: NDArray[Any], hint: str) -> Tensor:
        """Numbers that are part of the graph; the same ones are kept once."""
        value = np.ascontiguousarray(value)
        dtype = value.dtype.name
        if dtype not in _ONNX_TYPES:
            raise OperatorProblem(f"numbers of the type {dtype} are not supported")
        key = (dtype, value.shape, value.tobytes()) if value.nbytes <= _INLINE_BYTES else None
        if key is not None and key in self._constants:
            return self._constants[key]
        name = self.unique(hint)
        self._weights[name] = _Weight(name, value.shape, dtype, lambda: value)
        tensor = Tensor(name, value.shape, dtype, value)
        if key is not None:
            self._constants[key] = tensor
        return tensor

    def node(
        self, op_type: str, name: str, inputs: Sequence[Tensor | None], outputs: int, attributes: Mapping[str, Any]
    ) -> list[str]:
        """Add a node; gives the names of its outputs."""
        node_name = self.unique(name)
        names = [self.unique(f"{node_name}_out{index}" if index else f"{node_name}_out") for index in range(outputs)]
        self.nodes.append(
            GraphNode(
                op_type,
                node_name,
                ["" if tensor is None else tensor.name for tensor in inputs],
                list(names),
                {key: value for key, value in attributes.items() if value is not None},
            )
        )
        return names

    def unique(self, wanted: str) -> str:
        """``wanted``, or with a number behind it where that is taken."""
        name = wanted
        while name in self._names or not name:
            number = self._next_number.get(wanted, 1)
            self._next_number[wanted] = number + 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def rename(self, names: Mapping[str, str], first_node: int) -> None:
        """Give values that were made by ``nodes[first_node:]`` other names, wherever these nodes use them."""
        for node in self.nodes[first_node:]:
            node.inputs = [names.get(name, name) for name in node.inputs]
            node.outputs = [names.get(name, name) for name in node.outputs]

    def save(self, folder: Path, outputs: Iterable[Tensor], *, producer: str = "mli") -> Path:
        """Write ``model.onnx`` and its weights into ``folder``; checked by ONNX's own checker.

        Weights are copied one by one, so that memory holds the largest of them and not the model.
        """
        used = {name for node in self.nodes for name in node.inputs} | {tensor.name for tensor in outputs}
        with (folder / WEIGHTS_NAME).open("xb") as file:
            initializers = [self._written(weight, file) for weight in self._weights.values() if weight.name in used]
            if not file.tell():
                file.write(b"\0")  # an empty file cannot be mapped
        graph = helper.make_graph(
            [_node_proto(node) for node in self.nodes],
            "mxnet",
            [_value_info(tensor) for tensor in self.inputs],
            [_value_info(tensor) for tensor in outputs],
            initializers,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, producer_name=producer, opset_imports=[opset], ir_version=IR_VERSION)
        path = folder / MODEL_NAME
        path.write_bytes(model.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path), full_check=False)
        return path

    def _written(self, weight: _Weight, file: BinaryIO) -> Any:
        values = np.ascontiguousarray(weight.read(), dtype=np.dtype(weight.dtype).newbyteorder("<"))
        if weight.is_parameter and weight.dtype == "float32" and not np.isfinite(values).all():
            self.not_finite.append(weight.name)
        proto = TensorProto(name=weight.name, data_type=_ONNX_TYPES[weight.dtype], dims=weight.shape)
        if values.nbytes <= _INLINE_BYTES:
            proto.raw_data = values.tobytes()
            return proto
        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
        proto.data_location = TensorProto.EXTERNAL
        places = {"location": WEIGHTS_NAME, "offset": str(file.tell()), "length": str(values.nbytes)}
        for key, value in places.items():
            proto.external_data.add(key=key, value=value)
        file.write(values.reshape(-1).view(np.uint8).data)  # tells a full disk as such, which tofile does not
        return proto


def is_open(size: int) -> bool:
    """Whether a size is that of the batch, or a multiple of it."""
    return size > 0 and size % BATCH == 0


def size_name(size: int) -> str | int:
    """A size as ONNX has it: a number, or the name of one that is open."""
    if not is_open(size):
        return size
    return "batch" if size == BATCH else f"{size // BATCH}*batch"


def shape_text(shape: Shape) -> str:
    """A shape for people: ``(batch, 3, 224, 224)``."""
    return "(" + ", ".join(str(size_name(size)) for size in shape) + ")"


def _value_info(tensor: Tensor) -> Any:
    sizes = [size_name(size) for size in tensor.shape]
    return helper.make_tensor_value_info(tensor.name, _ONNX_TYPES[tensor.dtype], sizes)


def _node_proto(node: GraphNode) -> Any:
    return helper.make_node(node.op_type, node.inputs, node.outputs, node.name, **node.attributes)
