"""MQTT inside a WebSocket: the path that lets a connection in, and what a server says that lets none in."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import socket
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from mli.delivery.dialing import Handshake
from mli.delivery.sinks.mqtt_options import tls_context
from mli.errors import MliError

if TYPE_CHECKING:
    from mli.config.proxies import Proxy
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

    @property
    def proxy(self) -> Proxy | None:
        """What connections go through."""

    def refusal(self, status: int, said: str, server_time_s: float | None) -> MliError:
        """Why the server said no, and what to do; see ``HandshakeAnswer``."""


class WebSocketClient(mqtt.Client):
    """paho's client through a proxy, whose handshakes end in ``connect_timeout`` as a whole.

    Args:
        proxy: None connects to the broker itself.
    """

    def __init__(self, api: CallbackAPIVersion, *, proxy: Proxy | None, **options: Any) -> None:
        super().__init__(api, transport="websockets", **options)
        self._through = proxy
        self._opening: Handshake | None = None

    def _create_socket(self) -> Any:
        with Handshake(self.connect_timeout) as self._opening:
            return super()._create_socket()

    def _create_socket_connection(self) -> socket.socket:
        assert self._opening is not None
        return self._opening.dial(self.host, self.port, self._through)


def handshake_answer(settings: MqttSettings, path: str, proxy: Proxy | None) -> HandshakeAnswer | None:
    """Ask for a WebSocket once more, only to hear why not: paho does not keep the answer. None without one."""
    host, port = settings.host, settings.port
    context = None if settings.tls is None else tls_context(settings.tls)
    connection: http.client.HTTPConnection
    if context is None:
        connection = http.client.HTTPConnection(host, port)
    else:
        connection = http.client.HTTPSConnection(host, port, context=context)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "mqtt",
    }
    try:
        with Handshake(settings.connect_timeout_s) as handshake:
            line = handshake.dial(host, port, proxy)
            connection.sock = line if context is None else context.wrap_socket(line, server_hostname=host)
            return _answer(connection, path, headers)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _answer(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> HandshakeAnswer:
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = b"" if response.status == http.HTTPStatus.SWITCHING_PROTOCOLS else response.read(_MOST_BODY_BYTES)
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
