"""What paho only logs: why a connection ended, and a TLS alert of the broker's among it."""

from __future__ import annotations

import logging
from collections.abc import Callable


class _ErrorHandler(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage().removeprefix("failed to receive on socket: "))


def error_logger(tell: Callable[[str], None]) -> logging.Logger:
    """A logger outside the tree, made for one connection and gone with it."""
    logger = logging.Logger("paho", logging.ERROR)
    logger.addHandler(_ErrorHandler(tell))
    return logger


def tls_trouble(detail: str) -> str | None:
    """An error of paho's for a person, where TLS is its cause.

    Under TLS 1.3 a broker refuses a client's certificate only after the handshake, at the first byte.
    """
    if "SSL" not in detail and "TLS" not in detail.upper():
        return None
    return f"TLS failed: {detail}{alert_hint(detail)}"


def alert_hint(reason: str) -> str:
    """What a broker's alert means, in brackets; empty where it is none."""
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return " (the broker wants a client certificate)"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return " (the broker does not take this client's certificate)"
    return ""
