"""What a model's tensors mean: manifest, deployment and the runtime's own report, brought together and checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from mli.errors import ModelRefused
from mli.pipeline.decoders.yolo import yolo_shape, yolo_widths
from mli.pipeline.estimators.onnx_head import ends_before_softmax
from mli.types import Color, Dtype, InputSpec, ModelSpec, OutputKind, OutputSpec, Task, TensorInfo

if TYPE_CHECKING:
    from mli.config.settings import PreprocessSettings
    from mli.pipeline.estimators.estimator import Estimator

_CHANNELS = {"RGB": 3, "BGR": 3, "gray": 1}
_TASK_KINDS: dict[Task, tuple[list[str], ...]] = {
    "classification": (["probabilities"], ["logits"]),
    "detection": (["boxes", "scores"], ["detections"], ["yolo"]),
}
_ROWS: dict[OutputKind, tuple[int, str]] = {"boxes": (4, "[1, boxes, 4]"), "detections": (6, "[1, boxes, 6]")}
"""Outputs whose last size does not depend on the labels."""
_NUMBERS = re.compile(r"float(16|32|64)|u?int(8|16|32|64)")


@dataclass(frozen=True, slots=True)
class ModelIo:
    """The one input and the outputs of a model, complete and consistent with its labels."""

    input: InputSpec
    outputs: tuple[OutputSpec, ...]


def resolve(model: ModelSpec, estimator: Estimator, changes: PreprocessSettings) -> ModelIo:
    """Complete the model's input and output specification.

    Without a manifest the input is read from the model: stretch, bilinear, RGB, 0-255, the accelerator's way. So is
    whether softmax is still to be applied, where its operators show it (ONNX).

    Raises:
        ModelRefused: the specification, the labels and the model do not fit each other.
    """
    if len(estimator.inputs) != 1:
        names = ", ".join(info.name for info in estimator.inputs)
        raise ModelRefused(
            f"{model.model_file}: a model with one image input is needed",
            expected="1 input",
            got=f"{len(estimator.inputs)}: {names}",
        )
    info = estimator.inputs[0]
    spec = model.input or _input_from_model(model, info, changes)
    given = {
        name: value
        for name in ("width", "height", "resize", "interpolation", "color", "layout", "mean", "scale", "pad")
        if (value := getattr(changes, name)) is not None
    }
    spec = replace(spec, **given)
    if spec.quantization is None and info.quantization is not None:
        spec = replace(spec, quantization=info.quantization)
    _check_input(model, spec, info)
    outputs = model.outputs or _outputs_from_model(model, estimator.outputs)
    completed = tuple(_complete_output(model, output, estimator.outputs) for output in outputs)
    _check_labels(model, completed, estimator.outputs)
    return ModelIo(spec, completed)


def _input_from_model(model: ModelSpec, info: TensorInfo, changes: PreprocessSettings) -> InputSpec:
    if len(info.shape) != 4:
        raise ModelRefused(
            f"{model.model_file}: input {info.name!r} is not an image",
            expected="four dimensions: [1, channels, height, width] or [1, height, width, channels]",
            got=shape_text(info),
        )
    _, second, third, fourth = info.shape
    if changes.layout is not None:
        channels_last = changes.layout == "NHWC"
    else:
        channels_last = fourth in (1, 3) and second not in (1, 3)
    channels, height, width = (fourth, second, third) if channels_last else (second, third, fourth)
    if channels not in (*_CHANNELS.values(), None):
        raise ModelRefused(
            f"{model.model_file}: input {info.name!r} is not an image of 3 or 1 channels",
            expected="[1, 3, height, width], [1, height, width, 3], or 1 instead of 3",
            got=shape_text(info),
        )
    width, height = changes.width or width, changes.height or height
    if width is None or height is None:
        raise ModelRefused(
            f"{model.model_file}: the model takes any image size, and nothing says which it was trained with",
            got=f"input {info.name!r} {shape_text(info)}",
            remedy="pack it with `mli model pack … --size 224x224`, or write `preprocess: {size: 224x224}`",
        )
    if info.dtype not in get_args(Dtype):
        raise ModelRefused(
            f"{model.model_file}: input {info.name!r} has an element type that mli does not feed",
            expected=", ".join(get_args(Dtype)),
            got=info.dtype,
        )
    color: Color = changes.color or ("gray" if channels == 1 else "RGB")
    return InputSpec(
        name=info.name,
        width=width,
        height=height,
        dtype=cast("Dtype", info.dtype),
        layout="NHWC" if channels_last else "NCHW",
        color=color,
    )


def _check_input(model: ModelSpec, spec: InputSpec, info: TensorInfo) -> None:
    channels = _CHANNELS[spec.color]
    sizes = (channels, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, channels)
    wanted = (1, *sizes)
    fits = len(info.shape) == 4 and all(
        size is None or size == want for size, want in zip(info.shape, wanted, strict=True)
    )
    if spec.name != info.name or spec.dtype != info.dtype or not fits:
        raise ModelRefused(
            f"{model.model_file}: the input specification does not fit the model",
            expected=f"{info.name!r} {shape_text(info)} {info.dtype}, which the model takes",
            got=f"{spec.name!r} {list(wanted)} {spec.dtype} ({spec.color}, {spec.layout})",
            remedy="correct `input` in the manifest, or `preprocess` in the deployment",
        )
    for name, values in (("mean", spec.mean), ("scale", spec.scale)):
        if len(values) not in (1, channels):
            raise ModelRefused(
                f"{model.model_file}: {name} has {len(values)} values",
                expected=f"1 value, or {channels} for {spec.color}",
            )


def _outputs_from_model(model: ModelSpec, infos: tuple[TensorInfo, ...]) -> tuple[OutputSpec, ...]:
    if model.task == "classification" and len(infos) == 1:
        # One value alone is a regression's or a sigmoid's: softmax would make 1 of any.
        several = len(model.labels) > 1
        path = Path(model.directory) / model.model_file
        logits = several and model.format == "onnx" and ends_before_softmax(path, infos[0].name)
        return (OutputSpec(infos[0].name, "logits" if logits else "probabilities"),)
    raise ModelRefused(
        f"{model.model_file}: nothing says what its {len(infos)} outputs mean",
        got=", ".join(f"{info.name!r} {shape_text(info)}" for info in infos),
        remedy="pack it with `mli model pack … --output NAME=probabilities|logits|scores|boxes|detections|yolo`",
    )


def _complete_output(model: ModelSpec, output: OutputSpec, infos: tuple[TensorInfo, ...]) -> OutputSpec:
    info = _find(model, output.name, infos)
    if output.quantization is None and info.quantization is not None:
        return replace(output, quantization=info.quantization)
    return output


def _find(model: ModelSpec, name: str, infos: tuple[TensorInfo, ...]) -> TensorInfo:
    for info in infos:
        if info.name == name:
            return info
    raise ModelRefused(
        f"{model.model_file}: the model has no output {name!r}",
        expected=", ".join(repr(info.name) for info in infos),
        remedy="correct `outputs` in the manifest",
    )


def _check_labels(model: ModelSpec, outputs: tuple[OutputSpec, ...], infos: tuple[TensorInfo, ...]) -> None:
    kinds = sorted(output.kind for output in outputs)
    wanted = _TASK_KINDS[model.task]
    if kinds not in wanted:
        raise ModelRefused(
            f"{model.model_file}: the outputs do not make a {model.task}",
            expected=" or ".join(" and ".join(kind) for kind in wanted),
            got=", ".join(kinds),
        )
    for output in outputs:
        info = _find(model, output.name, infos)
        if not _NUMBERS.fullmatch(info.dtype):
            raise ModelRefused(
                f"{model.model_file}: output {output.name!r} holds no numbers",
                expected="a tensor of floating-point numbers or integers",
                got=info.dtype,
            )
        width = output_width(info, each_box=model.task == "detection")
        if output.kind in _ROWS:
            size, shape = _ROWS[output.kind]
            if width not in (size, None):
                raise ModelRefused(
                    f"{model.model_file}: output {output.name!r} holds no {output.kind}",
                    expected=shape,
                    got=shape_text(info),
                )
        elif output.kind == "yolo":
            _check_yolo(model, info)
        elif width is not None and width != len(model.labels):
            if model.task == "classification" and sum(size != 1 for size in info.shape[1:]) > 1:
                raise _no_classifier(model, info)
            raise labels_differ(model, output.name, width)


def _check_yolo(model: ModelSpec, info: TensorInfo) -> None:
    sizes = info.shape[1:]
    if len(sizes) != 2 or (None not in sizes and not {*yolo_widths(len(model.labels))}.intersection(sizes)):
        raise ModelRefused(
            f"{model.model_file}: output {info.name!r} is not one of YOLO's",
            expected=yolo_shape(len(model.labels)),
            got=shape_text(info),
            remedy="pack it with all the labels that it was trained with, one a line",
        )


def _no_classifier(model: ModelSpec, info: TensorInfo) -> ModelRefused:
    """The error for a detector or another map of values that nobody called so."""
    return ModelRefused(
        f"{model.name}: output {info.name!r} of {model.model_file} is not a classifier's",
        expected=f"[1, {len(model.labels)}]: one value for each of the {len(model.labels)} labels",
        got=shape_text(info),
        remedy="a detector has outputs of the kinds scores and boxes, or one: detections or yolo; pack it with "
        "`mli model pack … --output NAME=KIND`. What gives them otherwise needs them as its last step",
    )


def labels_differ(model: ModelSpec, output: str, width: int) -> ModelRefused:
    """The error for a model whose output width is not the number of labels."""
    count = len(model.labels)
    hint = {
        width + 1: f", one too many: is the first, {model.labels[0]!r}, a background that the model does not have?",
        width - 1: ", one too few: does the model begin with a background?",
    }
    return ModelRefused(
        f"{model.name}: the model and its labels do not belong together",
        expected=f"{width} labels, one for each value of output {output!r} of {model.model_file}",
        got=f"{count} labels{hint.get(count, '')}",
        remedy="pack the model with the labels it was trained with, one a line, in the order of its outputs",
    )


def output_width(info: TensorInfo, *, each_box: bool) -> int | None:
    """Number of values for one frame, or for one box; None where the model leaves it open."""
    sizes = info.shape[-1:] if each_box else info.shape[1:] or info.shape
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def shape_text(info: TensorInfo) -> str:
    """A shape for people: ``[?, 3, 224, 224]``."""
    return "[" + ", ".join("?" if size is None else str(size) for size in info.shape) + "]"
