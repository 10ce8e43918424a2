"""The doctor at real brokers: each way in which a connection fails has its own cause and remedy."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from tests.fixtures.alpn_front import ALPN, AlpnFront
from tests.fixtures.brokers import (
    AmqttBroker,
    Certificates,
    Mosquitto,
    RecordingBrokerProcess,
    free_port,
    wait_until,
)
from tests.fixtures.recording_broker import Behaviour

from mli.config.settings import DeviceSettings, MqttSettings, TlsSettings
from mli.core.doctor.broker import (
    check_login,
    check_name,
    check_port,
    check_subscription,
    check_tls,
)
from mli.core.doctor.finding import Verdict
from mli.core.doctor.patient import Patient
from mli.core.doctor.running import check_wanted
from mli.core.root import Root

THING = "belt-7"


@pytest.fixture
def patient_at(tmp_path: Path) -> Callable[..., Patient]:
    def make(settings: MqttSettings, **changes: object) -> Patient:
        settings = replace(settings, host="localhost", client_id=THING)
        device = DeviceSettings(THING, str(tmp_path), replace(settings, **changes))  # type: ignore[arg-type]
        return Patient(Root(tmp_path), device)

    return make


PatientAt = Callable[..., Patient]
MakeMosquitto = Callable[..., Mosquitto]


def expect_failure(verdict: Verdict, told: str, remedy: str) -> None:
    assert verdict.state == "fail", verdict
    assert told in verdict.detail, verdict
    assert remedy in (verdict.remedy or ""), verdict


def test_all_is_well(patient_at: PatientAt, make_mosquitto: MakeMosquitto, certificates: Certificates) -> None:
    patient = patient_at(make_mosquitto(certificates=certificates).settings())
    for check in (check_name, check_port, check_tls, check_login, check_subscription, check_wanted):
        verdict = check(patient)
        assert verdict.state == "ok", (check.__name__, verdict)


def test_an_old_broker_is_spoken_to_in_its_own_protocol(patient_at: PatientAt, amqtt_broker: AmqttBroker) -> None:
    verdict = check_login(patient_at(amqtt_broker.settings(protocol="3.1.1")))
    assert verdict == Verdict("ok", f"MQTT 3.1.1 accepted client id {THING}")


@pytest.mark.parametrize("answer", ["code5", "drop", "mute"])
def test_an_old_broker_that_does_not_answer_mqtt_5(
    answer: str, patient_at: PatientAt, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(refuse_v5=answer))
    patient = patient_at(recording_broker.settings(connect_timeout_s=2.0 if answer == "mute" else 10.0))
    assert check_login(patient) == Verdict("ok", f"MQTT 3.1.1 accepted client id {THING}")


# --- the way there ---------------------------------------------------------------------------------------------


def test_a_name_that_nobody_knows(patient_at: PatientAt) -> None:
    verdict = check_name(patient_at(MqttSettings("", 1883), host="no-such-host.invalid"))
    expect_failure(verdict, "no-such-host.invalid: the name cannot be resolved", "resolvectl query")


def test_a_port_where_nothing_listens(patient_at: PatientAt) -> None:
    verdict = check_port(patient_at(MqttSettings("", free_port())))
    expect_failure(verdict, "nothing listens there", "start the broker")


# --- TLS -------------------------------------------------------------------------------------------------------


def test_a_broker_of_another_authority(
    patient_at: PatientAt, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    settings = make_mosquitto(certificates=certificates).settings()
    patient = patient_at(settings, tls=replace(settings.tls or TlsSettings(), ca_path=str(certificates.other_ca)))
    verdict = check_tls(patient)
    expect_failure(verdict, "it shows CN=server, signed by CN=ca", "take the authority that signed")


def test_a_broker_of_another_name(
    patient_at: PatientAt, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    pair = certificates.elsewhere, certificates.elsewhere_key
    verdict = check_tls(patient_at(make_mosquitto(certificates=certificates, server=pair).settings()))
    expect_failure(verdict, "it is for elsewhere.example", "by a name in its certificate")


def test_a_broker_that_wants_a_certificate(
    patient_at: PatientAt, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    settings = make_mosquitto(certificates=certificates).settings()
    patient = patient_at(settings, tls=TlsSettings(str(certificates.ca)))
    expect_failure(check_tls(patient), "does not take this device's certificate", "register the certificate")


def test_a_port_that_speaks_no_tls(
    patient_at: PatientAt, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    patient = patient_at(make_mosquitto().settings(), tls=TlsSettings(str(certificates.ca)))
    expect_failure(check_tls(patient), "TLS", "speaks TLS")


def test_aws_on_443_wants_alpn(patient_at: PatientAt) -> None:
    patient = patient_at(MqttSettings(""), host="a1-ats.iot.eu-central-1.amazonaws.com", port=443, tls=TlsSettings())
    expect_failure(check_tls(patient), "by ALPN", "alpn: x-amzn-mqtt-ca")


def test_a_broker_that_says_nothing(patient_at: PatientAt) -> None:
    """As behind a firewall that lets connections in and swallows what is said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = MqttSettings("", server.getsockname()[1])
        plain = patient_at(settings, connect_timeout_s=0.3)
        secure = patient_at(settings, connect_timeout_s=0.3, tls=TlsSettings())
        assert check_port(plain).state == "ok"
        expect_failure(check_tls(secure), "no TLS with localhost", "speaks TLS")
        expect_failure(check_login(plain), "no answer to CONNECT", "the broker's own log")


