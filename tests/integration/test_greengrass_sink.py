"""Messages on their way through a nucleus that cannot publish, does not want to, does not answer, or is not there."""

from __future__ import annotations

import json
import logging
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.brokers import DEADLINE_S, Mosquitto, wait_until
from tests.fixtures.core_process import Witness
from tests.fixtures.greengrass_ipc import LITE_UNACKNOWLEDGED, Engine, Nucleus

from mli.config.settings import NucleusSettings, SpoolSettings
from mli.core.component.shortening import shortened
from mli.delivery.drain import Drain
from mli.delivery.sinks import greengrass
from mli.delivery.sinks.greengrass import MAX_PAYLOAD_BYTES, WINDOW, GreengrassSink
from mli.delivery.sinks.greengrass_ipc import ANSWERED_KEPT
from mli.delivery.spool import Spool
from mli.delivery.spool_writer import SpoolWriter
from mli.errors import MliError, UsageError
from mli.types import Counters, Message, Record

TOPIC = "mli/predictions/thing"


class Rig:
    """A spool, its drain, the sink, a nucleus and a broker with a witness."""

    def __init__(self, folder: Path, broker: Mosquitto, witness: Witness, engine: Engine) -> None:
        self.broker = broker
        self.witness = witness
        self.nucleus = Nucleus(folder, broker.port, engine=engine)
        self.failures: list[MliError] = []
        self.spool = Spool(folder / "spool.db", SpoolSettings(), sink="mqtt")
        self.writer = SpoolWriter(self.spool, on_failure=self.failures.append)
        self.writer.start()
        self.sink: GreengrassSink | None = None
        self.drain: Drain | None = None
        self._sequence = 0

    def open(self, **options: Any) -> GreengrassSink:
        """A sink that drains the spool."""
        options = {"reconnect_min_s": 0.05, "reconnect_max_s": 0.1, **options}
        self.sink = GreengrassSink(NucleusSettings(str(self.nucleus.path), self.nucleus.token), **options)
        self.drain = Drain(self.spool, self.writer, self.sink, on_failure=self.failures.append)
        self.drain.start()
        return self.sink

    def put(self, count: int = 1, *, topic: str = TOPIC, payload: bytes | None = None) -> None:
        """Committed when this returns."""
        for _ in range(count):
            self._sequence += 1
            number = self._sequence
            body = payload if payload is not None else json.dumps({"number": number}).encode()
            message = Message(f"e-p-{number}", "p", number, topic, body, 1, 100.0, "ab" * 32)
            record = Record(number, "p", number, None, False, Counters(), (message,))
            committed: queue.Queue[Record] = queue.Queue()
            self.writer.submit(record, committed.put)
            committed.get(timeout=DEADLINE_S)

    def numbers(self, topic: str = TOPIC) -> list[int]:
        """Of the messages that arrived."""
        return [json.loads(item.payload)["number"] for item in self.witness.heard(topic)]

    def close(self) -> None:
        if self.drain is not None:
            self.drain.stop()
        self.writer.stop()
        self.spool.close()
        self.nucleus.close()
        self.broker.stop()


@pytest.fixture
def make_rig(tmp_path: Path, make_mosquitto: Callable[..., Mosquitto]) -> Iterator[Callable[[Engine], Rig]]:
    made: list[Rig] = []
    broker = make_mosquitto()
    with Witness(broker) as witness:

        def make(engine: Engine) -> Rig:
            made.append(Rig(tmp_path, broker, witness, engine))
            made[-1].nucleus.start()
            return made[-1]

        yield make
        for rig in made:
            rig.close()


def test_more_than_the_nucleus_takes_at_a_time_arrives_in_order(make_rig: Callable[[Engine], Rig]) -> None:
    """Ten are on their way to a broker that does not answer; the rest is not lost, and not tried all the time."""
    rig = make_rig("lite")
    sink = rig.open()
    rig.put(1)
    wait_until(lambda: rig.numbers() == [1], "a line")
    rig.broker.pause()
    rig.put(59)
    wait_until(lambda: not sink.status().connected, "the nucleus to be full")
    wait_until(lambda: rig.spool.queued == 60 - 1 - LITE_UNACKNOWLEDGED, "what it took to be settled")
    assert len(rig.nucleus.published) < 30
    rig.broker.resume()
    wait_until(lambda: len(rig.numbers()) == 60, "all messages")
    assert rig.numbers() == list(range(1, 61))
    rig.put(30)
    wait_until(lambda: rig.spool.queued == 0, "some more")
    wait_until(lambda: rig.nucleus.streams_left <= ANSWERED_KEPT + WINDOW, "streams to be ended")
    assert rig.spool.stats().refused_reasons == {}


