"""What a stranger's MQTT client receives of ``mli run``, over a real mosquitto."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.fixtures.brokers import Certificates, Mosquitto
from tests.fixtures.color_model import LABELS, color_archive, numbered_images
from tests.fixtures.mli_process import run_mli

THING = "gg_mli_accel"
GOT = re.compile(r"^got (\S+) (.*?) ?(\[.*|\{.*)$")


def received(process: subprocess.Popen[str]) -> list[tuple[str, str, str]]:
    """(topic, user properties, payload) of everything that mosquitto_sub printed."""
    output, _ = process.communicate(timeout=60)
    matches = (GOT.match(line) for line in output.splitlines())
    return [(match[1], match[2], match[3]) for match in matches if match]


def test_a_subscriber_gets_the_accelerators_payload(make_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> None:
    broker = make_mosquitto()
    archive = color_archive(tmp_path)
    numbered_images(tmp_path / "images", 6)
    subscriber = broker.subscribe("mli/predictions/#", 6)
    result = run_mli(
        "run", archive, tmp_path / "images", "--once", "--interval", "0", "--thing", THING,
        "--broker", f"localhost:{broker.port}", state=tmp_path / "state",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    messages = received(subscriber)
    assert [topic for topic, _, _ in messages] == [f"mli/predictions/{THING}"] * 6
    for index, (_, properties, payload) in enumerate(messages):
        assert re.fullmatch(r'\[\{"confidence": "0\.\d{6,9}", "prediction": "\w+"\}\]', payload)
        assert json.loads(payload)[0]["prediction"] == LABELS[index % 3]
        assert f"sequence:{index + 1}" in properties
        assert re.search(rf"id:\w+-main-{index + 1}\b", properties)
        assert re.search(r"captured_at:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", properties)
        assert re.search(r"model:[0-9a-f]{64}", properties)


def test_a_broker_that_asks_for_client_certificates(
    make_mosquitto: Callable[..., Mosquitto], certificates: Certificates, tmp_path: Path
) -> None:
    broker = make_mosquitto(certificates=certificates)
    archive = color_archive(tmp_path)
    numbered_images(tmp_path / "images", 3)
    subscriber = broker.subscribe("mli/predictions/#", 3)
    result = run_mli(
        "run", archive, tmp_path / "images", "--once", "--interval", "0", "--thing", THING, "--image-name",
        "--broker", f"mqtts://localhost:{broker.port}",
        "--ca", certificates.ca, "--cert", certificates.client, "--key", certificates.client_key,
        state=tmp_path / "state",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    payloads = [json.loads(payload) for _, _, payload in received(subscriber)]
    assert [list(payload[0]) for payload in payloads] == [["confidence", "prediction", "image_name"]] * 3
    assert [payload[0]["image_name"] for payload in payloads] == ["frame-0.png", "frame-1.png", "frame-2.png"]


def test_a_certificate_authority_that_the_broker_does_not_have_is_named(
    make_mosquitto: Callable[..., Mosquitto], certificates: Certificates, tmp_path: Path
) -> None:
    broker = make_mosquitto(certificates=certificates)
    device = {
        "thing": THING,
        "root": str(tmp_path / "root"),
        "mqtt": {
            "host": "localhost",
            "port": broker.port,
            "tls": {
                "ca": str(certificates.client),
                "certificate": str(certificates.client),
                "private_key": str(certificates.client_key),
            },
        },
        "spool": {"drain_timeout": "1s"},
        "model": str(color_archive(tmp_path)),
        "source": {"uri": str(tmp_path / "images"), "once": True, "interval": 0},
    }
    numbered_images(tmp_path / "images", 2)
    (tmp_path / "device.yaml").write_text(json.dumps(device))
    result = run_mli("run", tmp_path / "device.yaml", state=tmp_path / "state")
    assert result.returncode == 1
    assert "certificate" in result.stderr
    assert "2 messages still queued" in result.stderr


def test_predictions_for_an_absent_broker_wait_and_are_sent_by_the_next_run(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    broker = make_mosquitto()
    broker.stop()
    settings = {
        "thing": THING,
        "root": str(tmp_path / "root"),
        "broker": f"mqtt://localhost:{broker.port}",
        "spool": {"drain_timeout": "1s"},
        "model": str(color_archive(tmp_path)),
        "source": str(tmp_path / "images"),
        "once": True,
        "interval": 0,
    }
    names = numbered_images(tmp_path / "images", 4)
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    first = run_mli("run", tmp_path / "run.yaml", state=tmp_path / "state")
    assert first.returncode == 1
    assert "4 messages still queued" in first.stderr

    # A run without a broker must not print what is meant for one.
    del settings["broker"]
    (tmp_path / "print.yaml").write_text(json.dumps(settings))
    printed = run_mli("run", tmp_path / "print.yaml", state=tmp_path / "state")
    assert len(printed.stdout.splitlines()) == len(names)

    broker.start()
    subscriber = broker.subscribe("mli/predictions/#", 8)
    second = run_mli("run", tmp_path / "run.yaml", state=tmp_path / "state")
    assert second.returncode == 0, second.stderr
    sequences = [int(re.findall(r"sequence:(\d+)", properties)[0]) for _, properties, _ in received(subscriber)]
    assert sequences == [1, 2, 3, 4, 9, 10, 11, 12]
