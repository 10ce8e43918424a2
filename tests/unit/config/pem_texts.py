"""PEM files as openssl writes them, for tests; nothing trusts them."""

from __future__ import annotations

import base64


def pem(title: str, body: bytes = b"0" * 60) -> str:
    """A block with some body."""
    return f"-----BEGIN {title}-----\n{base64.encodebytes(body).decode()}-----END {title}-----\n"


CERTIFICATE = pem("CERTIFICATE")
PRIVATE_KEY = pem("RSA PRIVATE KEY")
ED25519 = bytes.fromhex("302a300506032b6570032100")
RAW_KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
"""The first test vector of RFC 8032."""
PUBLIC_KEY = pem("PUBLIC KEY", ED25519 + RAW_KEY)
OTHER_KEY = pem("PUBLIC KEY", ED25519 + bytes(range(32)))
