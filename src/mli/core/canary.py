"""The proof before activation: a new model must work here, under its pipeline's limits, where it can hurt nobody."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from mli.core import sandbox
from mli.core.canary_job import FRAMES, CanaryReport, CanaryRequest, try_model
from mli.core.isolation.isolator import Isolator
from mli.core.isolation.view import worker_view
from mli.core.pipeline_set import Planned
from mli.core.sandbox import Cell, SandboxLimits
from mli.frozen_json import to_json

log = logging.getLogger(__name__)

MOST_GOLDEN = 16
"""So many golden samples are proof enough on a device; packing and verifying take them all."""


def prove(
    planned: Planned, since: str | None, isolator: Isolator, cancelled: Callable[[], bool] = lambda: False
) -> CanaryReport:
    """Try a pipeline's model in the sandbox.

    Args:
        since: see ``CanaryRequest``.
        isolator: how the child is started.
        cancelled: whether nobody wants it any more.

    Raises:
        JobCancelled: see ``cancelled``.
        ModelRefused: it crashes, hangs, takes more memory or time than its pipeline allows, or does not do what its
            manifest, labels and golden samples promise.
        StopError: its backend is not installed, or somebody killed the child.
        RetryError: the disk is full.
    """
    settings = planned.settings
    model = replace(planned.model, golden=planned.model.golden[:MOST_GOLDEN])
    title = f"the trial of {model.name} {model.version} for pipeline {settings.name}"
    request = CanaryRequest(settings, model, since)
    cell = Cell(isolator, worker_view(settings, model), settings.isolation)
    done = sandbox.run(try_model, request, _limits(planned), title=title, cell=cell, cancelled=cancelled)
    report = done.value
    log.info(
        "%s: passed: %s, loaded in %.1f s, %d golden samples, %d %s frames, slowest %.0f ms, %.0f MB",
        title,
        report.backend,
        report.load_s,
        report.golden,
        report.frames,
        "own" if report.of_source else "plain",
        report.slowest_ms,
        done.peak_bytes / sandbox.MEBIBYTE,
    )
    return report


def _limits(planned: Planned) -> SandboxLimits:
    limits = planned.settings.limits
    frames = FRAMES + min(MOST_GOLDEN, len(planned.model.golden))
    return SandboxLimits(
        memory_bytes=limits.memory_bytes,
        time_s=limits.start_timeout_s + min(frames, 4) * limits.frame_timeout_s,
        memory_remedy=(
            f"set `limits: {{{{memory: {{need}}MB}}}}` for {planned.settings.name}, or more (it still grew), "
            "or take a smaller model"
        ),
        time_remedy="raise limits.start_timeout and limits.frame_timeout of the pipeline, or take a smaller model",
    )


def proof_key(planned: Planned) -> str:
    """Digest of all that a trial depends on: with the same key it needs no second one."""
    facts: Mapping[str, object] = {
        "settings": to_json(replace(planned.settings, publish=replace(planned.settings.publish, topic=""))),
        "model": planned.model.sha256,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
