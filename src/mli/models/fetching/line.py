"""A TCP connection, plain or TLS, that never waits for longer than a moment without asking whether it is wanted."""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mli.models.fetching.watch import POLL_S, Watch

_T = TypeVar("_T")
_PROXY_HEAD_BYTES = 16 * 1024


class Line(io.RawIOBase):
    """One connection; its socket never blocks, and waiting is done here in short turns.

    Args:
        opened: the connected socket; closed with the line.
        connect_timeout_s: for the TLS handshake.
        stall_timeout_s: nothing came, or nothing could be sent, for so long.
    """

    def __init__(
        self, opened: socket.socket, watch: Watch, *, connect_timeout_s: float, stall_timeout_s: float
    ) -> None:
        super().__init__()
        self._socket = opened
        self._watch = watch
        self._connect_timeout_s = connect_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._wakes_for = 1

    def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Speak TLS from here on; the server's certificate is checked against ``server_name``."""
        wrapped = context.wrap_socket(self._socket, server_hostname=server_name, do_handshake_on_connect=False)
        self._socket = wrapped
        _patiently(wrapped, wrapped.do_handshake, self._watch, self._connect_timeout_s, "no TLS handshake")

    def send(self, data: bytes) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._send(rest) :]

    def _send(self, data: memoryview) -> int:
        return self._wait(lambda: self._socket.send(data), "nothing could be sent", writing=True)

    def wake_for(self, size_bytes: int) -> None:
        """Wait for so many bytes at a time rather than for each packet; what is there after a moment comes anyway."""
        if size_bytes != self._wakes_for:
            self._wakes_for = size_bytes
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the base allows any buffer
        """What is there, at least a byte; 0 when the other end closed."""
        self._watch.check()
        return self._wait(lambda: self._socket.recv_into(buffer), "no bytes came")

    def read_head(self) -> bytes:
        """Up to the empty line that ends a proxy's answer, and not a byte more."""
        head = bytearray()
        while not head.endswith(b"\r\n\r\n") and len(head) < _PROXY_HEAD_BYTES:
            byte = self._wait(lambda: self._socket.recv(1), "no bytes came")
            if not byte:
                break
            head += byte
        return bytes(head)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """For ``http.client.HTTPResponse``, which takes a socket."""
        return io.BufferedReader(self)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._socket.close()

    def _wait(self, step: Callable[[], _T], what: str, *, writing: bool = False) -> _T:
        return _patiently(self._socket, step, self._watch, self._stall_timeout_s, what, writing=writing)


def connect(host: str, port: int, watch: Watch, *, connect_timeout_s: float, stall_timeout_s: float) -> Line:
    """A line to the first address of ``host`` that answers.

    Args:
        connect_timeout_s: for the name's lookup, and for each address.

    Raises:
        OSError: no connection; ``TimeoutError`` for one that took too long, ``gaierror`` for an unknown name.
        FetchCancelled: see ``Watch``.
    """
    failure: OSError | None = None
    for family, address in _look_up(host, port, watch, connect_timeout_s):
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _finish_connecting(opened, opened.connect_ex(address), watch, connect_timeout_s)
        except OSError as error:
            opened.close()
            failure = failure or error
        except BaseException:
            opened.close()
            raise
        else:
            return Line(opened, watch, connect_timeout_s=connect_timeout_s, stall_timeout_s=stall_timeout_s)
    raise failure or socket.gaierror(socket.EAI_NONAME, "the name has no address")


def _finish_connecting(opened: socket.socket, result: int, watch: Watch, timeout_s: float) -> None:
    poll = select.poll()
    poll.register(opened, select.POLLOUT)

    def connected() -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    if result == errno.EINPROGRESS:
        result = _patiently(opened, connected, watch, timeout_s, "no connection", writing=True)
    if result != 0:
        raise OSError(result, os.strerror(result))


def _patiently(
    opened: socket.socket,
    step: Callable[[], _T],
    watch: Watch,
    timeout_s: float,
    what: str,
    *,
    writing: bool = False,
) -> _T:
    """Try ``step`` until it needs not wait; ``what`` is said of the time that is over."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            return step()
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError) as wait:
            watch.check()
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{what} for {timeout_s:g} s") from None
            write = isinstance(wait, ssl.SSLWantWriteError) or (writing and isinstance(wait, BlockingIOError))
        poll = select.poll()
        poll.register(opened, select.POLLOUT if write else select.POLLIN)
        poll.poll(1000 * min(POLL_S, left))


def _look_up(
    host: str, port: int, watch: Watch, timeout_s: float
) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    """The addresses of a name. The system's lookup cannot be interrupted, so a thread is left alone with it."""
    found: list[tuple[socket.AddressFamily, tuple[object, ...]]] = []
    failed: list[OSError] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append((family, address))
        except OSError as error:
            failed.append(error)
        except UnicodeError:
            failed.append(socket.gaierror(socket.EAI_NONAME, "not a name that DNS can have"))
        done.set()

    end = time.monotonic() + timeout_s
    threading.Thread(target=look_up, name="name-lookup", daemon=True).start()
    while not done.wait(POLL_S):
        watch.check()
        if time.monotonic() > end:
            raise socket.gaierror(socket.EAI_AGAIN, f"no answer from DNS for {timeout_s:g} s")
    if failed:
        raise failed[0]
    return found
