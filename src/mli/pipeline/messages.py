"""From a frame's predictions to MQTT messages: the accelerator's compact array, or the full object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mli.types import Message

if TYPE_CHECKING:
    from mli.config.settings import PipelineSettings, RuleSettings
    from mli.types import ModelSpec, Prediction

FULL_SCHEMA = "mli.prediction/1"


def confidence_text(confidence: float) -> str:
    """The accelerator's confidence: the shortest decimal that gives the float32 back, ``0.21719395``."""
    return str(np.float32(confidence))


def compact_payload(predictions: Sequence[Prediction], image_name: str | None) -> bytes:
    """The accelerator's array: ``[{"confidence": "0.21719395", "prediction": "n03983396 pop bottle"}]``.

    Args:
        image_name: adds the third key; None leaves it out.
    """
    named = {} if image_name is None else {"image_name": image_name}
    return json.dumps(
        [{"confidence": confidence_text(item.confidence), "prediction": item.label, **named} for item in predictions]
    ).encode()


class MessageMaker:
    """Makes the messages of one pipeline's frames."""

    def __init__(self, settings: PipelineSettings, model: ModelSpec, backend: str, epoch: str) -> None:
        self._settings = settings
        self._model = model
        self._backend = backend
        self._epoch = epoch

    def prediction(
        self,
        sequence: int,
        captured_at: float,
        image_name: str,
        predictions: Sequence[Prediction],
        latency_ms: float,
    ) -> Message:
        """The message that carries a frame's predictions."""
        publish = self._settings.publish
        if publish.payload == "compact":
            payload = compact_payload(predictions, image_name if publish.image_name else None)
        else:
            payload = json.dumps(
                self.full_object(sequence, captured_at, image_name, predictions, latency_ms)
            ).encode()
        return self._message(self._id(sequence), sequence, captured_at, publish.topic, payload, publish.qos)

    def firing(
        self, rule: RuleSettings, sequence: int, captured_at: float, image_name: str, prediction: Prediction
    ) -> Message:
        """The message of a rule that fired and has a topic."""
        assert rule.topic is not None
        body = {
            "rule": rule.name,
            "id": self._id(sequence),
            "captured_at": timestamp(captured_at),
            "image_name": image_name,
            "label": prediction.label,
            "confidence": round_trip(prediction.confidence),
        }
        message_id = f"{self._id(sequence)}-{rule.name}"
        return self._message(message_id, sequence, captured_at, rule.topic, json.dumps(body).encode(), rule.qos)

    def full_object(
        self,
        sequence: int,
        captured_at: float,
        image_name: str,
        predictions: Sequence[Prediction],
        latency_ms: float,
    ) -> dict[str, Any]:
        """The full payload; its JSON Schema is in docs/schemas."""
        return {
            "schema": FULL_SCHEMA,
            "thing": self._settings.thing,
            "pipeline": self._settings.name,
            "id": self._id(sequence),
            "sequence": sequence,
            "captured_at": timestamp(captured_at),
            "image_name": image_name,
            "model": {"name": self._model.name, "version": self._model.version, "sha256": self._model.sha256},
            "backend": self._backend,
            "latency_ms": round(latency_ms, 3),
            "predictions": [_prediction_object(prediction) for prediction in predictions],
        }

    def _id(self, sequence: int) -> str:
        return f"{self._epoch}-{self._settings.name}-{sequence}"

    def _message(
        self, message_id: str, sequence: int, captured_at: float, topic: str, payload: bytes, qos: int
    ) -> Message:
        return Message(
            id=message_id,
            pipeline=self._settings.name,
            sequence=sequence,
            topic=topic,
            payload=payload,
            qos=qos,
            captured_at=captured_at,
            model_sha256=self._model.sha256,
        )


def _prediction_object(prediction: Prediction) -> dict[str, Any]:
    body: dict[str, Any] = {
        "label": prediction.label,
        "class_id": prediction.class_id,
        "confidence": round_trip(prediction.confidence),
    }
    if prediction.box is not None:
        box = prediction.box
        body["box"] = {edge: round(getattr(box, edge), 6) for edge in ("left", "top", "right", "bottom")}
    return body


def round_trip(confidence: float) -> float:
    """The float32 as the shortest decimal number that gives it back."""
    return float(confidence_text(confidence))


def timestamp(unix_s: float) -> str:
    """ISO 8601 in UTC with milliseconds: ``2026-11-22T17:30:00.123Z``."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
