"""What is told of an ONNX model that onnxruntime cannot load: the cause and a way out, without its own clutter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper
from tests.contract.tiny_models import write_onnx_means

from mli.errors import ModelRefused
from mli.pipeline.estimators.onnx import OnnxEstimator


def _own_operator(model: Any) -> None:
    model.graph.node[0].op_type, model.graph.node[0].domain = "MyResize", "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def _future_format(model: Any) -> None:
    model.ir_version = 99


def _future_opset(model: Any) -> None:
    model.opset_import[0].version = 99


def _lost_input(model: Any) -> None:
    model.graph.node[0].input[0] = "nowhere"


@pytest.mark.parametrize(
    ("change", "cause", "remedy"),
    [
        (_own_operator, "com.example:MyResize", "without its own operators"),
        (_future_format, "IR version: 99", "older version of the onnx package"),
        (_future_opset, "Opset 99", "for an older opset"),
        (_lost_input, "nowhere", None),
    ],
)
def test_the_cause_and_a_way_out_are_told(
    tmp_path: Path, change: Callable[[Any], None], cause: str, remedy: str | None
) -> None:
    path = write_onnx_means(tmp_path / "m.onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelRefused) as refused:
        OnnxEstimator(str(path), threads=1, capacity=1)
    error = refused.value
    assert error.what.startswith("m.onnx: onnxruntime")
    assert cause in (error.got or "")
    assert remedy in (error.remedy or "") if remedy else error.remedy is None
    for clutter in ("ONNXRuntimeError", str(tmp_path), "onnxruntime_src"):
        assert clutter not in str(error)
