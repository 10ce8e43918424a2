"""Models of a few bytes that the tests write themselves: the mean of each colour channel is the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as tfl
from onnx import TensorProto, helper

from mli.types import Quantization

IR_VERSION = 9
OPSET = 17
_TFL_DTYPES = {"float32": tfl.TensorType.FLOAT32, "uint8": tfl.TensorType.UINT8, "int32": tfl.TensorType.INT32}


def write_onnx(
    path: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[str, Sequence[int | str]]],
    outputs: Mapping[str, tuple[str, Sequence[int | str]]],
    initializers: Sequence[Any] = (),
) -> Path:
    """Write an ONNX model; inputs and outputs are name → (numpy dtype, shape; text leaves a size open)."""

    def value(name: str, dtype: str, shape: Sequence[int | str]) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))

    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [value(name, *spec) for name, spec in inputs.items()],
        [value(name, *spec) for name, spec in outputs.items()],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def write_onnx_means(
    path: Path,
    shape: Sequence[int | str] = (1, 3, 4, 4),
    dtype: str = "float32",
    *,
    names: tuple[str, str] = ("data", "means"),
    softmax: bool = False,
) -> Path:
    """A classifier whose values are the means of the input's channels (of dimension 1 in NCHW, 3 in NHWC)."""
    data, means = names
    channels_last = shape[3] in (1, 3) and shape[1] not in (1, 3)
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2] if channels_last else [2, 3])
    nodes = [
        helper.make_node("Cast", [data], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["axes"], value=axes),
        helper.make_node("ReduceSum", ["real", "axes"], ["sums"], keepdims=0),
        helper.make_node("Constant", [], ["part"], value_float=1.0 / 16),
        helper.make_node("Mul", ["sums", "part"], ["raw" if softmax else means]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["raw"], [means]))
    channels = shape[3] if channels_last else shape[1]
    return write_onnx(path, nodes, {data: (dtype, shape)}, {means: ("float32", (1, channels))})


def write_onnx_constants(
    path: Path, outputs: Mapping[str, Any], shape: Sequence[int | str] = (1, 3, 4, 4), dtype: str = "float32"
) -> Path:
    """A model that gives the same arrays for every input ``data``."""
    nodes, infos = [], {}
    for name, array in outputs.items():
        value = np.asarray(array)
        nodes.append(helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value)))
        infos[name] = (value.dtype.name, value.shape)
    return write_onnx(path, nodes, {"data": (dtype, shape)}, infos)


def write_tflite_means(
    path: Path, *, quantization: Quantization | None = None, size: int = 4, open_size: bool = False
) -> Path:
    """Like ``write_onnx_means`` for LiteRT, NHWC; uint8 in and out where it is quantised."""
    dtype = "float32" if quantization is None else "uint8"
    signature = [1, -1, -1, 3] if open_size else None
    tensors = [
        _tensor("data", [1, size, size, 3], dtype, 1, quantization, signature),
        _tensor("axes", [2], "int32", 2),
        _tensor("means", [1, 3], dtype, 3, quantization),
    ]
    options = tfl.ReducerOptionsT()
    options.keepDims = False
    operator = tfl.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs, operator.outputs = [0, 1], [2]
    operator.builtinOptionsType, operator.builtinOptions = tfl.BuiltinOptions.ReducerOptions, options
    code = tfl.OperatorCodeT()
    code.deprecatedBuiltinCode = code.builtinCode = tfl.BuiltinOperator.MEAN
    code.version = 2
    graph = tfl.SubGraphT()
    graph.tensors, graph.operators = tensors, [operator]
    graph.inputs, graph.outputs = [0], [2]
    model = tfl.ModelT()
    model.version, model.description = 3, "means of channels"
    model.operatorCodes, model.subgraphs = [code], [graph]
    model.buffers = [tfl.BufferT() for _ in range(4)]
    model.buffers[2].data = np.array([1, 2], np.int32).view(np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(
    name: str,
    shape: list[int],
    dtype: str,
    buffer: int,
    quantization: Quantization | None = None,
    signature: list[int] | None = None,
) -> Any:
    tensor = tfl.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, _TFL_DTYPES[dtype], buffer
    tensor.shapeSignature = signature
    if quantization is not None:
        tensor.quantization = tfl.QuantizationParametersT()
        tensor.quantization.scale = [quantization.scale]
        tensor.quantization.zeroPoint = [quantization.zero_point]
    return tensor
