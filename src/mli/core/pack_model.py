"""Make a model archive from loose files: what they are is found out, proved on the images, and written down."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mli.config.settings import PreprocessSettings
from mli.core.proving import Prover
from mli.errors import UsageError
from mli.models.labels import read_labels
from mli.models.manifest import MANIFEST_NAME, Manifest
from mli.models.packing import write_archive
from mli.types import Format, GoldenSample, ModelSpec, OutputSpec, Prediction, Task

_MODELS: dict[str, Format] = {".onnx": "onnx", ".tflite": "tflite"}
_LABELS = (".txt", ".names")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_DOCUMENTS = ("readme", "license", "notice")


@dataclass(frozen=True, slots=True)
class PackOptions:
    """What the files do not say themselves.

    Attributes:
        name: None takes the model file's.
        outputs: meaning of outputs by name; empty takes the only output as probabilities.
        logits: the only output holds logits.
        tolerance: of the golden samples' confidences.
    """

    name: str | None = None
    version: str = "1"
    preprocess: PreprocessSettings = PreprocessSettings()
    outputs: tuple[OutputSpec, ...] = ()
    logits: bool = False
    background: str | None = None
    tolerance: float = 0.02
    license: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class PackReport:
    """What was written.

    Attributes:
        sha256: of the archive.
        golden: each golden image with what the model said of it.
    """

    path: Path
    sha256: str
    manifest: Manifest
    backend: str
    golden: tuple[tuple[str, tuple[Prediction, ...]], ...]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Files:
    model: Path
    labels: Path
    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


def pack_model(files: Sequence[Path], out: Path, options: PackOptions, *, overwrite: bool = False) -> PackReport:
    """Write a model archive: one model, one labels file, and images that become golden samples.

    Other files (external weights, a licence) are packed beside them.

    Raises:
        UsageError: the files are not one model with its labels.
        ModelRefused: the model does not load, or does not fit its labels.
        ImageRefused: a golden image cannot be used.
    """
    sorted_files = _sort(files)
    with tempfile.TemporaryDirectory(prefix="mli-pack-") as folder:
        content = _collect(sorted_files)
        for name, path in content.items():
            target = Path(folder) / name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        spec = _spec(sorted_files, Path(folder), options)
        prover = Prover(spec, preprocess=options.preprocess)
        golden = [(name, prover.predict(Path(folder) / name)) for name in content if name.startswith("golden/")]
        manifest = Manifest(
            name=spec.name,
            version=spec.version,
            format=spec.format,
            task=spec.task,
            model=spec.model_file,
            labels=sorted_files.labels.name,
            input=prover.io.input,
            outputs=prover.io.outputs,
            golden=tuple(GoldenSample(name, found, options.tolerance) for name, found in golden),
            background=options.background,
            license=options.license,
            description=options.description,
        )
        sha256 = write_archive(out, manifest, dict(content), overwrite=overwrite)
    return PackReport(out, sha256, manifest, prover.backend, tuple(golden), _warnings(manifest, spec.labels, golden))


def _sort(files: Sequence[Path]) -> _Files:
    for path in files:
        if path.is_dir():
            raise UsageError("a folder cannot be packed", where=str(path), remedy=f"name its files: {path}/*")
        if not path.is_file():
            raise UsageError("a file to pack is not there", where=str(path))
    models = [path for path in files if path.suffix.lower() in _MODELS]
    texts = [
        path for path in files if path.suffix.lower() in _LABELS and not path.stem.lower().startswith(_DOCUMENTS)
    ]
    if len(models) != 1:
        raise UsageError(
            "an archive holds one model",
            expected="one .onnx or .tflite file",
            got=", ".join(path.name for path in models) or "none among " + ", ".join(path.name for path in files),
        )
    if len(texts) != 1:
        raise UsageError(
            "an archive holds one labels file",
            expected="one .txt (or .names) file with one label a line, in the order of the model's outputs",
            got=", ".join(path.name for path in texts) or "none",
        )
    known = {*models, *texts}
    images = [path for path in files if path.suffix.lower() in _IMAGES]
    return _Files(models[0], texts[0], images, [path for path in files if path not in known and path not in images])


def _collect(files: _Files) -> dict[str, Path]:
    """The archive's paths; images lie under ``golden/``."""
    content: dict[str, Path] = {}
    for path in (files.model, files.labels, *files.others):
        _add(content, path.name, path)
    for path in files.images:
        _add(content, f"golden/{path.name}", path)
    return content


def _add(content: dict[str, Path], name: str, path: Path) -> None:
    if name.casefold() in {known.casefold() for known in (*content, MANIFEST_NAME)}:
        raise UsageError(
            f"two files would be called {name} in the archive",
            where=str(path),
            remedy="the manifest is written by this command" if name == MANIFEST_NAME else "rename one of them",
        )
    content[name] = path


def _spec(files: _Files, folder: Path, options: PackOptions) -> ModelSpec:
    kinds = {output.kind for output in options.outputs}
    task: Task = "detection" if kinds & {"boxes", "detections", "yolo"} else "classification"
    spec = ModelSpec(
        name=options.name or files.model.stem,
        version=options.version,
        sha256="",
        format=_MODELS[files.model.suffix.lower()],
        task=task,
        directory=str(folder),
        model_file=files.model.name,
        labels=read_labels(folder / files.labels.name),
        outputs=options.outputs,
        background=options.background,
    )
    if options.background is not None and options.background not in spec.labels:
        raise UsageError(f"the labels have no {options.background!r}, which --background names")
    if options.logits and not options.outputs:
        prover = Prover(spec, preprocess=options.preprocess)
        return replace(spec, outputs=tuple(replace(output, kind="logits") for output in prover.io.outputs))
    return spec


def _warnings(
    manifest: Manifest, labels: tuple[str, ...], golden: list[tuple[str, tuple[Prediction, ...]]]
) -> tuple[str, ...]:
    warnings = []
    if manifest.task == "detection" and manifest.background is None and "background" in labels:
        warnings.append("the label `background` would be reported as an object; pack it with --background background")
    if not golden:
        warnings.append(
            "no golden samples: add a few photos to the files, so that a device can prove the model before it runs it"
        )
    scores = [item.confidence for _, predictions in golden for item in predictions]
    probabilities = all(output.kind in ("probabilities", "scores") for output in manifest.outputs)
    if probabilities and scores and (min(scores) < 0 or max(scores) > 1.001):
        warnings.append(
            f"confidences from {min(scores):.2f} to {max(scores):.2f} are no probabilities; "
            "if the model ends without softmax, pack it with --logits"
        )
    return tuple(warnings)
