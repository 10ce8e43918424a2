"""PEM files are what their keys say; public keys become trust anchors."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from tests.unit.config.pem_texts import CERTIFICATE, ED25519, OTHER_KEY, PRIVATE_KEY, PUBLIC_KEY, RAW_KEY, pem

from mli.config.pem import MAX_PEM_BYTES, PemKind, normal_public_key, trust_anchor, wrong_with_pem


def test_an_anchor_is_the_raw_key_and_a_part_of_its_digest() -> None:
    anchor = trust_anchor(PUBLIC_KEY)
    assert anchor.public_key == RAW_KEY.hex()
    assert anchor.key_id == hashlib.sha256(RAW_KEY).hexdigest()[:16]


def test_a_key_that_openssl_makes_is_taken(tmp_path: Path) -> None:
    """As the remedy of the errors says it."""
    key, public = tmp_path / "deploy.key", tmp_path / "deploy.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    der = subprocess.run(
        ["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True
    ).stdout
    assert trust_anchor(public.read_text()).public_key == der[-32:].hex()
    assert wrong_with_pem(key, "private key") is None
    with pytest.raises(ValueError, match="found a private one, which never belongs here"):
        trust_anchor(key.read_text())


def test_the_same_key_in_other_lines_is_the_same_text() -> None:
    normal = normal_public_key(PUBLIC_KEY)
    for other in (PUBLIC_KEY.replace("\n", " "), f"\n  {PUBLIC_KEY}\n", PUBLIC_KEY.replace("\n", "\r\n")):
        assert normal_public_key(other) == normal
    assert normal_public_key(OTHER_KEY) != normal
    assert normal_public_key(normal) == normal


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found no PEM text"),
        ("deploy.pub", "found no PEM text"),
        (CERTIFICATE, "found PEM of certificate"),
        (PUBLIC_KEY + OTHER_KEY, "found several PEM blocks"),
        (PUBLIC_KEY.replace("END", "XXX"), "found PEM of public key"),
        (PUBLIC_KEY + "more", "found PEM of public key"),
        (pem("PUBLIC KEY", ED25519 + RAW_KEY[1:]), "a damaged one or one of another kind"),
        (pem("PUBLIC KEY", ED25519 + RAW_KEY + b"x"), "a damaged one or one of another kind"),
        (pem("PUBLIC KEY", b"\x30\x59" + ED25519[2:] + RAW_KEY), "a damaged one or one of another kind"),
        (PUBLIC_KEY.replace("MC", "M=C"), "a damaged one or one of another kind"),
    ],
)
def test_anything_else_is_refused_with_the_way_to_make_one(text: str, found: str) -> None:
    with pytest.raises(ValueError) as refusal:
        trust_anchor(text)
    assert found in str(refusal.value)
    assert "openssl genpkey -algorithm ed25519" in str(refusal.value)
    assert "openssl pkey -in deploy.key -pubout" in str(refusal.value)


EC_KEY = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + pem("EC PRIVATE KEY")
OLD_ENCRYPTED = PRIVATE_KEY.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,AB\n\n", 1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (CERTIFICATE, "certificate"),
        (CERTIFICATE * 3, "CA"),
        (f"subject=CN = Ü\n{CERTIFICATE}", "CA"),
        (pem("TRUSTED CERTIFICATE"), "CA"),
        (PRIVATE_KEY, "private key"),
        (pem("PRIVATE KEY"), "private key"),
        (EC_KEY, "private key"),
        (CERTIFICATE.replace("\n", "\r\n"), "certificate"),
        (CERTIFICATE + PRIVATE_KEY, "certificate"),
    ],
)
def test_files_that_are_what_they_should_be(tmp_path: Path, text: str, kind: PemKind) -> None:
    (tmp_path / "f.pem").write_text(text)
    assert wrong_with_pem(tmp_path / "f.pem", kind) is None


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("", "CA", "this is no PEM file"),
        ("\x30\x82\x01", "certificate", "this is no PEM file"),
        (CERTIFICATE[:-20], "certificate", "the PEM block CERTIFICATE is damaged or cut off"),
        (CERTIFICATE.replace("MDAw", "M!Aw"), "certificate", "the PEM block CERTIFICATE is damaged or cut off"),
        (PRIVATE_KEY, "certificate", "expected a certificate, found rsa private key"),
        (PUBLIC_KEY, "CA", "expected a certificate, found public key"),
        (CERTIFICATE, "private key", "expected a private key, found certificate"),
        (pem("ENCRYPTED PRIVATE KEY"), "private key", "the key is encrypted"),
        (OLD_ENCRYPTED, "private key", "the key is encrypted"),
        ("x" * (MAX_PEM_BYTES + 1), "CA", "larger than 1,048,576 bytes"),
    ],
)
def test_files_that_are_not(tmp_path: Path, text: str, kind: PemKind, told: str) -> None:
    (tmp_path / "f.pem").write_text(text, encoding="latin-1")
    assert told in str(wrong_with_pem(tmp_path / "f.pem", kind))
