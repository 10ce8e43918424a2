"""A new model tried in the sandbox as its pipeline would use it, before anything depends on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from mli.config.settings import PipelineSettings
from mli.errors import ImageRefused, MliError, ModelRefused
from mli.types import ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mli.pipeline.estimators.estimator import Estimator
    from mli.types import Image, TensorInfo

FRAMES = 4
"""Of the pipeline's own, or plain ones, where the archive has no golden samples."""


@dataclass(frozen=True, slots=True)
class CanaryRequest:
    """A pipeline and the model that it shall run.

    Attributes:
        since: position before the last frames of the running pipeline with the same source; None: from its beginning.
    """

    settings: PipelineSettings
    model: ModelSpec
    since: str | None = None


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """What the canary saw.

    Attributes:
        golden: golden samples that agreed.
        frames: other frames that were predicted.
        of_source: they came from the pipeline's own source; otherwise they were plain ones.
        load_s: to load the model and run it once.
        slowest_ms: of all frames, decoded already.
    """

    backend: str
    golden: int
    frames: int
    of_source: bool
    load_s: float
    slowest_ms: float


def try_model(request: CanaryRequest, note: Callable[[str], None]) -> CanaryReport:  # noqa: ARG001 - it is one step
    """Load a model, and see what it says of golden samples and frames.

    Raises:
        ModelRefused: it cannot be loaded, does not fit its labels, gives numbers that are none, is not what was
            packed, or is slower than its pipeline allows.
        StopError: its backend is not installed.
        UsageError: the pipeline's rules do not fit it.
    """
    from mli.core.proving import Prover
    from mli.pipeline.estimators.registry import open_estimator
    from mli.pipeline.loop import FrameProcessor
    from mli.pipeline.rules import RuleEngine
    from mli.pipeline.warmup import warm_up

    settings, model = request.settings, request.model
    started = time.perf_counter()
    estimator = _Finite(open_estimator(model, settings.backend, threads=settings.threads), model.name)
    processor = FrameProcessor(settings, model, estimator)
    RuleEngine(settings.rules, model.labels)
    warm_up(estimator, processor.io)
    load_s = time.perf_counter() - started
    slowest_ms = 0.0
    if model.golden:
        proofs = Prover(model, estimator=estimator).prove(model.golden)
        slowest_ms = max(proof.infer_ms for proof in proofs)
        _check_time(settings, slowest_ms / 1000)
    frames, of_source = _frames(request)
    for image in frames:
        slowest_ms = max(slowest_ms, 1000 * _timed(partial(processor, image), settings))
    return CanaryReport(estimator.backend, len(model.golden), len(frames), of_source, load_s, slowest_ms)


def _timed(work: Callable[[], object], settings: PipelineSettings) -> float:
    """Seconds that one frame takes. A device that was busy for a moment gets a second try."""
    for _ in range(2):
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
        if seconds <= settings.limits.frame_timeout_s:
            return seconds
    _check_time(settings, seconds)
    return seconds


def _check_time(settings: PipelineSettings, seconds: float) -> None:
    if seconds > settings.limits.frame_timeout_s:
        raise ModelRefused(
            f"{settings.name}: the model is slower than its pipeline allows",
            expected=f"at most {settings.limits.frame_timeout_s:g} s a frame (limits.frame_timeout)",
            got=f"{seconds:.1f} s",
            remedy="take a smaller model, or raise limits.frame_timeout",
        )


def _frames(request: CanaryRequest) -> tuple[list[Image], bool]:
    """Frames of the pipeline's source, which it may have predicted already; plain ones where it gives none."""
    try:
        images = list(islice(_of_source(request), FRAMES))
    except (OSError, MliError):  # a folder that is filled later: not the model's fault
        images = []
    return (images, True) if images else (_plain(), False)


def _of_source(request: CanaryRequest) -> Iterator[Image]:
    from mli.pipeline.sources.registry import open_source
    from mli.pipeline.sources.source import Capture

    source = open_source(request.settings.source, request.since)
    try:
        for _ in range(2 * FRAMES):
            capture = source.read()
            if not isinstance(capture, Capture):
                return
            try:
                yield capture.decode()
            except ImageRefused:
                continue
    finally:
        source.close()


def _plain() -> list[Image]:
    """Black, white, a ramp and noise, 480 x 640."""
    import numpy as np

    ramp = np.broadcast_to(np.linspace(0, 255, 640, dtype=np.uint8)[None, :, None], (480, 640, 3))
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return [
        np.zeros((480, 640, 3), np.uint8),
        np.full((480, 640, 3), 255, np.uint8),
        np.ascontiguousarray(ramp),
        noise,
    ]


class _Finite:
    """An estimator whose outputs must be numbers: NaN and infinity are no predictions."""

    def __init__(self, inner: Estimator, model: str) -> None:
        self._inner = inner
        self._model = model
        self.backend = inner.backend
        self.inputs: tuple[TensorInfo, ...] = inner.inputs
        self.outputs: tuple[TensorInfo, ...] = inner.outputs
        self.capacity = inner.capacity

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import numpy as np

        outputs = self._inner.infer(arrays)
        for name, values in outputs.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                bad = int((~np.isfinite(values)).sum())
                raise ModelRefused(
                    f"{self._model}: the model gives numbers that are none",
                    expected="finite outputs",
                    got=f"{bad} of {values.size} values of {name} are NaN or infinite",
                    remedy="look for broken weights, or inputs in another range than the model was trained with",
                )
        return outputs

    def close(self) -> None:
        self._inner.close()
