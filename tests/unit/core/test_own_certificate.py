"""Which certificate a device shows: AWS IoT's id of it."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from tests.fixtures.device_files import elliptic_key, make_certificate

from mli.config.settings import MqttSettings, TlsSettings
from mli.core.own_certificate import own_certificate_id


def shown(certificate: Path | None) -> MqttSettings:
    return MqttSettings(
        "broker", 8883, "thing", TlsSettings(None, str(certificate) if certificate else None, None, None)
    )


def test_the_first_certificate_of_the_file_is_the_devices_own(tmp_path: Path) -> None:
    own, authority = make_certificate(elliptic_key()), make_certificate(elliptic_key(), authority=True)
    path = tmp_path / "cert.pem"
    path.write_bytes(b"# of line-1\n" + own + authority)
    assert own_certificate_id(shown(path)) == x509.load_pem_x509_certificate(own).fingerprint(hashes.SHA256()).hex()


def test_a_device_that_shows_none_has_no_id(tmp_path: Path) -> None:
    assert own_certificate_id(None) is None
    assert own_certificate_id(MqttSettings("broker", 1883, "thing")) is None
    assert own_certificate_id(shown(None)) is None
    assert own_certificate_id(shown(tmp_path / "absent.pem")) is None
    (tmp_path / "text.pem").write_text("hello")
    assert own_certificate_id(shown(tmp_path / "text.pem")) is None
