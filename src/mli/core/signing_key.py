"""The key of whoever deploys: Ed25519, as openssl makes it, on the workstation alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mli.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The key that ``openssl genpkey -algorithm ed25519`` made.

    Raises:
        UsageError: it cannot be read, or is another kind of key; it says how to make or convert one.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError("The signing key cannot be read.", where=str(path), got=error.strerror) from error
    if b"PRIVATE KEY-----" not in text:
        found = "a public key or a certificate" if b"-----BEGIN " in text else "no PEM text"
        raise _wrong_key(path, found, "Give the private key: the file that openssl genpkey wrote.")
    if b"ENCRYPTED" in text:
        raise _wrong_key(
            path, "a key with a pass phrase", "openssl pkey -in KEY -out NEW_KEY takes it off; guard the new file."
        )
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _wrong_key(path, f"a key that cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.lstrip("_").removesuffix("PrivateKey")
        raise _wrong_key(path, f"a key of another kind ({kind})")
    return key


def key_id_of(key: Ed25519PublicKey) -> str:
    """The name of a public key: the first 16 hexadecimal digits of the sha256 of its 32 raw bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _wrong_key(path: Path, got: str, remedy: str | None = None) -> UsageError:
    return UsageError(
        "This key cannot sign deployments.",
        where=str(path),
        expected="an Ed25519 private key in PEM",
        got=got,
        remedy=remedy or "Make one: openssl genpkey -algorithm ed25519 -out deploy.key",
    )
