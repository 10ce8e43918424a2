"""PEM files: whether one is what its key says, and the public keys of those who may deploy.

Only what a configuration needs to be told wrong early is looked at; the TLS and signature libraries, which come later
and are large, have the last word.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Literal

from mli.config.settings import TrustAnchor

PemKind = Literal["CA", "certificate", "private key"]
MAX_PEM_BYTES = 1024 * 1024
"""A system's whole trust store is a quarter of that."""
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----")
_HEADED = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_ED25519 = bytes.fromhex("302a300506032b6570032100")
"""What SubjectPublicKeyInfo (RFC 8410) says before the 32 bytes of an Ed25519 key."""
_KEY_BYTES = 32
HOW_TO_MAKE = (
    "make one with `openssl genpkey -algorithm ed25519 -out deploy.key` and "
    "`openssl pkey -in deploy.key -pubout -out deploy.pub`"
)


def trust_anchor(pem: str) -> TrustAnchor:
    """The public key in ``pem``.

    Raises:
        ValueError: it is no Ed25519 public key, and how to make one.
    """
    raw = _raw_public_key(pem)
    return TrustAnchor(hashlib.sha256(raw).hexdigest()[:16], raw.hex())


def normal_public_key(pem: str) -> str:
    """The same public key in one spelling, so that the same keys are the same text.

    Raises:
        ValueError: it is no Ed25519 public key, and how to make one.
    """
    body = base64.b64encode(_ED25519 + _raw_public_key(pem)).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


def wrong_with_pem(path: Path, kind: PemKind) -> str | None:
    """What is wrong with a PEM file that should hold a certificate or a private key; None for nothing.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_PEM_BYTES + 1)
    if len(data) > MAX_PEM_BYTES:
        return f"larger than {MAX_PEM_BYTES:,} bytes, so no PEM file of a {kind}"
    text = data.decode("ascii", "replace")
    blocks = [(title, body) for title, body in _BLOCK.findall(_without_headers(text)) if _is_base64(body)]
    titles = [title for title, _ in blocks]
    if not blocks:
        begun = _HEADED.search(text)
        return f"the PEM block {begun[1]} is damaged or cut off" if begun else "this is no PEM file"
    if kind == "private key":
        # EC keys bring a block of their parameters along.
        keys = [title for title in titles if title.endswith("PRIVATE KEY")]
        if not keys:
            return f"expected a private key, found {titles[0].lower()}"
        return "the key is encrypted, and no one is there to type its passphrase" if _encrypted(keys, text) else None
    if not any(title.endswith("CERTIFICATE") for title in titles):
        return f"expected a certificate, found {titles[0].lower()}"
    return None


def _raw_public_key(pem: str) -> bytes:
    found = _HEADED.findall(pem)
    if any(title.endswith("PRIVATE KEY") for title in found):
        raise ValueError(f"expected a public key, found a private one, which never belongs here; {HOW_TO_MAKE}")
    block = _BLOCK.fullmatch(pem.strip())
    if block is None or block[1] != "PUBLIC KEY":
        what = (
            "no PEM text" if not found else "several PEM blocks" if len(found) > 1 else f"PEM of {found[0].lower()}"
        )
        raise ValueError(f"expected PEM text of one Ed25519 public key, found {what}; {HOW_TO_MAKE}")
    try:
        der = base64.b64decode("".join(block[2].split()), validate=True)
    except binascii.Error:
        der = b""
    if len(der) != len(_ED25519) + _KEY_BYTES or not der.startswith(_ED25519):
        raise ValueError(f"expected an Ed25519 public key, found a damaged one or one of another kind; {HOW_TO_MAKE}")
    return der[len(_ED25519) :]


def _without_headers(text: str) -> str:
    """Without lines such as ``Proc-Type: 4,ENCRYPTED`` within a block."""
    return re.sub(r"^[A-Za-z-]+: .*$", "", text, flags=re.M)


def _encrypted(titles: list[str], text: str) -> bool:
    return any(title.startswith("ENCRYPTED") for title in titles) or "Proc-Type: 4,ENCRYPTED" in text


def _is_base64(body: str) -> bool:
    try:
        return bool(base64.b64decode("".join(body.split()), validate=True))
    except binascii.Error:
        return False
