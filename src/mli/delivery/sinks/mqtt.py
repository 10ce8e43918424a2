"""Publishes over MQTT: 5 first, 3.1.1 where the broker speaks only that; connects again for ever."""

from __future__ import annotations

import logging
import random
import ssl
import threading
from dataclasses import replace

from mli.config.settings import MqttSettings
from mli.delivery.sinks.mqtt_connection import End, MqttConnection, Protocol
from mli.delivery.sinks.mqtt_options import tls_context
from mli.delivery.sinks.sink import SinkListener, SinkStatus
from mli.delivery.spool_schema import SinkKind, SpooledMessage
from mli.errors import MliError, StopError

log = logging.getLogger(__name__)

GOOD_AFTER_S = 10.0  # a connection that lived so long, or carried a message, was a good one
SHORT_LIVES = 3  # in a row: then it is no accident
JOIN_S = 2.0


class MqttSink:
    """QoS 1 messages are delivered when the broker's PUBACK says success, QoS 0 when handed to the socket.

    Args:
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
        self._decided: Protocol | None = None if settings.protocol == "auto" else settings.protocol
        self._used: Protocol | None = None
        self._last_error: str | None = None
        self._said: str | None = None
        self._short_lives = 0
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    @property
    def kind(self) -> SinkKind:
        """``mqtt``."""
        return "mqtt"

    @property
    def window(self) -> int:
        """See ``Sink``: the smaller of our own bound and the broker's Receive Maximum."""
        connection = self._connection
        return min(self._settings.max_inflight, connection.receive_maximum) if connection else 0

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

    def close(self) -> None:
        """See ``Sink``."""
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
        return SinkStatus(self._connection is not None, protocol, self._last_error)

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                protocol = self._decided or "5"
                end = self._connect(protocol)
                if end.kind != "closed" and not self._learns(protocol, end):
                    self._pause(end)
        except Exception as error:  # the thread's edge: the core must hear of it
            log.critical("The MQTT connection's thread ended: %s", error, exc_info=error)
            self._connection = None
            if self._listener:
                self._listener.failed(_unexpected(error))

    def _connect(self, protocol: Protocol) -> End:
        assert self._listener is not None
        connection = MqttConnection(
            self._settings, protocol, self._tls, self._listener, self._accepted, self._ack_timeout_s
        )
        with self._lock:
            self._attempt = connection
        if self._closing.is_set():
            return End("closed")
        end = connection.run()
        was_connected = self._connection is not None
        self._connection = None  # before the listener hears of it: it must see an empty window
        if end.kind != "closed":
            end = self._explain(end)
            self._last_error = end.reason
            if was_connected:
                self._listener.disconnected(end.reason)
        return end

    def _explain(self, end: End) -> End:
        """Many brokers do not say why they close a connection that a twin's has replaced."""
        if end.kind != "lost" or end.answered or end.seconds >= GOOD_AFTER_S:
            self._short_lives = 0
            return end
        self._short_lives += 1
        if self._short_lives < SHORT_LIVES or not self._settings.client_id:
            return end
        hint = f"; does another client use the id {self._settings.client_id!r}? Then each ends the other's connection"
        return replace(end, reason=end.reason + hint)

    def _accepted(self, connection: MqttConnection) -> None:
        assert self._listener is not None
        self._decided = self._used = connection.protocol
        self._connection = connection
        self._last_error = None
        self._said = None
        log.info("Connected to %s:%d with MQTT %s.", self._settings.host, self._settings.port, connection.protocol)
        self._listener.connected()

    def _learns(self, protocol: Protocol, end: End) -> bool:
        """Whether the end tells which protocol the broker speaks, so that it is tried at once."""
        if self._settings.protocol != "auto" or protocol != "5":
            return False
        if end.kind == "unsupported":
            self._fall_back(end.reason)
            return True
        if end.kind == "silent" and self._decided is None and self._speaks_only_311():
            self._fall_back(f"{end.reason}, twice, and accepted MQTT 3.1.1 in between")
            return True
        return False

    def _speaks_only_311(self) -> bool:
        """Some old brokers close the connection on a version that they do not know, just as a dying one does.

        Only where 3.1.1 is accepted, and 5 then closed in silence once more, is it the version.
        """
        return self._probe("3.1.1") == "closed" and self._probe("5") == "silent"

    def _probe(self, protocol: Protocol) -> str:
        """Connect and leave at once, telling nobody; ``closed`` means that the broker accepted."""
        assert self._listener is not None
        connection = MqttConnection(
            self._settings, protocol, self._tls, self._listener, MqttConnection.close, self._ack_timeout_s
        )
        with self._lock:
            self._attempt = connection
        return "failed" if self._closing.is_set() else connection.run().kind

    def _fall_back(self, why: str) -> None:
        self._decided = "3.1.1"
        log.warning(
            "%s: MQTT 3.1.1 is used from now on. With it a publish that the broker's access list denies is "
            "acknowledged like any other: such a loss cannot be seen from here.",
            why,
        )

    def _pause(self, end: End) -> None:
        if end.answered or end.seconds >= GOOD_AFTER_S:
            self._pause_s = self._min_s
            self._said = None
        if end.reason != self._said:
            self._said = end.reason
            log.warning("%s. Predictions are kept; connecting is tried again for ever.", end.reason)
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


def _unexpected(error: Exception) -> MliError:
    wrapped = StopError(
        "The MQTT connection failed in a way that it should not.", got=f"{type(error).__name__}: {error}"
    )
    wrapped.__cause__ = error
    return wrapped
