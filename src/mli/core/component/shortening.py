"""Status documents too long for the nucleus, made shorter: errors' texts first, then models, then pipelines."""

from __future__ import annotations

from typing import Any

from mli.core.status import encoded

TEXT_LENGTHS = (600, 200, 80)
PROSE = frozenset({"what", "where", "expected", "got", "remedy", "error", "last_error", "why_not_isolated"})
"""Keys whose texts may be cut; all others are names, digests and states."""


def shortened(document: dict[str, Any], most_bytes: int) -> bytes:
    """The document's bytes, at most so many.

    Raises:
        ValueError: it cannot be made so short.
    """
    for length in (None, *TEXT_LENGTHS):
        cut = document if length is None else {key: _cut(key, value, length) for key, value in document.items()}
        if len(data := encoded(cut)) <= most_bytes:
            return data
    if cut.get("models") and len(data := encoded(cut := {**cut, "models": {}})) <= most_bytes:
        return data
    pipelines = list(cut.get("pipelines") or [])
    for shown in range(len(pipelines) - 1, -1, -1):
        note = f"{len(pipelines) - shown} of {len(pipelines)} pipelines do not fit here; mli core status shows them"
        if len(data := encoded({**cut, "pipelines": pipelines[:shown], "last_error": note})) <= most_bytes:
            return data
    raise ValueError(f"a document of {len(data)} bytes, and at most {most_bytes} fit")


def _cut(key: str, value: Any, length: int) -> Any:
    if isinstance(value, dict):
        return {name: _cut(name, item, length) for name, item in value.items()}
    if isinstance(value, list):
        return [_cut(key, item, length) for item in value]
    if isinstance(value, str) and key in PROSE and len(value) > length:
        return value[: length - 1] + "…"
    return value
