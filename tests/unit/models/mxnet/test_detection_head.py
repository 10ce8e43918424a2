"""Three heads, as GluonCV's detectors have them, become one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mli.models.mxnet.attributes import ShapeProblem
from mli.models.mxnet.building import BATCH, GraphBuilder, Tensor
from mli.models.mxnet.detection_head import join_heads


def heads(graph: GraphBuilder, count: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    sizes = {"ids": 1, "scores": 1, "boxes": 4}
    ids, scores, boxes = (graph.input(name, (BATCH, count, size)) for name, size in sizes.items())
    return ids, scores, boxes


def test_rows_hold_boxes_in_parts_of_the_inputs_size(tmp_path: Path) -> None:
    graph = GraphBuilder()
    joined = join_heads(graph, *heads(graph), 200, 100)
    assert (joined.name, joined.shape) == ("detections", (BATCH, 2, 6))
    session = onnxruntime.InferenceSession(str(graph.save(tmp_path, [joined])), providers=["CPUExecutionProvider"])
    feeds = {
        "ids": np.array([[[3], [-1]]], np.float32),
        "scores": np.array([[[0.5], [-1]]], np.float32),
        "boxes": np.array([[[50, 25, 150, 75], [-1, -1, -1, -1]]], np.float32),
    }
    for batch in (1, 3):
        (found,) = session.run(None, {name: np.repeat(values, batch, 0) for name, values in feeds.items()})
        assert found.shape == (batch, 2, 6)
        np.testing.assert_allclose(found[:, 0], [[3, 0.5, 0.25, 0.25, 0.75, 0.75]] * batch)
        assert (found[:, 1, 0] == -1).all()


def test_the_outputs_name_is_one_that_is_free() -> None:
    graph = GraphBuilder()
    graph.input("detections", (1, 1))
    assert join_heads(graph, *heads(graph), 8, 8).name == "detections_1"


def test_heads_that_do_not_fit_are_refused_by_name() -> None:
    graph = GraphBuilder()
    ids, scores, _ = heads(graph)
    with pytest.raises(ShapeProblem, match="the output of boxes, other") as problem:
        join_heads(graph, ids, scores, graph.input("other", (BATCH, 3, 4)), 8, 8)
    assert problem.value.found == "(batch, 3, 4)"
