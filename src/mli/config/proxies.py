"""The address of an HTTP proxy, with what it wants to know of who comes."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        authorization: value of ``Proxy-Authorization``; None without a user name.
        shown: its address for messages.
    """

    host: str
    port: int
    authorization: str | None = field(repr=False)
    shown: str


def parse_proxy(text: str) -> Proxy:
    """A proxy by its URL, ``http://`` where that is left out.

    Raises:
        ValueError: what is wrong with it; its text, which may hold a password, is not repeated.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
    except ValueError:
        raise ValueError("no URL") from None
    if parts.scheme != "http":
        raise ValueError(f"the scheme {parts.scheme!r}")
    if not parts.hostname:
        raise ValueError("no host")
    try:
        port = parts.port or 80
    except ValueError:
        raise ValueError("a port that is none") from None
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Proxy(parts.hostname, port, authorization, f"http://{host}:{port}")
