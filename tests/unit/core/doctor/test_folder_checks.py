"""What the doctor makes of a device's folder: its settings, certificates, and who may read its secrets."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fixtures.device_files import DeviceFiles, elliptic_key, make_certificate, make_device_files, private_pem

from mli.config.settings import DeviceSettings, MqttSettings, TlsSettings
from mli.core.doctor.clock import check_clock
from mli.core.doctor.finding import Verdict
from mli.core.doctor.folder import (
    check_authority,
    check_certificate,
    check_permissions,
    check_settings,
    may_read,
)
from mli.core.doctor.patient import Patient, gather
from mli.core.root import Root


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def patient_of(folder: Path, files: DeviceFiles, **changes: object) -> Patient:
    tls = TlsSettings(str(files.ca), str(files.cert), str(files.key))
    device = DeviceSettings("belt-7", str(folder), MqttSettings("localhost", 8883, "belt-7", tls=tls))
    return replace(Patient(Root(folder), device), **changes)  # type: ignore[arg-type]


# --- settings --------------------------------------------------------------------------------------------------


def test_a_folder_without_a_device_is_told_and_no_failure(tmp_path: Path) -> None:
    verdict = check_settings(gather(tmp_path))
    assert verdict.state == "warn"
    assert "neither device.yaml nor config/config.json" in verdict.detail


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("thing: [", "device.yaml"),
        ("thing: belt-7\nmqtt: {host: broker, prot: 1}\n", "did you mean 'port'?"),
        ("thing: t\nmqtt: {host: b, username: me, password: 'secret:none'}\n", "the secret 'none' cannot be read"),
        ("\0\1", "device.yaml"),
    ],
)  # fmt: skip
def test_a_broken_file_is_a_finding(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "device.yaml").write_text(text)
    verdict = check_settings(gather(tmp_path))
    assert verdict.state == "fail"
    assert told in verdict.detail
    assert verdict.remedy


def test_good_settings_say_thing_and_broker(tmp_path: Path) -> None:
    (tmp_path / "device.yaml").write_text("thing: belt-7\nbroker: mqtt://me:hunter2@broker.example\n")
    verdict = check_settings(gather(tmp_path))
    assert verdict == Verdict("ok", "thing belt-7, broker mqtt://broker.example:1883")


# --- who may read what -----------------------------------------------------------------------------------------


def test_a_key_that_everybody_can_read_is_told(open_folder: Path) -> None:
    files = make_device_files(open_folder)
    files.key.chmod(0o644)
    verdict = check_permissions(patient_of(open_folder, files))
    assert verdict.state == "warn"
    assert verdict.remedy == f"chmod o-rwx {files.key}"


def test_a_secret_that_everybody_can_read_is_told(open_folder: Path) -> None:
    files = make_device_files(open_folder)
    files.key.chmod(0o600)
    (open_folder / "secrets").mkdir()
    (open_folder / "secrets" / "mqtt").write_text("hunter2")
    (open_folder / "secrets" / "mqtt").chmod(0o644)
    verdict = check_permissions(patient_of(open_folder, files))
    assert str(open_folder / "secrets" / "mqtt") in verdict.detail
    (open_folder / "secrets").chmod(0o700)
    assert check_permissions(patient_of(open_folder, files)).state == "ok"


@pytest.mark.parametrize(
    ("text", "state"),
    [("password: hunter2\n", "warn"), ("broker: mqtt://me:hunter2@b\n", "warn"), ("password: secret:mqtt\n", "ok")],
)
def test_a_settings_file_is_secret_where_a_password_stands_in_it(open_folder: Path, text: str, state: str) -> None:
    files = make_device_files(open_folder)
    files.key.chmod(0o600)
    (open_folder / "device.yaml").write_text(text)
    (open_folder / "device.yaml").chmod(0o644)
    assert check_permissions(patient_of(open_folder, files)).state == state


@pytest.mark.parametrize(
    ("mode", "owner", "group", "readable"),
    [
        (0o600, 7, 7, True),
        (0o600, 0, 0, False),
        (0o640, 0, 8, True),
        (0o640, 0, 9, False),
        (0o604, 0, 9, True),
        (0o044, 7, 8, False),
    ],
)
def test_whether_the_cores_user_may_read_a_file(mode: int, owner: int, group: int, readable: bool) -> None:
    found = os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, group, 0, 0, 0, 0))
    assert may_read(found, 7, {7, 8}) is readable
    assert may_read(found, 0, {0})


# --- certificates ----------------------------------------------------------------------------------------------


def test_a_good_certificate(tmp_path: Path) -> None:
    patient = patient_of(tmp_path, make_device_files(tmp_path))
    verdict = check_certificate(patient)
    assert verdict.state == "ok"
    assert "its key belongs to it" in verdict.detail
    assert check_authority(patient).state == "ok"


@pytest.mark.parametrize(
    ("begins", "ends", "state", "told"),
    [
        (timedelta(days=-9), timedelta(days=-1), "fail", "has expired"),
        (timedelta(days=1), timedelta(days=9), "fail", "is not valid yet"),
        (timedelta(days=-9), timedelta(days=9), "warn", "expires in 8 days"),
    ],
)
def test_a_certificate_outside_of_its_time(
    tmp_path: Path, begins: timedelta, ends: timedelta, state: str, told: str
) -> None:
    files, key = make_device_files(tmp_path), elliptic_key()
    files.key.write_bytes(private_pem(key))
    files.cert.write_bytes(make_certificate(key, begins=begins, ends=ends))
    verdict = check_certificate(patient_of(tmp_path, files))
    assert verdict.state == state
    assert told in verdict.detail


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    files = make_device_files(tmp_path)
    files.key.write_bytes(private_pem(elliptic_key()))
    verdict = check_certificate(patient_of(tmp_path, files))
    assert verdict.state == "fail"
    assert "the private key does not belong to the certificate" in verdict.detail


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    files = make_device_files(tmp_path)
    files.ca.write_bytes(files.cert.read_bytes())
    verdict = check_authority(patient_of(tmp_path, files))
    assert verdict.state == "fail"
    assert "AmazonRootCA1.pem" in (verdict.remedy or "")


def test_a_clock_before_the_certificates_beginning(tmp_path: Path) -> None:
    patient = patient_of(tmp_path, make_device_files(tmp_path), now=lambda: 0.0)
    verdict = check_clock(patient)
    assert verdict.state == "fail"
    assert "this clock says 1970-01-01" in verdict.detail
