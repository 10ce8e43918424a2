"""`mli core status` and `mli core logs`: what a core says while it runs, and afterwards."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from tests.fixtures.brokers import Certificates, Mosquitto, wait_until
from tests.fixtures.color_model import color_archive, numbered_images
from tests.fixtures.device_root import DeviceRoot
from tests.fixtures.mli_process import MLI, kill_group

from mli.config.settings import LogSettings
from mli.core.logs import open_logs
from mli.core.root import Root


@pytest.fixture
def device(tmp_path: Path, make_mosquitto: Callable[..., Mosquitto]) -> DeviceRoot:
    numbered_images(tmp_path / "images", 3)
    return DeviceRoot(tmp_path, make_mosquitto())


def deployment(tmp_path: Path, **changes: object) -> dict[str, object]:
    archive = color_archive(tmp_path)
    return {"model": str(archive), "source": str(tmp_path / "images"), "interval": "100ms", **changes}


def test_status_of_a_running_core_and_of_one_that_has_ended(device: DeviceRoot, tmp_path: Path) -> None:
    absent = device.run("core", "status")
    assert absent.returncode == 1
    assert "no core runs" in absent.stderr
    with device.core():
        assert device.deploy(deployment(tmp_path, revision=7))["state"] == "healthy"
        shown = device.run("core", "status")
        told = json.loads(device.run("core", "status", "--json").stdout)
    assert shown.returncode == 0, shown.stderr
    for pattern in (
        r"belt-7  healthy  \(mli \d",
        r"broker      mqtt://localhost:\d+, connected \(MQTT 5\), subscribed",
        r"deployment  revision 7, [0-9a-f]{12}",
        r"queue       \d+ messages",
        r"pipeline    main: running",
        r"model     color .*, onnxruntime",
        r"isolation (container|none \(.+\))",
        r"memory    \d+ of 500 MB, held by (cgroup v\d|watchdog)",
        r"work      \d+ frames",
    ):
        assert re.search(pattern, shown.stdout), (pattern, shown.stdout)
    assert told["schema"] == "mli.status/1"
    assert told["deployment"]["state"] == "healthy"
    ended = device.run("core", "status")
    assert ended.returncode == 1
    assert "its next start runs revision 7" in ended.stderr
    body = json.loads(device.run("core", "status", "--json").stdout)
    assert (body["state"], body["pointer"]["revision"]) == ("offline", 7)


def test_a_failed_deployment_is_shown_with_cause_and_remedy(device: DeviceRoot, tmp_path: Path) -> None:
    with device.core():
        device.deploy(deployment(tmp_path, revision=1))
        bad = deployment(
            tmp_path, revision=2, models={"main": {"uri": str(tmp_path / "color.zip"), "sha256": "0" * 64}}
        )
        del bad["model"]
        assert device.deploy(bad)["state"] in ("refused", "failed")
        shown = device.run("core", "status").stdout
        found = device.doctor()
    assert "deployment  revision 1" in shown
    assert re.search(r"newest      revision 2 (refused|failed)", shown)
    assert f"expected: sha256 {'0' * 64}" in shown
    assert found["deployment"]["state"] == "warn"
    assert "what ran before serves on" in found["deployment"]["detail"]


def test_the_logs_first_lines_say_who_runs_where(device: DeviceRoot) -> None:
    with device.core():
        lines = device.run("core", "logs").stdout
    for word in (
        f"root {device.path}",
        "thing belt-7",
        "Connected to localhost:",
        "Subscribed to mli/deployments/belt-7",
    ):
        assert word in lines, lines


def test_logs_as_json_and_of_a_pipeline(device: DeviceRoot, tmp_path: Path) -> None:
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    with device.core():
        device.deploy(deployment(tmp_path))
        wait_until(
            lambda: "broken.png" in device.run("core", "logs", "--pipeline", "main").stdout, "the skipped image"
        )
        assert "onnxruntime" in device.run("core", "logs", "--pipeline", "main").stdout  # what the core says of it
        objects = [json.loads(line) for line in device.run("core", "logs", "--json").stdout.splitlines()]
    assert all({"time", "level", "logger", "message"} <= item.keys() for item in objects)
    unknown = device.run("core", "logs", "--pipeline", "mian")
    assert unknown.returncode == 1
    assert "did you mean 'main'?" in unknown.stderr


def is_logged(device: DeviceRoot, word: str) -> bool:
    return word in Root(device.path).system_log.read_text()


def certificate_id(path: Path) -> str:
    return x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex()


def test_nothing_of_a_tls_broker_or_store_secret_is_written_anywhere(
    tmp_path: Path, make_mosquitto: Callable[..., Mosquitto], certificates: Certificates
) -> None:
    """Everything at debug: a password, keys of a store, and an address with a signature."""
    password, key = "s3same=öffne+dich", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYzz"
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "me", password], check=True, capture_output=True)
    broker = make_mosquitto(certificates=certificates, extra=f"password_file {passwords}")
    device = DeviceRoot(tmp_path, broker, changes={"AWS_SESSION_TOKEN": "FwoGZXIvYXdzEJr-session-token"})
    (device.path / "secrets").mkdir()
    (device.path / "secrets" / "mqtt").write_text(f"{password}\n")
    device.write(
        mqtt={"username": "me", "password": "secret:mqtt"},
        log={"level": "debug"},
        store={"endpoint": "http://127.0.0.1:9", "access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": key},
        allow={"hosts": ["127.0.0.1"]},
    )
    numbered_images(tmp_path / "images", 1)
    (tmp_path / "images" / f"{password}.png").write_bytes(b"no image, and its name is told")
    with device.core() as process:
        assert device.status()["certificate"] == certificate_id(certificates.client)
        assert device.deploy(deployment(tmp_path))["state"] == "healthy"
        journal = device.path / "log" / "user" / "main.log"
        wait_until(lambda: journal.exists() and "skipped" in journal.read_text(), "the skipped image")
        for uri in ("s3://bucket/m.zip", f"https://127.0.0.1:9/signed.zip?X-Amz-Signature={'ab' * 32}"):
            model = {"main": {"uri": uri, "sha256": "0" * 64}}
            device.begin_to_deploy({"models": model, "pipelines": {"main": {"source": {"kind": "demo"}}}})
            wait_until(partial(is_logged, device, uri.partition("?")[0]), "a word on it")
        shown = [device.run("core", "status"), device.run("core", "logs", "--pipeline", "main"), device.run("doctor")]
        process.terminate()
        stderr = process.communicate(timeout=60)[1]
    written = [path.read_text() for path in (device.path / "log").rglob("*") if path.is_file()]
    written += [stderr, *(done.stdout + done.stderr for done in shown)]
    for expected in ("DEBUG", "skipped ***.png", "127.0.0.1:9"):
        assert any(expected in text for text in written), expected
    for secret in (password, quote(password), key, quote(key, safe=""), "abababab", "session-token"):
        assert not [text for text in written if secret in text], secret


def test_following_goes_across_a_rotation_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    root = Root(tmp_path)
    with open_logs(LogSettings(max_bytes=2_000, kept=3), root):
        log = logging.getLogger("mli.test")
        log.info("before")
        process = subprocess.Popen(
            [*MLI, "core", "logs", "-f", "-n", "1", "--root", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            for number in range(60):
                log.info("record %d", number)
                if number % 20 == 19:
                    lines += [process.stdout.readline() for _ in range(20)]
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
        finally:
            kill_group(process)
    assert lines[0].endswith("before\n")
    assert [line.rsplit(" ", 1)[1] for line in lines[1:]] == [f"{number}\n" for number in range(60)]
    assert (rest, errors, process.returncode) == ("", "", 130)
    assert len(list(root.system_log.parent.iterdir())) > 1


def test_a_device_that_never_ran_has_no_log(device: DeviceRoot) -> None:
    done = device.run("core", "logs")
    assert done.returncode == 1
    assert "no core has run" in done.stderr
