"""The authorities of AWS IoT's own certificates, taken from what this machine trusts already.

Nothing is downloaded: a certificate is taken only if its digest is one of those below, wherever it was found. The
endpoints of all partitions, China's too, show certificates of Amazon Trust Services.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mli.errors import StopError

NEEDED = "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e"
ROOTS = {
    NEEDED: "Amazon Root CA 1",
    "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4": "Amazon Root CA 2",
    "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4": "Amazon Root CA 3",
    "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092": "Amazon Root CA 4",
}
"""sha256 of the DER form, and a name for people. 1 and 3 sign today; 2 and 4 are in reserve.

Starfield's, which cross-signed them, is left out: its serial number is 0, which TLS libraries begin to refuse.
"""
_SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_LARGEST_BYTES = 4 * 1024 * 1024
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Roots:
    """Authorities that were found.

    Attributes:
        pem: of all of them, one after the other.
        names: in the same order.
    """

    pem: bytes
    names: tuple[str, ...]


def amazon_roots(stores: Iterable[Path] | None = None) -> Roots:
    """The authorities that AWS IoT's endpoints are signed by.

    Args:
        stores: PEM files to look in; None takes botocore's, certifi's and the system's.

    Raises:
        StopError: none of them holds Amazon Root CA 1.
    """
    looked = list(_stores() if stores is None else stores)
    found: dict[str, bytes] = {}
    for store in looked:
        found |= _known(store)
        if len(found) == len(ROOTS):
            break
    if NEEDED not in found:
        raise StopError(
            f"No trust store of this machine holds {ROOTS[NEEDED]}.",
            where=", ".join(map(str, looked)) or "no trust store at all",
            remedy="install ca-certificates, or name the authority's file: --ca AmazonRootCA1.pem",
        )
    kept = [digest for digest in ROOTS if digest in found]
    return Roots(b"".join(_pem(found[digest]) for digest in kept), tuple(ROOTS[digest] for digest in kept))


def _stores() -> Iterable[Path]:
    for module in ("botocore", "certifi"):
        spec = find_spec(module)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(folder) / "cacert.pem"
    system = ssl.get_default_verify_paths().cafile
    yield from map(Path, dict.fromkeys([*([system] if system else []), *_SYSTEM]))


def _known(store: Path) -> dict[str, bytes]:
    """DER of each authority of ours in a file; a file that is not there holds none."""
    try:
        with store.open("rb") as file:
            text = file.read(_LARGEST_BYTES)
    except OSError:
        return {}
    found = {}
    for block in _BLOCK.findall(text):
        try:
            der = base64.b64decode(b"".join(block.split()), validate=True)
        except binascii.Error:
            continue
        digest = hashlib.sha256(der).hexdigest()
        if digest in ROOTS:
            found[digest] = der
    return found


def _pem(der: bytes) -> bytes:
    body = base64.b64encode(der)
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])
