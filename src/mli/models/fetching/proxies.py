"""Which proxy a request goes through: the settings' own, else the environment's."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from mli.errors import StopError
from mli.models.fetching.environment import Environment
from mli.models.fetching.url import Url, shown_uri


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


def choose_proxy(url: Url, setting: str | None, environment: Environment) -> Proxy | None:
    """The proxy for ``url``; ``no_proxy`` of the environment counts for both kinds.

    Raises:
        StopError: its URL cannot be used.
    """
    text = setting or environment.proxies.get(url.scheme) or environment.proxies.get("all")
    if not text or any(_covers(pattern, url) for pattern in environment.no_proxy):
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or 80
    except ValueError as error:
        raise _unusable(text, str(error)) from error
    if parts.scheme != "http" or not parts.hostname:
        raise _unusable(text, f"the scheme {parts.scheme!r}" if parts.hostname else "no host")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(parts.hostname, port, authorization, f"http://{parts.hostname}:{port}")


def _covers(pattern: str, url: Url) -> bool:
    """``*``, a name and what is below it, an address, a network; each may have a port."""
    if pattern == "*":
        return True
    name, mark, port = pattern.rpartition(":")
    if mark and port.isdigit() and name.count(":") == 0:
        if int(port) != url.port:
            return False
        pattern = name
    host = url.host.lower()
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(pattern.strip("[]"), strict=False)
    except ValueError:
        pattern = pattern.removeprefix("*").lstrip(".")
        return host == pattern or host.endswith(f".{pattern}")


def _unusable(text: str, found: str) -> StopError:
    return StopError(
        "The proxy for model archives cannot be used.",
        where=shown_uri(text) if "://" in text else "the device's settings, or its environment",
        expected="http://[user:password@]host:port",
        got=found,
        remedy="correct store.proxy of the device, or the environment's https_proxy",
    )
