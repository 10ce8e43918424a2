"""What is sent to ``mli/deployments/<thing>``: a bare deployment, or one signed for one thing, one revision, a time.

A signed deployment is one JSON object, a cancellation another:

    {"schema": "mli.envelope/1", "thing", "revision", "expires", "payload", "key", "signature"}
    {"schema": "mli.cancel/1", "thing", "revision", "expires"[, "key", "signature"]}

``payload`` is base64 of the deployment's exact bytes, ``signature`` base64 of Ed25519 over ``signed_bytes``. The
schema stands first in those, so that a signed cancellation can never be turned into a deployment. An object has these
keys and no other, each once: what a signature does not cover has no meaning.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from mli.core.signing_key import key_id_of, load_private_key
from mli.errors import RefusedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from mli.config.settings import TrustAnchor

__all__ = [
    "CANCEL",
    "ENVELOPE",
    "MAX_MESSAGE_BYTES",
    "MAX_REVISION",
    "Opened",
    "key_id_of",
    "load_private_key",
    "open_message",
    "seal",
    "seal_cancel",
    "signed_bytes",
]

ENVELOPE = "mli.envelope/1"
CANCEL = "mli.cancel/1"
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_REVISION = 10**15 - 1
"""As in a deployment file: every reader of JSON keeps it exact."""

_KEYS = {
    ENVELOPE: frozenset({"schema", "thing", "revision", "expires", "payload", "key", "signature"}),
    CANCEL: frozenset({"schema", "thing", "revision", "expires", "key", "signature"}),
}
_SIGNATURE_KEYS = frozenset({"key", "signature"})
_THING = re.compile(r"[A-Za-z0-9:_-]{1,128}")
_EXPIRES = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_LATEST = 253402300799  # 9999-12-31T23:59:59Z


@dataclass(frozen=True, slots=True)
class Opened:
    """A message that may be acted on.

    Attributes:
        kind: ``nothing`` is a cleared topic: what runs stays.
        payload: the deployment's exact bytes; empty for the other kinds.
        revision: None where an unsigned deployment says none.
        key_id: the trusted key that signed it; None where nothing was proved.
        expires_at: Unix seconds; None for what is not signed.
    """

    kind: Literal["deployment", "cancel", "nothing"]
    payload: bytes = b""
    revision: int | None = None
    key_id: str | None = None
    expires_at: float | None = None


def seal(payload: bytes, *, thing: str, revision: int, expires_at: float, key: Ed25519PrivateKey) -> bytes:
    """Sign a deployment for one thing.

    Args:
        payload: the deployment file's bytes; a revision in it must be ``revision``.
        expires_at: Unix seconds; cut to whole ones.

    Raises:
        RefusedError: what no device would take: a wrong name, revision or time, too many bytes.
    """
    return _seal(ENVELOPE, payload, thing, revision, expires_at, key)


def seal_cancel(*, thing: str, revision: int, expires_at: float, key: Ed25519PrivateKey | None) -> bytes:
    """A message that ends the deployment under way and leaves what runs; unsigned where there is no key.

    Raises:
        RefusedError: as ``seal``.
    """
    return _seal(CANCEL, b"", thing, revision, expires_at, key)


def open_message(
    data: bytes, *, thing: str, trust: tuple[TrustAnchor, ...], now: float, highest: int | None = None
) -> Opened:
    """Check a message of ``mli/deployments/<thing>`` before anything in it is believed.

    With trust anchors only what one of them signed passes. Without, the broker decides who may deploy: unsigned
    messages pass, and of signed ones everything but the signature is checked.

    Args:
        now: Unix seconds of the device's clock.
        highest: highest revision that the device has taken. The broker hands out its retained message at each
            connect, also long after it expired: what is not above ``highest`` is not refused for its age, and the
            caller finds out whether it is the one that it knows or a replay.

    Raises:
        RefusedError: it must not be acted on; the words say why.
    """
    if not data:
        return Opened("nothing")
    if len(data) > MAX_MESSAGE_BYTES:
        raise RefusedError(
            "The deployment message is too large.",
            expected=f"at most {MAX_MESSAGE_BYTES:,} bytes",
            got=f"{len(data):,} bytes",
            remedy="Deployments name models by their address; they do not hold them.",
        )
    envelope = _envelope(data)
    if envelope is None:
        if trust:
            raise _unsigned("The deployment is not signed, and this device takes signed ones alone.", trust)
        return Opened("deployment", data, _own_revision(data))
    return _open(envelope, thing, trust, now, highest)


def signed_bytes(schema: str, thing: str, revision: int, expires: str, payload: bytes) -> bytes:
    """What the signature covers."""
    return f"{schema}\n{thing}\n{revision}\n{expires}\n".encode() + payload


def _seal(
    schema: str, payload: bytes, thing: str, revision: int, expires_at: float, key: Ed25519PrivateKey | None
) -> bytes:
    if not _THING.fullmatch(thing):
        raise RefusedError(
            "This is no name of a thing.", expected="1 to 128 of the characters A-Z a-z 0-9 : _ -", got=repr(thing)
        )
    if not 0 <= revision <= MAX_REVISION:
        raise RefusedError("This is no revision.", expected=f"0 to {MAX_REVISION}", got=str(revision))
    if not 0 <= expires_at <= _LATEST:
        raise RefusedError("This is no time that a deployment can expire.", expected="a time before the year 10000")
    expires = _text_of(expires_at)
    message: dict[str, Any] = {"schema": schema, "thing": thing, "revision": revision, "expires": expires}
    if schema == ENVELOPE:
        message["payload"] = base64.b64encode(payload).decode()
    if key is not None:
        signature = key.sign(signed_bytes(schema, thing, revision, expires, payload))
        message |= {"key": key_id_of(key.public_key()), "signature": base64.b64encode(signature).decode()}
    data = json.dumps(message).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise RefusedError(
            "The deployment is too large to be sent.",
            expected=f"at most {MAX_MESSAGE_BYTES:,} bytes with its envelope",
            got=f"{len(data):,} bytes",
        )
    return data


def _open(
    envelope: dict[str, Any], thing: str, trust: tuple[TrustAnchor, ...], now: float, highest: int | None
) -> Opened:
    schema, revision, expires = envelope["schema"], envelope["revision"], envelope["expires"]
    expires_at = _time_of(expires)
    payload = _base64(envelope, "payload") if schema == ENVELOPE else b""
    if envelope["thing"] != thing:
        raise RefusedError(
            "The deployment is for another thing.",
            expected=thing,
            got=_shown(envelope["thing"]),
            remedy=f"Send it with mli deploy --thing {thing}.",
        )
    key_id = None
    if trust:
        key_id = _verified(envelope, signed_bytes(schema, thing, revision, expires, payload), trust)
    if expires_at <= now and (highest is None or revision > highest):
        raise RefusedError(
            "The deployment has expired.",
            expected=f"it was good until {expires}",
            got=f"this device's clock says {_text_of(now)}",
            remedy="Send it again (mli deploy --expires says for how long it is good); "
            "if that is not the time now, set the device's clock: timedatectl.",
        )
    kind: Literal["deployment", "cancel"] = "deployment" if schema == ENVELOPE else "cancel"
    if kind == "deployment":
        _check_revision(payload, revision)
    return Opened(kind, payload, revision, key_id, expires_at)


def _verified(envelope: dict[str, Any], signed: bytes, trust: tuple[TrustAnchor, ...]) -> str:
    """The id of the trusted key that signed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if "signature" not in envelope:
        raise _unsigned("The cancellation is not signed, and this device takes signed ones alone.", trust)
    anchor = next((anchor for anchor in trust if anchor.key_id == envelope["key"]), None)
    if anchor is None:
        raise RefusedError(
            "The deployment is signed with a key that this device does not trust.",
            expected=f"one of {_key_ids(trust)}",
            got=_shown(envelope["key"]),
            remedy="Sign it with a trusted key, or add this one to trust: in the device's device.yaml.",
        )
    signature = _base64(envelope, "signature")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(anchor.public_key)).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise RefusedError(
            "The deployment's signature is wrong.",
            expected=f"the signature of key {anchor.key_id} over thing, revision, expiry and payload",
            remedy="It was changed on its way, or signed with another key. Send it again with mli deploy --sign.",
        ) from error
    return anchor.key_id


