"""A line to a host, through an HTTP proxy where there is one, in a time that has an end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from http import HTTPStatus
from types import TracebackType
from typing import Self

from mli.config.proxies import Proxy
from mli.errors import MliError, RefusedError, RetryError, StopError

_MOST_HEAD_BYTES = 16 * 1024
_REMEDY = "check HTTPS_PROXY; or name hosts that are reached without it in NO_PROXY"


class NoAccess(ConnectionError):
    """A connection that was not tried, or that a proxy did not make; paho takes it for one that failed."""

    def __init__(self, told: MliError) -> None:
        self.told = told
        super().__init__(told.what)


class Handshake:
    """The time for a whole handshake: TCP, proxy, TLS, and what comes after it until the context is left.

    A peer that sends a byte now and then does not prolong it: what was opened is shut when the time is up.

    Raises:
        TimeoutError: on leaving, in place of whatever error the shut line has led to.
        NoAccess: ``dial`` found a proxy that cannot be reached or does not let us through.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._until = time.monotonic() + patience_s
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._is_over = False
        self._timer = threading.Timer(patience_s, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            if self._line is not None:
                self._line.close()
                self._line = None
        if self._is_over and (error is None or isinstance(error, Exception)) and not isinstance(error, NoAccess):
            raise TimeoutError(f"no connection within {self._patience_s:g} s") from error

    def dial(self, host: str, port: int, proxy: Proxy | None) -> socket.socket:
        """TCP to a host. Once a context, whose end it outlives."""
        if proxy is None:
            return self._connect(host, port)
        try:
            opened = self._connect(proxy.host, proxy.port)
        except OSError as error:
            raise NoAccess(
                RetryError(
                    "The proxy cannot be reached.",
                    where=proxy.shown,
                    got=error.strerror or str(error),
                    remedy=_REMEDY,
                )
            ) from error
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            _tunnel(opened, target, proxy)
        except NoAccess as error:
            opened.close()
            if self._is_over:
                raise NoAccess(_broke_off(target, proxy, f"no answer within {self._patience_s:g} s")) from error
            raise
        return opened

    def _connect(self, host: str, port: int) -> socket.socket:
        """The first address that answers; each gets its share of the time that is left."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for index, (family, kind, protocol, _, address) in enumerate(found, 1):
            opened = socket.socket(family, kind, protocol)
            try:
                left_s = max(0.0, self._until - time.monotonic())
                opened.settimeout(max(0.001, left_s / (len(found) - index + 1)))
                opened.connect(address)
            except OSError:
                opened.close()
                if index == len(found):
                    raise
                continue
            opened.settimeout(self._patience_s)
            self._keep(opened)
            return opened
        raise socket.gaierror(socket.EAI_NONAME, "the name has no address")

    def _keep(self, opened: socket.socket) -> None:
        """A descriptor of our own: TLS takes the other one over."""
        with self._lock:
            self._line = opened.dup()
        if self._is_over:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            if self._line is not None:
                with contextlib.suppress(OSError):  # it has ended by itself
                    self._line.shutdown(socket.SHUT_RDWR)


def _tunnel(opened: socket.socket, target: str, proxy: Proxy) -> None:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        opened.sendall("\r\n".join([*lines, "", ""]).encode())
        head = _read_head(opened)
    except OSError as error:
        raise NoAccess(_broke_off(target, proxy, error.strerror or str(error))) from error
    if not head.endswith(b"\r\n\r\n"):
        raise NoAccess(_broke_off(target, proxy, "it did not finish its answer"))
    version, _, answer = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    said = "".join(filter(str.isprintable, answer)).strip()[:100]
    if version.startswith("HTTP/") and said.startswith("2"):
        return
    if said.startswith(str(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED.value)):
        raise NoAccess(
            StopError(
                "The proxy does not take this user name and password."
                if proxy.authorization
                else "The proxy wants a user name and a password.",
                where=_way(target, proxy),
                got=said,
                remedy="HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, with special characters percent-encoded",
            )
        )
    raise NoAccess(
        RefusedError(
            "The proxy makes no connection.",
            where=_way(target, proxy),
            expected="an HTTP proxy that lets CONNECT through to this host and port",
            got=said if version.startswith("HTTP/") else "no answer of an HTTP proxy",
            remedy=f"have it allowed there, or {_REMEDY}",
        )
    )


def _broke_off(target: str, proxy: Proxy, got: str) -> RetryError:
    return RetryError("The proxy broke off.", where=_way(target, proxy), got=got, remedy=_REMEDY)


def _way(target: str, proxy: Proxy) -> str:
    return f"{target} through the proxy {proxy.shown}"


def _read_head(opened: socket.socket) -> bytes:
    """Up to the empty line that ends the answer, and not a byte more."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n") and len(head) < _MOST_HEAD_BYTES and (byte := opened.recv(1)):
        head += byte
    return bytes(head)