def test_alpn_as_aws_wants_it(
    patient_at: PatientAt, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    front = AlpnFront(certificates, make_mosquitto().port)
    tls = TlsSettings(str(certificates.ca), str(certificates.client), str(certificates.client_key), ALPN)
    patient = patient_at(MqttSettings("", front.port), tls=tls)
    verdict = check_tls(patient)
    assert verdict.state == "ok"
    assert verdict.detail.endswith(f"ALPN {ALPN}")
    assert check_login(patient).state == "ok"
    front.close()


def test_alpn_that_nobody_answers_to(
    patient_at: PatientAt, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    settings = make_mosquitto(certificates=certificates).settings()
    assert settings.tls is not None
    verdict = check_tls(patient_at(settings, tls=replace(settings.tls, alpn=ALPN)))
    assert verdict.state == "warn"
    assert f"does not answer to ALPN {ALPN!r}" in verdict.detail


# --- what the broker says --------------------------------------------------------------------------------------


def test_a_wrong_password(patient_at: PatientAt, make_mosquitto: MakeMosquitto, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "me", "sesame"], check=True, capture_output=True)
    settings = make_mosquitto(extra=f"password_file {passwords}").settings()
    assert check_login(patient_at(settings, username="me", password="sesame")).state == "ok"
    verdict = check_login(patient_at(settings, username="me", password="open"))
    expect_failure(verdict, "refused the connection", "")
    assert "open" not in verdict.detail


@contextmanager
def twin(port: int, protocol: MQTTProtocolVersion) -> Iterator[list[str]]:
    """Another client of the same id that comes back whenever it is thrown out, as an old core does."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=THING, protocol=protocol)
    connects: list[str] = []
    client.reconnect_delay_set(0.1, 0.1)  # type: ignore[arg-type]
    client.on_connect = lambda *_: connects.append("connected")
    client.connect("127.0.0.1", port)
    client.loop_start()
    wait_until(lambda: connects, "the twin's connection")
    yield connects
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize(
    ("spoken", "protocol"), [("auto", MQTTProtocolVersion.MQTTv5), ("3.1.1", MQTTProtocolVersion.MQTTv311)]
)
def test_another_client_of_the_same_id(
    patient_at: PatientAt, make_mosquitto: MakeMosquitto, spoken: str, protocol: MQTTProtocolVersion
) -> None:
    broker = make_mosquitto()
    patient = patient_at(broker.settings(), protocol=spoken)
    with twin(broker.port, protocol):
        verdict = check_login(patient)
    expect_failure(verdict, f"another client connects with the id {THING}", "old Greengrass core")


def test_a_running_cores_connection_is_left_alone(patient_at: PatientAt, make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto()
    patient = replace(patient_at(broker.settings()), core_pid=1)
    with twin(broker.port, MQTTProtocolVersion.MQTTv5) as connects:
        assert check_login(patient).state == "ok"
        assert check_subscription(patient).state == "ok"
    assert len(connects) == 1


@pytest.mark.parametrize(("core_is_in", "state"), [(True, "warn"), (False, "fail")])
def test_a_refused_id_of_the_doctors_own_is_a_failure_only_where_the_core_is_out_too(
    core_is_in: bool, state: str, patient_at: PatientAt, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(connack=135))
    status = {"broker": {"connected": core_is_in}}
    patient = replace(patient_at(recording_broker.settings()), core_pid=1, status=status)
    verdict = check_login(patient)
    assert (verdict.state, "not authorized" in verdict.detail) == (state, True)
    assert check_subscription(patient) == Verdict("skipped", "the broker refuses this id")


def refusing_subscriptions(folder: Path) -> str:
    """mosquitto's access file knows no rights to subscribe, its plugin does."""
    nothing = {"clients": [], "roles": [], "groups": [{"groupname": "all", "roles": []}], "anonymousGroup": "all"}
    rights = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    path = folder / "rights.json"
    path.write_text(json.dumps({**nothing, "defaultACLAccess": rights}))
    plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))
    return f"plugin {plugin}\nplugin_opt_config_file {path}"


