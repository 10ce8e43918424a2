"""A workstation's session with a broker: publishes retained messages to many things, and hears what they say."""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mli.delivery.line import TOPICS_A_PACKET, Line, as_received
from mli.delivery.received import Received
from mli.delivery.sinks.mqtt_allowance import ENDS_IT
from mli.delivery.sinks.mqtt_options import RETRYABLE_FROM, meaning
from mli.errors import MliError, RefusedError, RetryError

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt
    from paho.mqtt.properties import Properties

    from mli.config.settings import MqttSettings
    from mli.delivery.websocket import WebSocketAccess

CAPACITY = 100_000  # messages that wait to be taken; then the network waits
IN_FLIGHT = 20  # publishes that wait for their answer at a time
LOST_AFTER_S = 60.0
FRUITLESS = 3  # connections in a row that ended with publishes and without an answer: then it is the publishes
FRUITLESS_SOLO = 2
SOLO_REFUSALS = 3  # in a row: then the rest would fare no better
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Published:
    """What the broker answered to a publish; ``error`` is None where it took it."""

    topic: str
    error: MliError | None = None


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    """A PUBACK. Packet numbers begin anew with each client."""

    client: mqtt.Client
    number: int
    code: int


class RemoteSession(Line):
    """Enter it to connect; see ``Line`` for what that raises. For one thread.

    Over a lost line it connects and subscribes again, and sends what was not acknowledged. A broker that ends the
    connection instead of refusing a publish (AWS IoT Core) is noticed: then the publishes are tried one by one.

    Under MQTT 3.1.1 a broker acknowledges also what it denies; ``protocol`` says which one is spoken.

    Args:
        settings: an empty client id gets a random one; it must not be a thing's.
        access: connects through WebSockets.
        lost_after_s: a line that stays lost for longer raises RetryError.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        access: WebSocketAccess | None = None,
        log: logging.Logger | None = None,
        lost_after_s: float = LOST_AFTER_S,
    ) -> None:
        super().__init__(settings, (), name="mli-deploy", log=log or logging.getLogger(__name__), access=access)
        self._lost_after_s = lost_after_s
        self._events: queue.Queue[Received | _Answer] = queue.Queue(CAPACITY)
        self._subacks: queue.Queue[tuple[int, list[int]]] = queue.Queue()
        self._queued: deque[_Message] = deque()
        self._waiting: dict[int, _Message] = {}
        self._ready: deque[Received | Published] = deque()
        self._connection = 0
        self._down_since: float | None = None
        self._fruitless = 0
        self._window = IN_FLIGHT
        self._solo_refusals = 0
        self._receive_maximum = 65_535
        self._max_packet_bytes: int | None = None
        self._retains = True
        self._max_qos = 1

    def subscribe(self, topics: Sequence[str]) -> dict[str, MliError]:
        """Subscribe, also once more: the broker then hands out what it retains. Returns what it refused, and why.

        Raises:
            RetryError: the line is lost and does not come back.
        """
        refused: dict[str, MliError] = {}
        left = dict.fromkeys(topics)
        fruitless = 0
        deadline = time.monotonic() + self._lost_after_s
        while left and fruitless < FRUITLESS:
            self._await_line(deadline)
            answers = self._ask_for(list(left), deadline)
            fruitless = 0 if answers else fruitless + 1
            for topic, code in answers.items():
                del left[topic]
                if code >= RETRYABLE_FROM:
                    refused[topic] = self._may_not_read(topic, meaning(code))
                else:
                    self._topics[topic] = None  # from now on at each reconnect
        refused.update((topic, self._may_not_read(topic, ENDS_IT)) for topic in left)
        return refused

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand over a retained message; its answer comes by ``take``. Several are in flight at a time."""
        self._queued.append(_Message(topic, payload))
        self._send()

    def take(self, timeout_s: float) -> Received | Published | None:
        """The next message or answer; None where none came in time.

        Raises:
            RetryError: the line is lost and does not come back.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if self._ready:
                return self._ready.popleft()
            left_s = deadline - time.monotonic()
            try:
                event = self._events.get(timeout=min(_POLL_S, left_s)) if left_s > 0 else self._events.get_nowait()
            except queue.Empty:
                self._look_after()
                if left_s <= 0 and not self._ready:
                    return None
                continue
            if isinstance(event, Received):
                return event
            self._take_answer(event)

    def publish_retained(self, topic: str, payload: bytes, *, timeout_s: float = 30.0) -> None:
        """Publish one retained message and wait for the broker's answer; an empty payload clears what is retained.

        What is received meanwhile is kept for ``take``.

        Raises:
            RefusedError: the broker does not take it.
            RetryError: no answer in time; it may still be taken while the session lasts.
        """
        kept: list[Received | Published] = []
        deadline = time.monotonic() + timeout_s
        self.publish(topic, payload)
        while True:
            event = self.take(max(0.0, deadline - time.monotonic()))
            if isinstance(event, Published) and event.topic == topic:
                self._ready.extendleft(reversed(kept))
                if event.error is not None:
                    raise event.error
                return
            if event is not None:
                kept.append(event)
            elif time.monotonic() >= deadline:
                self._ready.extendleft(reversed(kept))
                raise self._no_answer("a publish")

    # --- publishing ----------------------------------------------------------------------------------------

    def _send(self) -> None:
        client = self._client
        while client is not None and self._queued and len(self._waiting) < min(self._window, self._receive_maximum):
            message = self._queued.popleft()
            if not self._retains:
                self._ready.append(Published(message.topic, self._keeps_nothing(message.topic)))
                continue
            size = 5 + 2 + len(message.topic.encode()) + 2 + 1 + len(message.payload)
            if self._max_packet_bytes is not None and size > self._max_packet_bytes:
                got = f"{size} bytes; the broker takes at most {self._max_packet_bytes}"
                self._ready.append(Published(message.topic, self._not_taken(message.topic, got)))
                continue
            # Without a line paho keeps it, and sends it when it is back.
            info = client.publish(message.topic, message.payload, qos=self._max_qos, retain=True)
            self._waiting[info.mid] = message

    def _take_answer(self, answer: _Answer) -> None:
        if answer.client is not self._client:
            return
        message = self._waiting.pop(answer.number, None)
        if message is None:
            return
        self._fruitless = self._solo_refusals = 0
        error = None
        if answer.code >= RETRYABLE_FROM:
            error = self._not_taken(message.topic, meaning(answer.code))
        self._ready.append(Published(message.topic, error))
        self._send()

    def _look_after(self) -> None:
        """While nothing comes: has the line been away for long, or does the broker end it for what is sent?"""
        self._send()
        if self._fruitless >= (FRUITLESS if self._window > 1 else FRUITLESS_SOLO):
            self._isolate()
        down_since = self._down_since
        if down_since is not None and time.monotonic() - down_since > self._lost_after_s:
            raise self._unreachable(f"the line was lost and did not come back within {self._lost_after_s:g} s", None)

    def _isolate(self) -> None:
        """Send what is unanswered one by one; the one that alone was unanswered is the one that is not allowed."""
        unanswered = list(self._waiting.values())
        self._waiting = {}
        if self._window == 1:
            self._solo_refusals += 1
            many = self._solo_refusals >= SOLO_REFUSALS
            denied = [*unanswered, *self._queued] if many else unanswered
            if many:
                self._queued.clear()
            self._ready.extend(Published(one.topic, self._not_taken(one.topic, ENDS_IT)) for one in denied)
        else:
            self._queued.extendleft(reversed(unanswered))
        self._window = 1
        self._restart()
        self._send()

    def _restart(self) -> None:
        """A new client: the old one would go on sending what is not allowed."""
        self.close()
        self._closing.clear()
        self._fruitless = 0
        deadline = time.monotonic() + self._lost_after_s
        while (error := self._connect(self._version)) is not None:
            self.close()
            self._closing.clear()
            if isinstance(error, RefusedError) or time.monotonic() > deadline:
                raise error
            self._closing.wait(1.0)

    # --- subscribing ---------------------------------------------------------------------------------------

    def _ask_for(self, topics: Sequence[str], deadline: float) -> dict[str, int]:
        """The broker's answers, a code a topic; fewer where the connection ended."""
        asked: dict[int, Sequence[str]] = {}
        answers: dict[str, int] = {}
        client, connection = self._client, self._connection
        for start in range(0, len(topics) if client else 0, TOPICS_A_PACKET):
            part = topics[start : start + TOPICS_A_PACKET]
            number = self._ask(client, part) if client else None
            if number is not None:
                asked[number] = part
        while asked and connection == self._connection and self._down_since is None:
            if time.monotonic() > deadline:
                raise self._no_answer("a subscription")
            try:
                number, codes = self._subacks.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            answers.update(zip(asked.pop(number, ()), codes, strict=False))
        return answers

    def _await_line(self, deadline: float) -> None:
        while self._down_since is not None:
            if time.monotonic() > deadline:
                raise self._unreachable("the line was lost and did not come back", None)
            self._closing.wait(_POLL_S)

    # --- what is said of failures ---------------------------------------------------------------------------

    def _may_not_read(self, topic: str, got: str) -> RefusedError:
        return RefusedError(
            "The broker refused the subscription.",
            where=f"{self._address()}: {topic}",
            got=got,
            remedy=f"Let this user read {topic} at the broker; on AWS IoT Core that takes iot:Subscribe on "
            f"topicfilter/{topic} and iot:Receive on topic/{topic}.",
        )

    def _not_taken(self, topic: str, got: str) -> RefusedError:
        return RefusedError(
            "The broker did not take the message.",
            where=f"{self._address()}: {topic}",
            got=got,
            remedy=f"Let this user publish retained messages to {topic} at the broker; on AWS IoT Core that takes "
            f"iot:Publish and iot:RetainPublish on topic/{topic}.",
        )

    def _keeps_nothing(self, topic: str) -> RefusedError:
        return RefusedError(
            "The broker keeps no retained messages, and a deployment is one.",
            where=f"{self._address()}: {topic}",
            remedy="Allow them at the broker (mosquitto: retain_available true), or deploy on the device itself: "
            "mli deploy FILE --root FOLDER.",
        )

    def _no_answer(self, to: str) -> RetryError:
        return RetryError(
            f"The broker did not answer {to} in time.",
            where=self._address(),
            remedy="Check the connection to the broker, and try again.",
        )

    # --- paho's thread -------------------------------------------------------------------------------------

    def _new_client(self, version: Any) -> mqtt.Client:
        client = super()._new_client(version)
        client.on_publish = self._on_publish
        return client

    def _accepted(self, properties: Properties | None) -> None:
        self._receive_maximum = getattr(properties, "ReceiveMaximum", 65_535)
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self._retains = bool(getattr(properties, "RetainAvailable", 1))
        self._max_qos = min(1, getattr(properties, "MaximumQoS", 1))
        self._connection += 1
        self._down_since = None

    def _lost(self) -> None:
        self._down_since = self._down_since or time.monotonic()
        if self._waiting:
            self._fruitless += 1

    def _on_subscribe(self, client: mqtt.Client, data: Any, number: int, reasons: Any, properties: Any) -> None:
        if number in self._asked:
            super()._on_subscribe(client, data, number, reasons, properties)
        else:
            self._subacks.put((number, [int(reason.value) for reason in reasons]))

    def _on_publish(self, client: mqtt.Client, _data: Any, number: int, reason: Any, _properties: Any) -> None:
        self._tell(_Answer(client, number, int(reason.value)))

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._tell(as_received(message))

    def _tell(self, event: Received | _Answer) -> None:
        while not self._closing.is_set():
            try:
                self._events.put(event, timeout=_POLL_S)
                return
            except queue.Full:
                continue
