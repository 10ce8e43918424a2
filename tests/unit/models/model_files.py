"""A small manifest and the files that it lists."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from mli.models.manifest import Manifest
from mli.models.members import Member
from mli.types import Box, GoldenSample, InputSpec, OutputSpec, Prediction, Quantization

FILES = {"model.onnx": b"weights" * 1000, "labels.txt": b"cat\ndog\n", "golden/cat.png": b"\x89PNG"}


def members(files: Mapping[str, bytes]) -> tuple[Member, ...]:
    return tuple(Member(p, len(b), hashlib.sha256(b).hexdigest()) for p, b in sorted(files.items()))


MANIFEST = Manifest(
    name="pets",
    version="1.2",
    format="onnx",
    task="classification",
    model="model.onnx",
    labels="labels.txt",
    input=InputSpec("data", 224, 160, mean=(123.68, 116.78, 103.94), quantization=Quantization(0.5, 128)),
    outputs=(OutputSpec("prob", "logits", Quantization(0.00390625, 0)),),
    files=members(FILES),
    golden=(GoldenSample("golden/cat.png", (Prediction("cat", 0, 0.9, Box(0.0, 0.1, 0.5, 1.0)),), 0.01),),
    description="Two lines\nof prose: ü",
    license="Apache-2.0",
)


def make_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
