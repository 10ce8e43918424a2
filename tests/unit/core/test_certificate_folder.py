"""A folder of one certificate: requests that are none, records that are damaged, files that are whole."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.fixtures.device_files import elliptic_key, make_certificate, private_pem

from mli.core.certificate_folder import (
    CertificateFolder,
    arrived,
    asked_now,
    public_key_digest,
    read_request,
    signing_request,
    take_place,
)
from mli.errors import StopError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> CertificateFolder:
    (tmp_path / "certs").mkdir()
    return CertificateFolder(tmp_path / "certs")


def request(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Path:
    path.write_bytes(signing_request(key, "line-1"))
    return path


def test_a_key_is_made_once(folder: CertificateFolder) -> None:
    first = folder.ensure_key("ec")
    assert stat.S_IMODE(folder.key.stat().st_mode) == 0o600
    assert b"BEGIN EC PRIVATE KEY" in folder.key.read_bytes()
    folder.key.chmod(0o644)
    again = folder.ensure_key("rsa")
    assert again.public_key() == first.public_key()
    assert stat.S_IMODE(folder.key.stat().st_mode) == 0o600, "of whomever made it"


@pytest.mark.parametrize(
    "name", ["thing.private.key", "thing.cert.pem", "root.ca.pem", "thing.csr", "certificate.json"]
)
def test_what_is_no_file_is_told_and_not_waited_for(folder: CertificateFolder, name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (folder.path / name).symlink_to(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no file"), folder.locked():
        pass
    (folder.path / name).unlink()
    with folder.locked():
        pass


def test_a_folder_on_a_disk_that_is_read_only_is_told(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o ro tmpfs "$3" && exec "$1" -c "$2" "$3"'
    program = "import sys; from pathlib import Path; from mli.core.certificate_folder import CertificateFolder\n"
    program += "from mli.errors import RetryError; folder = CertificateFolder(Path(sys.argv[1]))\n"
    program += "try:\n  folder.ensure_key('ec')\nexcept RetryError as error:\n  print(error)"
    box = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    done = subprocess.run([*box, sys.executable, program, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Read-only file system" in done.stdout


def test_a_key_of_somebody_elses_kind_is_told(folder: CertificateFolder) -> None:
    folder.key.write_bytes(private_pem(ed25519.Ed25519PrivateKey.generate()))
    with pytest.raises(UsageError, match="signs no key of this kind"):
        signing_request(folder.ensure_key("ec"), "line-1")
    folder.key.write_text("hello")
    with pytest.raises(UsageError, match="no PEM file"):
        folder.ensure_key("ec")


def test_a_request_names_the_core_and_proves_the_key(tmp_path: Path) -> None:
    key = elliptic_key()
    found = read_request(request(tmp_path / "thing.csr", key))
    assert found.subject.rfc4514_string() == "CN=line-1"
    assert public_key_digest(found.public_key()) == public_key_digest(key.public_key())
    long = x509.load_pem_x509_csr(signing_request(key, "x" * 128))
    assert len(long.subject.rfc4514_string()) == len("CN=") + 64


def test_a_request_that_was_changed_or_is_of_a_weak_key_is_refused(tmp_path: Path) -> None:
    path = request(tmp_path / "thing.csr", elliptic_key())
    der = bytearray(x509.load_pem_x509_csr(path.read_bytes()).public_bytes(serialization.Encoding.DER))
    der[der.index(b"line-1") + 5] ^= 1
    changed = x509.load_der_x509_csr(bytes(der))
    path.write_bytes(changed.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(UsageError, match="changed on its way"):
        read_request(path)
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(UsageError, match="signs no key of this kind"):
        read_request(request(path, weak))
    with pytest.raises(UsageError, match="signs no key of this kind"):
        read_request(request(path, ec.generate_private_key(ec.SECP256K1())))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"core": 1, "more": 2}', "\ufffd"])
def test_a_damaged_record_is_told(folder: CertificateFolder, text: str) -> None:
    folder.file_of_record.write_text(text)
    with pytest.raises(UsageError, match="record of a certificate") as error:
        folder.record()
    assert "certificate.json" in str(error.value)


def test_a_record_is_read_as_it_was_written(folder: CertificateFolder) -> None:
    assert folder.record() is None
    record = arrived(asked_now("line-1", "123456789012", "eu-west-1", "ab"), "cd")
    folder.write_record(record)
    assert folder.record() == record


def test_a_certificate_of_another_key_is_told(folder: CertificateFolder) -> None:
    key = elliptic_key()
    assert folder.certificate_for("ab") is None
    folder.write(folder.certificate, make_certificate(key))
    found = folder.certificate_for(public_key_digest(key.public_key()))
    assert found is not None
    assert found.fingerprint(hashes.SHA256())
    with pytest.raises(UsageError, match="for another key"):
        folder.certificate_for("ab")


def test_the_folder_is_for_one_process_and_halves_go(folder: CertificateFolder) -> None:
    half = folder.path / f".thing.private.key-{'0' * 16}"
    half.write_text("a key that nobody uses")
    (folder.path / ".mine").write_text("stays")
    with folder.locked():
        assert not half.exists()
        with pytest.raises(StopError, match="Another mli"), folder.locked():
            pass
    assert (folder.path / ".mine").exists()
    with pytest.raises(UsageError, match="cannot be used"), CertificateFolder(folder.path / ".mine").locked():
        pass


def test_a_link_is_replaced_and_not_followed(folder: CertificateFolder, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    folder.certificate.symlink_to(precious)
    folder.write(folder.certificate, b"new")
    assert precious.read_text() == "kept"
    assert folder.certificate.read_bytes() == b"new"


def test_new_files_take_the_place_of_old_ones(folder: CertificateFolder) -> None:
    new = CertificateFolder(folder.path / "next")
    new.path.mkdir()
    for place, text in ((folder, b"old"), (new, b"new")):
        for path in (place.certificate, place.key, place.authorities, place.file_of_record):
            place.write(path, text)
    take_place(new, folder)
    assert {path.read_bytes() for path in folder.path.iterdir()} == {b"new"}
    assert not new.path.exists()
