"""What a broker has against a client's certificate, where a CONNECT was in the way of hearing it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

from mli.delivery.sinks.mqtt_options import describe_connect_error, tls_context

if TYPE_CHECKING:
    from mli.config.settings import MqttSettings, TlsSettings

_LISTEN_S = 2.0


def tls_refusal(settings: MqttSettings, tls: TlsSettings) -> str | None:
    """Why the broker ends TLS, None where it does not.

    Under TLS 1.3 it judges the client's certificate after the client's part of the handshake. What the client has
    sent by then may be answered with a reset, which throws away the alert that was on its way: here nothing is sent.

    Raises:
        StopError: a file of the TLS settings cannot be used.
    """
    context = tls_context(tls)
    try:
        with (
            socket.create_connection((settings.host, settings.port), settings.connect_timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=settings.host) as line,
        ):
            line.settimeout(_LISTEN_S)
            with contextlib.suppress(TimeoutError):
                line.recv(1)
    except ssl.SSLError as error:
        return describe_connect_error(error, settings)
    except OSError:
        return None
    return None
