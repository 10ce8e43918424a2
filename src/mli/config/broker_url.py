"""A broker's address as people type it, to settings."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mli.config.settings import MqttSettings, TlsSettings
from mli.errors import UsageError

PORT = 1883
TLS_PORT = 8883
_EXPECTED = "mqtt://[user:password@]host[:port], mqtts://…, or host[:port]"


def parse_broker_url(
    text: str,
    *,
    client_id: str = "",
    username: str | None = None,
    password_file: str | None = None,
    ca_path: str | None = None,
    certificate_path: str | None = None,
    private_key_path: str | None = None,
) -> MqttSettings:
    """Turn ``mqtt://``, ``mqtts://`` or a bare ``host[:port]`` into settings.

    User name and password are percent-decoded. A CA or certificate asks for TLS; a bare host then means ``mqtts``.

    Args:
        username: instead of the URL's.
        password_file: its first line is the password, which so stays out of the shell's history and of ``ps``.

    Raises:
        UsageError: what is wrong, never showing the password.
    """
    scheme, mark, rest = text.strip().partition("://")
    if not mark:
        scheme, rest = ("mqtts" if ca_path or certificate_path else "mqtt"), text.strip()
    if scheme not in ("mqtt", "mqtts"):
        raise _wrong(text, f"the scheme {scheme!r}", "Use mqtt:// (plain) or mqtts:// (TLS).")
    host, port, user, password = _authority(text, rest)
    if port is None:
        port = TLS_PORT if scheme == "mqtts" else PORT
    if username is not None and user is not None and username != user:
        raise _wrong(text, "two user names", "Give the user name once: in the address or by its option.")
    if password_file is not None:
        if password is not None:
            raise _wrong(text, "two passwords", "Give the password once: in the address or in the file.")
        password = _first_line(password_file)
    user = username if user is None else user
    if password is not None and user is None:
        raise _wrong(text, "a password without a user name", "Name the user as well.")
    return MqttSettings(
        host=host,
        port=port,
        client_id=client_id,
        tls=_tls(text, scheme, ca_path, certificate_path, private_key_path),
        username=user,
        password=password,
    )


def redact_url(text: str) -> str:
    """The address with ``***`` for its password, also where it is too broken to parse."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "", text
    credentials, at, host = rest.rpartition("@")
    if not at:
        return text
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{mark}{user}{':***' if colon else ''}@{host}"


def _authority(text: str, rest: str) -> tuple[str, int | None, str | None, str | None]:
    """Host, port, user and password of what follows the scheme."""
    if _is_ipv6(rest):  # a bare ::1, which URLs would want in brackets
        return rest, None, None, None
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(text, _harmless(error, rest), "Check the host and the port (1 to 65535).") from None
    if "@" in rest and "@" not in parts.netloc:
        raise _wrong(text, "a password with / ? or # in it", "Write those as %2F, %3F and %23.")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _wrong(text, f"{parts.path or parts.query or parts.fragment!r} after the host", "Leave it out.")
    if not host or any(c.isspace() for c in host):
        raise _wrong(text, "no host name", "Name the broker's host.")
    if port == 0:
        raise _wrong(text, "port 0", "Check the port (1 to 65535).")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return unquote(host), port, user, password


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _harmless(error: ValueError, rest: str) -> str:
    """The parser's own words, unless they could quote a part of a password."""
    return "an address that cannot be read" if "@" in rest else str(error)


def _tls(
    text: str, scheme: str, ca_path: str | None, certificate_path: str | None, private_key_path: str | None
) -> TlsSettings | None:
    paths = {"CA": ca_path, "certificate": certificate_path, "private key": private_key_path}
    if scheme == "mqtt":
        if any(paths.values()):
            raise _wrong(text, "a plain mqtt:// address with certificates", "Write mqtts:// instead.")
        return None
    if (certificate_path is None) != (private_key_path is None):
        raise UsageError(
            "A client certificate and its private key belong together.",
            got="only one of them",
            remedy="Give both, or neither.",
        )
    for what, path in paths.items():
        if path is not None and not Path(path).is_file():
            raise UsageError(f"The {what} is no file.", where=path, remedy="Check the path.")
    return TlsSettings(ca_path, certificate_path, private_key_path)


def _first_line(path: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("The password file cannot be read.", where=path, got=str(error)) from error
    if not lines or not lines[0]:
        raise UsageError("The password file is empty.", where=path, expected="the password on its first line")
    return lines[0]


def _wrong(text: str, got: str, remedy: str) -> UsageError:
    return UsageError(f"{redact_url(text)!r} is not a broker's address.", expected=_EXPECTED, got=got, remedy=remedy)
