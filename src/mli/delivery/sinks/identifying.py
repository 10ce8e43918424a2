"""What tells a message's identity beside its payload: its user properties, whichever way it leaves."""

from __future__ import annotations

from datetime import UTC, datetime

from mli.types import Message


def identifying_pairs(message: Message) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are sent."""
    return [
        ("id", message.id),
        ("sequence", str(message.sequence)),
        ("captured_at", captured_at_text(message.captured_at)),
        ("model", message.model_sha256),
    ]


def captured_at_text(captured_at: float) -> str:
    """Unix seconds as ISO 8601 in UTC with milliseconds: 2026-11-22T17:30:00.123Z."""
    moment = datetime.fromtimestamp(round(captured_at * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
