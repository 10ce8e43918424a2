"""A workstation's connection to a broker: checked at the start, then kept; it comes back by itself."""

from __future__ import annotations

import logging
import queue
import secrets
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mli.delivery.dialing import NoAccess
from mli.delivery.received import Received
from mli.delivery.sinks.mqtt_options import (
    UNSUPPORTED_PROTOCOL,
    connect_code,
    describe_connect_error,
    tls_context,
)
from mli.delivery.sinks.paho_errors import error_logger, tls_trouble
from mli.delivery.sinks.tls_refusal import tls_refusal
from mli.delivery.websocket import WebSocketAccess, WebSocketClient, handshake_answer
from mli.errors import MliError, RefusedError, RetryError

if TYPE_CHECKING:
    from mli.config.settings import MqttSettings

UNSPECIFIED = 128  # paho's word for a connection that was closed without one
TOPICS_A_PACKET = 8  # AWS IoT Core takes no more in one SUBSCRIBE
_FIRST_ANSWER_S = 3.0
_SESSION_S = 300  # how long the broker keeps messages for us while the line is down


class Line:
    """Enter it to connect; paho's own thread serves it, and calls the methods that begin with ``_on_``.

    Under MQTT 5 the broker keeps the session over a lost line, so a reconnect loses nothing; under 3.1.1, which
    cannot say for how long, it starts clean.

    Args:
        name: what the random client id begins with.
        access: connects through WebSockets, with a path that is signed anew for each connection.

    Raises:
        RetryError: on entering, where the broker cannot be reached in ``connect_timeout_s``.
        RefusedError: on entering, where the broker refuses the connection or the subscription.
        StopError: on entering, where a certificate, a key or what signs a path cannot be used.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topics: Sequence[str],
        *,
        name: str,
        log: logging.Logger,
        access: WebSocketAccess | None = None,
    ) -> None:
        self._settings = settings
        self._access = access
        self._last_error = ""  # paho's
        self._told_no = ""  # why no connection came back, as the log has it
        self._topics = dict.fromkeys(topics)
        self._log = log
        self._client_id = settings.client_id or f"{name}-{secrets.token_hex(6)}"
        self._first_answer: queue.Queue[MliError | None] = queue.Queue()
        self._closing = threading.Event()
        self._subscribed = False
        self._connections = 0
        self._unsupported = self._is_mute = self._hung_up = self._is_accepted = self._is_refused = False
        self._keeps_session = True
        self._version = MQTTProtocolVersion.MQTTv5
        self._asked: dict[int, Sequence[str]] = {}  # SUBSCRIBE packets of this connection's beginning
        self._refused: list[str] = []
        self._client: mqtt.Client | None = None
        self.protocol = ""

    @property
    def reconnects(self) -> int:
        """How often the line was lost and came back."""
        return max(0, self._connections - 1)

    @property
    def _is_unanswered(self) -> bool:
        """The last CONNECT had no answer: neither yes nor no."""
        return self._is_mute or self._hung_up

    def __enter__(self) -> Self:
        first = MQTTProtocolVersion.MQTTv311 if self._settings.protocol == "3.1.1" else MQTTProtocolVersion.MQTTv5
        error = self._try(first)
        if error is not None and self._is_unanswered and first == MQTTProtocolVersion.MQTTv5:
            # Some brokers take for something else what MQTT 5 adds to a CONNECT, and wait for more bytes of it.
            self._keeps_session = not self._is_mute
            error = self._try(first)
        if error is not None and (self._unsupported or self._is_unanswered) and self._settings.protocol == "auto":
            error = self._try(MQTTProtocolVersion.MQTTv311)  # old brokers hang up on 5, or say nothing at all
        if error is not None:
            raise self._refusal_of_tls() or error
        return self

    def _refusal_of_tls(self) -> MliError | None:
        """Why the broker hung up, where it was for our certificate and the line ended before that could be read."""
        tls = self._settings.tls
        if tls is None or not self._hung_up or self._access is not None:
            return None
        refusal = tls_refusal(self._settings, tls)
        return None if refusal is None else self._unreachable(refusal, None)

    def __exit__(self, *_: object) -> None:
        self.close()

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
        self._unsupported = self._is_mute = self._hung_up = self._is_accepted = self._is_refused = False
        self._subscribed = False
        self._last_error = ""
        self._version = version
        self.protocol = "MQTT 5" if version == MQTTProtocolVersion.MQTTv5 else "MQTT 3.1.1"
        client = self._client = self._new_client(version)
        properties = None
        if version == MQTTProtocolVersion.MQTTv5 and self._keeps_session:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_S
        try:
            client.connect(settings.host, settings.port, settings.keepalive_s, properties=properties)
        except ssl.SSLError as error:
            return self._untrusted(error)
        except NoAccess as error:
            return error.told
        except mqtt.WebsocketConnectionError as error:
            return self._not_let_in(error)
        except OSError as error:
            return self._unreachable(describe_connect_error(error, settings), error)
        client.loop_start()
        patience_s = min(_FIRST_ANSWER_S, settings.connect_timeout_s) if properties else settings.connect_timeout_s
        deadline = time.monotonic() + settings.connect_timeout_s
        while True:
            try:
                return self._first_answer.get(timeout=patience_s)
            except queue.Empty:
                self._is_mute = not self._is_accepted
                patience_s = deadline - time.monotonic()
                if self._is_mute or patience_s <= 0:
                    return self._unreachable(f"no answer within {settings.connect_timeout_s:g} s", None)

    def _new_client(self, version: MQTTProtocolVersion) -> mqtt.Client:
        settings = self._settings
        make = mqtt.Client if self._access is None else partial(WebSocketClient, proxy=self._access.proxy)
        client = make(
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
        client.enable_logger(error_logger(self._take_error))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        if self._access is not None:
            client.on_pre_connect = self._on_pre_connect
            client.on_connect_fail = self._on_connect_fail
        return client

    def _on_pre_connect(self, client: mqtt.Client, _data: Any) -> None:
        """Before each connection: what was signed for the one before has expired."""
        assert self._access is not None
        try:
            client.ws_set_options(self._access.path())
        except MliError as error:
            raise NoAccess(error) from error

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        """A connection did not come back; paho calls this while it handles the exception, and then tries again."""
        cause = sys.exception()
        if isinstance(cause, NoAccess):
            error: MliError = cause.told
        elif isinstance(cause, mqtt.WebsocketConnectionError):
            error = self._not_let_in(cause)
        else:
            return
        if str(error) != self._told_no:
            self._told_no = str(error)
            self._log.error("no new connection, trying again: %s", error)

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if code := connect_code(reason):
            self._is_refused = True
            self._unsupported = code == UNSUPPORTED_PROTOCOL
            self._answer(
                RefusedError(
                    "The broker refused the connection.",
                    where=self._address(),
                    got=str(reason),
                    remedy="Check the user name and password, the client certificate, and the broker's rules; "
                    f"AWS IoT Core wants iot:Connect on client/{self._client_id}.",
                )
            )
            return
        # Subscribed at each connect: cheap, and right also where the broker lost the session.
        self._asked, self._refused = {}, []
        self._is_accepted = True
        self._accepted(properties)
        topics = list(self._topics)
        for start in range(0, len(topics), TOPICS_A_PACKET):
            part = topics[start : start + TOPICS_A_PACKET]
            number = self._ask(client, part)
            if number is not None:
                self._asked[number] = part
        if not topics:
            self._is_up()

    def _ask(self, client: mqtt.Client, topics: Sequence[str]) -> int | None:
        """Send one SUBSCRIBE; its number, None where the line is lost."""
        return client.subscribe([(topic, 1) for topic in topics])[1]

    def _accepted(self, properties: Properties | None) -> None:
        """The broker has accepted a connection, and said within which limits."""

    def _lost(self) -> None:
        """An accepted connection has ended otherwise than by us."""

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, number: int, reasons: Any, _properties: Any) -> None:
        topics = self._asked.pop(number, ())
        refused = [topic for topic, reason in zip(topics, reasons, strict=False) if reason.is_failure]
        if refused:
            self._refused += refused
            self._answer(
                RefusedError(
                    "The broker refused the subscription.",
                    where=self._address(),
                    got=f"{', '.join(refused)}: {reasons[0]}",
                    remedy="Check the topic filter, and what the broker allows this user to read.",
                )
            )
        if not self._asked and not self._refused:
            self._is_up()

    def _is_up(self) -> None:
        self._connections += 1
        self._told_no = ""
        if self._connections > 1:
            self._log.warning("connected again to %s", self._address())
        self._answer(None)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        why = f": {reason}" if flags.is_disconnect_packet_from_server or reason.value != UNSPECIFIED else ""
        was_accepted, self._is_accepted = self._is_accepted, False
        if self._closing.is_set():
            return
        if was_accepted:
            self._lost()
        if self._subscribed:
            self._log.warning("the connection to %s was lost%s; trying again", self._address(), why)
        elif was_accepted:
            self._answer(
                RefusedError(
                    "The broker ended the connection instead of answering the subscription.",
                    where=f"{self._address()}: {', '.join(self._topics)}",
                    got=str(reason) if why else "it closed the connection without a reason",
                    remedy="Check what the broker allows this user to read; AWS IoT Core wants iot:Subscribe on the "
                    "topicfilter and iot:Receive on the topic.",
                )
            )
        else:
            trouble = tls_trouble(self._last_error)
            self._hung_up = trouble is None and not self._is_refused  # after a no it closes as well
            self._answer(self._unreachable(trouble or f"the connection was closed before it was accepted{why}", None))

    def _on_message(self, _client: mqtt.Client, _data: Any, _message: mqtt.MQTTMessage) -> None:
        """A message came."""

    def _take_error(self, text: str) -> None:
        self._last_error = text

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
            remedy="Check the address and the port, that the broker runs, and that the port speaks MQTT. One that "
            "hangs up may want a client certificate with its key, or TLS (mqtts://).",
        )
        error.__cause__ = cause
        return error

    def _not_let_in(self, cause: mqtt.WebsocketConnectionError) -> MliError:
        """The server answered, and made no WebSocket of the connection."""
        assert self._access is not None
        try:
            answer = handshake_answer(self._settings, self._access.path(), self._access.proxy)
        except MliError as error:
            return error
        if answer is None or answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
            return self._unreachable(str(cause), cause)
        refusal = self._access.refusal(answer.status, answer.said, answer.server_time_s)
        refusal.__cause__ = cause
        return refusal

    def _untrusted(self, cause: ssl.SSLError) -> RefusedError:
        error = RefusedError(
            "No secure connection to the MQTT broker could be made.",
            where=self._address(),
            got=describe_connect_error(cause, self._settings),
            remedy="Give the CA that signed the broker's certificate, the host name that is in it, and the TLS port; "
            "check the clock where a certificate is said to have expired, or not to be valid yet.",
        )
        error.__cause__ = cause
        return error

    def _address(self) -> str:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        scheme = "mqtt" if self._access is None else "ws"
        return f"{scheme}{'' if self._settings.tls is None else 's'}://{host}:{self._settings.port}"


def as_received(message: mqtt.MQTTMessage) -> Received:
    """A message of paho's as one of ours."""
    pairs = getattr(message.properties, "UserProperty", None) or ()
    return Received(message.topic, bytes(message.payload), dict(pairs), time.time(), bool(message.retain))
