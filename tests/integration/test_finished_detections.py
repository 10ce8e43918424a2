"""A detector that takes out overlapping boxes itself: packed, proved and run by the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.contract.tiny_models import write_onnx_constants
from tests.fixtures.color_model import color_image
from tests.fixtures.mli_process import run_mli

ROWS = [
    [1, 0.9, 0.25, 0.5, 0.75, 1.0],
    [-1, 0.8, 0.25, 0.5, 0.75, 1.0],
    [0, 0.75, 0.25, 0.5, 0.75, 1.0],
    [0, 0.125, 0.0, 0.0, 0.5, 0.5],
    [-1, -1, -1, -1, -1, -1],
]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a model of fixed rows, its labels and a photo."""
    write_onnx_constants(tmp_path / "det.onnx", {"rows": np.array([ROWS], np.float32)})
    (tmp_path / "labels.txt").write_text("face\nhand\n")
    color_image(tmp_path / "photo.png", "red")
    return tmp_path


def pack(desk: Path, kind: str = "detections") -> str:
    command = ["model", "pack", "det.onnx", "labels.txt", "photo.png", "-o", "det.zip", "--output", f"rows={kind}"]
    packed = run_mli(*command, state=desk, cwd=desk)
    return packed.stdout if packed.returncode == 0 else packed.stderr


def test_a_finished_detector_is_packed_verified_and_run(desk: Path) -> None:
    assert "photo.png: hand 90.0%" in pack(desk)
    inspected = run_mli("model", "inspect", "det.zip", "--json", state=desk, cwd=desk)
    report = json.loads(inspected.stdout)
    assert report["task"] == "detection"
    assert [output["kind"] for output in report["outputs"]] == ["detections"]
    verified = run_mli("model", "verify", "det.zip", state=desk, cwd=desk)
    assert "det.zip: good" in verified.stdout
    run = ["run", desk / "det.zip", desk / "photo.png", "--once", "--interval", "0", "--json", "--top", "5"]
    result = run_mli(*run, state=desk)
    assert result.returncode == 0, result.stderr
    assert "manifest" not in result.stderr
    (frame,) = (json.loads(line) for line in result.stdout.splitlines())
    seen = [(item["label"], item["confidence"], item["box"]) for item in frame["predictions"]]
    box = {"left": 0.25, "top": 0.5, "right": 0.75, "bottom": 1.0}
    assert seen == [("hand", pytest.approx(0.9), box), ("face", 0.75, box)]


def test_a_class_without_a_label_is_refused_when_it_is_packed(desk: Path) -> None:
    (desk / "labels.txt").write_text("face\n")
    told = pack(desk)
    assert "there is no label for a class" in told
    assert "at least 2 labels" in told
    assert not (desk / "det.zip").exists()


def test_a_kind_that_is_none_is_refused_with_all_kinds(desk: Path) -> None:
    assert "NAME=probabilities|logits|scores|boxes|detections" in pack(desk, "rows")
