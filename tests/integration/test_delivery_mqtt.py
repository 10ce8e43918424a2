"""Spool, drain and MQTT sink against real brokers: nothing lost, nothing counted that was not taken."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.brokers import (
    AmqttBroker,
    Certificates,
    Mosquitto,
    RecordingBrokerProcess,
    free_port,
    wait_until,
)
from tests.fixtures.delivery_rig import SHA256, TOPIC, DeliveryRig
from tests.fixtures.recording_broker import Behaviour

from mli.config.settings import MqttSettings, TlsSettings
from mli.errors import StopError

MakeMosquitto = Callable[..., Mosquitto]


def test_a_subscriber_of_a_real_broker_receives_payload_and_properties(
    tmp_path: Path, make_mosquitto: MakeMosquitto
) -> None:
    broker = make_mosquitto()
    with DeliveryRig(tmp_path, broker.settings()) as rig:
        rig.wait_connected()
        subscriber = broker.subscribe("mli/predictions/#", 1)
        rig.feed(1, 1, payload=b'[{"confidence": "0.5", "prediction": "can"}]')
        received = subscriber.communicate(timeout=30)[0]
        rig.wait_empty()
        assert rig.sink.status().protocol == "MQTT 5"
    (line,) = [line for line in received.splitlines() if line.startswith("got ")]
    assert line.startswith(f"got {TOPIC} ")
    assert line.endswith('[{"confidence": "0.5", "prediction": "can"}]')
    assert f"id:{rig.spool.epoch}-belt-1" in line
    assert "sequence:1" in line
    assert "captured_at:2026-11-22T17:30:00.123Z" in line
    assert f"model:{SHA256}" in line


def test_a_broker_with_client_certificates_is_reached_over_tls(
    tmp_path: Path, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    broker = make_mosquitto(certificates=certificates)
    with DeliveryRig(tmp_path, broker.settings(host="localhost")) as rig:
        rig.wait_connected()
        subscriber = broker.subscribe(TOPIC, 3)
        rig.feed(1, 3)
        assert subscriber.communicate(timeout=30)[0].count("got ") == 3
        rig.wait_empty()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ca": "other_ca"}, "is not trusted by"),
        ({"server": "elsewhere"}, "is for another name"),
        ({"client": None}, "wants a client certificate"),
    ],
)
def test_a_refused_tls_connection_says_why(
    change: dict[str, str | None],
    said: str,
    tmp_path: Path,
    make_mosquitto: MakeMosquitto,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shown = (certificates.elsewhere, certificates.elsewhere_key) if "server" in change else None
    broker = make_mosquitto(certificates=certificates, server=shown)
    tls = TlsSettings(
        ca_path=str(certificates.other_ca if "ca" in change else certificates.ca),
        certificate_path=None if "client" in change else str(certificates.client),
        private_key_path=None if "client" in change else str(certificates.client_key),
    )
    with caplog.at_level(logging.WARNING), DeliveryRig(tmp_path, broker.settings(tls=tls)) as rig:
        rig.feed(1, 1)
        wait_until(lambda: said in (rig.sink.status().last_error or ""), said)
        assert not rig.sink.status().connected
        assert rig.spool.stats().queued == 1
        attempts = (broker.folder / "mosquitto.log").read_text().count("New connection")
        wait_until(
            lambda: (broker.folder / "mosquitto.log").read_text().count("New connection") > attempts + 1, "retries"
        )
    assert len([one for one in caplog.messages if said in one]) == 1, "the same reason is logged once"


def test_files_that_cannot_work_are_found_before_anything_starts(tmp_path: Path, certificates: Certificates) -> None:
    def start(tls: TlsSettings) -> StopError:
        broker = Mosquitto(tmp_path, certificates=certificates)
        rig = DeliveryRig(tmp_path, broker.settings(tls=tls))
        with pytest.raises(StopError) as caught:
            rig.drain.start()
        rig.spool.close()
        return caught.value

    gone = tmp_path / "gone.pem"
    assert str(gone) in str(start(TlsSettings(ca_path=str(gone))))
    no_pem = tmp_path / "text.pem"
    no_pem.write_text("hello")
    assert "is not a PEM file" in str(start(TlsSettings(ca_path=str(no_pem))))
    mixed = start(TlsSettings(str(certificates.ca), str(certificates.client), str(certificates.server_key)))
    assert "does not belong to the client certificate" in mixed.what
    assert mixed.where == str(certificates.server_key)
    assert "go together" in str(start(TlsSettings(str(certificates.ca), str(certificates.client))))


def test_a_publish_denied_by_the_access_list_waits_until_it_is_allowed(
    tmp_path: Path, make_mosquitto: MakeMosquitto
) -> None:
    broker = make_mosquitto(acl="topic write other\ntopic read #\n")
    with DeliveryRig(tmp_path, broker.settings()) as rig:
        rig.feed(1, 2)
        rig.feed(3, 1, topic="other")
        wait_until(lambda: rig.spool.stats().refused_reasons, "a refusal")
        wait_until(lambda: rig.spool.stats().delivered == 1, "the allowed one delivered past the denied")
        stats = rig.spool.stats()
        assert stats.queued == 2
        assert stats.dead == 0
        assert set(stats.refused_reasons) == {"not authorized (reason 135)"}
        assert rig.drain.status().not_taken == (f"{TOPIC}: not authorized (reason 135)",)
        subscriber = broker.subscribe(TOPIC, 2)
        broker.reload_acl("topic readwrite #\n")
        received = subscriber.communicate(timeout=60)[0]
        rig.wait_empty()
        assert rig.spool.stats().delivered == 3
        assert rig.drain.status().not_taken == ()
    assert received.count("got ") == 2


def test_a_broker_that_dies_and_comes_back_loses_nothing(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start()
    window = 16
    with DeliveryRig(tmp_path, recording_broker.settings(max_inflight=window)) as rig:
        for round_number in range(4):
            rig.feed(1 + 200 * round_number, 200)
            wait_until(lambda n=round_number: rig.spool.stats().delivered > 150 * n + 20, "some delivered")  # type: ignore[misc]
            recording_broker.kill()
            recording_broker.start()
        rig.wait_empty()
        assert rig.spool.stats().delivered == 800
    ids = [event["properties"]["id"] for event in recording_broker.events()]
    assert len(set(ids)) == 800
    assert {int(event["payload"]) for event in recording_broker.events()} == set(range(1, 801))
    assert len(ids) - len(set(ids)) <= 4 * window, "only what was in flight may come twice"
    assert not any(event["dup"] for event in recording_broker.events())


def test_what_was_spooled_without_a_network_arrives_in_order(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 100)
        wait_until(lambda: "connection refused" in (rig.sink.status().last_error or ""), "refused")
        recording_broker.start()
        rig.wait_empty()
    assert [int(event["payload"]) for event in recording_broker.events()] == list(range(1, 101))


def test_a_restart_of_the_device_delivers_what_the_last_run_left(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 10)
        assert not rig.drain.wait_until_empty(0.2), "there is no broker"
        assert not rig.drain.wait_until_empty(60.0, lambda: True), "a cancelled wait ends at once"
    recording_broker.start()
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.wait_empty()
    assert [int(event["payload"]) for event in recording_broker.events()] == list(range(1, 11))


@pytest.mark.parametrize("answer", ["132", "code1", "drop", "mute"])
def test_a_broker_without_mqtt_5_is_spoken_to_in_311(
    answer: str, tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(refuse_v5=answer))
    patience_s = 2.0 if answer == "mute" else 10.0
    with DeliveryRig(tmp_path, recording_broker.settings(connect_timeout_s=patience_s)) as rig:
        rig.feed(1, 3)
        rig.wait_empty()
        assert rig.sink.status().protocol == "MQTT 3.1.1"
        tried = len([one for one in recording_broker.events("connect") if one["protocol"] == 5])
        recording_broker.kill()
        recording_broker.start(Behaviour(refuse_v5=answer))
        rig.feed(4, 1)
        rig.wait_empty()
    assert {event["protocol"] for event in recording_broker.events()} == {4}
    again = [one for one in recording_broker.events("connect") if one["protocol"] == 5]
    assert len(again) == tried, "the version is remembered"


def test_an_old_brokers_refusal_is_told_although_it_hangs_up_on_mqtt_5(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(refuse_v5="drop", connack=4))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        wait_until(lambda: "bad user name or password" in (rig.sink.status().last_error or ""), "the refusal")


def test_a_broker_that_only_dies_is_not_taken_for_an_old_one(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(connack=136))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 1)
        wait_until(lambda: "server unavailable" in (rig.sink.status().last_error or ""), "the refusal")
        recording_broker.kill()
        wait_until(lambda: "refused: nothing listens" in (rig.sink.status().last_error or ""), "no broker")
        recording_broker.start()
        rig.wait_empty()
        assert rig.sink.status().protocol == "MQTT 5"


def test_amqtt_which_speaks_311_alone_is_delivered_to(tmp_path: Path, amqtt_broker: AmqttBroker) -> None:
    with DeliveryRig(tmp_path, amqtt_broker.settings()) as rig:
        rig.feed(1, 50)
        rig.wait_empty()
        assert rig.sink.status().protocol == "MQTT 3.1.1"
        assert rig.spool.stats().delivered == 50


def test_a_publish_refused_for_good_becomes_a_dead_letter(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(puback=(("bad", 144), ("unheard", 16), ("busy", 151))))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 1, topic="bad")
        rig.feed(2, 1, topic="unheard")
        rig.feed(3, 1, topic="busy")
        rig.feed(4, 1, topic="with/+/wildcard")
        wait_until(lambda: rig.spool.stats().dead == 2, "dead letters")
        wait_until(lambda: rig.spool.stats().delivered == 1, "no matching subscribers is a success")
        wait_until(lambda: "quota exceeded (reason 151)" in rig.spool.stats().refused_reasons, "the quota")
        assert rig.spool.stats().queued == 1
        reasons = {letter.message.topic: letter.reason for letter in rig.spool.dead_letters()}
    assert reasons["bad"] == "topic name invalid (reason 144)"
    assert "wildcards" in reasons["with/+/wildcard"]


def test_what_mosquitto_finds_too_large_is_a_dead_letter_and_costs_no_connection(
    tmp_path: Path, make_mosquitto: MakeMosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answer is a reason that MQTT 5 does not have for a publish."""
    broker = make_mosquitto(extra="message_size_limit 500")
    with DeliveryRig(tmp_path, broker.settings()) as rig:
        rig.feed(1, 1)
        rig.feed(2, 3, payload=b"x" * 1_000)
        rig.wait_empty()
        assert {letter.reason for letter in rig.spool.dead_letters()} == {"packet too large (reason 149)"}
        assert rig.spool.stats().delivered == 1
    assert (broker.folder / "mosquitto.log").read_text().count("New client connected") == 1
    assert len([one for one in caplog.messages if "refused for good" in one]) == 1, "the rest is only counted"


