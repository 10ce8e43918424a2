"""Importers that stand for the real one: they write a small model, and a line into ``runs`` beside its folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from tests.fixtures.color_model import LABELS, SIZE, color_model

from mli.core.model_jobs import ImportRequest, Note
from mli.errors import ModelRefused
from mli.models.manifest import Manifest
from mli.models.members import Member
from mli.models.mxnet.import_request import ImportReport
from mli.types import InputSpec, OutputSpec

REPORT = ImportReport("x-symbol.json", "x-0000.params", "1.9.1", ("it was decided so",), ("beware",), (("dot", 1),))


def import_small(request: ImportRequest, note: Note) -> ImportReport:  # noqa: ARG001 - every job has the same form
    _count(request)
    _write_model(Path(request.out), request)
    return REPORT


def import_and_refuse(request: ImportRequest, note: Note) -> ImportReport:  # noqa: ARG001
    _count(request)
    _write_model(Path(request.out), request)
    raise ModelRefused("the operator Foo is not supported", where="x-symbol.json, node foo0")


def import_half(request: ImportRequest, note: Note) -> ImportReport:
    """Write a model, and never say that it is done."""
    _count(request)
    _write_model(Path(request.out), request)
    note(str(os.getpid()))
    while request.out:
        pass
    return REPORT


def import_without_labels(request: ImportRequest, note: Note) -> ImportReport:
    report = import_small(request, note)
    (Path(request.out) / "labels.txt").unlink()
    return report


def import_with_a_link(request: ImportRequest, note: Note) -> ImportReport:
    report = import_small(request, note)
    (Path(request.out) / "more").symlink_to("/etc/passwd")
    return report


def _count(request: ImportRequest) -> None:
    with (Path(request.directory).parent / "runs").open("a") as file:
        file.write(json.dumps(request.options.name) + "\n")


def _write_model(out: Path, request: ImportRequest) -> None:
    color_model(out / "model.onnx")
    (out / "labels.txt").write_text("\n".join(LABELS) + "\n")
    files = []
    for name in ("labels.txt", "model.onnx"):
        data = (out / name).read_bytes()
        files.append(Member(name, len(data), hashlib.sha256(data).hexdigest()))
    manifest = Manifest(
        name=request.options.name,
        version=request.options.version,
        format="onnx",
        task="classification",
        model="model.onnx",
        labels="labels.txt",
        input=InputSpec("input", SIZE, SIZE),
        outputs=(OutputSpec("probabilities", "probabilities"),),
        files=tuple(files),
    )
    (out / "manifest.json").write_bytes(manifest.to_bytes())
