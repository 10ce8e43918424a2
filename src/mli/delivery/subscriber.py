"""Receives what devices publish: an MQTT subscription that reconnects, as a bounded stream of messages."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mli.delivery.gap_check import Account, Finding, GapCheck
from mli.delivery.line import Line, as_received
from mli.delivery.received import Drops, Identity, Predictions, Received, Unreadable, identify, parse_payload

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

    from mli.config.settings import MqttSettings
    from mli.delivery.websocket import WebSocketAccess

__all__ = [
    "Account",
    "Drops",
    "Finding",
    "GapCheck",
    "Identity",
    "Predictions",
    "Received",
    "Subscription",
    "Unreadable",
    "identify",
    "parse_payload",
]

_PUT_POLL_S = 0.2


class Subscription(Line):
    """A connection that is subscribed to topics. Enter it to connect; see ``Line`` for what that raises.

    A full queue makes the network wait rather than drop messages.

    Args:
        settings: an empty client id gets a random one; it must not be the publishing thing's.
        topics: filters, such as ``mli/predictions/#``.
        access: connects through WebSockets.
        capacity: messages that wait to be taken.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topics: Sequence[str],
        *,
        access: WebSocketAccess | None = None,
        capacity: int = 10_000,
        log: logging.Logger | None = None,
    ) -> None:
        super().__init__(settings, topics, name="mli-watch", log=log or logging.getLogger(__name__), access=access)
        self._messages: queue.Queue[Received] = queue.Queue(capacity)

    def __iter__(self) -> Iterator[Received]:
        """Messages as they come, without end."""
        while True:
            received = self.receive(1.0)
            if received is not None:
                yield received

    def receive(self, timeout_s: float) -> Received | None:
        """The next message, or None where none came in time."""
        try:
            return self._messages.get(timeout=max(0.0, timeout_s)) if timeout_s > 0 else self._messages.get_nowait()
        except queue.Empty:
            return None

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        received = as_received(message)
        while not self._closing.is_set():
            try:
                self._messages.put(received, timeout=_PUT_POLL_S)
                return
            except queue.Full:
                continue
