"""``mli watch`` against a real mosquitto."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.brokers import Certificates, Mosquitto, free_port

from mli.config.settings import MqttSettings
from mli.delivery.gap_check import GapCheck
from mli.delivery.subscriber import Subscription

# What the command line's own main does with errors.
MAIN = """
import sys, typer
from mli.cli.watch import watch
from mli.errors import MliError
app = typer.Typer()
app.command()(watch)
try:
    app()
except MliError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
TOPIC = "mli/predictions/gg_mli_accel"


class Watch:
    """The command as a process, already subscribed."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        self.greeting = self.process.stderr.readline()
        assert self.greeting.startswith("watching "), self.greeting + self.process.stderr.read()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, errors


@pytest.fixture
def broker(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    return make_mosquitto()


def url(broker: Mosquitto) -> str:
    return f"mqtt://127.0.0.1:{broker.port}"


def publish(broker: Mosquitto, topic: str, payload: str, *more: str) -> None:
    """Publish with QoS 1; returns once the broker has acknowledged."""
    command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", topic, "-m", payload, *more]
    if broker.certificates:
        found = broker.certificates
        command += ["--cafile", str(found.ca), "--cert", str(found.client), "--key", str(found.client_key)]
    subprocess.run(command, check=True)


def publish_compact(broker: Mosquitto, topic: str, sequence: int) -> None:
    """A compact prediction with MQTT 5 user properties, as mli publishes it."""
    told = {"id": f"ab12cd34-main-{sequence}", "sequence": str(sequence)}
    properties = [part for pair in told.items() for part in ("-D", "publish", "user-property", *pair)]
    payload = '[{"confidence": "0.21719395", "prediction": "can"}]'
    publish(broker, topic, payload, "-V", "5", *properties)


def test_a_line_shows_time_thing_label_confidence_and_image(broker: Mosquitto) -> None:
    watch = Watch("--broker", url(broker), "--count", "1")
    payload = '[{"confidence": "0.87", "prediction": "plastic bottle", "image_name": "0001.jpg"}]'
    publish(broker, TOPIC, payload)
    code, output, _ = watch.end()
    assert code == 0
    assert output.count("\n") == 1
    for part in ("  gg_mli_accel  plastic bottle ", "█████████░", " 87.0%", "0001.jpg"):
        assert part in output


def test_json_lines_carry_topic_time_payload_and_properties(broker: Mosquitto) -> None:
    watch = Watch("--broker", f"127.0.0.1:{broker.port}", "--count", "2", "--json")
    publish_compact(broker, TOPIC, 7)
    publish(broker, TOPIC, "no JSON \x1b[2J")
    code, output, _ = watch.end()
    first, second = map(json.loads, output.splitlines())
    assert code == 0
    assert first["topic"] == TOPIC
    assert first["received_at"] > 1e9
    assert first["payload"] == [{"confidence": "0.21719395", "prediction": "can"}]
    assert first["properties"] == {"id": "ab12cd34-main-7", "sequence": "7"}
    assert second["payload_text"] == "no JSON \x1b[2J"


def test_hostile_payloads_and_topics_cannot_command_the_terminal(broker: Mosquitto) -> None:
    watch = Watch("--broker", url(broker), "--count", "4")
    publish(broker, TOPIC, "\x1b]0;owned\x07 not JSON")
    publish(broker, TOPIC, '[{"confidence": "NaN", "prediction": "\\u001b[31mred\\u202e\\nline"}]')
    publish(broker, TOPIC, "[" * 100_000)
    publish(broker, TOPIC, '{"predictions": [{"label": 5, "confidence": 1e999}]}')
    code, output, _ = watch.end()
    assert code == 0
    assert output.count("\n") == 4
    assert not set(output) & set("\x1b\x07\u202e")
    assert "\\x1b[31mred\\u202e\\nline" in output


def test_verify_ends_with_0_when_nothing_is_missing(broker: Mosquitto) -> None:
    watch = Watch("--broker", url(broker), "--count", "4", "--verify")
    for sequence in (10, 11, 13, 12):
        publish_compact(broker, TOPIC, sequence)
    code, _, errors = watch.end()
    assert code == 0, errors
    assert "late: 12 came after all" in errors
    assert f"{TOPIC} main: 4 received, 0 missing, 0 declared dropped, 0 duplicates, 1 late, 0 restarts" in errors


def test_verify_names_what_is_missing_and_ends_with_1(broker: Mosquitto) -> None:
    watch = Watch("--broker", url(broker), "--count", "4", "--verify")
    for sequence in (1, 2, 2, 6):
        publish_compact(broker, TOPIC, sequence)
    code, _, errors = watch.end()
    assert code == 1
    assert "gap: 3–5 did not come (yet)" in errors
    assert "duplicate: 2 came again" in errors
    assert "missing: 3–5" in errors
    assert "MISSING: 3 of 6" in errors


def test_verify_takes_a_declared_drop_for_explained(broker: Mosquitto) -> None:
    watch = Watch("--broker", url(broker), "--count", "3", "--verify")
    publish_compact(broker, TOPIC, 1)
    told = {"pipeline": "main", "from": 2, "to": 4, "count": 3, "reason": "the spool was full"}
    publish(broker, f"{TOPIC}/dropped", json.dumps({"dropped": told}))
    publish_compact(broker, TOPIC, 5)
    code, output, errors = watch.end()
    assert code == 0, errors
    assert "dropped 3 of 2–4: the spool was full" in output
    assert "3 declared dropped" in errors


def test_verify_does_not_call_the_uncheckable_complete(broker: Mosquitto) -> None:
    watch = Watch("--broker", url(broker), "--count", "1", "--verify")
    publish(broker, TOPIC, '[{"confidence": "0.5", "prediction": "can"}]')
    code, _, errors = watch.end()
    assert code == 1
    assert "carry no id" in errors
    assert "nothing could be verified" in errors


def test_too_few_messages_in_time_is_a_failure(broker: Mosquitto) -> None:
    code, output, errors = Watch("--broker", url(broker), "--count", "1", "--timeout", "0.2").end()
    assert (code, output) == (1, "")
    assert "only 0 of 1 messages came in time" in errors


@pytest.mark.parametrize("more", [[], ["--verify"]])
def test_ctrl_c_ends_with_130_and_the_account(broker: Mosquitto, more: list[str]) -> None:
    watch = Watch("--broker", url(broker), *more)
    publish_compact(broker, TOPIC, 1)
    assert "can" in watch.line()
    watch.process.send_signal(signal.SIGINT)
    code, _, errors = watch.end()
    assert code == 130
    assert "Traceback" not in errors
    assert ("complete: 1 received" in errors) == bool(more)


def test_a_reader_that_has_enough_is_no_error(broker: Mosquitto) -> None:
    watch = Watch("--broker", url(broker))
    publish_compact(broker, TOPIC, 1)
    watch.line()
    assert watch.process.stdout is not None
    watch.process.stdout.close()
    publish_compact(broker, TOPIC, 2)
    assert watch.process.stderr is not None
    assert watch.process.stderr.read() == ""
    assert watch.process.wait() == 0


def test_no_broker_is_said_at_once() -> None:
    unused = f"mqtt://127.0.0.1:{free_port()}"
    done = subprocess.run([sys.executable, "-c", MAIN, "--broker", unused], capture_output=True, text=True)
    assert done.returncode == 1
    assert "The MQTT broker cannot be reached." in done.stderr
    assert unused in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_password_is_refused_and_not_shown(make_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> None:
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "me", "right/word"], check=True)
    secret.write_text("right/word\n")
    broker = make_mosquitto(extra=f"allow_anonymous false\npassword_file {passwords}")
    wrong = f"mqtt://me:wrong-one@127.0.0.1:{broker.port}"
    done = subprocess.run([sys.executable, "-c", MAIN, "--broker", wrong], capture_output=True, text=True)
    assert done.returncode == 1
    assert "The broker refused the connection." in done.stderr
    assert "wrong-one" not in done.stdout + done.stderr
    in_url = Watch("--broker", f"mqtt://me:right%2Fword@127.0.0.1:{broker.port}", "--timeout", "0.1")
    assert in_url.end()[0] == 0
    in_file = Watch("--broker", url(broker), "--username", "me", "--password-file", str(secret), "--timeout", "0.1")
    assert in_file.end()[0] == 0


def test_tls_with_a_client_certificate(make_mosquitto: Callable[..., Mosquitto], certificates: Certificates) -> None:
    broker = make_mosquitto(certificates=certificates)
    address = ["--broker", f"localhost:{broker.port}", "--ca", str(certificates.ca)]
    pair = ["--cert", str(certificates.client), "--key", str(certificates.client_key)]
    watch = Watch(*address, *pair, "--count", "1")
    publish_compact(broker, TOPIC, 1)
    assert watch.end()[0] == 0
    address[-1] = str(certificates.other_ca)
    done = subprocess.run([sys.executable, "-c", MAIN, *address, *pair], capture_output=True, text=True)
    assert done.returncode == 1
    assert "No secure connection to the MQTT broker could be made." in done.stderr
    assert "not trusted by" in done.stderr


def test_a_wrong_address_is_wrong_usage() -> None:
    command = [sys.executable, "-c", MAIN, "--broker", "http://me:secret@host"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "http://me:***@host" in done.stderr
    assert "secret" not in done.stderr


def test_a_subscription_outlives_its_brokers_restart(broker: Mosquitto) -> None:
    settings = MqttSettings("127.0.0.1", broker.port)
    check = GapCheck()
    with Subscription(settings, ["mli/predictions/#"]) as subscription:
        assert subscription.protocol == "MQTT 5"
        publish_compact(broker, TOPIC, 1)
        first = subscription.receive(30)
        broker.stop(signal.SIGKILL)
        broker.start()
        # Published until one arrives: the subscription comes back in its own time.
        second, sequence = None, 1
        while second is None:
            sequence += 1
            publish_compact(broker, TOPIC, sequence)
            second = subscription.receive(0.2)
        assert subscription.reconnects == 1
    assert first is not None
    for received in (first, second):
        check.feed(received)
    assert check.total().missing == int(second.properties["sequence"]) - 2


def test_a_session_over_a_lost_line_misses_nothing(broker: Mosquitto) -> None:
    """The line is cut between client and broker; what is published meanwhile comes after the reconnect."""
    import socket

    settings = MqttSettings("127.0.0.1", broker.port)
    with Subscription(settings, ["mli/predictions/#"]) as subscription:
        client = subscription._client
        assert client is not None
        line = client.socket()
        assert isinstance(line, socket.socket)
        line.shutdown(socket.SHUT_RDWR)
        for sequence in range(1, 21):
            publish_compact(broker, TOPIC, sequence)
        came = [subscription.receive(30) for _ in range(20)]
    assert [int(received.properties["sequence"]) for received in came if received] == list(range(1, 21))
