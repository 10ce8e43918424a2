"""What a device's PEM files hold, and every way in which they can be the wrong ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from tests.fixtures.device_files import (
    YEAR,
    DeviceFiles,
    elliptic_key,
    make_certificate,
    make_device_files,
    private_pem,
    public_pem,
)

from mli.core.certificates import check_authorities, check_identity, key_text, read_private_key

NOW = datetime.now(UTC)


@pytest.fixture
def files(tmp_path: Path) -> DeviceFiles:
    return make_device_files(tmp_path)


def problems(files: DeviceFiles) -> list[str]:
    return [str(error) for error in check_identity(files.cert, files.key, NOW).problems]


def test_a_certificate_and_its_key_are_fine(files: DeviceFiles) -> None:
    found = check_identity(files.cert, files.key, NOW)
    assert not found.problems
    assert not found.cautions
    openssl = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(files.cert)]
    shown = subprocess.run(openssl, capture_output=True, text=True, check=True).stdout.strip()
    (facts,) = found.facts
    assert facts.sha256 == shown.partition("=")[2].replace(":", "").lower()
    assert (facts.subject, facts.issuer) == ("CN=AWS IoT Certificate", "CN=Root CA 1")
    assert key_text(read_private_key(files.key)) == "EC, secp256r1"


def test_the_key_of_another_certificate_is_told(files: DeviceFiles) -> None:
    files.key.write_bytes(private_pem(elliptic_key()))
    (text,) = problems(files)
    assert "the private key does not belong to the certificate" in text


def test_a_chain_is_taken_when_the_device_comes_first(files: DeviceFiles) -> None:
    own, authority = files.cert.read_bytes(), files.ca.read_bytes()
    files.cert.write_bytes(own + authority)
    assert problems(files) == []
    files.cert.write_bytes(authority + own)
    (text,) = problems(files)
    assert "it belongs to certificate 2 of the file" in text


@pytest.mark.parametrize(
    ("begins", "ends", "expected"),
    [(-2 * YEAR, -YEAR, "has expired"), (YEAR, 2 * YEAR, "is not valid yet")],
)
def test_a_certificate_of_another_time_is_told_with_the_clock(
    files: DeviceFiles, begins: timedelta, ends: timedelta, expected: str
) -> None:
    key = elliptic_key()
    files.key.write_bytes(private_pem(key))
    files.cert.write_bytes(make_certificate(key, begins=begins, ends=ends))
    (text,) = problems(files)
    assert expected in text
    assert f"this machine's clock says {NOW:%Y-%m-%d}" in text


def test_a_certificate_that_expires_soon_is_a_caution(files: DeviceFiles) -> None:
    found = check_identity(files.cert, files.key, NOW + YEAR - timedelta(days=9, hours=12))
    assert not found.problems
    assert "expires in 9 days" in found.cautions[0]


def test_a_self_signed_authority_as_a_device_is_a_caution(files: DeviceFiles) -> None:
    key = elliptic_key()
    files.key.write_bytes(private_pem(key))
    files.cert.write_bytes(make_certificate(key, authority=True))
    found = check_identity(files.cert, files.key, NOW)
    assert not found.problems
    assert "is an authority's certificate" in found.cautions[0]


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def cut(pem: bytes) -> bytes:
    lines = pem.splitlines(keepends=True)
    return b"".join([lines[0], *lines[3:]])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (der, "binary data (DER?)"),
        (cut, "the certificate is damaged"),
        (lambda _: b"", "an empty file"),
        (lambda _: b"hello", "other text"),
        (lambda _: private_pem(elliptic_key()), "found:    BEGIN PRIVATE KEY"),
        (lambda pem: pem + b"x" * 2_000_000, "more than 1 MiB"),
    ],
)
def test_a_certificate_file_that_holds_none_says_what_it_holds(
    files: DeviceFiles, change: Callable[[bytes], bytes], expected: str
) -> None:
    files.cert.write_bytes(change(files.cert.read_bytes()))
    (text,) = problems(files)
    assert expected in text
    assert str(files.cert) in text


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: private_pem(elliptic_key(), b"sesame"), "openssl pkey -in"),
        (lambda: cut(private_pem(elliptic_key())), "the private key is damaged"),
        (lambda: public_pem(elliptic_key()), "found:    BEGIN PUBLIC KEY"),
        (lambda: make_certificate(elliptic_key()), "found:    BEGIN CERTIFICATE"),
        (lambda: b"no", "this is no PEM file"),
    ],
)
def test_a_key_file_that_holds_none_says_what_it_holds(
    files: DeviceFiles, make: Callable[[], bytes], expected: str
) -> None:
    files.key.write_bytes(make())
    (text,) = problems(files)
    assert expected in text


def test_a_short_key_is_told_before_tls_refuses_it(files: DeviceFiles) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    files.key.write_bytes(private_pem(key))
    files.cert.write_bytes(make_certificate(key))
    (text,) = problems(files)
    assert "1024 bits" in text


def test_keys_are_named() -> None:
    assert key_text(rsa.generate_private_key(public_exponent=65537, key_size=2048)) == "RSA, 2048 bits"
    assert key_text(ed25519.Ed25519PrivateKey.generate()) == "EdDSA"


def test_missing_files_are_both_told(files: DeviceFiles) -> None:
    files.cert.unlink()
    files.key.unlink()
    assert len(problems(files)) == 2


# --- authorities ------------------------------------------------------------------------------------------------


def test_an_authority_is_fine(files: DeviceFiles) -> None:
    found = check_authorities(files.ca, NOW)
    assert not found.problems
    assert [item.subject for item in found.facts] == ["CN=Root CA 1"]


def test_a_devices_certificate_is_no_authority(files: DeviceFiles) -> None:
    (error,) = check_authorities(files.cert, NOW).problems
    assert "no authority's: CN=AWS IoT Certificate" in str(error)


def test_a_certificate_that_says_nothing_of_authority_is_none(files: DeviceFiles) -> None:
    files.ca.write_bytes(make_certificate(elliptic_key(), authority=None))
    assert check_authorities(files.ca, NOW).problems


def test_an_old_root_without_extensions_is_one(files: DeviceFiles, tmp_path: Path) -> None:
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*command, "-keyout", "v1.key", "-out", "v1.csr", "-subj", "/CN=old"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    sign = ["openssl", "x509", "-req", "-in", "v1.csr", "-signkey", "v1.key", "-out", str(files.ca), "-days", "2"]
    subprocess.run(sign, cwd=tmp_path, check=True, capture_output=True)
    assert not check_authorities(files.ca, datetime.now(UTC)).problems


def test_one_valid_authority_among_expired_ones_is_enough(files: DeviceFiles) -> None:
    expired = make_certificate(elliptic_key(), "Old root", begins=-2 * YEAR, ends=-YEAR, authority=True)
    files.ca.write_bytes(expired + files.ca.read_bytes())
    found = check_authorities(files.ca, NOW)
    assert not found.problems
    assert "has expired: CN=Old root; the others in the file are used" in found.cautions[0]
    files.ca.write_bytes(expired)
    (error,) = check_authorities(files.ca, NOW).problems
    assert "has expired: CN=Old root" in str(error)


def test_a_name_cannot_write_to_the_terminal(files: DeviceFiles) -> None:
    files.ca.write_bytes(make_certificate(elliptic_key(), "evil\x1b[31m\nname", authority=True))
    (facts,) = check_authorities(files.ca, NOW).facts
    assert facts.subject.isprintable()
