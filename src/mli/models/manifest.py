"""The manifest of a model archive: ``manifest.json``, schema "mli.manifest/1".

It says what the files of the archive are, what goes into the model and what comes out, and holds a digest of
every other file. docs/archives.md describes it for users.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

from mli.errors import ArchiveRefused
from mli.models.json_check import Checker, parse_json
from mli.models.members import DEFAULT_LIMITS, MEBIBYTE, Member, path_problem
from mli.models.rules import Rule, refusal, shown
from mli.types import (
    Box,
    Color,
    Dtype,
    Format,
    GoldenSample,
    InputSpec,
    Interpolation,
    Layout,
    OutputKind,
    OutputSpec,
    Prediction,
    Quantization,
    Resize,
    Task,
)

SCHEMA = "mli.manifest/1"
MANIFEST_NAME = "manifest.json"
MANIFEST_LIMIT_BYTES = 4 * MEBIBYTE
_SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "tflite": ".tflite"}
_PIXELS = 16_384
_KEYS = (
    "schema",
    "name",
    "version",
    "description",
    "license",
    "format",
    "task",
    "model",
    "labels",
    "background",
    "input",
    "outputs",
    "golden",
    "files",
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of itself.

    Attributes:
        model, labels: paths inside the archive; labels is a text file, one label a line.
        background: label to leave out of a detector's results.
        files: every file of the archive but the manifest itself, with size and digest.
        license: a name or an SPDX expression, for people.
    """

    name: str
    version: str
    format: Format
    task: Task
    model: str
    labels: str
    input: InputSpec
    outputs: tuple[OutputSpec, ...]
    files: tuple[Member, ...] = ()
    golden: tuple[GoldenSample, ...] = field(default=())
    background: str | None = None
    license: str | None = None
    description: str | None = None

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read ``manifest.json``.

        Raises:
            ArchiveRefused: listing all of its problems.
        """
        if len(data) > MANIFEST_LIMIT_BYTES:
            raise _refused([f"expected at most {MANIFEST_LIMIT_BYTES} bytes, found {len(data)}"])
        try:
            value = parse_json(data)
        except ValueError as error:
            raise _refused([f"it is not JSON: {error}"]) from error
        reader = _Reader()
        manifest = reader.manifest(value)
        if reader.problems:
            raise _refused(reader.problems)
        return manifest

    def to_bytes(self) -> bytes:
        """The canonical JSON: fixed order of keys, files sorted by path, everything optional left out if absent."""
        value = {
            "schema": SCHEMA,
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "license": self.license,
            "format": self.format,
            "task": self.task,
            "model": self.model,
            "labels": self.labels,
            "background": self.background,
            "input": _input_json(self.input),
            "outputs": [
                _present({"name": o.name, "kind": o.kind, "quantization": _quantization_json(o.quantization)})
                for o in self.outputs
            ],
            "golden": [_golden_json(sample) for sample in self.golden],
            "files": {
                file.path: {"sha256": file.sha256, "bytes": file.size_bytes}
                for file in sorted(self.files, key=lambda file: file.path)
            },
        }
        return (json.dumps(_present(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    def check_files(self, archive_name: str, found: Iterable[Member]) -> None:
        """Compare the archive's files with the list.

        Raises:
            ArchiveRefused: a file is extra, missing, or not the one that was packed.
        """
        listed = {file.path: file for file in self.files}
        there = {file.path: file for file in found if file.path != MANIFEST_NAME}
        for path in sorted(there.keys() - listed.keys()):
            raise refusal(archive_name, Rule.EXTRA, "a file that manifest.json does not list", path)
        for path in sorted(listed.keys() - there.keys()):
            raise refusal(archive_name, Rule.MISSING, "no such file, though manifest.json lists it", path)
        for path, file in sorted(listed.items()):
            if there[path] != file:
                error = refusal(archive_name, Rule.FILE_DIGEST, _digest_text(there[path]), path)
                error.expected = _digest_text(file)
                raise error


class _Reader(Checker):
    """Takes a manifest out of JSON values."""

    def manifest(self, value: Any) -> Manifest:
        data = self.object(value, "", _KEYS)
        self.get(data, "", "schema", self.choice((SCHEMA,)), SCHEMA)
        manifest = Manifest(
            name=self.get(data, "", "name", self.text, ""),
            version=self.get(data, "", "version", self.text, ""),
            format=self.get(data, "", "format", self.choice(tuple(_SUFFIXES)), "onnx"),
            task=self.get(data, "", "task", self.choice(get_args(Task)), "classification"),
            model=self.get(data, "", "model", self.path, ""),
            labels=self.get(data, "", "labels", self.path, ""),
            input=self.get(data, "", "input", self.input, InputSpec("", 1, 1)),
            outputs=self.get(data, "", "outputs", self.many(self.output, 1, 64), ()),
            files=self.get(data, "", "files", self.files, ()),
            golden=self.optional(data, "", "golden", self.many(self.golden, 0, 1000), ()),
            background=self.optional(data, "", "background", self.text_or_none, None),
            license=self.optional(data, "", "license", self.prose_or_none, None),
            description=self.optional(data, "", "description", self.prose_or_none, None),
        )
        if not self.problems:
            self._check_together(manifest)
        return manifest

    def _check_together(self, manifest: Manifest) -> None:
        """What only several keys together can break."""
        listed = {file.path for file in manifest.files}
        images = [(f"golden[{index}].image", sample.image) for index, sample in enumerate(manifest.golden)]
        for path, file in [("model", manifest.model), ("labels", manifest.labels), *images]:
            if file not in listed:
                self.problem(path, f"{shown(file)} is not among files")
        for format_, suffix in _SUFFIXES.items():
            if format_ != manifest.format and manifest.model.lower().endswith(suffix):
                self.problem("format", f"it is {manifest.format}, but model is {shown(manifest.model)}")
        kinds = sorted(output.kind for output in manifest.outputs)
        if manifest.task == "classification" and kinds not in (["logits"], ["probabilities"]):
            self.problem("outputs", f"a classifier has one output, probabilities or logits; found {kinds}")
        if manifest.task == "detection" and kinds not in (["boxes", "scores"], ["detections"], ["yolo"]):
            wanted = "a detector has two outputs, scores and boxes, or one, detections or yolo"
            self.problem("outputs", f"{wanted}; found {kinds}")

    def text_or_none(self, value: Any, path: str) -> str | None:
        return self.text(value, path)

    def prose_or_none(self, value: Any, path: str) -> str | None:
        return self.prose(value, path)

    def path(self, value: Any, path: str) -> str:
        text = self.text(value, path)
        problem = path_problem(text, DEFAULT_LIMITS) if text else None
        if problem is not None:
            self.problem(path, f"expected {problem[0].wants}, found {problem[1]}")
        return text

    def files(self, value: Any, path: str) -> tuple[Member, ...]:
        if not isinstance(value, dict) or len(value) > DEFAULT_LIMITS.members:
            self.wrong(path, "an object of paths", value)
            return ()
        files = []
        for name, entry in value.items():
            inner = f"{path}.{shown(name)}"
            self.path(name, inner)
            if name == MANIFEST_NAME:
                self.problem(inner, "the manifest cannot list itself")
            data = self.object(entry, inner, ("sha256", "bytes"))
            size = self.get(data, inner, "bytes", self.whole(0), 0)
            files.append(Member(name, size, self.get(data, inner, "sha256", self.sha256, "")))
        return tuple(sorted(files, key=lambda file: file.path))

    def input(self, value: Any, path: str) -> InputSpec:
        keys = ("name", "width", "height", "dtype", "layout", "color", "resize", "interpolation")
        data = self.object(value, path, (*keys, "mean", "scale", "pad", "quantization"))
        color: Color = self.optional(data, path, "color", self.choice(get_args(Color)), "RGB")
        channels = 1 if color == "gray" else 3
        return InputSpec(
            name=self.get(data, path, "name", self.text, ""),
            width=self.get(data, path, "width", self.whole(1, _PIXELS), 1),
            height=self.get(data, path, "height", self.whole(1, _PIXELS), 1),
            dtype=self.optional(data, path, "dtype", self.choice(get_args(Dtype)), "float32"),
            layout=self.optional(data, path, "layout", self.choice(get_args(Layout)), "NCHW"),
            color=color,
            resize=self.optional(data, path, "resize", self.choice(get_args(Resize)), "stretch"),
            interpolation=self.optional(
                data, path, "interpolation", self.choice(get_args(Interpolation)), "bilinear"
            ),
            mean=self.optional(data, path, "mean", self.per_channel(channels), (0.0,)),
            scale=self.optional(data, path, "scale", self.per_channel(channels), (1.0,)),
            pad=self.optional(data, path, "pad", self.whole(0, 255), 0),
            quantization=self.optional(data, path, "quantization", self.quantization, None),
        )

    def per_channel(self, channels: int) -> Any:
        def take(value: Any, path: str) -> tuple[float, ...]:
            numbers = self.many(self.number(), 1, channels)(value, path)
            if numbers and len(numbers) not in (1, channels):
                self.problem(path, f"expected 1 or {channels} values, found {len(numbers)}")
            return numbers

        return take

    def quantization(self, value: Any, path: str) -> Quantization | None:
        data = self.object(value, path, ("scale", "zero_point"))
        return Quantization(
            self.get(data, path, "scale", self.number(0, above=True), 1.0),
            self.get(data, path, "zero_point", self.whole(-(2**31), 2**31 - 1), 0),
        )

    def output(self, value: Any, path: str) -> OutputSpec:
        data = self.object(value, path, ("name", "kind", "quantization"))
        return OutputSpec(
            self.get(data, path, "name", self.text, ""),
            self.get(data, path, "kind", self.choice(get_args(OutputKind)), "probabilities"),
            self.optional(data, path, "quantization", self.quantization, None),
        )

    def golden(self, value: Any, path: str) -> GoldenSample:
        data = self.object(value, path, ("image", "expected", "tolerance"))
        return GoldenSample(
            self.get(data, path, "image", self.path, ""),
            self.get(data, path, "expected", self.many(self.prediction, 0, 1000), ()),
            self.get(data, path, "tolerance", self.number(0), 0.0),
        )

    def prediction(self, value: Any, path: str) -> Prediction:
        data = self.object(value, path, ("label", "class_id", "confidence", "box"))
        return Prediction(
            self.get(data, path, "label", self.text, ""),
            self.get(data, path, "class_id", self.whole(0), 0),
            self.get(data, path, "confidence", self.number(), 0.0),
            self.optional(data, path, "box", self.box, None),
        )

    def box(self, value: Any, path: str) -> Box | None:
        sides = ("left", "top", "right", "bottom")
        data = self.object(value, path, sides)
        return Box(*(self.get(data, path, side, self.number(), 0.0) for side in sides))


def _refused(problems: list[str]) -> ArchiveRefused:
    shown_problems = problems[:50] + ([f"… and {len(problems) - 50} more"] if len(problems) > 50 else [])
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ArchiveRefused(
        f"The model's {MANIFEST_NAME} has {count}:" + "".join(f"\n  - {text}" for text in shown_problems),
        where=MANIFEST_NAME,
        remedy="correct it, or write it with `mli model pack`; docs/archives.md describes each key",
    )


def _digest_text(file: Member) -> str:
    return f"{file.size_bytes} bytes, sha256 {file.sha256}"


def _present(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


def _quantization_json(value: Quantization | None) -> dict[str, Any] | None:
    return None if value is None else {"scale": value.scale, "zero_point": value.zero_point}


def _input_json(spec: InputSpec) -> dict[str, Any]:
    names = ("name", "width", "height", "dtype", "layout", "color", "resize", "interpolation")
    data: dict[str, Any] = {name: getattr(spec, name) for name in names}
    data |= {"mean": list(spec.mean), "scale": list(spec.scale), "pad": spec.pad}
    return _present({**data, "quantization": _quantization_json(spec.quantization)})


def _golden_json(sample: GoldenSample) -> dict[str, Any]:
    expected = []
    for prediction in sample.expected:
        box = prediction.box
        sides = None if box is None else {s: getattr(box, s) for s in ("left", "top", "right", "bottom")}
        expected.append(
            _present(
                {
                    "label": prediction.label,
                    "class_id": prediction.class_id,
                    "confidence": prediction.confidence,
                    "box": sides,
                }
            )
        )
    return {"image": sample.image, "expected": expected, "tolerance": sample.tolerance}
