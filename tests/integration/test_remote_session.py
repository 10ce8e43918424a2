"""A workstation that sends to many things and hears them, with real brokers."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.fixtures.brokers import AmqttBroker, Certificates, Mosquitto, RecordingBrokerProcess, free_port, wait_until
from tests.fixtures.recording_broker import Behaviour

from mli.config.settings import MqttSettings, TlsSettings
from mli.delivery.received import Received
from mli.delivery.remote import Published, RemoteSession
from mli.errors import RefusedError, RetryError

MakeMosquitto = Callable[..., Mosquitto]


def answers(session: RemoteSession, count: int) -> dict[str, Published]:
    """The answers to so many publishes."""
    got: dict[str, Published] = {}

    def all_there() -> bool:
        while len(got) < count and (event := session.take(0.1)) is not None:
            if isinstance(event, Published):
                got[event.topic] = event
        return len(got) == count

    wait_until(all_there, f"{count} answers")
    return got


def heard(session: RemoteSession, count: int) -> list[Received]:
    """So many messages."""
    got: list[Received] = []

    def all_there() -> bool:
        while len(got) < count and (event := session.take(0.1)) is not None:
            if isinstance(event, Received):
                got.append(event)
        return len(got) == count

    wait_until(all_there, f"{count} messages")
    return got


def topics(count: int) -> list[str]:
    return [f"mli/deployments/thing-{number}" for number in range(count)]


def test_a_thousand_things_are_sent_to_and_heard(make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto()
    with RemoteSession(replace(broker.settings(), client_id="")) as session:
        assert session.protocol == "MQTT 5"
        for topic in topics(1_000):
            session.publish(topic, b"revision: 1")
        assert all(one.error is None for one in answers(session, 1_000).values())
        assert session.subscribe(topics(300)) == {}
        got = heard(session, 300)
        assert {one.topic for one in got} == set(topics(300))
        assert all(one.retained for one in got)
        assert session.subscribe(topics(10)) == {}
        assert len(heard(session, 10)) == 10, "subscribing once more brings what is retained once more"


def test_one_message_is_published_and_cleared_while_what_comes_meanwhile_is_kept(
    make_mosquitto: MakeMosquitto,
) -> None:
    broker = make_mosquitto()
    with RemoteSession(replace(broker.settings(), client_id="")) as session:
        session.subscribe(["mli/status/+/deployment"])
        session.publish_retained("mli/status/a/deployment", b"1")
        session.publish_retained("mli/status/b/deployment", b"2")
        assert [one.payload for one in heard(session, 2)] == [b"1", b"2"]
        session.publish_retained("mli/status/a/deployment", b"")
    with RemoteSession(replace(broker.settings(), client_id="")) as session:
        session.subscribe(["mli/status/+/deployment"])
        assert [one.topic for one in heard(session, 1)] == ["mli/status/b/deployment"]
        assert session.take(0.0) is None


def test_a_denied_publish_is_refused_with_the_permission_it_takes(make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto(acl="topic readwrite mli/deployments/mine\n")
    with RemoteSession(replace(broker.settings(), client_id="")) as session:
        session.publish_retained("mli/deployments/mine", b"1")
        with pytest.raises(RefusedError, match="not authorized") as caught:
            session.publish_retained("mli/deployments/yours", b"1")
        assert "iot:RetainPublish on topic/mli/deployments/yours" in (caught.value.remedy or "")


def test_a_lost_line_comes_back_with_its_subscriptions_and_what_was_not_acknowledged(
    make_mosquitto: MakeMosquitto,
) -> None:
    broker = make_mosquitto()
    with RemoteSession(replace(broker.settings(), client_id="")) as session:
        assert session.subscribe(["mli/status/+/deployment"]) == {}
        broker.stop(signal.SIGKILL)
        for topic in topics(50):
            session.publish(topic, b"revision: 1")
        session.publish("mli/status/a/deployment", b"1")
        broker.start()
        assert all(one.error is None for one in answers(session, 51).values())
        session.publish("mli/status/a/deployment", b"2")
        assert b"2" in [one.payload for one in heard(session, 1)]
        assert session.reconnects == 1


def test_a_line_that_stays_lost_is_said(make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto()
    with RemoteSession(replace(broker.settings(), client_id=""), lost_after_s=0.5) as session:
        broker.stop()
        with pytest.raises(RetryError, match="cannot be reached"):
            wait_until(lambda: session.take(0.1), "an answer that cannot come")


def test_a_publish_that_costs_the_connection_is_found_among_others(recording_broker: RecordingBrokerProcess) -> None:
    recording_broker.start(Behaviour(drop_topic=topics(5)[3]))
    with RemoteSession(replace(recording_broker.settings(), client_id="")) as session:
        for topic in topics(30):
            session.publish(topic, b"revision: 1")
        got = answers(session, 30)
    assert [topic for topic, one in got.items() if one.error is not None] == [topics(5)[3]]
    assert "ends the connection instead of answering" in str(got[topics(5)[3]].error)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [(Behaviour(suback=135), "not authorized"), (Behaviour(drop_subscribe=True), "ends the connection")],
)
def test_a_subscription_that_is_not_allowed_is_returned_and_the_session_goes_on(
    behaviour: Behaviour, said: str, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(behaviour)
    with RemoteSession(replace(recording_broker.settings(), client_id="")) as session:
        refused = session.subscribe(["mli/status/a"])
        assert said in str(refused["mli/status/a"])
        assert "iot:Subscribe on topicfilter/mli/status/a" in str(refused["mli/status/a"])
        session.publish_retained("mli/deployments/a", b"1")


def test_a_message_that_is_larger_than_the_broker_takes_is_refused(recording_broker: RecordingBrokerProcess) -> None:
    recording_broker.start(Behaviour(max_packet=1_000))
    with RemoteSession(replace(recording_broker.settings(), client_id="")) as session:
        with pytest.raises(RefusedError, match="the broker takes at most 1000"):
            session.publish_retained("mli/deployments/a", b"x" * 1_000)
        session.publish_retained("mli/deployments/a", b"1")


def test_what_mosquitto_finds_too_large_is_refused_with_its_reason(make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto(extra="message_size_limit 500")
    with RemoteSession(replace(broker.settings(), client_id="")) as session:
        with pytest.raises(RefusedError, match="packet too large"):
            session.publish_retained("mli/deployments/a", b"x" * 1_000)
        session.publish_retained("mli/deployments/a", b"1")


def test_a_broker_that_takes_qos_0_alone_is_sent_to(make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto(extra="max_qos 0")
    with RemoteSession(replace(broker.settings(), client_id="")) as session:
        session.publish_retained("mli/deployments/a", b"1")
        assert session.subscribe(["mli/deployments/a"]) == {}
        assert heard(session, 1)[0].payload == b"1"


def test_a_broker_that_keeps_nothing_is_told_of_and_nothing_is_sent(make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto(extra="retain_available false")
    with RemoteSession(replace(broker.settings(), client_id="")) as session:
        with pytest.raises(RefusedError, match="keeps no retained messages"):
            session.publish_retained("mli/deployments/a", b"1")
        assert session.subscribe(["mli/deployments/a"]) == {}, "the connection is still there"


def test_amqtt_which_speaks_311_alone_takes_part(amqtt_broker: AmqttBroker) -> None:
    with RemoteSession(replace(amqtt_broker.settings(connect_timeout_s=2.0), client_id="")) as session:
        assert session.protocol == "MQTT 3.1.1"
        session.publish_retained("mli/deployments/a", b"1")
        assert session.subscribe(["mli/deployments/a"]) == {}
        assert heard(session, 1)[0].payload == b"1"


@pytest.mark.parametrize("answer", ["132", "code1", "code5", "drop", "mute"])
def test_a_broker_without_mqtt_5_is_spoken_to_in_311(answer: str, recording_broker: RecordingBrokerProcess) -> None:
    recording_broker.start(Behaviour(refuse_v5=answer))
    settings = recording_broker.settings(connect_timeout_s=2.0 if answer == "mute" else 10.0)
    with RemoteSession(replace(settings, client_id="")) as session:
        assert session.protocol == "MQTT 3.1.1"
        session.publish_retained("mli/deployments/a", b"1")


@pytest.mark.parametrize(
    ("has_certificate", "told"),
    [(False, "wants a client certificate"), (True, "does not take this client's certificate")],
)
def test_a_certificate_that_the_broker_refuses_is_told(
    has_certificate: bool, told: str, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    """Under TLS 1.3 it does so after its own handshake."""
    broker = make_mosquitto(certificates=replace(certificates, ca=certificates.other_ca))
    pair = (str(certificates.client), str(certificates.client_key)) if has_certificate else (None, None)
    settings = broker.settings(tls=TlsSettings(str(certificates.ca), *pair), client_id="")
    with pytest.raises(RetryError, match=told), RemoteSession(settings):
        pass


def test_no_broker_is_said_at_the_start() -> None:
    with pytest.raises(RetryError, match="cannot be reached"), RemoteSession(MqttSettings("127.0.0.1", free_port())):
        pass
