"""Publishes over MQTT: 5 first, 3.1.1 where the broker speaks only that; connects again for ever."""

from __future__ import annotations

import logging
import random
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from mli.config.settings import MqttSettings
from mli.delivery.sinks.mqtt_allowance import RETRY_MIN_S, Allowance
from mli.delivery.sinks.mqtt_connection import End, MqttConnection, Protocol, Will
from mli.delivery.sinks.mqtt_handshake import Handshake
from mli.delivery.sinks.mqtt_options import TWIN_REMEDY, tls_context
from mli.delivery.sinks.mqtt_side_traffic import Incoming, SideTraffic
from mli.delivery.sinks.sink import SinkListener, SinkStatus
from mli.delivery.spool_schema import SinkKind, SpooledMessage
from mli.errors import MliError, StopError

__all__ = ["Incoming", "MqttSink", "Will"]

log = logging.getLogger(__name__)

GOOD_AFTER_S = 10.0  # a connection that lived so long, or carried a message, was a good one
EXPLAINED = frozenset({136, 137, 139, 141, 142, 156, 157, 159})  # reasons that no request of ours has brought about
SHORT_LIVES = 3  # in a row, twice as many where each carried a message: then it is no accident
JOIN_S = 2.0


class MqttSink:
    """QoS 1 messages are delivered when the broker's PUBACK says success, QoS 0 when handed to the socket.

    A device has one client id and so one connection: a subscription and retained states ride on it as well.

    Args:
        topics: subscribed to with QoS 1 at each connect; a refusal does not keep messages from being published.
        on_message: called with what comes, from the connection's thread; must not block.
        will: published by the broker when the connection ends otherwise than by ``close``.
        retry_denied_s: what costs the connection is left out for so long, then for twice as long, up to 6 hours.
        reconnect_min_s, reconnect_max_s: the pause before connecting again doubles between them, with jitter.
        ack_timeout_s: a broker that answers pings but not a publish for so long is connected to anew.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        reconnect_min_s: float = 0.5,
        reconnect_max_s: float = 30.0,
        ack_timeout_s: float = 60.0,
        topics: Sequence[str] = (),
        on_message: Callable[[Incoming], None] | None = None,
        will: Will | None = None,
        retry_denied_s: float = RETRY_MIN_S,
    ) -> None:
        self._settings = settings
        self._min_s, self._max_s = reconnect_min_s, reconnect_max_s
        self._ack_timeout_s = ack_timeout_s
        self._pause_s = reconnect_min_s
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener: SinkListener | None = None
        self._tls: ssl.SSLContext | None = None
        self._attempt: MqttConnection | None = None  # being made or in use
        self._connection: MqttConnection | None = None  # accepted by the broker
        self._used: Protocol | None = None
        self._last_error: str | None = None
        self._said: str | None = None
        self._short_lives = 0.0
        self._suspect: str | None = None  # what was unanswered when the last connection ended
        self._allowance = Allowance(retry_min_s=retry_denied_s)
        self._side = SideTraffic(topics, on_message, self._released, self._allowance)
        self._handshake = Handshake(settings, will, self._allowance, self._probe)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    @property
    def kind(self) -> SinkKind:
        """``mqtt``."""
        return "mqtt"

    @property
    def window(self) -> int:
        """See ``Sink``: the smaller of our own bound and the broker's Receive Maximum."""
        connection = self._connection
        if connection is None or self._side.is_holding:
            return 0
        return min(self._settings.max_inflight, max(1, connection.receive_maximum - self._side.slots))

    def open(self, listener: SinkListener) -> None:
        """See ``Sink``. Every file of the TLS settings is read here, before anything starts."""
        if self._settings.tls is not None:
            self._tls = tls_context(self._settings.tls)
        self._listener = _Gate(listener, self._closing)
        self._thread.start()

    def publish(self, message: SpooledMessage) -> None:
        """See ``Sink``."""
        connection = self._connection
        if connection is not None:  # else its end has been told already
            connection.publish(message)

    def set_state(self, topic: str, payload: bytes | None) -> None:
        """Have the broker keep a retained message: now where connected, and again at each connect.

        The newest of a topic wins; one that was replaced before it was sent is skipped. None clears what is kept.
        Never blocks on the far side, and may be called from any thread, also before ``open``.

        Raises:
            ValueError: a topic that cannot be published to, or one of too many.
        """
        self._side.set_state(topic, payload)

    def wait_states(self, timeout_s: float) -> bool:
        """Whether the broker has acknowledged the newest state of every topic within the time.

        What the broker does not allow is not waited for.
        """
        return self._side.wait_states(timeout_s)

    def close(self) -> None:
        """See ``Sink``. A clean DISCONNECT: the broker does not publish the will."""
        self._closing.set()
        with self._lock:
            attempt = self._attempt
        if attempt is not None:
            attempt.close()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)  # a name being resolved cannot be interrupted; the thread is a daemon
        self._connection = None

    def status(self) -> SinkStatus:
        """See ``Sink``."""
        protocol = f"MQTT {self._used}" if self._used else None
        return SinkStatus(
            connected=self._connection is not None,
            protocol=protocol,
            last_error=self._last_error,
            subscribed=self._side.subscribed,
            endpoint=endpoint(self._settings),
            left_out=self._allowance.left_out,
        )

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                end = self._connect()
                if end.kind != "closed" and not self._handshake.learns(end):
                    self._pause(end)
        except Exception as error:  # the thread's edge: the core must hear of it
            log.critical("The MQTT connection's thread ended: %s", error, exc_info=error)
            self._connection = None
            if self._listener:
                self._listener.failed(_unexpected(error))

    def _connect(self) -> End:
        assert self._listener is not None
        connection = MqttConnection(
            *(self._settings, self._handshake.protocol, self._tls, self._listener, self._accepted),
            ack_timeout_s=self._ack_timeout_s,
            side=self._side,
            will=self._handshake.next_will(),
            answer_s=self._handshake.next_answer_s(),
        )
        end = self._serve(connection)
        was_connected = self._connection is not None
        self._connection = None  # before the listener hears of it: it must see an empty window
        self._suspect = self._side.end(end.kind == "lost" and end.code not in EXPLAINED)
        if end.kind == "failed" and end.code is None:
            self._allowance.unreachable()
        if end.kind != "closed":
            end = self._explain(end)
            self._last_error = end.reason
            if was_connected:
                self._listener.disconnected(end.reason)
        return end

    def _serve(self, connection: MqttConnection) -> End:
        with self._lock:
            self._attempt = connection
        return End("closed") if self._closing.is_set() else connection.run()

    def _probe(self, protocol: Protocol) -> End:
        """Connect and leave at once, telling nobody; ``closed`` means that the broker accepted."""
        assert self._listener is not None
        connection = MqttConnection(
            *(self._settings, protocol, self._tls, self._listener, MqttConnection.close),
            ack_timeout_s=self._ack_timeout_s,
        )
        end = self._serve(connection)
        return End("failed") if self._closing.is_set() else end

    def _explain(self, end: End) -> End:
        """Many brokers do not say why they close a connection that a twin's has replaced."""
        if self._suspect is not None:
            return replace(end, reason=f"{end.reason} (right after this was sent: {self._suspect})")
        if end.kind != "lost" or end.seconds >= GOOD_AFTER_S:
            self._short_lives = 0.0
            return end
        self._short_lives += 0.5 if end.answered else 1
        if self._short_lives < SHORT_LIVES or not self._settings.client_id or end.code is not None:
            return end
        hint = (
            f"; does another client use the id {self._settings.client_id!r}? Then each ends the other's connection: "
            f"{TWIN_REMEDY}"
        )
        return replace(end, reason=end.reason + hint)

    def _accepted(self, connection: MqttConnection) -> None:
        assert self._listener is not None
        self._used = connection.protocol
        self._handshake.accepted(connection.protocol)
        self._connection = connection
        self._last_error = None
        self._said = None
        log.info("Connected to %s:%d with MQTT %s.", self._settings.host, self._settings.port, connection.protocol)
        self._side.begin(connection)
        if not self._side.is_holding:
            self._listener.connected()

    def _released(self) -> None:
        assert self._listener is not None
        self._listener.connected()

    def _pause(self, end: End) -> None:
        if end.answered or end.seconds >= GOOD_AFTER_S:
            self._pause_s = self._min_s
            self._said = None
        if end.reason != self._said:
            self._said = end.reason
            log.warning("%s. Predictions are kept; connecting is tried again for ever.", end.reason)
        if self._suspect is not None:  # it is found out soon, or left out; some brokers allow one CONNECT a second
            self._closing.wait(2 * self._min_s)
            return
        self._closing.wait(self._pause_s * random.uniform(0.5, 1.0))
        self._pause_s = min(self._max_s, self._pause_s * 2)


