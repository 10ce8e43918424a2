"""An MXNet archive to a native one, on a workstation: what a device does at install, kept in a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mli.config.settings import PreprocessSettings
from mli.core import sandbox
from mli.core.model_jobs import ImportRequest, import_mxnet
from mli.core.preparing import job_limits
from mli.core.proving import Prover
from mli.errors import UsageError
from mli.models.contents import describe, read_manifest
from mli.models.manifest import MANIFEST_NAME, Manifest
from mli.models.mxnet.import_request import ImportOptions, ImportReport
from mli.models.packing import check_target, write_archive
from mli.models.repository import Repository
from mli.types import GoldenSample, Prediction


@dataclass(frozen=True, slots=True)
class ImportChoices:
    """What the user says about an import; what is None is found out.

    Attributes:
        name: of the model; the archive's where None.
        epoch: of the parameters file.
        labels: a labels file to take instead of the archive's.
        preprocess: what the archive cannot say of how pixels become numbers, and its size.
        golden: images that become golden samples.
        tolerance: of their confidences.
    """

    name: str | None = None
    version: str = "1"
    epoch: int | None = None
    labels: Path | None = None
    preprocess: PreprocessSettings = PreprocessSettings()
    golden: tuple[Path, ...] = ()
    tolerance: float = 0.02


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import.

    Attributes:
        sha256: of the archive that was written; None where none was asked for.
        golden: each golden image with what the model said of it.
        duration_s, peak_bytes: time and memory of the import itself.
    """

    manifest: Manifest
    report: ImportReport
    sha256: str | None
    golden: tuple[tuple[str, tuple[Prediction, ...]], ...]
    duration_s: float
    peak_bytes: int


def import_archive(
    source: Path,
    out: Path | None,
    choices: ImportChoices,
    *,
    overwrite: bool = False,
    on_note: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Import an archive, or a folder with the same files.

    Args:
        out: the archive to write; None only tries.

    Raises:
        UsageError: there is nothing at ``source``, it holds no MXNet model, or ``out`` is there already.
        ArchiveRefused, ModelRefused: as the importer.
    """
    if out is not None:
        check_target(out, overwrite=overwrite)
    if choices.labels is not None and not choices.labels.is_file():
        raise UsageError("the labels file is not there", where=str(choices.labels))
    with tempfile.TemporaryDirectory(prefix="mli-import-") as folder:
        directory, name = _directory(source, Path(folder), progress)
        files = Path(folder) / "files"
        files.mkdir()
        preprocess = choices.preprocess
        options = ImportOptions(
            choices.name or name,
            choices.version,
            size=(preprocess.width, preprocess.height) if preprocess.width and preprocess.height else None,
            epoch=choices.epoch,
            labels=None if choices.labels is None else str(choices.labels.absolute()),
        )
        request = ImportRequest(str(directory), str(files), options)
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        done = sandbox.run(import_mxnet, request, job_limits(size), title=f"the import of {name}", on_note=on_note)
        manifest, golden = _proved(files, preprocess, choices)
        sha256 = None if out is None else _write(out, manifest, files, overwrite)
        return Imported(manifest, done.value, sha256, golden, done.duration_s, done.peak_bytes)


def _directory(source: Path, folder: Path, progress: Callable[[int, int], None] | None) -> tuple[Path, str]:
    """The folder of the model's files, and the model's name."""
    if source.is_dir():
        return source, source.absolute().name
    if not source.is_file():
        raise UsageError(
            "there is no such file", where=str(source), expected="an MXNet archive (.zip, .tar.gz) or its folder"
        )
    spec = Repository(folder).install(source, progress=progress)
    if spec.format != "mxnet":
        raise UsageError(
            f"{source.name} holds no MXNet model",
            expected="NAME-symbol.json, NAME-0000.params and synset.txt",
            got=f"{spec.model_file}, which runs as it is",
            remedy=f"mli run {source} ./images",
        )
    return Path(spec.directory), spec.name


def _proved(
    files: Path, preprocess: PreprocessSettings, choices: ImportChoices
) -> tuple[Manifest, tuple[tuple[str, tuple[Prediction, ...]], ...]]:
    """The manifest with what the user says of the preprocessing, and what the model says of the golden images.

    The model is loaded here as a device would load it.
    """
    manifest = read_manifest(files)
    assert manifest is not None
    prover = Prover(describe(files, "", manifest.name), preprocess=preprocess)
    found = []
    for image in choices.golden:
        copy = files / "golden" / image.name
        copy.parent.mkdir(exist_ok=True)
        if not image.is_file():
            raise UsageError("a golden image is not there", where=str(image))
        if copy.exists():
            raise UsageError("two golden images have the same name", where=str(image))
        shutil.copyfile(image, copy)
        found.append((f"golden/{image.name}", prover.predict(copy)))
    samples = tuple(GoldenSample(image, predictions, choices.tolerance) for image, predictions in found)
    return replace(manifest, input=prover.io.input, golden=samples), tuple(found)


def _write(out: Path, manifest: Manifest, files: Path, overwrite: bool) -> str:
    content: dict[str, Path | bytes] = {
        str(path.relative_to(files)): path
        for path in sorted(files.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }
    return write_archive(out, manifest, content, overwrite=overwrite)
