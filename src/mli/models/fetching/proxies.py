"""Which proxy a request goes through: the settings' own, else the environment's."""

from __future__ import annotations

import ipaddress

from mli.config.proxies import Proxy, parse_proxy
from mli.errors import StopError
from mli.models.fetching.environment import Environment
from mli.models.fetching.url import Url, shown_uri


def choose_proxy(url: Url, setting: str | None, environment: Environment) -> Proxy | None:
    """The proxy for ``url``; ``no_proxy`` of the environment counts for both kinds.

    Raises:
        StopError: its URL cannot be used.
    """
    text = setting or environment.proxies.get(url.scheme) or environment.proxies.get("all")
    if not text or any(_covers(pattern, url) for pattern in environment.no_proxy):
        return None
    try:
        return parse_proxy(text)
    except ValueError as error:
        raise _unusable(text, str(error)) from error


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
