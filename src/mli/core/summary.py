"""A core's summary from the states of its parts."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mli import __version__
from mli.config.redaction import redact
from mli.core.deployed import Deployed
from mli.core.status import (
    BrokerState,
    Health,
    MemoryState,
    ModelName,
    PipelineState,
    Serving,
    SpoolState,
    Summary,
)
from mli.core.supervisor import PipelineStatus
from mli.delivery.drain import DrainStatus
from mli.delivery.spool_schema import SpoolStats
from mli.types import ModelSpec

GOOD_STATES = ("running", "finished")


def summarize(
    thing: str,
    serving: Serving | None,
    statuses: Sequence[PipelineStatus],
    deployed: Deployed | None,
    spool: SpoolStats,
    last_error: str | None,
    certificate: str | None,
) -> Summary:
    """The summary document's content."""
    pipelines = tuple(_pipeline(status) for status in statuses)
    health: Health = "idle"
    if deployed is not None:
        health = "healthy" if all(item.state in GOOD_STATES for item in pipelines) else "degraded"
    return Summary(
        thing=thing,
        version=__version__,
        at=time.time(),
        revision=None if serving is None else serving.revision,
        identity=None if serving is None else serving.identity,
        health=health,
        pipelines=pipelines,
        spool=SpoolState(spool.queued, spool.dead, spool.queued_bytes),
        last_error=next((item.error for item in pipelines if item.error), last_error and redact(last_error)),
        certificate=certificate,
    )


def _pipeline(status: PipelineStatus) -> PipelineState:
    model: ModelSpec = status.model
    return PipelineState(
        name=status.name,
        state=status.state,
        model=ModelName(model.name, model.version, model.sha256),
        backend=status.backend,
        isolation=status.isolation,
        why_not_isolated=status.why_not_isolated,
        memory=MemoryState(status.memory_control, status.resident_bytes, status.allowed_bytes),
        frames=status.counters.frames,
        skipped=status.counters.skipped,
        dropped=status.counters.dropped,
        restarts=status.restarts,
        timeouts=status.timeouts,
        error=status.error and redact(status.error),
    )


def broker_state(drain: DrainStatus) -> BrokerState:
    """The connection for the control socket."""
    sink = drain.sink
    return BrokerState(
        sink.endpoint or None,
        sink.connected,
        sink.subscribed,
        sink.protocol,
        sink.last_error,
        sink.left_out,
        drain.not_taken,
    )
