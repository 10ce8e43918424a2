"""What models need: where they come from, and a runtime that loads them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from mli.core.doctor.finding import Verdict, fail, of_error, ok, skipped
from mli.core.doctor.patient import Patient
from mli.pipeline.estimators.registry import BACKENDS, Backend

if TYPE_CHECKING:
    from mli.config.settings import ModelSource
    from mli.errors import MliError
    from mli.models.fetching.probing import ProbeReport

_IMPORT_WAIT_S = 30.0
_LOAD = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(getattr(sys.modules[sys.argv[2]], "__version__", ""))
"""
_LOADED_BY = {"onnxruntime": "mli.pipeline.estimators.onnx", "litert": "mli.pipeline.estimators.tflite"}
"""What a worker imports to load a model with a backend."""
_IMAGES = Backend("OpenCV", "cv2", (), "pip install opencv-python-headless")
_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file")
_SYMBOL = re.compile(r"version `(GLIBC\w*_[\d.]+)' not found")
_PACKAGES = {
    "libgomp": "libgomp1",
    "libstdc++": "libstdc++6",
    "libgcc_s": "libgcc-s1",
    "libGL": "libgl1",
    "libglib-2": "libglib2.0-0",
    "libgfortran": "libgfortran5",
    "libopenblas": "libopenblas0",
    "libatlas": "libatlas3-base",
    "libquadmath": "libquadmath0",
    "libtbb": "libtbb12",
    "libusb-1": "libusb-1.0-0",
    "libnuma": "libnuma1",
}
_EXTENSIONS = {".onnx": "onnx", ".tflite": "tflite", ".params": "mxnet"}


def check_store(patient: Patient) -> Verdict:
    """Each model's source can be read from here: the bucket is there, in its region, and gives it to these keys."""
    device = patient.device
    sources = _sources(patient)
    if device is None or not sources:
        return skipped("no model comes over the network")
    from mli.models.fetching.fetcher import Fetcher

    fetcher = Fetcher(
        device.store,
        None,  # what a deployment may name is checked where it comes in
        None if device.mqtt is None else device.mqtt.tls,
        device.thing,
        environ=patient.environment,
    )
    told = []
    for name, source in sources.items():
        report = fetcher.probe(source)
        if report.error is not None:
            return _no_archive(name, report, report.error)
        told.append(_found_text(name, report))
    return ok("; ".join(told))


def _sources(patient: Patient) -> dict[str, ModelSource]:
    """Models of what the broker wants, and of what runs: the former may be what does not come in."""
    found: dict[str, ModelSource] = {}
    wanted = patient.wanted.read(patient)
    for deployment in (patient.deployment, None if wanted is None else wanted.deployment):
        if deployment is not None:
            found |= {name: model for name, model in deployment.models.items() if _is_remote(model.uri)}
    return found


def _no_archive(name: str, report: ProbeReport, error: MliError) -> Verdict:
    verdict = of_error(error, "check the model's uri, and that this device may read it")
    asked = [f"as {report.credentials}" if report.credentials else None]
    asked += [f"in the region {report.region_asked}" if report.region_asked else None]
    asked += [f"through the proxy {report.proxy}" if report.proxy else None]
    how = ", ".join(filter(None, asked))
    return fail(f"model {name}: {verdict.detail}{f' (asked {how})' if how else ''}", verdict.remedy or "")


def _found_text(name: str, report: ProbeReport) -> str:
    size = "" if report.size_bytes is None else f", {report.size_bytes / 1024**2:,.1f} MB"
    moved = report.region is not None and report.region != report.region_asked
    region = "" if report.region is None else f", region {report.region}"
    if moved:
        region += f" (followed from {report.region_asked})"
    return f"{name}: {report.shown}{size}{region}{f', {report.credentials}' if report.credentials else ''}"


def check_backends(patient: Patient) -> Verdict:
    """The runtimes can be loaded, each in a process of its own: a library of the system may be missing."""
    formats = formats_needed(patient)
    version, problem = load(_IMAGES)
    if problem is not None:
        return _cannot_load(_IMAGES, "every pipeline needs", problem)
    told, missing = [f"OpenCV {version}"], []
    for backend in BACKENDS:
        needed = set(backend.formats) & formats
        version, problem = load(backend)
        if problem is None:
            told.append(f"{backend.name} {version}")
        elif needed:
            return _cannot_load(backend, f".{' and .'.join(sorted(needed))} models need", problem)
        else:
            missing.append(f"{backend.name} for .{backend.formats[0]} models")
    if len(told) == 1:
        return fail("no runtime for models is installed", "install one: pip install onnxruntime")
    return ok(", ".join(told) + (f"; not installed: {', '.join(missing)}" if missing else ""))


def formats_needed(patient: Patient) -> set[str]:
    """Formats of the models that are on this device; an MXNet model runs as the ONNX model that is made of it."""
    found = set()
    models = patient.root.path / "models"
    for path in models.glob("*/files/**/*") if models.is_dir() else ():
        kind = _EXTENSIONS.get(path.suffix.lower())
        if kind is not None:
            found.add("onnx" if kind == "mxnet" else kind)
    return found


def load(backend: Backend) -> tuple[str | None, str | None]:
    """Import what a worker would, in a process of its own.

    Returns:
        The backend's version, and what went wrong; one of them is None.
    """
    module = _LOADED_BY.get(backend.name, backend.module)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _LOAD, module, backend.module],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_IMPORT_WAIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"importing {module} took more than {_IMPORT_WAIT_S:g} s"
    if done.returncode == 0:
        return done.stdout.strip(), None
    if done.returncode < 0:
        return None, f"importing {module} ended the process with signal {-done.returncode}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return None, lines[-1] if lines else f"exit code {done.returncode}"


def _cannot_load(backend: Backend, who_needs: str, problem: str) -> Verdict:
    what = f"{backend.name}, which {who_needs},"
    if f"No module named '{backend.module}'" in problem:
        return fail(f"{what} is not installed", f"{backend.install}, into {sys.prefix}")
    library = _LIBRARY.search(problem)
    if library is not None:
        package = next((name for start, name in _PACKAGES.items() if library[1].startswith(start)), None)
        install = f"apt install {package}" if package else f"find it: apt-file search {library[1]}"
        return fail(f"{what} lacks a library of the system: {library[1]}", f"install that library: {install}")
    symbol = _SYMBOL.search(problem)
    if symbol is not None:
        return fail(
            f"{what} needs a newer system: {symbol[1]}", "update the system, or install an older release of it"
        )
    if "signal 4" in problem:
        return fail(
            f"{what} uses instructions that this processor lacks: {problem}",
            "install an older release of the runtime",
        )
    return fail(f"{what} cannot be loaded: {problem}", f"install it anew: {backend.install} --force-reinstall")


def _is_remote(uri: str) -> bool:
    return uri.startswith(("s3://", "https://"))