def _envelope(data: bytes) -> dict[str, Any] | None:
    """The JSON object of a signed deployment or a cancellation, its shape checked; None for a bare deployment."""
    if not data.lstrip().startswith(b"{") or b'"schema"' not in data:
        return None
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"no JSON: {error}") from error
    if "schema" not in value:
        return None
    schema = value["schema"]
    if not isinstance(schema, str) or schema not in _KEYS:
        raise RefusedError(
            "The deployment message is of a kind that this version of mli does not know.",
            expected=" or ".join(_KEYS),
            got=_shown(schema),
            remedy="Was it sent by a newer mli? Then update this device.",
        )
    _check_shape(value, schema)
    return value if isinstance(value, dict) else None


def _check_shape(value: dict[str, Any], schema: str) -> None:
    optional = _SIGNATURE_KEYS if schema == CANCEL and not value.keys() & _SIGNATURE_KEYS else frozenset()
    missing, unknown = _KEYS[schema] - optional - value.keys(), value.keys() - _KEYS[schema]
    if missing:
        raise _malformed(f"no {', '.join(sorted(missing))}")
    if unknown:
        raise _malformed(f"the unknown key {_shown(min(unknown))}")
    for name in value.keys() - {"revision"}:
        if not isinstance(value[name], str):
            raise _malformed(f"{name} is no text")
    revision = value["revision"]
    if isinstance(revision, bool) or not isinstance(revision, int) or not 0 <= revision <= MAX_REVISION:
        raise _malformed(f"revision is no whole number from 0 to {MAX_REVISION}")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {_shown(name)} is given twice")
        found[name] = value
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _base64(envelope: dict[str, Any], name: str) -> bytes:
    """Strictly decoded: one text for one content."""
    text: str = envelope[name]
    try:
        content = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _malformed(f"{name} is no base64: {error}") from error
    if base64.b64encode(content).decode() != text:
        raise _malformed(f"{name} is no base64 as it is written")
    return content


