"""Weights outside of a model's file are read from its own folder only, wherever in the model they are named."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.contract.tiny_models import IR_VERSION, OPSET, write_onnx_means

from mli.errors import ModelRefused
from mli.pipeline.estimators.onnx import OnnxEstimator
from mli.pipeline.estimators.onnx_external_data import FIELDS, check_external_data


def external(location: str, name: str = "w") -> Any:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph(initializers: list[Any], nodes: list[Any] | None = None) -> Any:
    return helper.make_graph(
        [*(nodes or []), helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        initializers,
    )


def model_of(content: Any) -> Any:
    return helper.make_model(content, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def write(folder: Path, model: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with weights, beside a secret."""
    np.array([1, 2], np.float32).tofile(tmp_path / "secret.bin")
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    np.array([3, 4], np.float32).tofile(folder / "weights.bin")
    np.array([5, 6], np.float32).tofile(folder / "sub" / "weights.bin")
    return folder


@pytest.mark.parametrize(("location", "weights"), [("weights.bin", [3, 4]), ("sub/weights.bin", [5, 6])])
def test_weights_beside_the_model_are_read(folder: Path, location: str, weights: list[int]) -> None:
    estimator = OnnxEstimator(str(write(folder, model_of(graph([external(location)])))), threads=1, capacity=1)
    assert estimator.infer({"x": np.zeros(2, np.float32)})["y"].tolist() == weights


@pytest.mark.parametrize(
    "location", ["../secret.bin", "sub/../../secret.bin", "ABSOLUTE", "", ".", "..\\secret.bin", "a\0b", "link.bin"]
)
def test_weights_outside_of_the_folder_are_refused(folder: Path, location: str) -> None:
    (folder / "link.bin").symlink_to("../secret.bin")
    path = str(folder.parent / "secret.bin") if location == "ABSOLUTE" else location
    with pytest.raises(ModelRefused) as refusal:
        OnnxEstimator(str(write(folder, model_of(graph([external(path)])))), threads=1, capacity=1)
    assert "m.onnx" in str(refusal.value)
    assert "external data" in str(refusal.value)


@pytest.mark.parametrize("location", ["nowhere.bin", "*/_ORT_MEM_ADDR_/*", "sub"])
def test_weights_that_are_no_file_are_refused(folder: Path, location: str) -> None:
    with pytest.raises(ModelRefused, match="external data is missing"):
        check_external_data(write(folder, model_of(graph([external(location)]))))


OUTSIDE = external("../secret.bin")


def _in_node(attribute: Any) -> Any:
    node = helper.make_node("If", ["c"], ["z"])
    node.attribute.append(attribute)
    return model_of(graph([], [node]))


def _in_sparse(tensor: Any) -> Any:
    return onnx.SparseTensorProto(values=tensor, dims=[2])


def _models() -> dict[str, Any]:
    attribute = helper.make_attribute
    function = onnx.FunctionProto(name="f", domain="d")
    function.node.append(helper.make_node("Constant", [], ["c"], value=OUTSIDE))
    with_function = model_of(graph([]))
    with_function.functions.append(function)
    with_default = model_of(graph([]))
    with_default.functions.append(onnx.FunctionProto(name="f", attribute_proto=[attribute("t", OUTSIDE)]))
    with_training = model_of(graph([]))
    with_training.training_info.append(onnx.TrainingInfoProto(algorithm=graph([OUTSIDE])))
    sparse = model_of(graph([]))
    sparse.graph.sparse_initializer.append(_in_sparse(OUTSIDE))
    deep = graph([OUTSIDE])
    for _ in range(10):
        deep = graph([], [helper.make_node("Loop", ["n"], ["z"], body=deep)])
    return {
        "constant": _in_node(attribute("value", OUTSIDE)),
        "list of tensors": _in_node(attribute("values", [OUTSIDE])),
        "branch": _in_node(attribute("then_branch", graph([OUTSIDE]))),
        "list of graphs": _in_node(attribute("branches", [graph([OUTSIDE])])),
        "sparse attribute": _in_node(attribute("sparse", _in_sparse(OUTSIDE))),
        "list of sparse tensors": _in_node(attribute("sparses", [_in_sparse(OUTSIDE)])),
        "sparse initializer": sparse,
        "function": with_function,
        "default of a function": with_default,
        "training": with_training,
        "ten loops deep": model_of(deep),
    }


@pytest.mark.parametrize("model", _models().values(), ids=_models().keys())
def test_every_place_that_holds_tensors_is_looked_at(folder: Path, model: Any) -> None:
    with pytest.raises(ModelRefused) as refusal:
        check_external_data(write(folder, model))
    assert "'../secret.bin'" in str(refusal.value)


def test_field_numbers_are_those_of_onnx() -> None:
    for message, fields in FIELDS.items():
        own = {
            field.number: field.message_type.name
            for field in getattr(onnx, message).DESCRIPTOR.fields
            if field.message_type
        }
        for number, kind in fields.items():
            assert own[number] == kind, f"{message}.{number}"
        leads_to_tensors = {number: kind for number, kind in own.items() if kind in FIELDS}
        assert leads_to_tensors.items() <= fields.items(), message


def test_fields_that_onnx_does_not_know_hide_nothing(folder: Path) -> None:
    """Parsers skip unknown fields, also groups; a check that stopped at them would miss what follows."""
    good = model_of(graph([OUTSIDE])).SerializeToString()
    path = folder / "m.onnx"
    # An unknown varint, fixed64, fixed32 and bytes field; a tag of five bytes whose top bits protobuf drops.
    unknown = b"\x98\x06\x01" + b"\x99\x06" + bytes(8) + b"\x9d\x06" + bytes(4) + b"\x9a\x06\x02ab"
    at = good.index(b"\x3a")  # the graph's tag
    for data in (unknown + good, good[:at] + b"\xba\x80\x80\x80\x70" + good[at + 1 :]):
        path.write_bytes(data)
        with pytest.raises(ModelRefused, match="outside of its folder"):
            check_external_data(path)
    path.write_bytes(b"\x9b\x06\x9c\x06" + good)  # an empty group: refused whole, as nobody writes it
    with pytest.raises(ModelRefused, match="no ONNX model"):
        check_external_data(path)


def test_graphs_without_end_are_refused(folder: Path) -> None:
    inner = b""
    for _ in range(300):  # graph → node → attribute → graph …
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            inner = tag + _length(len(inner)) + inner
    (folder / "m.onnx").write_bytes(b"\x3a" + _length(len(inner)) + inner)
    with pytest.raises(ModelRefused, match="nested"):
        check_external_data(folder / "m.onnx")


def _length(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_models_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    good = bytearray(write_onnx_means(folder / "m.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    (folder / "m.onnx").write_bytes(good)
    with contextlib.suppress(ModelRefused):
        check_external_data(folder / "m.onnx")
