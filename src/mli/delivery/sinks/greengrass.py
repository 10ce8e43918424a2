"""Hands messages to the Greengrass nucleus, which publishes them to AWS IoT Core; connects to it again for ever.

Its answer is no PUBACK: on neither engine does it wait for the broker's. So what is ``delivered`` here is in the
nucleus' hands, and is counted and shown as that.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mli.config.settings import NucleusSettings
from mli.delivery.sinks.greengrass_ipc import NucleusConnection, NucleusTrouble, access_control
from mli.delivery.sinks.greengrass_pace import Away, Pace
from mli.delivery.sinks.identifying import identifying_pairs
from mli.delivery.sinks.mqtt_states import RetainedStates, State
from mli.delivery.sinks.sink import SinkListener, SinkStatus
from mli.delivery.spool_schema import SinkKind, SpooledMessage
from mli.errors import MliError, RetryError, StopError
from mli.types import Message

log = logging.getLogger(__name__)

WINDOW = 8
MAX_PAYLOAD_BYTES = 7 * 1024
MAX_REQUEST_BYTES = 9_750
"""A request of more than 10,000 bytes, envelope included, ends the connection to nucleus lite."""
DENIED_MIN_S, DENIED_MAX_S = 60.0, 900.0
REPEAT_STATES_S = 300.0
"""Nucleus lite publishes nothing retained: who begins to listen has a state after so long at the latest."""
TICK_S = 1.0
JOIN_S = 2.0
NUCLEUS = "the nucleus"


@dataclass(slots=True)
class _Denied:
    until: float
    pause_s: float
    is_asked: bool = False  # one message finds out for all of its topic


class GreengrassSink:
    """See ``StatefulSink``.

    Args:
        held: why messages must not go this way: they stay in the spool, and only states are handed on.
        reconnect_min_s, reconnect_max_s: the pause before connecting again doubles between them, with jitter.
        answer_s: a nucleus that does not answer a publish for so long is connected to anew.
        denied_min_s: what accessControl does not list is tried again after so long, then after twice as long.
    """

    def __init__(
        self,
        settings: NucleusSettings,
        *,
        held: MliError | None = None,
        reconnect_min_s: float = 0.5,
        reconnect_max_s: float = 30.0,
        answer_s: float = 60.0,
        denied_min_s: float = DENIED_MIN_S,
        repeat_states_s: float = REPEAT_STATES_S,
    ) -> None:
        self._settings = settings
        self._held = held
        self._min_s, self._max_s = reconnect_min_s, reconnect_max_s
        self._answer_s = answer_s
        self._denied_min_s = denied_min_s
        self._repeat_s = repeat_states_s
        self._states = RetainedStates()
        self._lock = threading.Lock()
        self._asked: dict[int, float] = {}  # message → when it was handed over
        self._again: dict[int, SpooledMessage] = {}  # those that the nucleus could not publish
        self._pace = Pace()
        self._away = Away()
        self._denied: dict[str, _Denied] = {}
        self._state_under_way = False
        self._listener: SinkListener | None = None
        self._connection: NucleusConnection | None = None
        self._last_error: str | None = None
        self._said: str | None = None
        self._ended: str | None = None  # why the connection was lost
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nucleus", daemon=True)

    @property
    def kind(self) -> SinkKind:
        """``mqtt``: whichever way a device's messages reach AWS IoT Core, they are the same ones."""
        return "mqtt"

    @property
    def window(self) -> int:
        """See ``Sink``."""
        if self._connection is None or self._held is not None or self._away:
            return 0
        return min(WINDOW, len(self._asked) + len(self._again) + self._pace.room)

    def open(self, listener: SinkListener) -> None:
        """See ``Sink``."""
        self._listener = listener
        self._thread.start()

    def publish(self, message: SpooledMessage) -> None:
        """See ``Sink``."""
        connection, listener = self._connection, self._listener
        if connection is None or listener is None:  # its end has been told already
            return
        pairs = identifying_pairs(message.message)
        refusal = _too_large(message.message)
        if refusal is None and _request_bytes(message.message, pairs) > MAX_REQUEST_BYTES:
            pairs = []
        if refusal is not None:
            listener.refused(message.rowid, refusal, permanent=True)
            return
        if not self._ask_for(message.message.topic):
            listener.refused(message.rowid, _not_listed(message.message.topic), permanent=False)
            return
        with self._lock:
            self._asked[message.rowid] = time.monotonic()
        self._pace.take()
        one = message.message

        def done(trouble: NucleusTrouble | None) -> None:
            self._answered(connection, message, trouble)

        connection.publish(one.topic, one.payload, one.qos, done, retain=False, pairs=pairs)

    def set_state(self, topic: str, payload: bytes | None) -> None:
        """See ``StatefulSink``. Nucleus lite has nobody keep it, so it is published every few minutes."""
        if payload is not None and len(payload) > MAX_PAYLOAD_BYTES:
            log.error(
                "The state %s of %d bytes is not published: the nucleus takes no more than %d.",
                topic,
                len(payload),
                MAX_PAYLOAD_BYTES,
            )
            return
        self._states.set(topic, payload)
        self._wake.set()

    def wait_states(self, timeout_s: float) -> bool:
        """See ``StatefulSink``."""
        return self._states.wait(
            timeout_s, lambda topic: self._connection is None or bool(self._away) or not self._may(topic)
        )

    def close(self) -> None:
        """See ``Sink``."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def status(self) -> SinkStatus:
        """See ``Sink``; not connected as well while the nucleus says that it cannot publish."""
        error = str(self._held) if self._held is not None else self._last_error
        return SinkStatus(
            connected=self._connection is not None and self._held is None and not self._away,
            protocol="Greengrass IPC",
            last_error=error,
            endpoint=f"{NUCLEUS} at {self._settings.socket_path}",
            left_out=tuple(_not_listed(topic) for topic in list(self._denied)),
            hands_on=NUCLEUS,
        )

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = self._min_s
        try:
            while not self._closing.is_set():
                connected_at = time.monotonic()
                self._connect_and_serve()
                if time.monotonic() - connected_at >= TICK_S:
                    pause_s = self._min_s
                self._closing.wait(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(self._max_s, 2 * pause_s)
        except Exception as error:  # the thread's edge: the core must hear of it
            log.critical("The thread of the connection to the nucleus ended: %s", error, exc_info=error)
            self._connection = None
            if self._listener is not None and not self._closing.is_set():
                self._listener.failed(error if isinstance(error, MliError) else _unexpected(error))

    def _connect_and_serve(self) -> None:
        assert self._listener is not None
        self._ended = None
        try:
            connection = NucleusConnection(self._settings, self._lost)
        except RetryError as error:
            self._say(str(error))
            return
        self._connection = connection
        self._last_error = None
        self._away.end()
        log.info("Connected to %s.", self._settings.socket_path)
        self._states.restart()
        if not self._closing.is_set():
            self._listener.connected()
        self._serve(connection)
        self._connection = None  # before the listener hears of it: it must see an empty window
        connection.close()
        with self._lock:
            self._asked.clear()
            self._again.clear()
        self._let_ask(*self._denied)
        self._state_under_way = False
        if not self._closing.is_set():
            reason = self._why_ended()
            self._say(reason)
            self._listener.disconnected(reason)

    def _serve(self, connection: NucleusConnection) -> None:
        repeat_at = time.monotonic() + self._repeat_s
        while not self._closing.is_set() and self._ended is None:
            now = time.monotonic()
            if now >= repeat_at:
                repeat_at = now + self._repeat_s
                self._states.restart()
            self._look_after(now)
            self._next_state(connection)
            self._ask_again()
            short_s = self._pace.wait_s
            self._wake.wait(min(TICK_S, short_s or self._away.wait_s or TICK_S))
            self._wake.clear()
            if short_s > 0 and self._pace.wait_s == 0 and self._listener is not None:
                self._listener.connected()  # who was told that there is no room is told that there is

    def _look_after(self, now: float) -> None:
        with self._lock:
            oldest = min(self._asked.values(), default=now)
        if now - oldest > self._answer_s:
            self._ended = f"the nucleus did not answer a publish for {self._answer_s:g} s"

    def _ask_again(self) -> None:
        """What the nucleus could not publish, in order; only one while it is not known whether it can now."""
        if self._away.wait_s > 0 or (self._away and self._asked):
            return
        with self._lock:
            rowids = sorted(self._again)[: 1 if self._away else None]
            messages = [self._again.pop(rowid) for rowid in rowids]
        for message in messages:
            self.publish(message)
        if self._away and not messages and not self._state_under_way and self._listener is not None:
            self._away.end()  # a state had found it out, and a newer one is not due: the next message may
            self._listener.connected()

    def _why_ended(self) -> str:
        return self._ended or "it was closed"

    def _lost(self, reason: str) -> None:
        self._ended = self._ended or reason
        self._wake.set()

    def _say(self, reason: str) -> None:
        """Once, until it is another, or something was published."""
        if reason != self._said and not self._closing.is_set():
            self._said = reason
            log.warning("%s. Predictions are kept; it is tried again for ever.", reason.rstrip("."))
        self._last_error = reason

    # --- states --------------------------------------------------------------------------------------------

    def _next_state(self, connection: NucleusConnection) -> None:
        """One is under way at a time."""
        if self._state_under_way or self._away.wait_s > 0:
            return
        state = self._states.next_due(self._may)
        if state is None or not self._ask_for(state.topic) or not self._states.send(state):
            return
        self._state_under_way = True

        def done(trouble: NucleusTrouble | None) -> None:
            self._state_answered(connection, state, trouble)

        connection.publish(state.topic, state.payload, 1, done, retain=True)

    def _state_answered(self, connection: NucleusConnection, state: State, trouble: NucleusTrouble | None) -> None:
        if connection is not self._connection:
            return
        self._state_under_way = False
        self._learn(state.topic, trouble)
        if trouble is None:
            self._states.settle(state, "taken")
        else:
            self._states.settle(state, "refused" if trouble.kind == "refused" else "due")
            if trouble.kind == "lost":
                self._lost(trouble.text)
        self._wake.set()

    # --- answers, from the library's thread ----------------------------------------------------------------

    def _answered(
        self, connection: NucleusConnection, message: SpooledMessage, trouble: NucleusTrouble | None
    ) -> None:
        with self._lock:
            known = self._asked.pop(message.rowid, None)
        listener = self._listener
        if known is None or connection is not self._connection or listener is None or self._closing.is_set():
            return
        self._learn(message.message.topic, trouble)
        if trouble is None:
            listener.delivered(message.rowid)
        elif trouble.kind == "denied":
            listener.refused(message.rowid, _not_listed(message.message.topic), permanent=False)
        elif trouble.kind == "away":
            with self._lock:
                self._again[message.rowid] = message  # it stays in flight, and keeps its place
        elif trouble.kind == "lost":
            self._lost(trouble.text)  # also where only this answer is: the listener hears of the connection's end
        else:
            listener.refused(message.rowid, trouble.text, permanent=trouble.kind == "refused")
        self._wake.set()

    def _learn(self, topic: str, trouble: NucleusTrouble | None) -> None:
        if trouble is None:
            self._said = None
            if self._denied.pop(topic, None) is not None:
                log.info("The nucleus publishes to %s now.", topic)
            if self._away:
                log.info("The nucleus publishes again.")
                self._away.end()
                self._last_error = None
        elif trouble.kind == "away":
            self._let_ask(topic)
            self._away.begin()
            self._say(f"The nucleus cannot publish now: {trouble.text}")
        elif trouble.kind == "denied":
            known = self._denied.get(topic)
            if known is not None and time.monotonic() < known.until:
                return  # of those that were under way together
            pause_s = min(DENIED_MAX_S, 2 * known.pause_s) if known else self._denied_min_s
            self._denied[topic] = _Denied(time.monotonic() + pause_s, pause_s)
            if known is None:
                log.error("%s", _not_listed(topic))

    def _may(self, topic: str) -> bool:
        """Not denied, or its time has come again."""
        denied = self._denied.get(topic)
        return denied is None or (time.monotonic() >= denied.until and not denied.is_asked)

    def _ask_for(self, topic: str) -> bool:
        """Whether it may be asked for now; of what was denied only one is, until there is an answer."""
        may = self._may(topic)
        if may and (denied := self._denied.get(topic)) is not None:
            denied.is_asked = True
        return may

    def _let_ask(self, *topics: str) -> None:
        for topic in topics:
            if (denied := self._denied.get(topic)) is not None:
                denied.is_asked = False


def _too_large(message: Message) -> str | None:
    size = len(message.payload)
    if size <= MAX_PAYLOAD_BYTES and _request_bytes(message, ()) <= MAX_REQUEST_BYTES:
        return None
    return (
        f"a message of {size:,} bytes does not pass the Greengrass nucleus, which takes at most "
        f"{MAX_PAYLOAD_BYTES:,}; choose payload: compact or a smaller top, or delivery: mqtt"
    )


def _request_bytes(message: Message, pairs: Sequence[tuple[str, str]]) -> int:
    """About the length of the request's JSON."""
    properties = sum(len(json.dumps({"key": key, "value": value})) + 2 for key, value in pairs)
    return 4 * (len(message.payload) + 2) // 3 + len(message.topic.encode()) + 100 + properties


def _not_listed(topic: str) -> str:
    return (
        f"the component's accessControl does not allow it; its configuration needs {access_control(topic)}, or, for "
        "{iot:thingName} in it, that of nucleus classic interpolateComponentConfiguration: true"
    )


def _unexpected(error: Exception) -> MliError:
    wrapped = StopError(
        "The connection to the nucleus failed in a way that it should not.", got=f"{type(error).__name__}: {error}"
    )
    wrapped.__cause__ = error
    return wrapped
