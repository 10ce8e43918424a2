"""What rides on the connection beside the predictions: a subscription, and retained states, one request at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from paho.mqtt.client import topic_matches_sub

from mli.delivery.sinks.mqtt_allowance import Allowance, Request
from mli.delivery.sinks.mqtt_options import RETRYABLE_FROM, meaning
from mli.delivery.sinks.mqtt_states import RetainedStates, State

log = logging.getLogger(__name__)

MAX_INCOMING_BYTES = 1024 * 1024
RETAINING = Request(
    name="keeping of retained messages",
    remedy="allow retained messages at the broker",
    without="only who listens at that moment sees this device's status",
)
ANSWER_S = 10.0  # a request has been answered by then, or the connection has ended for another reason
TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that a subscription brought.

    Attributes:
        retained: the broker had kept it from before the subscription.
    """

    topic: str
    payload: bytes
    retained: bool


class Link(Protocol):
    """The connection, as far as side traffic uses it. Callable from any thread."""

    @property
    def receive_maximum(self) -> int:
        """How many publishes the broker lets be unanswered."""

    @property
    def in_flight(self) -> int:
        """Publishes that are unanswered now."""

    @property
    def retains(self) -> bool:
        """Whether the broker keeps retained messages at all."""

    def subscribe(self, topics: Sequence[str]) -> None:
        """QoS 1. The answer comes to ``SideTraffic.take_suback``."""

    def publish_state(self, state: State) -> str | None:
        """Retained, QoS 1. The answer comes to ``take_state_answer``; where it cannot be sent at all: why."""


@dataclass(slots=True)
class _Asked:
    """The one request that is unanswered; without a state it is the subscription."""

    request: Request
    state: State | None
    at: float
    alone: bool


