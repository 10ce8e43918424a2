"""MQTT inside a WebSocket: the path that lets a connection in, and what a server says that lets none in."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol

from mli.delivery.sinks.mqtt_options import tls_context
from mli.errors import MliError

if TYPE_CHECKING:
    from mli.config.settings import MqttSettings

_MOST_BODY_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class HandshakeAnswer:
    """What an HTTP server said to the request for a WebSocket.

    Attributes:
        status: of HTTP; 101 is a yes.
        said: AWS's name of the error and the message in its body, one line.
        server_time_s: the server's clock, Unix time; None where it does not say.
    """

    status: int
    said: str = ""
    server_time_s: float | None = None


class WebSocketAccess(Protocol):
    """Lets connections in through WebSockets, by a path that holds for a short while."""

    def path(self) -> str:
        """Path and query of the next handshake, made anew for each.

        Raises:
            MliError: nothing can be signed now.
        """

    def refusal(self, status: int, said: str, server_time_s: float | None) -> MliError:
        """Why the server said no, and what to do; see ``HandshakeAnswer``."""


class NoAccess(ConnectionError):
    """A connection that was not tried; paho takes it for one that failed, and tries again later."""

    def __init__(self, told: MliError) -> None:
        self.told = told
        super().__init__(told.what)


def handshake_answer(settings: MqttSettings, path: str) -> HandshakeAnswer | None:
    """Ask for a WebSocket once more, only to hear why not: paho does not keep the answer. None without one."""
    host, port, patience_s = settings.host, settings.port, settings.connect_timeout_s
    if settings.tls is None:
        connection = http.client.HTTPConnection(host, port, timeout=patience_s)
    else:
        context = tls_context(settings.tls)
        connection = http.client.HTTPSConnection(host, port, timeout=patience_s, context=context)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "mqtt",
    }
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = b"" if response.status == http.HTTPStatus.SWITCHING_PROTOCOLS else response.read(_MOST_BODY_BYTES)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    kind = (response.getheader("x-amzn-errortype") or "").partition(":")[0]
    said = ": ".join(filter(None, (kind, _message(body))))
    return HandshakeAnswer(response.status, said, _unix_time(response.getheader("date")))


def _message(body: bytes) -> str:
    text = body.decode(errors="replace")
    try:
        said = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = text
    return " ".join(str(said).split())[:300]


def _unix_time(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
