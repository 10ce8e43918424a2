"""The demo's broker: any MQTT client can use it, and it never outlives whoever started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.fixtures.brokers import is_listening, wait_until

from mli.config.settings import MqttSettings
from mli.delivery.embedded_broker import EmbeddedBroker
from mli.delivery.subscriber import Subscription
from mli.errors import StopError


def test_mosquitto_clients_can_subscribe_and_publish() -> None:
    with EmbeddedBroker() as broker:
        assert broker.host == "127.0.0.1"
        address = ["-h", broker.host, "-p", str(broker.port), "-q", "1"]
        watcher = subprocess.Popen(
            [
                "stdbuf",
                "-oL",
                "mosquitto_sub",
                *address,
                "-t",
                "mli/predictions/#",
                "-C",
                "1",
                "-d",
                "-F",
                "got %t %p",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdout is not None
        assert any("Subscribed" in line for line in watcher.stdout)
        subprocess.run(["mosquitto_pub", *address, "-t", "mli/predictions/belt", "-m", "[1]"], check=True)
        assert "got mli/predictions/belt [1]\n" in watcher.stdout.readlines()
        assert watcher.wait() == 0


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["-D", "connect", "session-expiry-interval", "300"],
        ["--will-topic", "gone", "--will-payload", "x", "-u", "me", "-P", "secret"],
    ],
)
def test_an_mqtt_5_client_is_told_at_once_that_its_version_is_not_spoken(more: list[str]) -> None:
    with EmbeddedBroker() as broker:
        command = ["mosquitto_sub", "-V", "5", "-h", broker.host, "-p", str(broker.port), "-t", "x", *more]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert answer.returncode == 132, answer
    assert "Unsupported Protocol Version" in answer.stdout + answer.stderr


def test_our_own_subscriber_falls_back_to_its_version() -> None:
    with EmbeddedBroker() as broker, Subscription(MqttSettings(broker.host, broker.port), ["t/#"]) as subscription:
        assert subscription.protocol == "MQTT 3.1.1"
        command = ["mosquitto_pub", "-h", broker.host, "-p", str(broker.port), "-q", "1", "-t", "t/1", "-m", "hello"]
        subprocess.run(command, check=True)
        received = subscription.receive(30)
        assert received is not None
        assert (received.topic, received.payload) == ("t/1", b"hello")


def test_it_serves_others_while_one_client_says_nothing() -> None:
    import socket

    with EmbeddedBroker() as broker, ExitStack() as stack:
        for first in (b"", b"\x10", b"GET / HTTP/1.1\r\n\r\n"):
            silent = stack.enter_context(socket.create_connection((broker.host, broker.port)))
            silent.sendall(first)
        address = ["-h", broker.host, "-p", str(broker.port), "-q", "1"]
        subprocess.run(["mosquitto_pub", *address, "-t", "t", "-m", "x"], check=True, timeout=30)


def test_leaving_the_context_ends_it() -> None:
    with EmbeddedBroker() as broker:
        assert is_listening(broker.port)
    assert not is_listening(broker.port)


def test_it_does_not_survive_a_killed_parent() -> None:
    code = (
        "import threading\nfrom mli.delivery.embedded_broker import EmbeddedBroker\n"
        "with EmbeddedBroker() as broker:\n    print(broker.port, flush=True)\n    threading.Event().wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    assert is_listening(port)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_listening(port), "the broker's end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "mli.delivery.embedded_broker", "--port", "0"]
    broker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert broker.stdout is not None
    assert json.loads(broker.stdout.readline())["port"] > 0
    broker.send_signal(number)
    _, errors = broker.communicate()
    assert (broker.returncode, errors) == (0, "")


def test_a_taken_port_is_named() -> None:
    with EmbeddedBroker() as first, pytest.raises(StopError) as caught, EmbeddedBroker(port=first.port):
        pass
    assert str(first.port) in caught.value.what
    assert "in use" in (caught.value.got or "")


def test_without_amqtt_the_install_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "amqtt.py").write_text("raise ImportError(\"No module named 'amqtt'\")")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(StopError) as caught, EmbeddedBroker():
        pass
    assert "pip install amqtt" in str(caught.value)
