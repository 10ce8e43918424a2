"""What a thing says on ``mli/status/…``, read by a workstation that may be older or newer than the thing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mli.core.status import FINAL, Problem, Progress


@dataclass(frozen=True, slots=True)
class DeploymentReport:
    """One document of ``mli/status/<thing>/deployment``.

    Attributes:
        revision: of the deployment that it is about; None where that could not be read.
        identity: digest of that deployment; None where that could not be read.
        serving: revision that serves now.
        pinned: models whose digest was not given, and what was found: (name, sha256).
        document: all of it, as the thing wrote it.
    """

    state: str
    revision: int | None
    identity: str | None
    serving: int | None
    progress: Progress | None
    error: Problem | None
    pinned: tuple[tuple[str, str], ...]
    document: dict[str, Any]

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of this deployment."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Presence:
    """Of ``mli/status/<thing>``: whether the core is connected.

    Attributes:
        version: of mli.
    """

    online: bool
    version: str | None


def read_deployment_report(payload: bytes) -> DeploymentReport | None:
    """None for what is no such document: a topic that was cleared, or that something else writes to."""
    document = _object(payload)
    if document is None or not isinstance(document.get("state"), str):
        return None
    serving = document.get("serving")
    return DeploymentReport(
        state=document["state"],
        revision=_integer(document.get("revision")),
        identity=_text(document.get("identity")),
        serving=_integer(serving.get("revision")) if isinstance(serving, dict) else None,
        progress=_progress(document.get("progress")),
        error=_error(document.get("error")),
        pinned=_pinned(document.get("models")),
        document=document,
    )


def read_presence(payload: bytes) -> Presence | None:
    """None for what is no such document."""
    document = _object(payload)
    if document is None or document.get("state") not in ("online", "offline"):
        return None
    return Presence(document["state"] == "online", _text(document.get("version")))


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _progress(value: object) -> Progress | None:
    if not isinstance(value, dict):
        return None
    model, done, total = _text(value.get("model")), _integer(value.get("bytes")), _integer(value.get("total"))
    return None if model is None or done is None else Progress(model, done, total)


def _error(value: object) -> Problem | None:
    if not isinstance(value, dict) or not isinstance(value.get("what"), str):
        return None
    return Problem(value["what"], *(_text(value.get(name)) for name in ("where", "expected", "got", "remedy")))


def _pinned(models: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(models, dict):
        return ()
    return tuple(
        (str(name), str(item.get("sha256")))
        for name, item in models.items()
        if isinstance(item, dict) and item.get("pinned") is True
    )


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