@pytest.mark.parametrize("engine", ["classic", "lite"])
def test_an_answer_that_says_nothing_holds_no_message_up(make_rig: Callable[[Engine], Rig], engine: Engine) -> None:
    """More of them than are ever under way: each would keep its place for as long as the connection lasts."""
    rig = make_rig(engine)
    rig.open()
    rig.put(1)
    wait_until(lambda: rig.numbers() == [1], "a line")
    rig.nucleus.odd_answers = WINDOW + 1
    rig.put(20)
    wait_until(lambda: sorted(set(rig.numbers())) == list(range(1, 22)), "all messages")
    wait_until(lambda: rig.spool.queued == 0, "their end")
    assert rig.failures == []


def test_while_the_broker_is_away_messages_wait_and_are_not_flooded_at_the_nucleus(
    make_rig: Callable[[Engine], Rig], caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("lite")
    sink = rig.open()
    rig.put(2)
    wait_until(lambda: len(rig.numbers()) == 2, "the first messages")
    rig.broker.stop()
    wait_until(lambda: not rig.nucleus._broker.is_connected(), "the nucleus without its broker")
    asked = len(rig.nucleus.published)
    rig.put(30)
    wait_until(lambda: not sink.status().connected, "the sink to know it")
    assert "cannot publish now" in str(sink.status().last_error)
    wait_until(lambda: len(rig.nucleus.published) >= asked + 2, "another try")
    assert rig.spool.queued == 30
    rig.broker.start()
    rig.witness.wait_subscribed()
    wait_until(lambda: rig.spool.queued == 0, "an empty queue")
    wait_until(lambda: len(set(rig.numbers())) == 32, "all messages")
    assert sorted(set(rig.numbers())) == list(range(1, 33))
    assert sink.status().connected
    assert sink.status().last_error is None
    assert rig.spool.stats().dead == 0
    assert len([record for record in caplog.records if "cannot publish now" in record.message]) == 1


def test_what_is_not_in_the_access_control_is_told_once_and_tried_again_rarely(
    make_rig: Callable[[Engine], Rig], caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig("lite")
    rig.nucleus.topics = ["mli/other/*"]
    sink = rig.open(denied_min_s=1.0)
    sink.set_state("mli/status/thing", b"{}")
    rig.put(12)
    rig.put(1, topic="mli/other/x")
    wait_until(lambda: rig.numbers("mli/other/x") == [13], "what is allowed")
    wait_until(lambda: len(sink.status().left_out) == 2, "what is not")
    assert any('"resources": ["mli/predictions/thing"]' in line for line in sink.status().left_out)
    assert any("aws.greengrass#PublishToIoTCore" in line for line in sink.status().left_out)
    assert not sink.wait_states(0.1)
    told = [record for record in caplog.records if record.levelno >= logging.ERROR and TOPIC in record.message]
    assert len(told) == 1
    wait_until(lambda: sum(rig.spool.stats().refused_reasons.values()) > 2 * WINDOW, "more refusals")
    assert rig.nucleus.operations.count("PublishToIoTCore") <= 2 * WINDOW, "it is not asked for each message"
    rig.nucleus.topics = ["mli/*"]
    wait_until(lambda: len(rig.numbers()) == 12, "all messages", 60)
    wait_until(lambda: sink.wait_states(0.1), "the state to be taken")
    assert sink.status().left_out == ()


def test_what_is_too_large_is_a_dead_letter_with_its_reason_and_holds_up_nothing(
    make_rig: Callable[[Engine], Rig],
) -> None:
    rig = make_rig("lite")
    rig.open()
    rig.put(1, payload=b'{"number": 0, "x": "' + b"x" * MAX_PAYLOAD_BYTES + b'"}')
    largest = b'{"number": 2, "x": "' + b"x" * (MAX_PAYLOAD_BYTES - 22) + b'"}'
    rig.put(1, payload=largest)
    rig.put(1)
    wait_until(lambda: rig.numbers() == [2, 3], "the others")
    wait_until(lambda: rig.spool.stats().dead == 1, "the dead letter")
    (letter,) = rig.spool.dead_letters()
    assert "takes at most 7,168" in letter.reason
    assert "delivery: mqtt" in letter.reason


def test_a_message_that_ends_the_connection_does_not_hold_up_the_others(
    make_rig: Callable[[Engine], Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should an engine take less than is known."""
    rig = make_rig("lite")
    monkeypatch.setattr(greengrass, "MAX_PAYLOAD_BYTES", 20_000)
    monkeypatch.setattr(greengrass, "MAX_REQUEST_BYTES", 40_000)
    rig.open()
    rig.put(2)
    rig.put(1, payload=b"x" * 9_000)
    rig.put(5)
    wait_until(lambda: set(rig.numbers()) == {1, 2, 4, 5, 6, 7, 8}, "the others")
    wait_until(lambda: rig.spool.queued == 1, "all but that one")
    assert rig.failures == []


def test_a_nucleus_that_does_not_answer_is_connected_to_anew(make_rig: Callable[[Engine], Rig]) -> None:
    rig = make_rig("classic")
    rig.nucleus.is_silent = True
    sink = rig.open(answer_s=0.2)
    rig.put(3)
    wait_until(lambda: "did not answer" in str(sink.status().last_error), "the end of its patience")
    assert rig.spool.queued == 3
    rig.nucleus.is_silent = False
    wait_until(lambda: sorted(set(rig.numbers())) == [1, 2, 3], "all messages")
    wait_until(lambda: rig.spool.queued == 0, "an empty queue")


def test_another_component_s_identity_is_told_with_its_remedy(make_rig: Callable[[Engine], Rig]) -> None:
    rig = make_rig("classic")
    rig.nucleus.token, right = "another", rig.nucleus.token
    rig.put(1)
    sink = GreengrassSink(NucleusSettings(str(rig.nucleus.path), right), reconnect_min_s=0.05, reconnect_max_s=0.1)
    drain = Drain(rig.spool, rig.writer, sink)
    drain.start()
    wait_until(lambda: "SVCUID" in str(sink.status().last_error), "the reason")
    assert sink.window == 0
    rig.nucleus.token = right
    wait_until(lambda: rig.numbers() == [1], "the message")
    drain.stop()


def test_states_are_retained_where_the_engine_can_and_told_again_and_again_for_where_it_cannot(
    make_rig: Callable[[Engine], Rig],
) -> None:
    rig = make_rig("classic")
    sink = rig.open(repeat_states_s=0.3)
    sink.set_state("mli/status/thing", b"one")
    sink.set_state("mli/status/thing", b"two")
    wait_until(lambda: sink.wait_states(0.1), "the state to be taken")
    wait_until(
        lambda: [item.payload for item in rig.witness.heard("mli/status/thing")].count(b"two") >= 2, "it again"
    )
    with Witness(rig.broker) as late:
        wait_until(lambda: late.heard("mli/status/thing"), "what the broker kept")
    sink.set_state("mli/status/thing", b"x" * 8_000)
    assert sink.wait_states(0.5), "too large: it was not taken"


def test_what_must_not_go_this_way_stays_and_states_get_out(make_rig: Callable[[Engine], Rig]) -> None:
    rig = make_rig("classic")
    sink = rig.open(held=UsageError("no certificate here", remedy="choose delivery: nucleus"))
    rig.put(3)
    sink.set_state("mli/status/thing", b"{}")
    wait_until(lambda: sink.wait_states(0.1), "the state to be taken")
    wait_until(lambda: rig.witness.heard("mli/status/thing"), "the state")
    assert (rig.numbers(), rig.spool.queued, sink.window) == ([], 3, 0)
    assert not sink.status().connected
    assert "choose delivery: nucleus" in str(sink.status().last_error)


def test_a_status_that_is_too_long_loses_texts_first_and_then_pipelines() -> None:
    problem = {"what": "w" * 3_000, "got": "g" * 3_000, "remedy": "r" * 3_000}
    document: dict[str, Any] = {"schema": "s", "identity": "i" * 64, "error": problem}
    data = json.loads(shortened(document, MAX_PAYLOAD_BYTES))
    assert data["identity"] == "i" * 64
    assert [len(text) for text in data["error"].values()] == [600, 600, 600]
    document = {
        "models": {f"m{index}": {"sha256": "a" * 64, "pinned": False} for index in range(64)},
        "state": "healthy",
    }
    assert json.loads(shortened(document, 7_300)) == document
    assert json.loads(shortened(document, 6_000)) == {"models": {}, "state": "healthy"}
    document = {"pipelines": [{"name": f"p{index}", "sha256": "a" * 64} for index in range(200)], "last_error": None}
    data = json.loads(shortened(document, MAX_PAYLOAD_BYTES))
    assert 60 < len(data["pipelines"]) < 100
    assert f"{200 - len(data['pipelines'])} of 200 pipelines" in data["last_error"]
    with pytest.raises(ValueError):
        shortened({"identity": "i" * 9_000}, MAX_PAYLOAD_BYTES)
