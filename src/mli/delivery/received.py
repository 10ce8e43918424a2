"""What an MQTT message of mli says, read from its bytes; nothing here touches the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DROPPED_SUFFIX = "/dropped"


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the broker delivered it.

    Attributes:
        properties: MQTT 5 user properties; empty under MQTT 3.1.1.
        received_at: Unix time, seconds.
        retained: the broker had kept it from before.
    """

    topic: str
    payload: bytes
    properties: Mapping[str, str]
    received_at: float
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """One prediction of a payload.

    Attributes:
        confidence: None where the payload's text is no number.
    """

    label: str
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Predictions:
    """A compact or full payload, or a rule's message (then ``rule`` names it)."""

    seen: tuple[Seen, ...]
    image_name: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Drops:
    """An announcement: ``count`` messages of ``pipeline`` between two sequences, both included, were dropped."""

    pipeline: str
    first: int
    last: int
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A payload that is none of mli's, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Which message it is: number ``sequence`` of ``pipeline`` since the spool ``epoch`` was made.

    Attributes:
        rule: it is a rule's message: those come now and then, so their sequences have holes by design.
    """

    epoch: str
    pipeline: str
    sequence: int
    rule: bool = False


def parse_payload(payload: bytes) -> Predictions | Drops | Unreadable:
    """Read any payload that mli publishes under a prediction topic."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        return Unreadable(f"no JSON: {error}")
    try:
        if isinstance(value, list):
            return _compact(value)
        if isinstance(value, dict) and "dropped" in value:
            return _drops(value["dropped"])
        if isinstance(value, dict) and "rule" in value:
            return Predictions((_seen(value, "label"),), _text(value, "image_name"), _text(value, "rule"))
        if isinstance(value, dict):
            seen = tuple(_seen(item, "label") for item in value["predictions"])
            return Predictions(seen, _text(value, "image_name"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return Unreadable(f"JSON of another shape: {type(error).__name__} {error}")
    return Unreadable("JSON of another shape")


def identify(received: Received) -> Identity | None:
    """Which message this is, from its user properties or else its full payload; None where neither says it.

    An id is ``<epoch>-<pipeline>-<sequence>``, a rule's message adds ``-<rule>``; a pipeline's name may have dashes.
    """
    told: Mapping[str, Any] = received.properties
    if "id" not in told or "sequence" not in told:
        try:
            value = json.loads(received.payload)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or "sequence" not in value:
            return None
        told = value
    try:
        sequence = int(told["sequence"])
        epoch, _, rest = str(told["id"]).partition("-")
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if rest.endswith(f"-{sequence}"):
        return Identity(epoch, rest.removesuffix(f"-{sequence}"), sequence)
    pipeline, mark, _ = rest.partition(f"-{sequence}-")
    return Identity(epoch, pipeline, sequence, rule=True) if mark else None


def _compact(items: list[Any]) -> Predictions:
    seen = tuple(_seen(item, "prediction") for item in items)
    return Predictions(seen, _text(items[0], "image_name") if items else None)


def _seen(item: Mapping[str, Any], label_key: str) -> Seen:
    confidence: float | None
    try:
        confidence = float(item["confidence"])
    except ValueError:
        confidence = None
    label = item[label_key]
    if not isinstance(label, str):
        raise TypeError(f"{label_key} is no text")
    return Seen(label, confidence)


def _drops(told: Mapping[str, Any]) -> Drops:
    first, last = int(told["from"]), int(told["to"])
    if not 0 <= first <= last:
        raise ValueError(f"from {first} to {last}")
    count = int(told.get("count", last - first + 1))
    return Drops(str(told.get("pipeline", "")), first, last, count, str(told.get("reason", "")))


def _text(item: Mapping[str, Any], key: str) -> str | None:
    value = item.get(key)
    return value if isinstance(value, str) else None
