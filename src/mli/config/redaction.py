"""Takes secrets out of texts that people, files and brokers get to see.

Two ways, one after the other: the values that this process knows to be secret (``hide``), in every form in which
they may stand in a text; and what looks like a secret, whoever wrote it: passwords in URLs, query strings,
authorization headers, AWS keys, private keys. Taking out too much is right, too little is not.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from mli.config.settings import DeviceSettings

HIDDEN = "***"
MAX_PASSING = 64
"""Credentials that expire are remembered up to so many; the oldest are forgotten."""
_SHORT = 4
"""Shorter secrets are only found as words of their own: anything else would take every text apart."""
_STEM = 12
"""A text may have been cut in the middle of a secret: so many of its first characters give it away."""

_ENVIRONMENT = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
_QUERY_NAMES = (
    r"x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid|key-pair-id|policy"
    r"|signature|sig|sas|token|access_token|id_token|refresh_token|auth|password|passwd|pwd|secret|api_?key|code"
)
_HEADER_NAMES = (
    r"(?:proxy-)?authorization|x-amz-security-token|x-aws-ec2-metadata-token|x-(?:auth|storage|service)-token"
    r"|x-api-key|set-cookie|cookie"
)
_FIELD_NAMES = (
    r"(?:aws_?)?(?:secret_?access_?key|secret_?key|session_?token|security_?token)|token|secret|password|passwd|passphrase"
    r"|client_?secret|api_?key"
)
_QUOTED = r"(?:b?\"[^\"\n]*\"?|b?'[^'\n]*'?)"
_SCHEME = r"\b[A-Za-z][\w+.-]{0,30}://"

# Every repetition that may fail at its end is bounded: a hostile text must not cost seconds.
_REPLACEMENTS: tuple[tuple[str, str], ...] = (
    (r"(?s)(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----).*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)", r"\1 ***"),
    # A password in a URL, which is not host:port/path@version; then a user name that is rather a token.
    (rf"({_SCHEME}[^\s:/?#@]{{0,300}}):(?!\d{{1,5}}(?:[/?#]|\s|$))\S{{0,2000}}@", r"\1:***@"),
    (rf"({_SCHEME})[^\s:/?#@]{{20,2000}}@", r"\1***@"),
    (r"(?i)(\bhttps?://[^\s?\"'<>]{1,2000}\?)[^\s\"'<>]+", r"\1***"),
    (rf"(?i)([?&;](?:{_QUERY_NAMES})(?:=|%3d))[^\s&\"'<>]+", r"\1***"),
    (r"(?i)\b((?:x-(?:amz|goog)-)?(?:signature|credential|security-token)(?:=|%3d))[^\s&\"'<>,]+", r"\1***"),
    (rf"(?i)(\b(?:{_HEADER_NAMES})[\"']?\s{{0,9}}[:=]\s{{0,9}}){_QUOTED}", r"\1***"),
    (rf"(?i)(\b(?:{_HEADER_NAMES})\s{{0,9}}:[ \t]{{0,9}})(?!\*\*\*)[^\n]+", r"\1***"),
    (rf"(?i)(\b(?:{_HEADER_NAMES})=)(?!\*\*\*)[^\s&,;]+", r"\1***"),
    (
        rf"(?i)(\b(?:{_FIELD_NAMES})[\"']?\s{{0,9}}[:=]\s{{0,9}}(?:Some\()?)(?!b?[\"']secret:){_QUOTED}",
        r"\1***",
    ),
    (rf"(?i)(\b(?:{_FIELD_NAMES})=)(?![\"']|secret:)[^\s,;&)}}\]]+", r"\1***"),
    # A line of a YAML file; in prose more words would follow.
    (rf"(?im)^([ \t]{{0,99}}(?:- )?(?:{_FIELD_NAMES}):[ \t]{{1,9}})(?!secret:)\S+[ \t]{{0,9}}$", r"\1***"),
    (r"(?i)\b((?:bearer|basic)\s{1,9})(?=[^\s\"',]{0,300}[\d=+/])[^\s\"',]{6,}", r"\1***"),
    (r"(?<![A-Z0-9])(A[KS]IA)[A-Z0-9]{12,}", r"\1***"),
    (r"\beyJ[\w-]{10,4000}\.[\w-]{4,}(?:\.[\w-]*)?", "***"),
)
_PATTERNS = tuple((re.compile(pattern), replacement) for pattern, replacement in _REPLACEMENTS)


class Redactor:
    """Knows the secrets of this process. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lasting: dict[str, None] = {}
        self._passing: deque[str] = deque(maxlen=MAX_PASSING)
        self._known: re.Pattern[str] | None = None

    def hide(self, secrets: Iterable[str], *, passing: bool = False) -> None:
        """Take these out of every text from now on.

        Args:
            passing: they expire, and others will follow.
        """
        with self._lock:
            for secret in (part for text in secrets for part in _parts(text)):
                if secret in self._lasting or secret in self._passing:
                    continue
                if passing:
                    self._passing.append(secret)
                else:
                    self._lasting[secret] = None
            every = sorted({*self._lasting, *self._passing}, key=len, reverse=True)
            self._known = re.compile("|".join(map(_pattern_of, every))) if every else None

    def redact(self, text: str) -> str:
        """The text without anything secret."""
        known = self._known
        if known is not None:
            text = known.sub(HIDDEN, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


_REDACTOR = Redactor()
"""One a process, as there is one logging and one environment: whatever part learns a secret hides it everywhere."""


def hide(secrets: Iterable[str], *, passing: bool = False) -> None:
    """See ``Redactor.hide``, for this process."""
    _REDACTOR.hide(secrets, passing=passing)


def redact(text: str) -> str:
    """See ``Redactor.redact``, for this process."""
    return _REDACTOR.redact(text)


def secrets_of(device: DeviceSettings, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Every secret value that a device's settings and the environment hold."""
    found = [environment.get(name) for name in _ENVIRONMENT]
    if device.mqtt is not None:
        found.append(device.mqtt.password)
    found += [device.store.secret_access_key, _password_in(device.store.proxy)]
    return tuple(value for value in found if value)


def _password_in(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        password = urlsplit(url).password
    except ValueError:
        return None
    return None if password is None else unquote(password)


def _parts(secret: str) -> list[str]:
    """The lines of a secret: a text that shows it may show them one by one."""
    return [line for line in map(str.strip, secret.splitlines()) if line and not line.startswith("-----")]


def _pattern_of(secret: str) -> str:
    whole = "".join(map(_forms, secret))
    if len(secret) < _SHORT:
        return rf"(?<!\w){whole}(?!\w)"
    if len(secret) <= _STEM:
        return whole
    stem = "".join(map(_forms, secret[:_STEM]))
    return rf"{whole}|{stem}[^\s\"'&]*"


def _forms(character: str) -> str:
    """One character as itself, percent-encoded, or escaped as JSON, Python and shells do it."""
    if character.isascii() and character.isalnum():
        return character
    encoded = "".join(f"%{byte:02x}" for byte in character.encode(errors="surrogatepass"))
    forms = {re.escape(character), rf"\\?{re.escape(character)}", f"(?i:{encoded})"}
    if character == " ":
        forms.add(r"\+")
    number = ord(character)
    if number < 256:
        forms.add(rf"(?i:\\x{number:02x})")
    if number < 65536:
        forms.add(rf"(?i:\\u{number:04x})")
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"
