"""What a core says of itself: the documents on ``mli/status/<thing>`` and on the control socket.

Their JSON Schemas are in docs/schemas.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from mli.config.redaction import redact
from mli.errors import MliError
from mli.frozen_json import to_json

DEPLOYMENT_STATUS = "mli.deployment-status/1"
STATUS = "mli.status/1"

DeploymentState = Literal[
    "received",
    "downloading",
    "verifying",
    "canary",
    "activating",
    "healthy",
    "rolled_back",
    "refused",
    "failed",
    "cancelled",
    "superseded",
]
FINAL: frozenset[DeploymentState] = frozenset(
    ("healthy", "rolled_back", "refused", "failed", "cancelled", "superseded")
)
"""States in which nothing more is done for a deployment (a healthy one may still be rolled back)."""
Health = Literal["healthy", "degraded", "idle"]


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it is shown: the fields of an MliError."""

    what: str
    where: str | None = None
    expected: str | None = None
    got: str | None = None
    remedy: str | None = None

    @staticmethod
    def of(error: MliError) -> Problem:
        """The error for a document, which others will read: without secrets."""
        details = (error.where, error.expected, error.got, error.remedy)
        return Problem(redact(error.what), *(None if text is None else redact(text) for text in details))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is; ``total`` is None where the store does not say it."""

    model: str
    bytes: int
    total: int | None


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model of a deployment.

    Attributes:
        pinned: the deployment named no digest; this is the one that the core saw first.
    """

    sha256: str
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Serving:
    """What makes the predictions now."""

    revision: int | None
    identity: str


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """The document on ``mli/status/<thing>/deployment``.

    Attributes:
        at: Unix time of this state, seconds.
        serving: None while no deployment runs.
    """

    thing: str
    revision: int | None
    identity: str | None
    state: DeploymentState
    at: float
    progress: Progress | None = None
    models: dict[str, ModelState] | None = None
    serving: Serving | None = None
    error: Problem | None = None

    def document(self) -> dict[str, Any]:
        """The published form."""
        body: dict[str, Any] = to_json(self)
        return {"schema": DEPLOYMENT_STATUS, **body, "at": time_text(self.at), "models": body["models"] or {}}


@dataclass(frozen=True, slots=True)
class MemoryState:
    """Memory of a worker.

    Attributes:
        control: what ends a worker that takes too much: ``cgroup v2``, ``cgroup v1`` or ``watchdog``; None before the
            first worker.
    """

    control: str | None
    used_bytes: int
    allowed_bytes: int


@dataclass(frozen=True, slots=True)
class ModelName:
    """The model that a pipeline runs."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PipelineState:
    """A pipeline in the summary.

    Attributes:
        isolation: ``container`` or ``none``; None before its first worker.
        why_not_isolated: why ``auto`` gave no container.
        restarts: workers that were replaced since the core started.
        timeouts: those of them that were ended because something took too long.
    """

    name: str
    state: str
    model: ModelName
    backend: str | None
    isolation: str | None
    why_not_isolated: str | None
    memory: MemoryState
    frames: int
    skipped: int
    dropped: int
    restarts: int
    timeouts: int
    error: str | None


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The queue on disk: messages that wait, dead letters, and the bytes of both."""

    queued: int
    dead: int
    bytes: int


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The connection to the broker, for the control socket.

    Attributes:
        left_out: what the broker does not allow beside the predictions, and why.
        not_taken: topics whose messages it does not take now, and why; they wait, or are dead letters.
    """

    endpoint: str | None
    connected: bool
    subscribed: bool | None
    protocol: str | None
    last_error: str | None
    left_out: tuple[str, ...] = ()
    not_taken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """The document on ``mli/status/<thing>``, and more of it on the control socket.

    Attributes:
        certificate: by which the device shows itself to the broker: sha256 of its DER form, AWS IoT's id of it; None
            where it shows none, or another process does it. Who renews certificates sees that the new one works.
    """

    thing: str
    version: str
    at: float
    revision: int | None
    identity: str | None
    health: Health
    pipelines: tuple[PipelineState, ...]
    spool: SpoolState
    last_error: str | None
    certificate: str | None = None

    def document(self) -> dict[str, Any]:
        """The published form."""
        return {"schema": STATUS, "state": "online", **to_json(self), "at": time_text(self.at)}


def offline_document(thing: str, version: str) -> dict[str, Any]:
    """The last will: the broker publishes it when the core is gone, so it can say no time."""
    return {"schema": STATUS, "thing": thing, "state": "offline", "version": version}


def encoded(document: dict[str, Any]) -> bytes:
    """A document's bytes for a message."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def time_text(seconds: float) -> str:
    """Unix seconds as ISO 8601 in UTC: 2026-11-22T17:30:00Z."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
