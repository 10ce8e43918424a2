"""Lines through an HTTP proxy, and handshakes that a peer draws out: each has an end, and it is told."""

from __future__ import annotations

import base64
import contextlib
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from tests.fixtures.brokers import Certificates
from tests.fixtures.hostile_http import ForwardProxy, HostileServer, Talk, server_tls

from mli.config.proxies import Proxy, parse_proxy
from mli.config.settings import MqttSettings, TlsSettings
from mli.delivery.dialing import Handshake, NoAccess
from mli.delivery.line import Line
from mli.delivery.websocket import handshake_answer
from mli.errors import MliError, RefusedError, RetryError, StopError

PASSWORD = "p@ss/hush"
BASIC = f"Basic {base64.b64encode(f'me:{PASSWORD}'.encode()).decode()}"
PATIENCE_S = 1.0


@dataclass(frozen=True)
class Access:
    proxy: Proxy | None = None

    def path(self) -> str:
        return "/mqtt?signature"

    def refusal(self, status: int, said: str, _server_time_s: float | None) -> MliError:
        return RefusedError("not let in", got=f"{status} {said}")


def through(proxy: ForwardProxy | HostileServer, user: str = "") -> Proxy:
    return parse_proxy(f"http://{user}127.0.0.1:{proxy.port}")


def told(error: NoAccess) -> str:
    text = str(error.told)
    assert "hush" not in text
    assert BASIC.partition(" ")[2] not in text
    return text


def drip(talk: Talk) -> None:
    """A byte now and then, which is an answer as far as it goes."""
    talk.send(b"HTTP/1.1 200 OK\r\nX: ")
    while not talk.ended.wait(0.05):
        talk.send(b"x")


@contextmanager
def dripping_tls() -> Iterator[int]:
    """A port at which a TLS record of 16 KiB begins, and then comes byte by byte."""
    ended = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError), listening.accept()[0] as connection:
            connection.sendall(b"\x16\x03\x03\x40\x00")
            while not ended.wait(0.05):
                connection.sendall(b"\x02")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        ended.set()
        thread.join()


# --- proxies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["", "me:p%40ss%2Fhush@"])
def test_a_line_goes_through_the_proxy_which_alone_knows_the_name(
    make_server: Callable[..., HostileServer], make_proxy: Callable[..., ForwardProxy], user: str
) -> None:
    server = make_server(lambda talk: talk.answer(200, b"hello"))
    proxy = make_proxy({"iot.example:443": server.port}, BASIC if user else None)
    with Handshake(30) as handshake:
        line = handshake.dial("iot.example", 443, through(proxy, user))
    with line:
        line.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert line.makefile("rb").read().endswith(b"hello")
    assert proxy.asked == ["CONNECT iot.example:443"]


@pytest.mark.parametrize(
    ("user", "kind", "said"),
    [
        ("", StopError, "wants a user name and a password"),
        ("me:wrong-hush@", StopError, "does not take this user name"),
        ("me:p%40ss%2Fhush@", RefusedError, "The proxy makes no connection.*502"),
    ],
)
def test_a_proxy_that_refuses_is_told_without_the_password(
    make_proxy: Callable[..., ForwardProxy], user: str, kind: type[MliError], said: str
) -> None:
    proxy = make_proxy({}, BASIC)
    with pytest.raises(NoAccess) as caught, Handshake(30) as handshake:
        handshake.dial("iot.example", 443, through(proxy, user))
    assert isinstance(caught.value.told, kind)
    text = told(caught.value)
    assert f"iot.example:443 through the proxy http://127.0.0.1:{proxy.port}" in text
    assert "HTTPS_PROXY" in text
    assert re.search(said, text, re.DOTALL), text


def test_a_proxy_that_is_not_there_or_is_none_is_told(make_server: Callable[..., HostileServer]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(NoAccess) as caught, Handshake(30) as handshake:
        handshake.dial("iot.example", 443, parse_proxy(f"http://me:hush@127.0.0.1:{port}"))
    assert "The proxy cannot be reached." in told(caught.value)
    server = make_server(lambda talk: talk.send(b"\x1b[2JSSH-2.0\r\n\r\n"))
    with pytest.raises(NoAccess) as caught, Handshake(30) as handshake:
        handshake.dial("iot.example", 443, through(server))
    assert "no answer of an HTTP proxy" in told(caught.value)
    server = make_server(lambda _: None)
    with pytest.raises(NoAccess) as caught, Handshake(30) as handshake:
        handshake.dial("iot.example", 443, through(server))
    assert "it did not finish its answer" in told(caught.value)


# --- a handshake as a whole ------------------------------------------------------------------------------------


def test_a_proxy_that_drips_is_not_waited_for_without_end(make_server: Callable[..., HostileServer]) -> None:
    server = make_server(drip)
    with pytest.raises(NoAccess) as caught, Handshake(PATIENCE_S) as handshake:
        handshake.dial("iot.example", 443, through(server))
    assert isinstance(caught.value.told, RetryError)
    assert "The proxy broke off" in told(caught.value)
    assert "no answer within 1 s" in told(caught.value)


def settings(port: int, certificates: Certificates) -> MqttSettings:
    return MqttSettings("localhost", port, tls=TlsSettings(str(certificates.ca)), connect_timeout_s=PATIENCE_S)


def test_an_endpoint_that_drips_its_upgrade_is_not_waited_for_without_end(
    make_server: Callable[..., HostileServer], certificates: Certificates
) -> None:
    server = make_server(drip, server_tls(certificates.server, certificates.server_key))
    line = Line(settings(server.port, certificates), ["t"], name="mli-test", log=logging.getLogger(), access=Access())
    with pytest.raises(RetryError, match=r"(?s)cannot be reached.*no answer within 1 s"), line:
        pass
    assert handshake_answer(settings(server.port, certificates), "/", None) is None
    assert len(server.talks) == 2


def test_an_endpoint_that_drips_its_tls_is_not_waited_for_without_end(certificates: Certificates) -> None:
    with dripping_tls() as port:
        line = Line(settings(port, certificates), ["t"], name="mli-test", log=logging.getLogger(), access=Access())
        with pytest.raises(RetryError, match=r"(?s)cannot be reached.*no answer within 1 s"), line:
            pass


def test_what_is_opened_in_time_outlives_its_handshake(make_server: Callable[..., HostileServer]) -> None:
    server = make_server(lambda talk: talk.answer(200, b"late"))
    with Handshake(0.2) as handshake:
        line = handshake.dial("127.0.0.1", server.port, None)
    with line:
        handshake._end()  # as a timer that was a moment late
        line.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert line.makefile("rb").read().endswith(b"late")
