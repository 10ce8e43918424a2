"""From an installed model to one that a worker can load: imported if need be, and compiled for this processor.

Both are done once and kept in ``<root>/cache``. The libraries that do it run in a sandbox, never in this process.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import psutil

from mli.config.settings import LimitSettings
from mli.core import sandbox
from mli.core.isolation.isolator import Isolator
from mli.core.isolation.view import View
from mli.core.model_cache import ModelCache
from mli.core.model_jobs import (
    CompileRequest,
    ImportRequest,
    Note,
    compile_for_this_cpu,
    import_mxnet,
)
from mli.core.root import Root
from mli.core.sandbox import MEBIBYTE, Cell, SandboxLimits, one_line
from mli.errors import MliError, ModelRefused
from mli.frozen_json import from_json, to_json
from mli.models.contents import describe_checked
from mli.models.members import Member
from mli.models.mxnet.import_request import ImportOptions, ImportReport
from mli.models.mxnet.importer_version import IMPORTER_VERSION
from mli.pipeline.estimators.registry import choose_backend
from mli.types import ModelSpec

log = logging.getLogger(__name__)

COMPILED_FROM_BYTES = 16 * MEBIBYTE
"""A smaller model is loaded as fast as it is, and has little memory to save."""
BYTES_A_SECOND = 4 * MEBIBYTE
"""So slow may a device be over and above ``start_timeout``."""
MOST_OF_RAM = 0.75
_CPU_FIELDS = ("vendor_id", "model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant")

Importer = Callable[[ImportRequest, Note], ImportReport]


def prepare(
    spec: ModelSpec,
    root: Root,
    backend: str,
    on_note: Note,
    *,
    limits: LimitSettings | None = None,
    import_size: tuple[int, int] | None = None,
    importer: Importer = import_mxnet,
    isolator: Isolator | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ModelSpec:
    """The model as a worker loads it.

    Args:
        backend: the pipeline's choice.
        on_note: gets a line for a person now and then, while something is made for the first time.
        limits: of the pipeline, the default ones where None; a job may use so much, or what the model's size needs.
        import_size: width and height of an MXNet model's input, where the deployment says it.
        importer: the sandbox's job for MXNet models.
        isolator: of the core; None does the work without a container.
        cancelled: whether nobody wants it any more.

    Raises:
        JobCancelled: see ``cancelled``.
        ArchiveRefused, ModelRefused: the model cannot be imported.
        RetryError: no room on the disk.
        StopError: the backend is not installed, or the import was interrupted.
    """
    chosen = choose_backend(backend, "onnx" if spec.format == "mxnet" else spec.format)
    cache, origin = root.cache / spec.sha256, "archive"
    if spec.format == "mxnet":
        options = ImportOptions(spec.name, spec.version, import_size)
        origin = f"mxnet-{IMPORTER_VERSION}" + (f"-{import_size[0]}x{import_size[1]}" if import_size else "")
        spec = _imported(spec, ModelCache(cache), origin, options, on_note, limits, importer, isolator, cancelled)
    if chosen.name != "onnxruntime" or model_bytes(spec) < COMPILED_FROM_BYTES:
        return spec
    try:
        return replace(
            spec, compiled_file=_compiled(spec, ModelCache(cache), origin, on_note, limits, isolator, cancelled)
        )
    except MliError as error:
        log.warning("%s runs without a copy for this processor, which takes more memory: %s", spec.name, error)
        return spec


def _imported(
    spec: ModelSpec,
    cache: ModelCache,
    key: str,
    options: ImportOptions,
    on_note: Note,
    limits: LimitSettings | None,
    importer: Importer,
    isolator: Isolator | None,
    cancelled: Callable[[], bool],
) -> ModelSpec:
    size = model_bytes(spec)

    def make(files: Path) -> dict[str, Any]:
        on_note(f"importing the MXNet model {spec.name} ({size / 1e6:.0f} MB), once")
        request = ImportRequest(spec.directory, str(files), options)
        title = f"the import of the MXNet model {spec.name}"
        bounds, cell = job_limits(size, limits), _cell(isolator, spec, files)
        done = sandbox.run(importer, request, bounds, title=title, on_note=on_note, cell=cell, cancelled=cancelled)
        return cast(dict[str, Any], to_json(done.value))

    def check(files: Path, members: tuple[Member, ...], report: dict[str, Any]) -> tuple[ModelSpec, ImportReport]:
        native = describe_checked(files, members, spec.sha256, spec.name)
        if native.format != "onnx":
            raise ModelRefused("the import made no ONNX model", where=str(files), got=native.format)
        return replace(native, name=spec.name, version=spec.version), from_json(ImportReport, report)

    found = cache.get(key, size, make, check)
    native, report = found.value
    for text in [one_line(str(text)) for text in report.notes]:
        log.info("%s: %s", spec.name, text)
        if found.is_new:
            on_note(f"{spec.name}: {text}")
    for text in report.warnings:
        log.warning("%s: %s", spec.name, one_line(str(text)))
    return native


def _compiled(
    spec: ModelSpec,
    cache: ModelCache,
    origin: str,
    on_note: Note,
    limits: LimitSettings | None,
    isolator: Isolator | None,
    cancelled: Callable[[], bool],
) -> str:
    """Path of onnxruntime's own copy of an ONNX model."""
    size = model_bytes(spec)

    def make(files: Path) -> dict[str, Any]:
        on_note(f"optimising {spec.name} ({size / 1e6:.0f} MB) for this processor, once")
        request = CompileRequest(str(Path(spec.directory) / spec.model_file), str(files / "model.ort"))
        title = f"the optimisation of {spec.name} for this processor"
        bounds, cell = job_limits(size, limits), _cell(isolator, spec, files)
        done = sandbox.run(
            compile_for_this_cpu, request, bounds, title=title, on_note=on_note, cell=cell, cancelled=cancelled
        )
        return {"onnxruntime": one_line(done.value.version)}

    def check(files: Path, members: tuple[Member, ...], _: dict[str, Any]) -> str:
        if [member.path for member in members] != ["model.ort"]:
            raise ModelRefused("there is no copy of the model", where=str(files), expected="a file model.ort")
        return str(files / "model.ort")

    version = importlib.metadata.version("onnxruntime")
    return cache.get(f"onnxruntime-{version}+{_processor()}-{origin}", size, make, check).value