class SideTraffic:
    """Lives as long as its sink, over all connections.

    Only one request is unanswered at a time, so a connection that ends says which one it may have been. No lock is
    held while the link is called.

    Args:
        released: called when predictions may flow again after ``is_holding``.
    """

    def __init__(
        self,
        topics: Sequence[str],
        on_message: Callable[[Incoming], None] | None,
        released: Callable[[], None],
        allowance: Allowance,
    ) -> None:
        self.states = RetainedStates()
        self.is_holding = False  # predictions wait while a suspect is tried alone
        self._topics = tuple(topics)
        self._on_message = on_message
        self._released = released
        self._allowance = allowance
        self._subscription = subscription_request(self._topics)
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._asked: _Asked | None = None
        self._subscribed = False
        self._is_waiting = False  # for room on the connection
        self._tick_at = 0.0
        self._reserves = bool(topics)

    @property
    def subscribed(self) -> bool | None:
        """See ``SinkStatus``."""
        return self._subscribed if self._topics else None

    @property
    def slots(self) -> int:
        """How many of the broker's Receive Maximum are kept free of predictions."""
        return 1 if self._reserves else 0

    def set_state(self, topic: str, payload: bytes | None) -> None:
        """See ``MqttSink.set_state``."""
        self.states.set(topic, payload)
        self._reserves = True
        self._advance()

    def wait_states(self, timeout_s: float) -> bool:
        """See ``MqttSink.wait_states``."""
        return self.states.wait(timeout_s, lambda topic: not self._allowance.may_ask(state_name(topic)))

    # --- the connection's thread ---------------------------------------------------------------------------

    def begin(self, link: Link) -> None:
        """A connection was accepted."""
        with self._lock:
            self._link = link
            self._asked = None
            self._allowance.new_connection()
            self.states.restart()
        if link.retains and self._allowance.is_left_out(RETAINING.name):
            self._allowance.granted(RETAINING)
        self._advance()

    def end(self, seems_denied: bool) -> str | None:
        """The connection has ended; what was unanswered, where that may be why.

        Args:
            seems_denied: false where the reason is known, and is another.
        """
        with self._lock:
            asked, self._asked, self._link = self._asked, None, None
            self._subscribed = self.is_holding = self._is_waiting = False
            if asked is None or not seems_denied or time.monotonic() - asked.at > ANSWER_S:
                return None
            self._allowance.dropped(asked.request, asked.alone)
        self.states.wake()
        return asked.request.name

    def tick(self, now: float) -> None:
        """Called often: cheap while there is nothing to do."""
        if now < self._tick_at and not self._is_waiting:
            return
        self._tick_at = now + TICK_S
        with self._lock:
            is_late = self._asked is not None and now - self._asked.at > ANSWER_S
            if is_late and self._asked is not None and self._asked.state is None:
                self._asked = None
                self._allowance.denied(self._subscription, f"no answer within {ANSWER_S:g} s")
        if is_late:
            self._release()
        self._advance()

    def take_suback(self, codes: Sequence[int]) -> None:
        """The broker's answer to the subscription, a code a topic."""
        refused = [code for code in codes if code >= RETRYABLE_FROM]
        with self._lock:
            self._subscribed = not refused
            if refused:
                self._allowance.denied(self._subscription, meaning(refused[0]))
            else:
                self._allowance.granted(self._subscription)
            if self._asked is not None and self._asked.state is None:
                self._asked = None
        if not refused:
            log.info("Subscribed to %s.", ", ".join(self._topics))
        self._advance()

    def take_state_answer(self, code: int) -> None:
        """The broker's answer to the state that is on its way."""
        with self._lock:
            asked = self._asked
            if asked is None or asked.state is None:
                return
            self._asked = None
            if code < RETRYABLE_FROM:
                self._allowance.granted(asked.request)
            else:
                self._allowance.denied(asked.request, meaning(code))
        self.states.settle(asked.state, "taken" if code < RETRYABLE_FROM else "due")
        self._advance()

    def take_message(self, topic: str, payload: bytes, retained: bool) -> None:
        """A message came."""
        if len(payload) > MAX_INCOMING_BYTES:
            log.error(
                "A message of %d bytes on %s was refused: what is sent to a device has at most %d bytes.",
                *(len(payload), topic, MAX_INCOMING_BYTES),
            )
            return
        if self._on_message is None or not any(topic_matches_sub(one, topic) for one in self._topics):
            return  # some brokers hand retained messages of other topics to a new session
        try:
            self._on_message(Incoming(topic, payload, retained))
        except Exception as error:  # the edge to another part: its failure must not cost the connection
            log.critical("A message on %s could not be handed over: %s", topic, error, exc_info=error)

    # --- asking --------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Ask for what comes next, if anything, until one thing is unanswered."""
        while True:
            with self._lock:
                link, asked = self._link, self._ask_next()
                is_free = asked is None and self._asked is None and not self._is_waiting
            if asked is None or link is None:
                if is_free:
                    self._release()
                return
            if asked.state is None:
                link.subscribe(self._topics)
                return
            refusal = link.publish_state(asked.state)
            if refusal is None:
                return
            self._drop(asked, asked.state, refusal)

    def _ask_next(self) -> _Asked | None:
        """Choose and claim, under the lock."""
        self._is_waiting = False
        link = self._link
        if link is None or self._asked is not None:
            return None
        state, request = None, self._subscription
        if not self._topics or self._subscribed or not self._allowance.may_ask(request.name):
            state = self.states.next_due(lambda topic: self._allowance.may_ask(state_name(topic)))
            if state is None:
                return None
            request = state_request(state.topic)
        alone = self._allowance.must_be_alone(request.name) or link.receive_maximum == 1
        if alone:
            self.is_holding = True
        if link.in_flight >= (1 if alone else link.receive_maximum):
            self._is_waiting = True
            return None
        if state is not None and not self.states.send(state):
            return self._ask_next()
        if state is not None and not link.retains:
            self._allowance.denied(RETAINING, "the broker keeps none")
        self._asked = _Asked(request, state, time.monotonic(), alone)
        return self._asked

    def _drop(self, asked: _Asked, state: State, why: str) -> None:
        """It cannot be sent as it is; the next one of its topic may be."""
        log.error("The %s was not sent: %s.", state_name(state.topic), why)
        with self._lock:
            if self._asked is asked:
                self._asked = None
        self.states.settle(state, "refused")

    def _release(self) -> None:
        with self._lock:
            was_holding, self.is_holding = self.is_holding, False
        if was_holding:
            self._released()


def subscription_request(topics: Sequence[str]) -> Request:
    """How the subscription is named, and what the device's policy must allow for it."""
    names = ", ".join(topics)
    return Request(
        name=f"subscription to {names}",
        remedy=f"let this device read {names}; on AWS IoT Core its policy needs iot:Subscribe on topicfilter/{names} "
        f"and iot:Receive on topic/{names}",
        without="no deployment comes over MQTT",
    )


def state_name(topic: str) -> str:
    """The identity of a retained state's request."""
    return f"retained state {topic}"


def state_request(topic: str) -> Request:
    """How a retained state is named, and what the device's policy must allow for it."""
    return Request(
        name=state_name(topic),
        remedy=f"let this device publish retained messages to {topic}; on AWS IoT Core its policy needs iot:Publish "
        f"and iot:RetainPublish on topic/{topic}",
        without="nobody sees this status",
    )
