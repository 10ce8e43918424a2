"""Receives what devices publish: an MQTT subscription that reconnects, as a bounded stream of messages."""

from __future__ import annotations

import logging
import queue
import secrets
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from mli.delivery.gap_check import Account, Finding, GapCheck
from mli.delivery.received import Drops, Identity, Predictions, Received, Unreadable, identify, parse_payload
from mli.delivery.sinks.mqtt_options import describe_connect_error, tls_context
from mli.errors import MliError, RefusedError, RetryError

if TYPE_CHECKING:
    from mli.config.settings import MqttSettings

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

UNSUPPORTED_PROTOCOL = 132
_SESSION_S = 300  # how long the broker keeps messages for us while the line is down
_PUT_POLL_S = 0.2


class Subscription:
    """A connection that is subscribed to topics. Enter it to connect.

    Under MQTT 5 the broker keeps the session over a lost line, so a reconnect loses nothing; under 3.1.1, which
    cannot say for how long, it starts clean. A full queue makes the network wait rather than drop messages.

    Args:
        settings: an empty client id gets a random one; it must not be the publishing thing's.
        topics: filters, such as ``mli/predictions/#``.
        capacity: messages that wait to be taken.

    Raises:
        RetryError: on entering, where the broker cannot be reached in ``connect_timeout_s``.
        RefusedError: on entering, where the broker refuses the connection or the subscription.
        StopError: on entering, where a certificate or key cannot be used.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topics: Sequence[str],
        *,
        capacity: int = 10_000,
        log: logging.Logger | None = None,
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._log = log or logging.getLogger(__name__)
        self._client_id = settings.client_id or f"mli-watch-{secrets.token_hex(6)}"
        self._messages: queue.Queue[Received] = queue.Queue(capacity)
        self._first_answer: queue.Queue[MliError | None] = queue.Queue()
        self._closing = threading.Event()
        self._subscribed = False
        self._connections = 0
        self._unsupported = False
        self._client: mqtt.Client | None = None
        self.protocol = ""

    @property
    def reconnects(self) -> int:
        """How often the line was lost and came back."""
        return max(0, self._connections - 1)

    def __enter__(self) -> Self:
        first = MQTTProtocolVersion.MQTTv311 if self._settings.protocol == "3.1.1" else MQTTProtocolVersion.MQTTv5
        error = self._try(first)
        if error is not None and self._unsupported and self._settings.protocol == "auto":
            error = self._try(MQTTProtocolVersion.MQTTv311)
        if error is not None:
            raise error
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def close(self) -> None:
        """End the connection and the session on the broker. What was received can still be taken."""
        self._closing.set()
        client, self._client = self._client, None
        if client is None:
            return
        ended = None
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            ended = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            ended.SessionExpiryInterval = 0
        client.disconnect(properties=ended)
        client.loop_stop()

    def _try(self, version: MQTTProtocolVersion) -> MliError | None:
        """Connect and subscribe with one protocol version; what stood against it, else None."""
        error = self._connect(version)
        if error is not None:
            self.close()
            self._closing.clear()
        return error

    def _connect(self, version: MQTTProtocolVersion) -> MliError | None:
        settings = self._settings
        self._first_answer = queue.Queue()
        self._unsupported, self._subscribed = False, False
        self.protocol = "MQTT 5" if version == MQTTProtocolVersion.MQTTv5 else "MQTT 3.1.1"
        client = self._client = self._new_client(version)
        properties = None
        if version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_S
        try:
            client.connect(settings.host, settings.port, settings.keepalive_s, properties=properties)
        except ssl.SSLError as error:
            return self._untrusted(error)
        except OSError as error:
            return self._unreachable(describe_connect_error(error, settings), error)
        client.loop_start()
        try:
            return self._first_answer.get(timeout=settings.connect_timeout_s)
        except queue.Empty:
            return self._unreachable(f"no answer within {settings.connect_timeout_s:g} s", None)

    def _new_client(self, version: MQTTProtocolVersion) -> mqtt.Client:
        settings = self._settings
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=version,
            clean_session=None if version == MQTTProtocolVersion.MQTTv5 else True,
        )
        client.connect_timeout = settings.connect_timeout_s
        client.reconnect_delay_set(1, 30)
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.tls is not None:
            client.tls_set_context(tls_context(settings.tls))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._unsupported = reason.value == UNSUPPORTED_PROTOCOL
            self._answer(
                RefusedError(
                    "The broker refused the connection.",
                    where=self._address(),
                    got=str(reason),
                    remedy="Check the user name and password, the client certificate, and the broker's rules.",
                )
            )
            return
        # Subscribed at each connect: cheap, and right also where the broker lost the session.
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._topics])
        else:
            client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        refused = [topic for topic, reason in zip(self._topics, reasons, strict=False) if reason.is_failure]
        if refused:
            self._answer(
                RefusedError(
                    "The broker refused the subscription.",
                    where=self._address(),
                    got=f"{', '.join(refused)}: {reasons[0]}",
                    remedy="Check the topic filter, and what the broker allows this user to read.",
                )
            )
            return
        self._connections += 1
        if self._connections > 1:
            self._log.warning("connected again to %s", self._address())
        self._answer(None)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._closing.is_set():
            return
        if self._subscribed:
            self._log.warning("the connection to %s was lost: %s; trying again", self._address(), reason)
        else:
            self._answer(self._unreachable(f"the connection was closed before it was accepted: {reason}", None))

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        pairs = getattr(message.properties, "UserProperty", None) or ()
        received = Received(message.topic, bytes(message.payload), dict(pairs), time.time(), bool(message.retain))
        while not self._closing.is_set():
            try:
                self._messages.put(received, timeout=_PUT_POLL_S)
                return
            except queue.Full:
                continue

    def _answer(self, error: MliError | None) -> None:
        """Tell the one who connects; later on, only the log wants to know."""
        if self._subscribed:
            if error is not None:
                self._log.error("%s", error)
            return
        self._subscribed = error is None
        self._first_answer.put(error)

    def _unreachable(self, got: str, cause: BaseException | None) -> RetryError:
        error = RetryError(
            "The MQTT broker cannot be reached.",
            where=self._address(),
            got=got,
            remedy="Check the address and the port, and that the broker runs.",
        )
        error.__cause__ = cause
        return error

    def _untrusted(self, cause: ssl.SSLError) -> RefusedError:
        error = RefusedError(
            "No secure connection to the MQTT broker could be made.",
            where=self._address(),
            got=describe_connect_error(cause, self._settings),
            remedy="Give the CA that signed the broker's certificate, the host name that is in it, and the TLS port.",
        )
        error.__cause__ = cause
        return error

    def _address(self) -> str:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{'mqtt' if self._settings.tls is None else 'mqtts'}://{host}:{self._settings.port}"
