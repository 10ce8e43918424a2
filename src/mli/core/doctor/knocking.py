"""One short connection to an MQTT broker, to hear what it says: accepted, refused, taken over, not authorized."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from mli.delivery.sinks.mqtt_options import (
    SESSION_TAKEN_OVER,
    UNSUPPORTED_PROTOCOL,
    connect_code,
    describe_connect_error,
    meaning,
    tls_context,
)

if TYPE_CHECKING:
    from mli.config.settings import MqttSettings

_LOOP_S = 0.1
_AWS_PAUSE_S = 1.1
"""AWS IoT takes one connection a second of a client id."""
_ONE_AT_A_TIME = threading.Lock()
"""Two connections with the same client id would end each other."""
_STAY_S = 1.0
"""A twin that lost its connection to ours comes back within so long, and ends ours."""


@dataclass(slots=True)
class Knock:
    """What came of it.

    Attributes:
        protocol: ``MQTT 5`` or ``MQTT 3.1.1``.
        accepted: the broker took the connection.
        refusal: why it did not, or why there was none.
        code: the broker's reason where it refused.
        unanswered: connected, and neither a yes nor a no to CONNECT.
        taken_over: another client with the same id ended the connection, or so it seems.
        subscribed: whether each topic that was asked for was granted.
        retained: what the broker holds on them.
    """

    protocol: str
    accepted: bool = False
    refusal: str | None = None
    code: int | None = None
    unanswered: bool = False
    taken_over: bool = False
    subscribed: dict[str, bool] = field(default_factory=dict)
    retained: dict[str, bytes] = field(default_factory=dict)


def knock(
    settings: MqttSettings,
    client_id: str,
    *,
    subscribe: tuple[str, ...] = (),
    stay: bool = False,
) -> Knock:
    """Connect, perhaps subscribe, and leave. Publishes nothing, and has no last will.

    Args:
        stay: long enough to see whether a twin ends the connection, and what the broker holds.

    Raises:
        StopError: a file of the TLS settings cannot be used.
    """
    with _ONE_AT_A_TIME:
        if settings.host.endswith(".amazonaws.com"):
            threading.Event().wait(_AWS_PAUSE_S)
        return _knock(settings, client_id, subscribe, stay)


def _knock(settings: MqttSettings, client_id: str, subscribe: tuple[str, ...], stay: bool) -> Knock:
    version = MQTTProtocolVersion.MQTTv311 if settings.protocol == "3.1.1" else MQTTProtocolVersion.MQTTv5
    found = _Session(settings, client_id, version, subscribe, stay).run()
    if settings.protocol != "auto" or not (found.unanswered or found.code == UNSUPPORTED_PROTOCOL):
        return found
    # Old brokers hang up on MQTT 5, or say nothing at all.
    old = _Session(settings, client_id, MQTTProtocolVersion.MQTTv311, subscribe, stay).run()
    return found if old.unanswered else old


class _Session:
    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        version: MQTTProtocolVersion,
        subscribe: tuple[str, ...],
        stay: bool,
    ) -> None:
        self._settings = settings
        self._version = version
        self._subscribe = subscribe
        self._stay_s = _STAY_S if stay else 0.0
        self._waiting: dict[int, str] = {}
        self._answered = False
        self._ended: str | None = None
        self._named: int | None = None
        self.found = Knock("MQTT 5" if version == MQTTProtocolVersion.MQTTv5 else "MQTT 3.1.1")
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            reconnect_on_failure=False,
            clean_session=None if version == MQTTProtocolVersion.MQTTv5 else True,
        )
        client.connect_timeout = settings.connect_timeout_s
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.tls is not None:
            client.tls_set_context(tls_context(settings.tls))
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        self._client = client

    def run(self) -> Knock:
        """See ``knock``."""
        settings, found = self._settings, self.found
        try:
            # paho waits for a TLS handshake as long as the keepalive is.
            self._client.connect(settings.host, settings.port, max(1, round(settings.connect_timeout_s)))
        except (OSError, ValueError) as error:
            told = describe_connect_error(error, settings) if isinstance(error, OSError) else str(error)
            found.refusal = told
            return found
        try:
            self._serve()
        finally:
            self._client.on_disconnect = None
            self._client.disconnect()
            with contextlib.suppress(OSError):
                self._client.loop(_LOOP_S)
        return found

    def _serve(self) -> None:
        deadline = time.monotonic() + self._settings.connect_timeout_s
        stay_until: float | None = None
        while True:
            result = self._client.loop(_LOOP_S)
            now = time.monotonic()
            if self._ended is not None or result != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._take_end(mqtt.error_string(result))
                return
            if self.found.refusal is not None:
                return
            if self.found.accepted and not self._waiting:
                if self._subscribe and len(self.found.retained) == len(self._subscribe):
                    return
                stay_until = stay_until or now + self._stay_s
                if now >= stay_until:
                    return
            elif now >= deadline:
                if not self._answered:
                    self.found.unanswered = True
                    self.found.refusal = f"no answer to CONNECT within {self._settings.connect_timeout_s:g} s"
                return

    def _take_end(self, why: str) -> None:
        """The broker closed the connection."""
        found = self.found
        if not self._answered:
            found.unanswered = True
            found.refusal = "the broker closed the connection without an answer"
        elif found.accepted:
            found.accepted = False
            found.refusal = self._ended or why
            # Not every broker says why; one that was asked for nothing more has no other reason.
            found.taken_over = found.taken_over or (self._named is None and not self._waiting)

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._answered = True
        code = connect_code(reason)
        if code:
            self.found.code = code
            self.found.refusal = meaning(code)  # paho tells 3.1.1's reasons by the numbers of 5
            return
        self.found.accepted = True
        for topic in self._subscribe:
            result, number = client.subscribe(topic, qos=1)
            if result == MQTTErrorCode.MQTT_ERR_SUCCESS and number is not None:
                self._waiting[number] = topic

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, number: int, reasons: Any, _properties: Any) -> None:
        topic = self._waiting.pop(number, None)
        if topic is not None:
            self.found.subscribed[topic] = not reasons[0].is_failure

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.retain:
            self.found.retained[message.topic] = bytes(message.payload)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        self._ended = "it was closed without a reason"
        if flags.is_disconnect_packet_from_server:
            self._named = int(reason.value)
            self._ended = meaning(self._named)
            self.found.taken_over = self._named == SESSION_TAKEN_OVER
