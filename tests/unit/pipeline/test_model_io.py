"""Manifest, deployment and the runtime's own report brought together: every way they can disagree, on real models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from tests.contract.tiny_models import (
    write_onnx,
    write_onnx_constants,
    write_onnx_means,
    write_tflite_means,
)

from mli.config.settings import PreprocessSettings
from mli.errors import ModelRefused
from mli.pipeline.estimators.registry import open_estimator
from mli.pipeline.model_io import ModelIo, resolve
from mli.pipeline.warmup import describe_input, warm_up
from mli.types import InputSpec, ModelSpec, OutputSpec, Quantization

KEEP = PreprocessSettings()


def spec(path: Path, **changes: Any) -> ModelSpec:
    plain = ModelSpec("pets", "1", "0" * 64, "onnx", "classification", str(path.parent), path.name, ("r", "g", "b"))
    return replace(plain, **changes)


def resolved(model: ModelSpec, changes: PreprocessSettings = KEEP) -> ModelIo:
    """Resolve with the real runtime, and prove by an inference that it takes what was resolved."""
    estimator = open_estimator(model)
    io = resolve(model, estimator, changes)
    warm_up(estimator, io)
    estimator.close()
    return io


def refusal(model: ModelSpec, changes: PreprocessSettings = KEEP) -> str:
    estimator = open_estimator(model)
    with pytest.raises(ModelRefused) as refused:
        resolve(model, estimator, changes)
    return str(refused.value)


# --- without a manifest ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int8"])
def test_input_is_read_from_the_model(tmp_path: Path, dtype: str) -> None:
    io = resolved(spec(write_onnx_means(tmp_path / "m.onnx", (1, 3, 20, 30), dtype)))
    assert io.input == InputSpec("data", 30, 20, dtype)  # type: ignore[arg-type]
    assert io.outputs == (OutputSpec("means", "probabilities"),)
    assert describe_input(io.input) == f"30 x 20 RGB {dtype} NCHW, stretch"


@pytest.mark.parametrize(
    ("shape", "layout", "color"),
    [
        ((1, 20, 30, 3), "NHWC", "RGB"),
        ((1, 20, 30, 1), "NHWC", "gray"),
        ((1, 1, 20, 30), "NCHW", "gray"),
        ((1, 3, 20, 3), "NCHW", "RGB"),
    ],
)
def test_layout_and_colour_are_read_from_the_shape(
    tmp_path: Path, shape: tuple[int, ...], layout: str, color: str
) -> None:
    labels = ("r", "g", "b") if color == "RGB" else ("grey",)
    io = resolved(spec(write_onnx_means(tmp_path / "m.onnx", shape), labels=labels))
    assert (io.input.layout, io.input.color) == (layout, color)


def test_quantisation_is_read_from_the_model(tmp_path: Path) -> None:
    quantization = Quantization(0.5, 10)
    path = write_tflite_means(tmp_path / "m.tflite", quantization=quantization)
    io = resolved(spec(path, format="tflite"))
    assert io.input == InputSpec("data", 4, 4, "uint8", "NHWC", quantization=quantization)
    assert io.outputs == (OutputSpec("means", "probabilities", quantization),)


def test_manifests_quantisation_wins(tmp_path: Path) -> None:
    path = write_tflite_means(tmp_path / "m.tflite", quantization=Quantization(0.5, 10))
    mine = Quantization(0.25, 3)
    model = spec(
        path,
        format="tflite",
        input=InputSpec("data", 4, 4, "uint8", "NHWC", quantization=mine),
        outputs=(OutputSpec("means", "logits", mine),),
    )
    io = resolved(model)
    assert (io.input.quantization, io.outputs[0].quantization) == (mine, mine)


def test_deployment_changes_what_the_model_leaves_open(tmp_path: Path) -> None:
    path = write_onnx_means(tmp_path / "m.onnx", (1, 3, "height", "width"))
    changes = PreprocessSettings(64, 48, "crop", "area", "BGR", None, (1.0, 2.0, 3.0), (0.5,), 7)
    assert resolved(spec(path), changes).input == InputSpec(
        "data", 64, 48, "float32", "NCHW", "BGR", "crop", "area", (1.0, 2.0, 3.0), (0.5,), 7
    )


def test_deployment_decides_the_layout_where_the_shape_is_ambiguous(tmp_path: Path) -> None:
    path = write_onnx_constants(tmp_path / "m.onnx", {"p": np.zeros((1, 3), np.float32)}, (1, "a", "b", "c"))
    changes = PreprocessSettings(width=8, height=6)
    assert resolved(spec(path), changes).input.layout == "NCHW"
    assert resolved(spec(path), replace(changes, layout="NHWC")).input.layout == "NHWC"


def test_an_open_size_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    text = refusal(spec(write_onnx_means(tmp_path / "m.onnx", (1, 3, "height", "width"))))
    assert "takes any image size" in text
    assert "'data' [1, 3, ?, ?]" in text
    assert "--size 224x224" in text
    assert "preprocess: {size: 224x224}" in text


def test_an_input_that_is_no_image_is_refused(tmp_path: Path) -> None:
    path = write_onnx_constants(tmp_path / "m.onnx", {"p": np.zeros((1, 3), np.float32)}, (1, 512))
    text = refusal(spec(path))
    assert "input 'data' is not an image" in text
    assert "[1, 512]" in text


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 8, 8, 4), (1, 2, 8, 8)])
def test_an_image_of_other_channels_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    text = refusal(spec(write_onnx_constants(tmp_path / "m.onnx", {"p": np.zeros((1, 3), np.float32)}, shape)))
    assert "input 'data' is not an image of 3 or 1 channels" in text
    assert str(list(shape)) in text


def test_an_element_type_that_cannot_be_fed_is_refused(tmp_path: Path) -> None:
    path = write_onnx_means(tmp_path / "m.onnx", dtype="int64")
    text = refusal(spec(path))
    assert "uint8, int8, float16, float32" in text
    assert "int64" in text


def test_two_inputs_are_refused_with_their_names(tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "m.onnx",
        [helper.make_node("Add", ["image", "depth"], ["sum"])],
        {"image": ("float32", (1, 3, 4, 4)), "depth": ("float32", (1, 3, 4, 4))},
        {"sum": ("float32", (1, 3, 4, 4))},
    )
    text = refusal(spec(path))
    assert "m.onnx: a model with one image input is needed" in text
    assert "2: image, depth" in text


def test_two_outputs_without_a_manifest_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = write_onnx_constants(
        tmp_path / "m.onnx", {"a": np.zeros((1, 3), np.float32), "b": np.zeros((1, 9, 4), np.float32)}
    )
    text = refusal(spec(path))
    assert "nothing says what its 2 outputs mean" in text
    assert "'a' [1, 3], 'b' [1, 9, 4]" in text
    assert "--output NAME=" in text


# --- labels and outputs ------------------------------------------------------------------------------------------


def test_labels_of_another_number_say_both(tmp_path: Path) -> None:
    text = refusal(spec(write_onnx_means(tmp_path / "m.onnx"), labels=("a", "b")))
    assert "pets: the model and its labels do not belong together" in text
    assert "3 labels, one for each value of output 'means' of m.onnx" in text
    assert "found:    2 labels" in text


@pytest.mark.parametrize("shape", [(1, 6), (1, 2, 3), (1, 3, 2), (6,), (1, 6, 1, 1)])
def test_all_values_of_a_classifier_count(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_onnx_constants(tmp_path / "m.onnx", {"p": np.zeros(shape, np.float32)})
    assert resolved(spec(path, labels=tuple("abcdef"))).outputs[0].name == "p"


@pytest.mark.parametrize(
    ("labels", "hint"), [("abcd", "'a', a background"), ("ab", "begin with a background"), ("a", None)]
)
def test_a_label_too_many_or_too_few_is_probably_the_background(
    tmp_path: Path, labels: str, hint: str | None
) -> None:
    text = refusal(spec(write_onnx_means(tmp_path / "m.onnx"), labels=tuple(labels)))
    assert "found:    " + str(len(labels)) in text
    assert hint in text if hint else "background" not in text


@pytest.mark.parametrize("shape", [(1, 84, 8400), (1, 3, 20, 20), (1, 2, 3)])
def test_what_is_a_detectors_or_a_map_is_not_blamed_on_the_labels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    text = refusal(spec(write_onnx_constants(tmp_path / "m.onnx", {"p": np.zeros(shape, np.float32)})))
    assert "pets: output 'p' of m.onnx is not a classifier's" in text
    assert "[1, 3]: one value for each of the 3 labels" in text
    assert str(list(shape)) in text
    assert "--output NAME=KIND" in text


def test_an_open_output_is_left_to_the_first_frame(tmp_path: Path) -> None:
    path = write_onnx(
        tmp_path / "m.onnx",
        [helper.make_node("Flatten", ["data"], ["p"])],
        {"data": ("float32", (1, 1, "height", "width"))},
        {"p": ("float32", (1, "any"))},
    )
    io = resolved(spec(path), PreprocessSettings(width=3, height=1))
    assert io.outputs == (OutputSpec("p", "probabilities"),)


def test_an_output_that_holds_no_numbers_is_refused(tmp_path: Path) -> None:
    path = write_onnx_constants(tmp_path / "m.onnx", {"p": np.array([["a", "b", "c"]], dtype=object)})
    text = refusal(spec(path))
    assert "output 'p' holds no numbers" in text
    assert "string" in text


def test_an_unknown_output_is_refused_with_the_known(tmp_path: Path) -> None:
    path = write_onnx_means(tmp_path / "m.onnx")
    text = refusal(spec(path, outputs=(OutputSpec("prob", "logits"),)))
    assert "the model has no output 'prob'" in text
    assert "'means'" in text


DETECTOR = (OutputSpec("boxes", "boxes"), OutputSpec("scores", "scores"))


def write_detector(path: Path, labels: int = 3, box: int = 4, count: int = 7) -> Path:
    return write_onnx_constants(
        path,
        {"boxes": np.zeros((1, count, box), np.float32), "scores": np.zeros((1, count, labels), np.float32)},
    )


@pytest.mark.parametrize("labels", [("face",), ("background", "face")])
@pytest.mark.parametrize("count", [1, 7])
def test_a_detector_of_one_or_more_labels_and_boxes(tmp_path: Path, labels: tuple[str, ...], count: int) -> None:
    path = write_detector(tmp_path / "m.onnx", labels=len(labels), count=count)
    model = spec(path, task="detection", outputs=DETECTOR, labels=labels)
    assert resolved(model).outputs == DETECTOR


def test_a_detectors_labels_and_boxes_are_checked(tmp_path: Path) -> None:
    model = spec(write_detector(tmp_path / "m.onnx", labels=2), task="detection", outputs=DETECTOR)
    text = refusal(model)
    assert "2 labels, one for each value of output 'scores'" in text
    assert "found:    3 labels" in text
    model = spec(write_detector(tmp_path / "n.onnx", box=5), task="detection", outputs=DETECTOR)
    text = refusal(model)
    assert "output 'boxes' holds no boxes" in text
    assert "[1, 7, 5]" in text


def test_a_detector_of_finished_rows_is_of_six_columns_whatever_its_labels(tmp_path: Path) -> None:
    rows = (OutputSpec("rows", "detections"),)
    path = write_onnx_constants(tmp_path / "m.onnx", {"rows": np.zeros((1, 9, 6), np.float32)})
    for labels in (("face",), ("a", "b", "c", "d", "e", "f", "g")):
        assert resolved(spec(path, task="detection", outputs=rows, labels=labels)).outputs == rows
    path = write_onnx_constants(tmp_path / "n.onnx", {"rows": np.zeros((1, 9, 7), np.float32)})
    text = refusal(spec(path, task="detection", outputs=rows))
    assert "output 'rows' holds no detections" in text
    assert "[1, boxes, 6]" in text
    assert "[1, 9, 7]" in text


@pytest.mark.parametrize(
    ("task", "kinds", "wanted"),
    [
        ("detection", ("scores",), "boxes and scores or detections or yolo"),
        ("detection", ("scores", "scores"), "boxes and scores"),
        ("detection", ("detections", "scores"), "boxes and scores or detections or yolo"),
        ("classification", ("scores",), "probabilities or logits"),
        ("classification", ("detections",), "probabilities or logits"),
        ("classification", ("logits", "logits"), "probabilities or logits"),
    ],
)
def test_outputs_that_do_not_make_the_task_are_refused(
    tmp_path: Path, task: str, kinds: tuple[Any, ...], wanted: str
) -> None:
    path = write_onnx_means(tmp_path / "m.onnx")
    text = refusal(spec(path, task=task, outputs=tuple(OutputSpec("means", kind) for kind in kinds)))
    assert f"the outputs do not make a {task}" in text
    assert wanted in text
    assert ", ".join(kinds) in text


# --- with a manifest that does not fit ----------------------------------------------------------------------------

FITS = InputSpec("data", 4, 4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "image"}, "'image' [1, 3, 4, 4] float32 (RGB, NCHW)"),
        ({"width": 5}, "'data' [1, 3, 4, 5] float32 (RGB, NCHW)"),
        ({"layout": "NHWC"}, "'data' [1, 4, 4, 3] float32 (RGB, NHWC)"),
        ({"color": "gray"}, "'data' [1, 1, 4, 4] float32 (gray, NCHW)"),
        ({"dtype": "uint8"}, "'data' [1, 3, 4, 4] uint8 (RGB, NCHW)"),
    ],
)
def test_a_specification_that_does_not_fit_tells_both(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    path = write_onnx_means(tmp_path / "m.onnx")
    assert resolved(spec(path, input=FITS)).input == FITS
    text = refusal(spec(path, input=replace(FITS, **wrong)))
    assert "the input specification does not fit the model" in text
    assert "'data' [1, 3, 4, 4] float32, which the model takes" in text
    assert told in text


def test_a_deployment_that_does_not_fit_is_refused_too(tmp_path: Path) -> None:
    text = refusal(spec(write_onnx_means(tmp_path / "m.onnx"), input=FITS), PreprocessSettings(width=5))
    assert "`preprocess` in the deployment" in text


def test_a_model_for_batches_of_another_size_is_refused(tmp_path: Path) -> None:
    path = write_onnx_constants(tmp_path / "m.onnx", {"p": np.zeros((1, 3), np.float32)}, (8, 3, 4, 4))
    assert "[8, 3, 4, 4]" in refusal(spec(path))


@pytest.mark.parametrize("name", ["mean", "scale"])
def test_another_number_of_channel_values_is_refused(tmp_path: Path, name: str) -> None:
    model = spec(write_onnx_means(tmp_path / "m.onnx"))
    text = refusal(model, replace(KEEP, **{name: (1.0, 2.0)}))  # type: ignore[arg-type]
    assert f"{name} has 2 values" in text
    assert "1 value, or 3 for RGB" in text
