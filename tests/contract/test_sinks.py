"""What every sink promises to the drain."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.brokers import RecordingBrokerProcess, wait_until
from tests.fixtures.greengrass_ipc import Nucleus

from mli.config.settings import NucleusSettings
from mli.delivery.sinks.greengrass import GreengrassSink
from mli.delivery.sinks.mqtt import MqttSink
from mli.delivery.sinks.sink import Sink
from mli.delivery.sinks.stdout import StdoutSink
from mli.delivery.spool_schema import SpooledMessage
from mli.errors import MliError, StopError
from mli.types import Message

MakeSink = Callable[[], tuple[Sink, Callable[[], list[str]]]]


class Heard:
    """A listener that keeps all it hears."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections = 0
        self.done: list[int] = []
        self.refusals: list[tuple[int, str, bool]] = []
        self.ends: list[str] = []
        self.failures: list[MliError] = []

    def connected(self) -> None:
        self.connections += 1

    def disconnected(self, reason: str) -> None:
        self.ends.append(reason)

    def delivered(self, rowid: int) -> None:
        with self.lock:
            self.done.append(rowid)

    def refused(self, rowid: int, reason: str, permanent: bool) -> None:
        self.refusals.append((rowid, reason, permanent))

    def failed(self, error: MliError) -> None:
        self.failures.append(error)


def spooled(rowid: int, qos: int = 1) -> SpooledMessage:
    payload = f'[{{"prediction": "bouteille n° {rowid}"}}]'.encode()
    message = Message(f"e-p-{rowid}", "p", rowid, "mli/predictions/thing", payload, qos, 100.0, "ab" * 32)
    return SpooledMessage(rowid, message)


@pytest.fixture(params=["stdout", "mqtt", "greengrass"])
def make_sink(
    request: pytest.FixtureRequest, recording_broker: RecordingBrokerProcess, tmp_path: Path
) -> Iterator[MakeSink]:
    """A sink, and what has arrived on its far side."""
    nuclei: list[Nucleus] = []

    def stdout() -> tuple[Sink, Callable[[], list[str]]]:
        stream = io.StringIO()
        return StdoutSink(stream), lambda: stream.getvalue().splitlines()

    def mqtt() -> tuple[Sink, Callable[[], list[str]]]:
        recording_broker.start()
        sink = MqttSink(recording_broker.settings())
        return sink, lambda: [str(event["payload"]) for event in recording_broker.events()]

    def greengrass() -> tuple[Sink, Callable[[], list[str]]]:
        recording_broker.start()
        nucleus = Nucleus(tmp_path, recording_broker.settings().port)
        nuclei.append(nucleus)
        nucleus.start()
        sink = GreengrassSink(NucleusSettings(str(nucleus.path), nucleus.token))
        return sink, lambda: [str(event["payload"]) for event in recording_broker.events()]

    yield {"stdout": stdout, "mqtt": mqtt, "greengrass": greengrass}[request.param]
    for nucleus in nuclei:
        nucleus.close()


def test_each_message_arrives_whole_in_order_and_its_fate_is_told_once(make_sink: MakeSink) -> None:
    sink, arrived = make_sink()
    heard = Heard()
    assert sink.window == 0
    sink.open(heard)
    wait_until(lambda: heard.connections == 1, "connected")
    assert sink.window > 0
    assert sink.status().connected
    assert sink.status().endpoint
    assert (sink.status().subscribed, sink.status().left_out) == (None, ())
    for rowid in range(1, 31):
        sink.publish(spooled(rowid, qos=rowid % 2))
    wait_until(lambda: len(heard.done) == 30, "all fates")
    sink.close()
    assert sorted(heard.done) == list(range(1, 31))
    wait_until(lambda: len(arrived()) == 30, "arrival")
    assert arrived() == [spooled(rowid).message.payload.decode() for rowid in range(1, 31)]
    assert heard.refusals == []
    assert heard.failures == []


def test_after_close_nothing_is_sent_and_nothing_is_heard(make_sink: MakeSink) -> None:
    sink, arrived = make_sink()
    heard = Heard()
    sink.open(heard)
    wait_until(lambda: heard.connections == 1, "connected")
    sink.close()
    sink.publish(spooled(1))
    assert (sink.window, sink.status().connected) == (0, False)
    assert (arrived(), heard.done, heard.ends) == ([], [], [])


def test_printing_ends_with_its_reader(tmp_path: Path) -> None:
    heard = Heard()
    with (tmp_path / "out").open("w") as stream:
        sink = StdoutSink(stream)
        sink.open(heard)
        sink.publish(spooled(1))
    sink.publish(spooled(2))
    assert heard.done == [1]
    (failure,) = heard.failures
    assert isinstance(failure, StopError)
    assert "reader of standard output went away" in failure.what
    assert sink.window == 0