def test_a_subscription_that_is_refused(patient_at: PatientAt, make_mosquitto: MakeMosquitto, tmp_path: Path) -> None:
    verdict = check_subscription(patient_at(make_mosquitto(extra=refusing_subscriptions(tmp_path)).settings()))
    expect_failure(verdict, f"refuses the subscription to mli/deployments/{THING}", "iot:Subscribe")


def test_nothing_is_published(patient_at: PatientAt, make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto()
    patient = patient_at(broker.settings())
    listener = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="listener", protocol=MQTTProtocolVersion.MQTTv5)
    seen: list[str] = []
    listener.on_message = lambda _client, _data, message: seen.append(message.topic)
    listener.on_subscribe = lambda *_: seen.append("subscribed")
    listener.connect("127.0.0.1", broker.port)
    listener.subscribe("#", qos=1)
    listener.loop_start()
    wait_until(lambda: seen == ["subscribed"], "the subscription")
    for check in (check_login, check_subscription):
        assert check(patient).state == "ok"
    subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-t", "last", "-m", "x", "-q", "1"], check=True)
    wait_until(lambda: "last" in seen, "the last message")
    listener.disconnect()
    listener.loop_stop()
    assert seen == ["subscribed", "last"]


# --- what the broker holds -------------------------------------------------------------------------------------


def publish_wanted(broker: Mosquitto, text: str) -> None:
    command = ["mosquitto_pub", "-p", str(broker.port), "-t", f"mli/deployments/{THING}", "-r", "-q", "1", "-m", text]
    subprocess.run(command, check=True)


def test_a_wanted_deployment_that_this_device_refuses(patient_at: PatientAt, make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto()
    patient = patient_at(broker.settings())
    publish_wanted(broker, '{"revision": 3, "modle": "s3://b/m.zip", "source": "demo"}')
    expect_failure(check_wanted(patient), "did you mean 'model'?", "higher revision")


def test_a_wanted_deployment_is_told_with_its_revision(patient_at: PatientAt, make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto()
    patient = patient_at(broker.settings())
    publish_wanted(broker, '{"revision": 3, "model": "s3://bucket/m.zip", "source": {"kind": "demo"}}')
    verdict = check_wanted(patient)
    assert verdict == Verdict("ok", "revision 3 is wanted, none runs: a core will take it")