def _cell(isolator: Isolator | None, spec: ModelSpec, files: Path) -> Cell:
    """A job that reads a model, and writes into a folder."""
    return Cell(isolator, View(readable=(Path(spec.directory),), writable=(files,)))


def job_limits(size: int, limits: LimitSettings | None = None) -> SandboxLimits:
    """What a job over a model of ``size`` bytes may use: so much, or what its pipeline allows a worker."""
    limits = limits or LimitSettings()
    needed = 256 * MEBIBYTE + 4 * size
    most = round(psutil.virtual_memory().total * MOST_OF_RAM)
    return SandboxLimits(
        memory_bytes=min(max(limits.memory_bytes, needed), most),
        time_s=limits.start_timeout_s + size / BYTES_A_SECOND,
        file_bytes=64 * MEBIBYTE + 4 * size,
        memory_remedy="set `limits: {{memory: {need}MB}}` for this pipeline, or take a smaller model",
        time_remedy="raise limits.start_timeout of the pipeline, or take a smaller model",
    )


def model_bytes(spec: ModelSpec) -> int:
    """Bytes of the model with all that lies beside it: weights may be files of their own."""
    return sum(path.stat().st_size for path in Path(spec.directory).rglob("*") if path.is_file())


def _processor() -> str:
    """A digest of what a compiled copy depends on beside its runtime and its model."""
    facts = {os.uname().machine}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        facts |= {line for line in lines if line.partition(":")[0].strip() in _CPU_FIELDS}
    return hashlib.sha256("\n".join(sorted(facts)).encode()).hexdigest()[:12]
