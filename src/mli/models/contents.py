"""What an extracted folder holds: the model, by its manifest or, without one, by its files' names."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from mli.errors import ArchiveRefused
from mli.models.labels import read_labels
from mli.models.manifest import MANIFEST_LIMIT_BYTES, MANIFEST_NAME, Manifest
from mli.models.members import Member
from mli.models.mxnet.archive_files import find_mxnet, has_mxnet
from mli.models.rules import listed, shown
from mli.types import Format, GoldenSample, ModelSpec

_FORMATS: dict[str, Format] = {".onnx": "onnx", ".tflite": "tflite"}
_LABEL_NAMES = ("*label*.txt", "*synset*.txt", "classes.txt", "*.names")
_NO_LABELS = ("readme*", "license*", "notice*", "requirements*")
_ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".zip")


def describe(directory: Path, sha256: str, archive_name: str) -> ModelSpec:
    """The model in a folder of extracted files.

    With ``manifest.json`` everything comes from it. Without, there must be one .onnx or .tflite, or the symbol and
    parameters of MXNet, and one labels file; ``input`` and ``outputs`` are then left to be read from the model.

    Args:
        sha256: digest of the archive.
        archive_name: file name of the archive, for messages and for a name where no manifest gives one.

    Raises:
        ArchiveRefused: the files are not one model that mli can run.
    """
    manifest = read_manifest(directory)
    return (
        _from_files(directory, sha256, archive_name)
        if manifest is None
        else _from_manifest(directory, sha256, manifest)
    )


def describe_checked(directory: Path, members: Iterable[Member], sha256: str, archive_name: str) -> ModelSpec:
    """Like :func:`describe`, after the files were compared with the manifest's list of digests."""
    manifest = read_manifest(directory)
    if manifest is not None:
        manifest.check_files(archive_name, members)
    return describe(directory, sha256, archive_name)


def read_manifest(directory: Path) -> Manifest | None:
    """The folder's manifest, None where there is none."""
    path = directory / MANIFEST_NAME
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return Manifest.parse(file.read(MANIFEST_LIMIT_BYTES + 1))


def _from_manifest(directory: Path, sha256: str, manifest: Manifest) -> ModelSpec:
    labels = read_labels(directory / manifest.labels)
    if manifest.background is not None and manifest.background not in labels:
        raise _mismatch("background", f"one of the {len(labels)} labels", shown(manifest.background))
    for index, sample in enumerate(manifest.golden):
        _check_golden(index, sample, labels)
    return ModelSpec(
        name=manifest.name,
        version=manifest.version,
        sha256=sha256,
        format=manifest.format,
        task=manifest.task,
        directory=str(directory.absolute()),
        model_file=manifest.model,
        labels=labels,
        input=manifest.input,
        outputs=manifest.outputs,
        background=manifest.background,
        golden=manifest.golden,
    )


def _check_golden(index: int, sample: GoldenSample, labels: tuple[str, ...]) -> None:
    for prediction in sample.expected:
        where = f"golden[{index}] ({sample.image})"
        if prediction.class_id >= len(labels):
            raise _mismatch(where, f"a class_id below {len(labels)}, the number of labels", str(prediction.class_id))
        if labels[prediction.class_id] != prediction.label:
            expected = f"{shown(labels[prediction.class_id])}, the label of class {prediction.class_id}"
            raise _mismatch(where, expected, shown(prediction.label))


def _from_files(directory: Path, sha256: str, archive_name: str) -> ModelSpec:
    files = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    model = _model_file(files, archive_name)
    format_: Format
    labels: str | None
    if model is not None:
        format_ = _FORMATS[Path(model).suffix.lower()]
        labels = labels_file(files, archive_name, model)
    else:
        found = find_mxnet(files, archive_name)
        format_, model = "mxnet", found.symbol
        labels = labels_file(files, archive_name, model, needed=found.kind == "mxnet")
    return ModelSpec(
        name=_model_name(archive_name),
        version=sha256[:12],
        sha256=sha256,
        format=format_,
        task="classification",
        directory=str(directory.absolute()),
        model_file=model,
        labels=() if labels is None else read_labels(directory / labels),
    )


def _model_file(files: list[str], archive_name: str) -> str | None:
    """The .onnx or .tflite; None where the model is one of MXNet's."""
    models = [path for path in files if Path(path).suffix.lower() in _FORMATS]
    if len(models) == 1:
        return models[0]
    if models:
        raise ArchiveRefused(
            f"The model archive {shown(archive_name)} holds {len(models)} models and no {MANIFEST_NAME}.",
            where=archive_name,
            expected="one .onnx or .tflite file",
            got=listed(models),
            remedy="leave one of them in the archive, or say which with `mli model pack`",
        )
    if has_mxnet(files):
        return None
    raise ArchiveRefused(
        f"There is no model in the model archive {shown(archive_name)}.",
        where=archive_name,
        expected="one .onnx or .tflite file, or MXNet's NAME-symbol.json and NAME-0000.params",
        got=listed(files),
        remedy="add the model's file, or pack the archive with `mli model pack`",
    )


def labels_file(files: list[str], archive_name: str, model: str, *, needed: bool = True) -> str | None:
    """The file of labels among an archive's files; None where there is none and it is not ``needed``.

    Raises:
        ArchiveRefused: there are several, or none that is needed.
    """
    texts = [path for path in files if path.lower().endswith(".txt") and not _matches(path, _NO_LABELS)]
    candidates = [path for path in files if _matches(path, _LABEL_NAMES)] or texts
    if model.endswith(".json"):  # MXNet's own name goes before any other
        candidates = [path for path in candidates if _matches(path, ("synset.txt",))] or candidates
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ArchiveRefused(
            f"The model archive {shown(archive_name)} holds {len(candidates)} files that could be its labels.",
            where=archive_name,
            expected="one labels file",
            got=listed(candidates),
            remedy="leave one of them in the archive, or say which with `mli model pack`",
        )
    if not needed:
        return None
    wanted, remedy = "labels.txt", f"make the archive again: zip model.zip {model} labels.txt"
    if model.endswith(".json"):
        wanted, remedy = "synset.txt", "add it to the archive: zip ARCHIVE.zip synset.txt"
    raise ArchiveRefused(
        f"The model archive {shown(archive_name)} has no labels, so its predictions would have no names.",
        where=archive_name,
        expected=f"a text file {wanted}: one label a line, in the order of the model's output",
        got=listed(files),
        remedy=f"write {wanted} beside the model and {remedy}",
    )


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    name = path.rpartition("/")[2].lower()
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _model_name(archive_name: str) -> str:
    for suffix in _ARCHIVE_SUFFIXES:
        if archive_name.lower().endswith(suffix) and len(archive_name) > len(suffix):
            return archive_name[: -len(suffix)]
    return archive_name


def _mismatch(where: str, expected: str, found: str) -> ArchiveRefused:
    return ArchiveRefused(
        f"The model's {MANIFEST_NAME} does not fit its labels.",
        where=f"{MANIFEST_NAME}, {where}",
        expected=expected,
        got=found,
        remedy="pack the archive again with the labels that the model was trained with",
    )
