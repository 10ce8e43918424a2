"""Which backend runs which model format, and whether it is installed."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mli.errors import ModelRefused, StopError

if TYPE_CHECKING:
    from mli.pipeline.estimators.estimator import Estimator
    from mli.types import ModelSpec


@dataclass(frozen=True, slots=True)
class Backend:
    """A runtime: the module it needs, the formats it loads, and the command that installs it."""

    name: str
    module: str
    formats: tuple[str, ...]
    install: str


BACKENDS = (
    Backend("onnxruntime", "onnxruntime", ("onnx",), "pip install onnxruntime"),
    Backend("litert", "ai_edge_litert", ("tflite",), "pip install ai-edge-litert"),
)


def choose_backend(wanted: str, model_format: str) -> Backend:
    """The backend for a model, checked to be installed.

    Raises:
        ModelRefused: the wanted backend does not load this format.
        StopError: the backend is not installed.
    """
    able = [backend for backend in BACKENDS if model_format in backend.formats]
    chosen = [backend for backend in able if wanted in ("auto", backend.name)]
    if not chosen:
        raise ModelRefused(
            f"backend {wanted} does not run .{model_format} models",
            expected=f"{' or '.join(backend.name for backend in able)} (or auto) for this model",
            got=f"backend: {wanted}",
        )
    backend = chosen[0]
    if importlib.util.find_spec(backend.module) is None:
        raise StopError(
            f"the backend {backend.name}, which runs .{model_format} models, is not installed",
            expected=f"the Python module {backend.module}",
            remedy=backend.install,
        )
    return backend


def open_estimator(model: ModelSpec, wanted: str = "auto", *, threads: int = 0, parallel: bool = False) -> Estimator:
    """Load a model.

    Args:
        threads: for one inference; 0 chooses.
        parallel: several frames at a time, each on fewer threads (throughput), instead of one frame at a time on
            all cores (latency).

    Raises:
        ModelRefused: the runtime cannot load it.
        StopError: the backend is not installed, or lacks a library of the system.
    """
    backend = choose_backend(wanted, model.format)
    path = os.path.join(model.directory, model.model_file)  # noqa: PTH118 - runtimes take strings
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    streams = max(1, cores // threads) if threads else cores
    capacity = streams if parallel else 1
    each = threads or max(1, cores // capacity)
    try:
        kind = _estimator_class(backend, model)
    except ImportError as error:
        raise StopError(
            f"the backend {backend.name} is installed, but this system cannot load it",
            got=str(error),
            remedy=f"install what is named above, or the backend anew: {backend.install} --force-reinstall",
        ) from error
    return kind(path, threads=each, capacity=capacity)


def _estimator_class(backend: Backend, model: ModelSpec) -> Callable[..., Estimator]:
    if backend.name == "onnxruntime":
        from mli.pipeline.estimators.onnx import OnnxEstimator

        return functools.partial(OnnxEstimator, compiled_file=model.compiled_file)
    from mli.pipeline.estimators.tflite import LiteRtEstimator

    return LiteRtEstimator