def _time_of(text: str) -> float:
    try:
        if _EXPIRES.fullmatch(text):
            return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass  # a month 13
    raise _malformed(f"expires is no time such as 2026-12-01T00:00:00Z: {_shown(text)}")


def _text_of(at: float) -> str:
    """Unix seconds as the envelope writes them."""
    return datetime.fromtimestamp(int(min(max(at, 0), _LATEST)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_revision(payload: bytes, revision: int) -> None:
    own = _own_revision(payload)
    if own is not None and own != revision:
        raise RefusedError(
            "The deployment's revision is not that of its envelope.",
            expected=f"revision: {revision}, or none",
            got=f"revision: {own}",
            remedy="Send it with mli deploy, which writes both.",
        )


@functools.lru_cache(maxsize=1)  # a thousand things were sent the same file, and YAML is slow to read
def _own_revision(payload: bytes) -> int | None:
    """What a deployment file says of itself; its other errors are told by whoever reads it for good."""
    from mli.config.yaml_places import parse_settings

    found = parse_settings(payload, "deployment").value.get("revision")
    if found is not None and (isinstance(found, bool) or not isinstance(found, int)):
        raise RefusedError(
            "The deployment's revision is no number.", expected="revision: and a whole number", got=_shown(found)
        )
    return found


def _unsigned(what: str, trust: tuple[TrustAnchor, ...]) -> RefusedError:
    return RefusedError(
        what, expected=f"a signature of {_key_ids(trust)}", remedy="Send it with mli deploy --sign KEY.pem."
    )


def _key_ids(trust: tuple[TrustAnchor, ...]) -> str:
    return f"key {', '.join(anchor.key_id for anchor in trust)}"


def _malformed(got: str) -> RefusedError:
    return RefusedError(
        "The deployment's envelope cannot be read.", got=got, remedy="Send it with mli deploy, which writes it."
    )


def _shown(value: object) -> str:
    """What a stranger wrote, short and harmless in a log."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