class _Gate:
    """Passes a connection's news on until the sink is closed."""

    def __init__(self, listener: SinkListener, closing: threading.Event) -> None:
        self._listener = listener
        self._closing = closing

    def connected(self) -> None:
        if not self._closing.is_set():
            self._listener.connected()

    def disconnected(self, reason: str) -> None:
        if not self._closing.is_set():
            self._listener.disconnected(reason)

    def delivered(self, rowid: int) -> None:
        if not self._closing.is_set():
            self._listener.delivered(rowid)

    def refused(self, rowid: int, reason: str, permanent: bool) -> None:
        if not self._closing.is_set():
            self._listener.refused(rowid, reason, permanent)

    def failed(self, error: MliError) -> None:
        if not self._closing.is_set():
            self._listener.failed(error)


def endpoint(settings: MqttSettings) -> str:
    """A broker's address for a person."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    if settings.tls is None:
        return f"mqtt://{host}:{settings.port}"
    return f"mqtts://{host}:{settings.port}" + (f" (ALPN {settings.tls.alpn})" if settings.tls.alpn else "")


def _unexpected(error: Exception) -> MliError:
    wrapped = StopError(
        "The MQTT connection failed in a way that it should not.", got=f"{type(error).__name__}: {error}"
    )
    wrapped.__cause__ = error
    return wrapped
