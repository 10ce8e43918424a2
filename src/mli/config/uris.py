"""Addresses of model archives and stores: which are taken, which part of them is secret."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from mli.config.broker_url import redact_url

MODEL_FORMS = "a path, file:///PATH, s3://BUCKET/KEY or https://HOST/PATH"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?")
_MAX_KEY_BYTES = 1024
_ARN = "arn:aws:s3:::"


def check_model_uri(text: str) -> str:
    """The address of a model archive, as it was given.

    Raises:
        ValueError: what is wrong with it, without its secrets.
    """
    if text.startswith(_ARN):
        raise ValueError(f"expected {MODEL_FORMS}; write s3://{text.removeprefix(_ARN)}")
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text
    if scheme == "file":
        file_path(text)
    elif scheme == "s3":
        _check_s3(text, rest)
    elif scheme == "https":
        parts = _split(text)
        if parts.path in ("", "/") or parts.fragment:
            raise ValueError(f"expected https://HOST/PATH of an archive, found {shown_uri(text)!r}")
        if parts.username is not None:
            raise ValueError(f"expected https://HOST/PATH without user and password, found {shown_uri(text)!r}")
    elif scheme == "http":
        raise ValueError(
            "http:// is not taken: whoever is on the way could read the archive or change it; use https://, or s3:// "
            "and the device's `store.endpoint`"
        )
    else:
        raise ValueError(f"expected {MODEL_FORMS}, found {shown_uri(text)!r}")
    return text


def check_endpoint(text: str) -> str:
    """The URL of an S3-compatible store. With plain http each model needs its digest; see ``is_open``.

    Raises:
        ValueError: what is wrong with it.
    """
    expected = "expected https://HOST[:PORT] of an S3-compatible store"
    if not text.startswith(("https://", "http://")):
        raise ValueError(f"{expected}, found {shown_uri(text)!r}")
    parts = _split(text)
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{expected}, without user, query and fragment; access keys are keys of `store`")
    return text


def is_open(endpoint: str) -> bool:
    """Whether others on the network could change what comes from a store: plain http to another machine."""
    parts = _split(endpoint)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def check_proxy(text: str) -> str:
    """The URL of an HTTP proxy.

    Raises:
        ValueError: it is none; its text, which may hold a password, is not repeated.
    """
    expected = "expected http://[user:password@]HOST:PORT of a proxy"
    if not text.startswith("http://"):
        raise ValueError(f"{expected}, found something else (not shown)")
    parts = _split(text)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{expected}, with nothing after the port")
    return text


def check_host_pattern(text: str) -> str:
    """A host name or address in lower case, or ``*.`` and a name.

    Raises:
        ValueError: it is none.
    """
    host = text.lower().rstrip(".")
    if _HOST.fullmatch(host) or _is_address(host):
        return host
    raise ValueError(f"expected a host such as models.example.org, or *.example.org, found {shown_uri(text)!r}")


def check_authority(text: str) -> str:
    """``HOST`` or ``HOST:PORT``, also where it was given as an ``https://`` URL.

    Raises:
        ValueError: it is none.
    """
    authority = text.removeprefix("https://").rstrip("/")
    parts = _split(f"https://{authority}")
    if parts.netloc != authority or parts.username is not None:
        raise ValueError(f"expected HOST or HOST:PORT, found {shown_uri(text)!r}")
    return authority


def file_path(uri: str) -> Path:
    """The path of ``file:///PATH``; percent-encoding is undone.

    Raises:
        ValueError: another host, or no absolute path.
    """
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or parts.query or parts.fragment:
        raise ValueError(f"expected file:///PATH, an absolute path of this machine, found {uri!r}")
    if "\0" in path:
        raise ValueError("expected a path without NUL")
    return Path(path)


def host_of(uri: str) -> str | None:
    """The host of an ``https://`` or ``http://`` address, in lower case; None for any other."""
    host = urlsplit(uri).hostname if uri.startswith(("https://", "http://")) else None
    return None if host is None else host.rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether a host can only be this machine."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def shown_uri(text: str) -> str:
    """The address for people to read: no user, no password, and no query, which signs a presigned URL."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        return text
    if scheme.lower() not in ("http", "https"):
        return redact_url(text)
    cut = next((index for index, character in enumerate(rest) if character in "?#"), len(rest))
    if "@" in rest[cut:]:  # a password with ? in it, or a query with @ in it: nobody can tell
        return f"{scheme}://***"
    credentials, at, place = rest[:cut].rpartition("@")
    return f"{scheme}://{'***@' if credentials or at else ''}{place}{'?***' if rest[cut:] else ''}"


def _check_s3(text: str, rest: str) -> None:
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        raise ValueError(
            f"expected s3://BUCKET/KEY, found {shown_uri(text)!r}; access keys stand in the device's `store`"
        )
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ValueError(
            f"expected s3://BUCKET/KEY with a bucket of 3 to 255 letters, digits, '.', '_', '-', "
            f"found {shown_uri(text)!r}"
        )
    if not key or key.endswith("/") or len(key.encode()) > _MAX_KEY_BYTES or _has_control(key):
        raise ValueError(f"expected s3://BUCKET/KEY with the key of one archive, found {shown_uri(text)!r}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or _has_control(text) or " " in text:
        raise ValueError(f"expected an address with a host, found {shown_uri(text)!r}")
    return parts


def _has_control(text: str) -> bool:
    return any(ord(character) < 32 or ord(character) == 127 for character in text)
