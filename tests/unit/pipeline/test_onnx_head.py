"""Which operators in front of an output show that softmax is still to be applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper
from tests.contract.tiny_models import write_onnx

from mli.config.settings import PreprocessSettings
from mli.pipeline.estimators.onnx_head import ends_before_softmax
from mli.pipeline.estimators.registry import open_estimator
from mli.pipeline.model_io import resolve
from mli.types import ModelSpec

WEIGHTS = {
    "w": np.full((48, 3), 0.5, np.float32),
    "b": np.ones(3, np.float32),
    "k": np.ones((3, 3, 4, 4), np.float32),
    "shape": np.array([1, 3]),
    "two": np.array(2, np.float32),
    "square": np.eye(3, dtype=np.float32),
    "axes": np.array([2, 3]),
}

Step = tuple[str, ...]
"""An operator and its inputs; it makes what is called by its place: 0, 1, …"""

FLAT: Step = ("Flatten", "data")
GEMM: Step = ("Gemm", "0", "w", "b")


def write(path: Path, *steps: Step) -> Path:
    nodes = [
        helper.make_node(step[0], list(step[1:]), [str(place) if place < len(steps) - 1 else "out"])
        for place, step in enumerate(steps)
    ]
    used = {name for step in steps for name in step[1:]}
    weights = [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items() if name in used]
    return write_onnx(
        path, nodes, {"data": ("float32", (1, 3, 4, 4))}, {"out": ("float32", ("n", "labels"))}, weights
    )


@pytest.mark.parametrize(
    "steps",
    [
        (FLAT, GEMM),
        (FLAT, ("MatMul", "0", "w")),
        (FLAT, ("MatMul", "0", "w"), ("Add", "b", "1")),
        (FLAT, GEMM, ("Mul", "1", "two")),
        (FLAT, GEMM, ("Div", "1", "two")),
        (FLAT, GEMM, ("LogSoftmax", "1")),
        (("Conv", "data", "k"), ("Reshape", "0", "shape")),
        (("Conv", "data", "k"), ("Relu", "0"), ("GlobalAveragePool", "1"), ("Squeeze", "2", "axes")),
        (FLAT, GEMM, ("Softmax", "1"), ("Gemm", "2", "square", "b")),
        (FLAT, GEMM, ("Sigmoid", "1"), ("Mul", "1", "2")),
        (("Shape", "data"), FLAT, ("Gemm", "1", "w", "b"), ("Identity", "2")),
    ],
    ids=lambda steps: "-".join(step[0] for step in steps),
)
def test_unbounded_values_are_before_softmax(tmp_path: Path, steps: tuple[Step, ...]) -> None:
    assert ends_before_softmax(write(tmp_path / "m.onnx", *steps), "out")


@pytest.mark.parametrize(
    "steps",
    [
        (FLAT, GEMM, ("Softmax", "1")),
        (FLAT, GEMM, ("Softmax", "1"), ("Identity", "2"), ("Mul", "3", "two")),
        (FLAT, GEMM, ("Softmax", "1"), ("Sigmoid", "1"), ("Add", "2", "3")),
        (FLAT, GEMM, ("Sigmoid", "1")),
        (FLAT, GEMM, ("Exp", "1"), ("ReduceSum", "2"), ("Div", "2", "3")),
        (FLAT, GEMM, ("Relu", "1"), ("ReduceSum", "2"), ("Div", "2", "3")),
        (("GlobalAveragePool", "data"), ("Squeeze", "0", "axes")),
    ],
    ids=lambda steps: "-".join(step[0] for step in steps),
)
def test_what_may_be_a_probability_is_left_alone(tmp_path: Path, steps: tuple[Step, ...]) -> None:
    assert not ends_before_softmax(write(tmp_path / "m.onnx", *steps), "out")


def test_what_no_node_makes_is_left_alone(tmp_path: Path) -> None:
    assert not ends_before_softmax(write(tmp_path / "m.onnx", FLAT, GEMM), "data")


@pytest.mark.parametrize(("labels", "kind"), [(("a", "b", "c"), "logits"), (("a",), "probabilities")])
def test_a_classifier_without_a_manifest_gets_its_softmax(tmp_path: Path, labels: tuple[str, ...], kind: str) -> None:
    """One value alone stays: softmax would make 1 of any."""
    weights = [numpy_helper.from_array(np.full((48, len(labels)), 0.5, np.float32), "w")]
    nodes = [helper.make_node("Flatten", ["data"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["out"])]
    path = write_onnx(
        tmp_path / "m.onnx",
        nodes,
        {"data": ("float32", (1, 3, 4, 4))},
        {"out": ("float32", (1, len(labels)))},
        weights,
    )
    model = ModelSpec("pets", "1", "0" * 64, "onnx", "classification", str(tmp_path), path.name, labels)
    assert [output.kind for output in resolve(model, open_estimator(model), PreprocessSettings()).outputs] == [kind]
