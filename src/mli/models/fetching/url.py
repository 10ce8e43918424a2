"""Addresses as requests need them, and as people may see them: without a password and without a query."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Url:
    """A URL to ask.

    Attributes:
        host: name or address, an IPv6 one without brackets.
        target: path and query as they are sent, percent-encoded.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the ``Host`` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """For messages: whoever may read the log must not be able to use it."""
        path, mark, _ = self.target.partition("?")
        return f"{self.scheme}://{self.authority}{path}{'?…' if mark else ''}"

    @property
    def whole(self) -> str:
        """For a proxy."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def at(self, target: str) -> Url:
        """Another target on the same host."""
        return Url(self.scheme, self.host, self.port, target)


def parse_url(text: str) -> Url:
    """``http://`` or ``https://`` to its parts.

    Raises:
        ValueError: what is wrong with it, without the text itself.
    """
    if any(ord(character) <= 32 or ord(character) == 127 for character in text):
        raise ValueError("a blank or control character")
    parts = urlsplit(text)
    if parts.scheme not in _PORTS:
        raise ValueError(f"the scheme {parts.scheme[:20]!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a user name or password")
    if not parts.hostname:
        raise ValueError("no host")
    host = parts.hostname.rstrip(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError as error:
            raise ValueError("a host name that DNS cannot have") from error
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Url(parts.scheme, host, parts.port or _PORTS[parts.scheme], target)


def shown_uri(uri: str) -> str:
    """Any URI of a user for a message: without user, password, query and fragment, and of bounded length."""
    scheme, mark, rest = uri.partition("://")
    if mark and scheme not in ("s3", "file"):
        rest, query, _ = rest.partition("?")
        host, slash, path = rest.partition("#")[0].partition("/")
        uri = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}{'?…' if query else ''}"
    text = "".join(c if c.isprintable() else "�" for c in uri)
    return text if len(text) <= 300 else f"{text[:200]}…{text[-80:]}"
