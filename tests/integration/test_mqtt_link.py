"""What rides on a device's one connection beside its predictions: a subscription, retained states, a last will."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.brokers import AmqttBroker, Mosquitto, wait_until
from tests.fixtures.delivery_rig import DeliveryRig

from mli.delivery.sinks.mqtt import Incoming, Will

MakeMosquitto = Callable[..., Mosquitto]

WANTED = "mli/deployments/thing"
STATUS = "mli/status/thing"
DEPLOYMENT = "mli/status/thing/deployment"


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
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        # amqtt hands the last retained message to every new session, whatever it subscribes to.
        return next((line.removeprefix(f"{topic} ") for line in lines if line.startswith(f"{topic} ")), None)


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
        tmp_path, amqtt_broker.settings(), topics=[WANTED], on_message=got.append, will=Will(STATUS, b"lost")
    ) as rig:
        rig.sink.set_state(STATUS, b"online")
        assert rig.sink.wait_states(30.0)
        wait_until(lambda: got, "the retained one")
        assert rig.sink.status().subscribed is True
        rig.feed(1, 3)
        rig.wait_empty()
    assert got[0].payload == b"revision: 1"
    assert publisher.retained(STATUS) == "online"
