"""What rides on a device's one connection beside its predictions: a subscription, retained states, a last will."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.alpn_front import ALPN, AlpnFront
from tests.fixtures.brokers import ROOT, AmqttBroker, Certificates, Mosquitto, RecordingBrokerProcess, wait_until
from tests.fixtures.delivery_rig import DeliveryRig
from tests.fixtures.recording_broker import Behaviour

from mli.config.settings import MqttSettings, TlsSettings
from mli.delivery.sinks.mqtt import Incoming, Will

MakeMosquitto = Callable[..., Mosquitto]

WANTED = "mli/deployments/thing"
STATUS = "mli/status/thing"
DEPLOYMENT = "mli/status/thing/deployment"

DEVICE = """
import sys
from tests.contract.test_sinks import Heard
from mli.config.settings import MqttSettings
from mli.delivery.sinks.mqtt import MqttSink, Will
sink = MqttSink(MqttSettings("127.0.0.1", int(sys.argv[1]), "thing"), will=Will("mli/status/thing", b"lost"))
sink.open(Heard())
sink.set_state("mli/status/thing", b"online")
assert sink.wait_states(30.0)
print("online", flush=True)
sys.stdin.read()
"""


def retained(broker: RecordingBrokerProcess) -> list[tuple[str, str]]:
    """The retained messages that it took, in order."""
    return [(one["topic"], one["payload"]) for one in broker.events() if one["retain"]]


class Publisher:
    """mosquitto's own clients, against one broker."""

    def __init__(self, port: int, version: str = "5") -> None:
        self._where = ["-h", "127.0.0.1", "-p", str(port), "-V", version]

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        command = ["mosquitto_pub", *self._where, "-q", "1", "-t", topic, *(["-r"] if retain else [])]
        subprocess.run([*command, *(["-s"] if payload else ["-n"])], input=payload, check=True)

    def retained(self, topic: str) -> str | None:
        """What the broker keeps of a topic; None where nothing."""
        command = ["mosquitto_sub", *self._where, "-t", topic, "-W", "1", "--retained-only", "-F", "%t %p"]
        with subprocess.Popen(["stdbuf", "-oL", *command], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            # amqtt hands the last retained message to every new session, whatever it subscribes to.
            found = next((line for line in process.stdout if line.startswith(f"{topic} ")), None)
            process.kill()
        return None if found is None else found.removeprefix(f"{topic} ").removesuffix("\n")


def test_a_retained_deployment_and_a_new_one_are_handed_over(
    tmp_path: Path, make_mosquitto: MakeMosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_mosquitto()
    publisher = Publisher(broker.port)
    publisher.publish(WANTED, b"revision: 1")
    got: list[Incoming] = []
    with (
        caplog.at_level(logging.INFO),
        DeliveryRig(tmp_path, broker.settings(), topics=[WANTED], on_message=got.append) as rig,
    ):
        wait_until(lambda: len(got) == 1, "the retained one")
        publisher.publish(WANTED, b"revision: 2")
        wait_until(lambda: len(got) == 2, "the new one")
        publisher.publish(WANTED, b"")
        wait_until(lambda: len(got) == 3, "that nothing is wanted")
        assert rig.sink.status().subscribed is True
        rig.feed(1, 3)
        rig.wait_empty()
    assert got == [
        Incoming(WANTED, b"revision: 1", True),
        Incoming(WANTED, b"revision: 2", False),
        Incoming(WANTED, b"", False),
    ]
    assert f"Subscribed to {WANTED}." in caplog.messages


def test_the_newest_state_is_kept_by_the_broker_and_the_will_replaces_it_only_when_the_device_dies(
    tmp_path: Path, make_mosquitto: MakeMosquitto
) -> None:
    broker = make_mosquitto()
    publisher = Publisher(broker.port)
    with DeliveryRig(tmp_path, broker.settings(), will=Will(STATUS, b"lost")) as rig:
        rig.sink.set_state(STATUS, b"online")
        rig.sink.set_state(DEPLOYMENT, b"healthy")
        assert rig.sink.wait_states(30.0)
        assert (publisher.retained(STATUS), publisher.retained(DEPLOYMENT)) == ("online", "healthy")
        rig.sink.set_state(DEPLOYMENT, None)
        rig.sink.set_state(STATUS, b"offline")
        assert rig.sink.wait_states(30.0)
    assert publisher.retained(DEPLOYMENT) is None
    assert publisher.retained(STATUS) == "offline"


def test_amqtt_carries_subscription_and_states_too(tmp_path: Path, amqtt_broker: AmqttBroker) -> None:
    publisher = Publisher(amqtt_broker.port, "311")
    publisher.publish(WANTED, b"revision: 1")
    got: list[Incoming] = []
    with DeliveryRig(
        tmp_path,
        amqtt_broker.settings(connect_timeout_s=2.0),
        topics=[WANTED],
        on_message=got.append,
        will=Will(STATUS, b"lost"),
    ) as rig:
        rig.sink.set_state(STATUS, b"online")
        assert rig.sink.wait_states(30.0)
        wait_until(lambda: got, "the retained one")
        assert rig.sink.status().subscribed is True
        rig.feed(1, 3)
        rig.wait_empty()
    assert got[0].payload == b"revision: 1"
    assert publisher.retained(STATUS) == "online"


def test_a_state_that_was_replaced_before_it_was_sent_is_skipped_and_order_is_kept(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.sink.set_state(STATUS, b"1")
        rig.sink.set_state(DEPLOYMENT, b"2")
        rig.sink.set_state(STATUS, b"3")
        assert not rig.sink.wait_states(0.1), "there is no broker"
        recording_broker.start()
        assert rig.sink.wait_states(30.0)
        assert retained(recording_broker) == [(DEPLOYMENT, "2"), (STATUS, "3")]
        recording_broker.kill()
        recording_broker.start()
        wait_until(lambda: len(retained(recording_broker)) == 4, "the states once more")
        rig.sink.set_state(STATUS, b"4")
        assert rig.sink.wait_states(30.0)
    assert retained(recording_broker) == [(DEPLOYMENT, "2"), (STATUS, "3")] * 2 + [(STATUS, "4")]


def test_states_and_predictions_share_a_broker_that_lets_one_be_unanswered(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(receive_maximum=1))
    with DeliveryRig(tmp_path, recording_broker.settings(), topics=[WANTED]) as rig:
        for number in range(20):
            rig.feed(1 + number, 1)
            rig.sink.set_state(STATUS, str(number).encode())
        rig.wait_empty()
        assert rig.sink.wait_states(30.0)
    assert retained(recording_broker)[-1] == (STATUS, "19")


def test_a_state_waits_for_room_where_the_broker_has_enough_to_answer(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(receive_maximum=3, silent=True))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.feed(1, 20)
        wait_until(lambda: len(recording_broker.events()) == 3, "a full window")
        rig.sink.set_state(STATUS, b"online")
        assert not rig.sink.wait_states(0.3)
        assert len(recording_broker.events()) == 3


def test_a_large_message_is_refused_before_it_is_handed_over(
    tmp_path: Path, make_mosquitto: MakeMosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_mosquitto()
    publisher = Publisher(broker.port)
    got: list[Incoming] = []
    with DeliveryRig(tmp_path, broker.settings(), topics=[WANTED], on_message=got.append) as rig:
        wait_until(lambda: rig.sink.status().subscribed, "the subscription")
        publisher.publish(WANTED, b"x" * (1024 * 1024 + 1))
        wait_until(lambda: f"1048577 bytes on {WANTED} was refused" in caplog.text, "the refusal")
        publisher.publish(WANTED, b"x" * 1024 * 1024)
        wait_until(lambda: got, "the one that is small enough")
    assert [len(one.payload) for one in got] == [1024 * 1024]


def test_a_failure_of_who_takes_messages_does_not_cost_the_connection(
    tmp_path: Path, make_mosquitto: MakeMosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_mosquitto()
    publisher = Publisher(broker.port)

    def fail(message: Incoming) -> None:
        raise RuntimeError(f"cannot take {message.payload.decode()}")

    with DeliveryRig(tmp_path, broker.settings(), topics=[WANTED], on_message=fail) as rig:
        publisher.publish(WANTED, b"revision: 1")
        wait_until(lambda: "cannot take revision: 1" in caplog.text, "the failure in the log")
        rig.feed(1, 3)
        rig.wait_empty()
        assert rig.sink.status().subscribed


def test_the_broker_publishes_the_will_of_a_device_that_was_killed(make_mosquitto: MakeMosquitto) -> None:
    broker = make_mosquitto()
    process = subprocess.Popen(
        [sys.executable, "-c", DEVICE, str(broker.port)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "online\n"
    publisher = Publisher(broker.port)
    assert publisher.retained(STATUS) == "online"
    process.kill()
    process.communicate()
    wait_until(lambda: publisher.retained(STATUS) == "lost", "the will")


@pytest.mark.parametrize("code", [128, 135])
def test_a_refused_subscription_is_told_once_and_tried_again_at_each_connect(
    code: int, tmp_path: Path, recording_broker: RecordingBrokerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    recording_broker.start(Behaviour(suback=code))
    with DeliveryRig(tmp_path, recording_broker.settings(), topics=[WANTED]) as rig:
        rig.sink.set_state(STATUS, b"online")
        rig.feed(1, 3)
        rig.wait_empty()
        assert rig.sink.wait_states(30.0)
        wait_until(lambda: rig.sink.status().left_out, "the refusal")
        assert rig.sink.status().subscribed is False
        for behaviour in (Behaviour(suback=code), Behaviour()):
            recording_broker.kill()
            asked = len(recording_broker.events("subscribe"))
            recording_broker.start(behaviour)
            wait_until(lambda n=asked: len(recording_broker.events("subscribe")) > n, "another try")  # type: ignore[misc]
        wait_until(lambda: rig.sink.status().subscribed, "the subscription")
        assert rig.sink.status().left_out == ()
    told = [one for one in caplog.messages if "does not allow the subscription" in one]
    assert len(told) == 1
    assert f"iot:Subscribe on topicfilter/{WANTED} and iot:Receive on topic/{WANTED}" in told[0]
    assert f"(reason {code})" in told[0]


def test_a_subscription_without_an_answer_does_not_hold_up_anything(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(suback=None))
    with DeliveryRig(tmp_path, recording_broker.settings(), topics=[WANTED]) as rig:
        rig.feed(1, 3)
        rig.wait_empty()
        assert rig.sink.status().subscribed is False


def test_a_state_that_the_access_list_denies_is_told_once_and_the_others_go_on(
    tmp_path: Path, make_mosquitto: MakeMosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_mosquitto(acl=f"topic readwrite {STATUS}\ntopic readwrite mli/predictions/#\n")
    publisher = Publisher(broker.port)
    with DeliveryRig(tmp_path, broker.settings()) as rig:
        for number in range(5):
            rig.sink.set_state(DEPLOYMENT, str(number).encode())
            rig.sink.set_state(STATUS, str(number).encode())
            assert not rig.sink.wait_states(30.0), "one of them cannot be taken"
        wait_until(lambda: publisher.retained(STATUS) == "4", "the other one")
        assert rig.sink.status().left_out == (f"retained state {DEPLOYMENT}: not authorized (reason 135)",)
    assert caplog.text.count(f"iot:RetainPublish on topic/{DEPLOYMENT}") == 1


@pytest.mark.parametrize(
    ("behaviour", "left_out"),
    [
        (Behaviour(drop_subscribe=True), [f"subscription to {WANTED}"]),
        (Behaviour(drop_retained=True), [f"retained state {STATUS}", f"retained state {DEPLOYMENT}"]),
        (Behaviour(drop_topic=DEPLOYMENT), [f"retained state {DEPLOYMENT}"]),
        (
            Behaviour(drop_subscribe=True, drop_retained=True),
            [f"subscription to {WANTED}", f"retained state {STATUS}", f"retained state {DEPLOYMENT}"],
        ),
    ],
    ids=["subscription", "states", "one state", "both"],
)
def test_what_the_broker_ends_the_connection_for_is_left_out_and_predictions_go_on(
    behaviour: Behaviour,
    left_out: list[str],
    tmp_path: Path,
    recording_broker: RecordingBrokerProcess,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recording_broker.start(behaviour)
    with DeliveryRig(tmp_path, recording_broker.settings(), topics=[WANTED]) as rig:
        rig.sink.set_state(STATUS, b"online")
        rig.sink.set_state(DEPLOYMENT, b"healthy")
        rig.feed(1, 50)
        rig.wait_empty()
        wait_until(lambda: len(rig.sink.status().left_out) == len(left_out), "all that is not allowed")
        wait_until(lambda: rig.sink.status().connected, "the connection")
        dropped = len(recording_broker.events("dropped"))
        rig.sink.set_state(DEPLOYMENT, b"still healthy")
        rig.feed(51, 50)
        rig.wait_empty()
        assert rig.sink.status().left_out == tuple(
            f"{name}: the broker ends the connection instead of answering" for name in left_out
        )
        assert rig.sink.status().subscribed is (not behaviour.drop_subscribe)
        assert rig.sink.wait_states(30.0) is (not behaviour.drop_retained and behaviour.drop_topic is None)
    assert len(recording_broker.events("dropped")) == dropped <= 4 * len(left_out)
    for name in left_out:
        assert caplog.text.count(f"does not allow the {name}:") == 1
    alone = {one["connection"] for one in recording_broker.events("dropped")[1:]}
    beside = [*recording_broker.events(), *recording_broker.events("lost")]
    if behaviour.drop_subscribe:  # else predictions go beside the subscription, which is known to be allowed
        assert not alone & {one["connection"] for one in beside if not one["retain"]}
    published = [int(one["payload"]) for one in recording_broker.events() if not one["retain"]]
    assert set(published) == set(range(1, 101))


def test_what_was_left_out_is_tried_again_alone_and_works_once_it_is_allowed(
    tmp_path: Path, recording_broker: RecordingBrokerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    recording_broker.start(Behaviour(drop_subscribe=True))
    with DeliveryRig(tmp_path, recording_broker.settings(), topics=[WANTED], retry_denied_s=0.2) as rig:
        rig.feed(1, 10)
        wait_until(lambda: len(recording_broker.events("dropped")) >= 5, "a try after it was left out")
        rig.wait_empty()
        recording_broker.kill()
        recording_broker.start()
        with caplog.at_level(logging.INFO):
            wait_until(lambda: rig.sink.status().subscribed, "the subscription")
            wait_until(
                lambda: f"The broker allows it now: subscription to {WANTED}." in caplog.messages, "the good news"
            )
        rig.feed(11, 10)
        rig.wait_empty()
        assert rig.sink.status().left_out == ()
    assert caplog.text.count("does not allow the subscription") == 1


@pytest.mark.parametrize(("code", "version"), [(154, 5), (135, 5), (0, 5), (5, 4)])
def test_a_broker_that_refuses_the_will_is_connected_to_without_it(
    code: int,
    version: int,
    tmp_path: Path,
    recording_broker: RecordingBrokerProcess,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recording_broker.start(Behaviour(refuse_will=code, refuse_v5="132" if version == 4 else None))
    with DeliveryRig(tmp_path, recording_broker.settings(), will=Will(STATUS, b"lost"), topics=[WANTED]) as rig:
        rig.sink.set_state(STATUS, b"online")
        rig.feed(1, 3)
        rig.wait_empty()
        assert rig.sink.wait_states(30.0)
        (left_out,) = rig.sink.status().left_out
        assert left_out.startswith(f"last will on {STATUS}: with it, 127.0.0.1:")
        assert rig.sink.status().protocol == ("MQTT 5" if version == 5 else "MQTT 3.1.1")
    assert caplog.text.count("does not allow the last will") == 1


def test_a_broker_that_keeps_nothing_is_still_told_the_states(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    recording_broker.start(Behaviour(retain_available=False))
    with DeliveryRig(tmp_path, recording_broker.settings()) as rig:
        rig.sink.set_state(STATUS, b"online")
        assert rig.sink.wait_states(30.0)
        assert rig.sink.status().left_out == ("keeping of retained messages: the broker keeps none",)
    (event,) = recording_broker.events()
    assert (event["payload"], event["retain"]) == ("online", False)


def test_port_443_is_reached_by_naming_the_protocol_in_the_handshake(
    tmp_path: Path, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    broker = make_mosquitto()
    front = AlpnFront(certificates, broker.port)
    tls = TlsSettings(str(certificates.ca), str(certificates.client), str(certificates.client_key), ALPN)
    settings = MqttSettings("localhost", front.port, "thing", tls)
    Publisher(broker.port).publish(WANTED, b"revision: 1")
    got: list[Incoming] = []
    with DeliveryRig(tmp_path, settings, topics=[WANTED], on_message=got.append, will=Will(STATUS, b"lost")) as rig:
        rig.sink.set_state(STATUS, b"online")
        rig.feed(1, 50)
        rig.wait_empty()
        assert rig.sink.wait_states(30.0)
        wait_until(lambda: got, "the deployment")
        assert rig.sink.status().endpoint == f"mqtts://localhost:{front.port} (ALPN x-amzn-mqtt-ca)"
    (tmp_path / "without").mkdir()
    with DeliveryRig(tmp_path / "without", replace(settings, tls=replace(tls, alpn=None))) as rig:
        wait_until(lambda: front.refused, "the refusal without it")
        assert not rig.sink.status().connected
    front.close()


def test_the_tls_port_carries_subscription_and_states(
    tmp_path: Path, make_mosquitto: MakeMosquitto, certificates: Certificates
) -> None:
    broker = make_mosquitto(certificates=certificates)
    with DeliveryRig(tmp_path, broker.settings(host="localhost"), topics=[WANTED], will=Will(STATUS, b"lost")) as rig:
        rig.sink.set_state(STATUS, b"online")
        assert rig.sink.wait_states(30.0)
        wait_until(lambda: rig.sink.status().subscribed, "the subscription")
        assert rig.sink.status().endpoint == f"mqtts://localhost:{broker.port}"


def test_a_subscription_that_mosquitto_refuses_is_told_and_predictions_and_states_go_on(
    tmp_path: Path, make_mosquitto: MakeMosquitto
) -> None:
    (plugin,) = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")  # access files alone never refuse one
    rules = tmp_path / "dynamic-security.json"
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    rules.write_text(json.dumps({"defaultACLAccess": access}))
    rules.chmod(0o600)
    broker = make_mosquitto(extra=f"plugin {plugin}\nplugin_opt_config_file {rules}")
    with DeliveryRig(tmp_path, broker.settings(), topics=[WANTED]) as rig:
        rig.sink.set_state(STATUS, b"online")
        rig.feed(1, 3)
        rig.wait_empty()
        assert rig.sink.wait_states(30.0)
        wait_until(lambda: rig.sink.status().left_out, "the refusal")
        assert rig.sink.status().left_out == (f"subscription to {WANTED}: not authorized (reason 135)",)
