"""What a thing says, and when, decides what is told of it; the session is scripted so that it may say anything."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from mli.core.sending.current import Reader
from mli.core.sending.rollout import Aim, Change, Rollout, lost_line
from mli.core.topics import deployment_topic, report_topic, status_topic
from mli.delivery.received import Received
from mli.delivery.remote import Published
from mli.errors import MliError, RefusedError, RetryError

THING = "line-1"
MINE = "a" * 64
AIM = Aim("deployment", 7, MINE)
Event = Received | Published


@dataclass
class ScriptedSession:
    """Time passes only while nothing is left to take. ``retained`` is handed out at each subscription."""

    retained: dict[str, bytes] = field(default_factory=dict)
    on_publish: Callable[[str], Sequence[Event]] = lambda topic: [Published(topic)]
    refused: Mapping[str, MliError] = field(default_factory=dict)
    now: float = 0.0
    events: deque[Event] = field(default_factory=deque)
    subscriptions: list[list[str]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def subscribe(self, topics: Sequence[str]) -> dict[str, MliError]:
        self.subscriptions.append(list(topics))
        refused = {topic: error for topic, error in self.refused.items() if topic in topics}
        self.events += [
            Received(topic, self.retained[topic], {}, 0.0, retained=True)
            for topic in topics
            if topic in self.retained and topic not in refused
        ]
        return refused

    def publish(self, topic: str, payload: bytes) -> None:
        assert payload
        self.events += self.on_publish(topic)

    def take(self, timeout_s: float) -> Event | None:
        if self.events:
            return self.events.popleft()
        self.now += timeout_s
        return None


def report(state: str, revision: int | None = 7, identity: str | None = MINE, **fields: Any) -> bytes:
    return json.dumps({"state": state, "revision": revision, "identity": identity, **fields}).encode()


def said(*payloads: bytes, thing: str = THING) -> list[Event]:
    return [Received(report_topic(thing), payload, {}, 0.0) for payload in payloads]


def answering(*payloads: bytes) -> Callable[[str], Sequence[Event]]:
    return lambda topic: [Published(topic), *said(*payloads)]


def run(session: ScriptedSession, *things: str, aim: Aim = AIM, wait: bool = True) -> list[Change]:
    reader = Reader(things or (THING,))
    reader.read(session, clock=session.clock)
    messages = dict.fromkeys(things or (THING,), b"x")
    rollout = Rollout(session, reader, messages, aim, wait=wait, timeout_s=100.0, clock=session.clock)
    return [change for change in rollout.run() if change is not None]


def test_each_state_is_told_and_the_last_one_ends_it() -> None:
    changes = run(
        ScriptedSession(on_publish=answering(report("received"), report("canary"), report("healthy"), report("late")))
    )
    assert [change.state for change in changes] == ["sent", "received", "canary", "healthy"]
    assert [change.ended for change in changes] == [False, False, False, True]


def test_without_waiting_the_brokers_answer_is_the_end() -> None:
    changes = run(ScriptedSession(on_publish=answering(report("healthy"))), wait=False)
    assert [(change.state, change.ended) for change in changes] == [("sent", True)]


def test_a_denied_message_ends_its_thing_alone() -> None:
    def answer(topic: str) -> Sequence[Event]:
        if topic == deployment_topic("b"):
            return [Published(topic, RefusedError("no", got="not authorized"))]
        return [Published(topic), *said(report("healthy"), thing="a")]

    changes = run(ScriptedSession(on_publish=answer), "a", "b")
    assert {change.thing: change.state for change in changes if change.ended} == {"a": "healthy", "b": "not_sent"}
    assert changes[-1].error is not None


def test_what_the_thing_said_of_another_deployment_is_ignored() -> None:
    other = "b" * 64
    before, after = report("failed", revision=6), report("received")
    changes = run(
        ScriptedSession(
            retained={report_topic(THING): report("healthy", revision=6)},
            on_publish=answering(before, report("refused", identity=other), after, report("healthy")),
        )
    )
    assert [change.state for change in changes] == ["sent", "received", "healthy"]


def test_a_deployment_that_cannot_be_read_has_no_number_and_is_still_this_one() -> None:
    error = {"what": "The signature is wrong.", "where": None, "expected": None, "got": None, "remedy": "Sign it."}
    refused = report("refused", None, None, error=error)
    last = run(ScriptedSession(on_publish=answering(refused)))[-1]
    assert (last.state, last.error and last.error.remedy) == ("refused", "Sign it.")


def test_an_old_refusal_without_a_number_is_not_this_one() -> None:
    session = ScriptedSession(retained={report_topic(THING): report("refused", None, None)})
    assert run(session)[-1].state == "unanswered"


def test_a_later_deployment_supersedes_it_but_a_refused_one_does_not() -> None:
    session = ScriptedSession(on_publish=answering(report("refused", 9), report("received"), report("received", 8)))
    changes = run(session)
    assert [change.state for change in changes] == ["sent", "received", "superseded"]


def test_what_is_sent_once_more_may_have_ended_long_ago() -> None:
    session = ScriptedSession(retained={report_topic(THING): report("healthy")}, on_publish=lambda _: [])
    assert [change.state for change in run(session)] == ["healthy"]


def test_what_failed_before_is_followed_anew() -> None:
    session = ScriptedSession(
        {report_topic(THING): report("failed")}, answering(report("received"), report("healthy"))
    )
    assert [change.state for change in run(session)] == ["sent", "received", "healthy"]


def test_a_status_that_the_broker_dropped_is_asked_for_again() -> None:
    session = ScriptedSession(retained={report_topic(THING): report("healthy", revision=6)})

    def answer(topic: str) -> Sequence[Event]:
        session.retained[report_topic(THING)] = report("healthy")  # but that message does not get here
        return [Published(topic), *said(report("received"))]

    session.on_publish = answer
    assert [change.state for change in run(session)] == ["sent", "received", "healthy"]
    assert session.now < 10


def test_a_cancellation_ends_with_what_the_thing_left() -> None:
    cancel = Aim("cancel", 8)
    retained = {report_topic(THING): report("downloading")}
    for end in ("cancelled", "healthy"):
        session = ScriptedSession(dict(retained), answering(report("downloading", progress=None), report(end)))
        changes = run(session, aim=cancel)
        assert [change.state for change in changes] == ["sent", end]
    nothing_under_way = ScriptedSession(dict(retained), answering(report("cancelled", 8, None)))
    assert run(nothing_under_way, aim=cancel)[-1].state == "cancelled"


@pytest.mark.parametrize(
    ("retained", "words"),
    [
        ({}, "nothing of a thing with this name is known"),
        ({status_topic(THING): b'{"state": "offline"}'}, "it is offline"),
        ({status_topic(THING): b'{"state": "online"}'}, "it is online"),
        ({status_topic(THING): b"?"}, "nothing of a thing with this name is known"),
    ],
)
def test_a_silent_thing_is_named_with_what_may_be_wrong(retained: dict[str, bytes], words: str) -> None:
    last = run(ScriptedSession(retained))[-1]
    assert last.state == "unanswered"
    assert last.error is not None
    assert words in (last.error.got or "")
    assert last.error.remedy


def test_other_reasons_for_silence_are_told_apart() -> None:
    def problem(session: ScriptedSession) -> str:
        error = run(session)[-1].error
        assert error is not None
        return f"{error.what} {error.got}"

    denied = {report_topic(THING): RefusedError("no", got="not authorized")}
    assert "not authorized" in problem(ScriptedSession(refused=denied))
    assert "it is at canary" in problem(ScriptedSession(on_publish=answering(report("canary"))))
    assert "another deployment" in problem(ScriptedSession(on_publish=answering(report("canary", identity="c" * 64))))
    assert "did not acknowledge" in problem(ScriptedSession(on_publish=lambda _: []))


def test_many_things_are_asked_for_a_few_at_a_time() -> None:
    """More than a broker keeps for one client at a time would be dropped."""
    things = [f"line-{index}" for index in range(250)]
    session = ScriptedSession(on_publish=lambda topic: [Published(topic)])
    run(session, *things, wait=False)
    assert [len(topics) for topics in session.subscriptions] == [300, 300, 150]


def test_a_lost_line_says_what_it_means() -> None:
    told = str(lost_line(RetryError("The broker cannot be reached.", where="mqtt://b:1883", got="gone"), 3))
    assert "3 things" in told
    assert "gone" in told
    assert "Run the same command again" in told
