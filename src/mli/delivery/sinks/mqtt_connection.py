"""One connection to a broker, from CONNECT to its end; a new client for each, so paho never sends again by itself."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from mli.config.settings import MqttSettings
from mli.delivery.sinks.mqtt_options import (
    PERMANENT_PUBLISH_CODES,
    RETRYABLE_FROM,
    SESSION_TAKEN_OVER,
    TWIN_REMEDY,
    UNSUPPORTED_PROTOCOL,
    connect_code,
    describe_connect_error,
    meaning,
)
from mli.delivery.sinks.mqtt_packing import message_properties, publish_bytes
from mli.delivery.sinks.mqtt_side_traffic import SideTraffic
from mli.delivery.sinks.mqtt_states import State
from mli.delivery.sinks.paho_errors import error_logger, tls_trouble
from mli.delivery.sinks.sink import SinkListener
from mli.delivery.spool_schema import SpooledMessage
from mli.types import Message

log = logging.getLogger(__name__)

Protocol = Literal["5", "3.1.1"]
VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
LOOP_S = 1.0
MAX_PACKET_BYTES = 4 * 1024 * 1024  # an MQTT 5 broker keeps larger ones to itself, so they cost no memory here
STATE = 0  # stands where a message's row does; rows begin at 1

EndKind = Literal["unsupported", "silent", "mute", "failed", "lost", "closed"]


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended.

    Attributes:
        kind: ``unsupported`` protocol version; ``silent``: closed by the broker without any answer to CONNECT;
            ``mute``: left open without one; ``failed`` to connect; ``lost`` after it was made; ``closed`` by us.
        reason: for a person.
        seconds: how long it was connected.
        answered: a message was acknowledged or refused on it.
        code: the broker's reason, where it gave one.
    """

    kind: EndKind
    reason: str = ""
    seconds: float = 0.0
    answered: bool = False
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the connection ends otherwise than by us."""

    topic: str
    payload: bytes


class MqttConnection:
    """One paho client used once. ``run`` blocks in the caller's thread; ``publish`` may be called from another.

    Args:
        listener: hears each message's fate.
        on_connected: called once when the broker accepted the connection.
        ack_timeout_s: a publish that is unanswered for longer ends the connection.
        side: what else rides on it; None for a connection that is only tried.
        answer_s: how long to wait for the answer to CONNECT, where not as long as for the connection.
    """

    def __init__(
        self,
        settings: MqttSettings,
        protocol: Protocol,
        tls: ssl.SSLContext | None,
        listener: SinkListener,
        on_connected: Callable[[MqttConnection], None],
        ack_timeout_s: float,
        *,
        side: SideTraffic | None = None,
        will: Will | None = None,
        answer_s: float | None = None,
    ) -> None:
        self.protocol: Protocol = protocol
        self.receive_maximum = 65_535
        self._settings = settings
        self._listener = listener
        self._on_connected = on_connected
        self._ack_timeout_s = ack_timeout_s
        self._side = side
        self._answer_s = settings.connect_timeout_s if answer_s is None else answer_s
        self._max_packet_bytes: int | None = None
        self._max_qos = 1
        self._retains = True
        self._connack: int | None = None
        self._connected_at: float | None = None
        self._answered = False
        self._closing = False
        self._last_error = ""
        self._ended_by_broker: str | None = None
        self._disconnect_code: int | None = None
        # paho tells answers from under its own locks, and may do so before ``publish`` returned the number: this
        # lock is never held while paho is called.
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[int, float]] = {}
        self._early: dict[int, int] = {}
        self._client = self._make_client(tls, will)

    @property
    def in_flight(self) -> int:
        """See ``Link``."""
        return len(self._pending)

    @property
    def retains(self) -> bool:
        """See ``Link``."""
        return self._retains

    def run(self) -> End:
        """Connect and serve until the connection ends."""
        settings = self._settings
        try:
            extra: dict[str, Any] = {}
            if self.protocol == "5":
                # Old brokers take for something else what MQTT 5 adds here, so only what is needed is sent.
                receives = self._side is not None and self._side.subscribed is not None
                extra = {"clean_start": True, "properties": _connect_properties() if receives else None}
            self._client.connect(settings.host, settings.port, settings.keepalive_s, **extra)
        except OSError as error:
            return End("failed", describe_connect_error(error, settings))
        except ValueError as error:
            return End("failed", f"{settings.host}:{settings.port}: {error}")
        try:
            return self._serve()
        except Exception as error:  # paho raises many kinds for one thing: bytes that are not MQTT
            log.debug("The connection's loop ended", exc_info=error)
            return self._end(f"the broker sent what is not MQTT {self.protocol}: {error}")
        finally:
            self._client.on_disconnect = None
            self._client.disconnect()
            self._client.loop(0)  # lets a DISCONNECT that is still queued go out

    def close(self) -> None:
        """End the connection from another thread."""
        self._closing = True
        self._client.disconnect()

    def publish(self, spooled: SpooledMessage) -> None:
        """Send one message; its fate comes to the listener."""
        message = spooled.message
        properties = message_properties(message) if self.protocol == "5" else None
        refusal = self._too_large(message)
        if refusal is None:
            try:
                info = self._client.publish(
                    message.topic, message.payload, min(message.qos, self._max_qos), properties=properties
                )
            except ValueError as error:  # a topic with wildcards, or a payload beyond what MQTT can carry
                refusal = f"not a message that MQTT can carry: {error}"
        if refusal is not None:
            self._listener.refused(spooled.rowid, refusal, permanent=True)
            return
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            return  # the connection is going; its end tells that the fate is unknown
        self._expect(info.mid, spooled.rowid)

    def _expect(self, number: int, rowid: int) -> None:
        with self._lock:
            code = self._early.pop(number, None)
            if code is None:
                self._pending[number] = (rowid, time.monotonic())
        if code is not None:
            self._tell(rowid, code)

    def subscribe(self, topics: Sequence[str]) -> None:
        """See ``Link``."""
        self._client.subscribe([(topic, 1) for topic in topics])

    def publish_state(self, state: State) -> str | None:
        """See ``Link``."""
        limit = self._max_packet_bytes
        size = 5 + 2 + len(state.topic.encode()) + 2 + 1 + len(state.payload)
        if limit is not None and size > limit:
            return f"it has {size} bytes, and the broker takes at most {limit}"
        info = self._client.publish(state.topic, state.payload, self._max_qos, retain=self._retains)
        if info.rc in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
            self._expect(info.mid, STATE)
        return None

    # --- the connection's life -----------------------------------------------------------------------------

    def _make_client(self, tls: ssl.SSLContext | None, will: Will | None) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._settings.client_id,
            protocol=VERSIONS[self.protocol],
            reconnect_on_failure=False,
            clean_session=None if self.protocol == "5" else True,
        )
        client.connect_timeout = self._settings.connect_timeout_s
        client.max_inflight_messages_set(65_535)  # the drain keeps the window
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, self._settings.password)
        if tls is not None:
            client.tls_set_context(tls)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._take_connack
        client.on_publish = self._take_answer
        client.on_disconnect = self._take_disconnect
        client.on_subscribe = self._take_suback
        client.on_message = self._take_message
        # Not on_log: for it paho writes out a text for every packet, which costs more than the packet.
        client.enable_logger(error_logger(self._take_error))
        # With it, publish() from another thread leaves the socket to the loop's thread: paho's own writes are not
        # safe against each other.
        client.on_socket_register_write = lambda *_: None
        return client

    def _serve(self) -> End:
        deadline = time.monotonic() + self._answer_s
        while True:
            result = self._client.loop(LOOP_S if self._connack is not None else 0.2)
            if self._closing:
                return End("closed")
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS or self._ended_by_broker:
                return self._end(self._last_error or mqtt.error_string(result).rstrip("."))
            if self._connack is None and time.monotonic() > deadline:
                text = f"{self._address()}: connected, but no answer to CONNECT within {self._answer_s:g} s"
                return End("mute", text)
            now = time.monotonic()
            if self._side is not None and self._connected_at is not None:
                self._side.tick(now)
            if self._is_ack_overdue(now):
                return self._end(f"no answer to a publish within {self._ack_timeout_s:g} s")

    def _end(self, detail: str) -> End:
        if self._closing:
            return End("closed")
        if self._connected_at is not None:
            reason = self._ended_by_broker or detail
            seconds = time.monotonic() - self._connected_at
            text = f"{self._address()}: connection lost: {reason}"
            return End("lost", text, seconds, self._answered, self._disconnect_code)
        if self._connack == UNSUPPORTED_PROTOCOL:
            return End("unsupported", f"{self._address()}: the broker does not speak MQTT {self.protocol}")
        if self._connack is not None:
            text = f"{self._address()}: the broker refused the connection: {meaning(self._connack)}"
            return End("failed", text, code=self._connack)
        if (trouble := tls_trouble(detail)) is not None:
            return End("failed", f"{self._address()}: {trouble}")
        return End("silent", f"{self._address()}: the broker closed the connection without an answer to CONNECT")

    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    def _is_ack_overdue(self, now: float) -> bool:
        with self._lock:
            oldest = next(iter(self._pending.values()), None)
        return oldest is not None and now - oldest[1] > self._ack_timeout_s

    # --- what paho tells -----------------------------------------------------------------------------------

    def _take_connack(
        self, _client: object, _data: object, _flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._connack = connect_code(reason)
        if self._connack:
            return
        # MQTT 3.1.1 has no properties; paho then gives an empty set.
        self.receive_maximum = getattr(properties, "ReceiveMaximum", 65_535)
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self._max_qos = min(1, getattr(properties, "MaximumQoS", 1))
        self._retains = bool(getattr(properties, "RetainAvailable", 1))
        self._connected_at = time.monotonic()
        self._on_connected(self)

    def _take_answer(
        self, _client: object, _data: object, number: int, reason: ReasonCode, _properties: object
    ) -> None:
        with self._lock:
            found = self._pending.pop(number, None)
            if found is None:
                self._early[number] = int(reason.value)
                return
        self._tell(found[0], int(reason.value))

    def _tell(self, rowid: int, code: int) -> None:
        if rowid == STATE:
            if self._side is not None:
                self._side.take_state_answer(code)
            return
        self._answered = True
        if code < RETRYABLE_FROM:
            self._listener.delivered(rowid)
        else:
            self._listener.refused(rowid, meaning(code), permanent=code in PERMANENT_PUBLISH_CODES)

    def _take_disconnect(
        self, _client: object, _data: object, flags: mqtt.DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._disconnect_code = int(reason.value)
            self._ended_by_broker = f"the broker ended it: {meaning(int(reason.value))}"
            if reason.value == SESSION_TAKEN_OVER:
                self._ended_by_broker += f" {self._settings.client_id!r}: {TWIN_REMEDY}"

    def _take_suback(
        self, _client: object, _data: object, _number: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        if self._side is not None:
            self._side.take_suback([int(reason.value) for reason in reasons])

    def _take_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        if self._side is not None:
            self._side.take_message(message.topic, bytes(message.payload), bool(message.retain))

    def _take_error(self, text: str) -> None:
        self._last_error = text

    def _too_large(self, message: Message) -> str | None:
        limit = self._max_packet_bytes
        if limit is None:
            return None
        size = publish_bytes(message)
        if size <= limit:
            return None
        return f"packet too large: {size} bytes, and the broker takes at most {limit}"


def _connect_properties() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    return properties
