"""AWS Signature Version 4 of one S3 request, in its headers.

Source: "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API reference. Only what a download
needs: requests without a query, signed at the moment they are sent.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

from mli.models.fetching.credentials import Credentials

_ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def signed_headers(
    method: str,
    host: str,
    path: str,
    credentials: Credentials,
    region: str,
    headers: Mapping[str, str] | None = None,
    payload_sha256: str = EMPTY_SHA256,
    *,
    now: datetime | None = None,
) -> dict[str, str]:
    """The headers to send, with the signature over all of them.

    Args:
        host: as the ``Host`` header says it, with the port where it is not the scheme's own.
        path: percent-encoded as it is sent.
        headers: further ones, lower case.
        now: moment of the signature; the store refuses one that is more than 15 minutes off.
    """
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    signed = {**(headers or {}), "host": host, "x-amz-content-sha256": payload_sha256, "x-amz-date": moment}
    if credentials.token is not None:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(signed)
    lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in names)
    request = "\n".join((method, path, "", lines, ";".join(names), payload_sha256))
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    to_sign = "\n".join((_ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signed["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={';'.join(names)}, "
        f"Signature={_hmac(key, to_sign).hex()}"
    )
    return signed


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