def test_the_brokers_limits_are_kept(tmp_path: Path, recording_broker: RecordingBrokerProcess) -> None:
    recording_broker.start(Behaviour(receive_maximum=2, max_packet=1_000, max_qos=0, silent=True))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 1, payload=b"x" * 2_000)
        rig.feed(2, 1)
        rig.wait_empty()
        assert rig.sink.window == 2
        (letter,) = rig.spool.dead_letters()
    assert letter.reason.startswith("packet too large: 2")
    assert letter.reason.endswith("and the broker takes at most 1000")
    (event,) = recording_broker.events()
    assert (event["payload"], event["qos"]) == ("2", 0)


def test_no_more_are_in_flight_than_the_broker_allows(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(receive_maximum=3, silent=True))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 20)
        wait_until(lambda: len(recording_broker.events()) == 3, "a full window")
        assert rig.drain.status().in_flight == 3
        assert not rig.drain.wait_until_empty(0.3), "nothing is acknowledged, so nothing is done"
        assert len(recording_broker.events()) == 3
        assert rig.spool.stats().queued == 20


def test_a_broker_that_never_acknowledges_is_connected_to_anew(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(silent=True))
    with DeliveryRig(tmp_path, recording_broker.settings(), ack_timeout_s=0.2) as rig:
        rig.feed(1, 1)
        wait_until(lambda: len(recording_broker.events("connect")) >= 2, "a second connection")
        assert rig.spool.stats().queued == 1


def test_a_message_that_costs_the_connection_does_not_hold_up_the_others(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(drop_topic="poison"))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 1, topic="poison")
        rig.feed(2, 200)
        wait_until(lambda: rig.spool.stats().delivered == 200, "the others delivered")
        assert rig.spool.stats().queued == 1


def test_a_connection_that_drops_every_few_publishes_still_delivers_all(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(drop_after=7))
    with DeliveryRig(tmp_path, recording_broker.settings(max_inflight=4)) as rig:
        rig.feed(1, 60)
        rig.wait_empty()
    assert {int(event["payload"]) for event in recording_broker.events()} == set(range(1, 61))


@pytest.mark.parametrize(("code", "said"), [(134, "bad user name or password"), (135, "not authorized")])
def test_refused_credentials_are_said_and_tried_again(
    code: int, said: str, tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(connack=code))
    with DeliveryRig(tmp_path, recording_broker.settings(username="me", password="secret")) as rig:
        wait_until(lambda: said in (rig.sink.status().last_error or ""), said)
        recording_broker.kill()
        recording_broker.start()
        rig.feed(1, 1)
        rig.wait_empty()


def test_a_second_client_with_the_same_id_is_named_as_the_cause(
    tmp_path: Path, make_mosquitto: MakeMosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_mosquitto()  # this one does not say why it closes the first connection
    (tmp_path / "other").mkdir()
    with DeliveryRig(tmp_path, broker.settings()) as rig:
        rig.wait_connected()
        with DeliveryRig(tmp_path / "other", broker.settings()):
            wait_until(lambda: "does another client use the id 'thing'?" in caplog.text, "the hint")
    assert "systemctl disable --now greengrass" in caplog.text


def test_a_twin_is_asked_about_also_where_each_connection_delivers_something(
    tmp_path: Path, recording_broker: RecordingBrokerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    recording_broker.start(Behaviour(drop_after=2))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 20)
        rig.wait_empty()
    assert "does another client use the id 'thing'?" in caplog.text


def test_a_broker_that_says_session_taken_over_is_quoted(
    tmp_path: Path, recording_broker: RecordingBrokerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    recording_broker.start(Behaviour(kick=142))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 1)
        wait_until(lambda: "another client connected with the same client id" in caplog.text, "the cause")
        wait_until(lambda: "'thing': stop the other one" in caplog.text, "the remedy")


def test_a_name_that_does_not_resolve_and_a_silent_host_are_told_apart(tmp_path: Path) -> None:
    with DeliveryRig(tmp_path, MqttSettings("no-such-host.invalid", client_id="t")) as rig:
        wait_until(lambda: "cannot be resolved" in (rig.sink.status().last_error or ""), "the name")
    with socket.create_server(("127.0.0.1", free_port())) as mute:
        port = mute.getsockname()[1]
        with DeliveryRig(tmp_path, MqttSettings("127.0.0.1", port, "t", connect_timeout_s=0.3)) as rig:
            wait_until(lambda: "no answer to CONNECT" in (rig.sink.status().last_error or ""), "the silence")
