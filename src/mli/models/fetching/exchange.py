"""One HTTP request and its answer, on a connection of its own."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from mli.config.proxies import Proxy
from mli.errors import MliError, RetryError, StopError
from mli.models.fetching.line import Line, connect
from mli.models.fetching.troubles import TransferError, broken_line
from mli.models.fetching.url import Url
from mli.models.fetching.watch import Watch

_TEXT_BYTES = 64 * 1024
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """A request to send.

    Attributes:
        shown: the address for messages, without secrets.
        headers: as they are sent; ``Host`` and ``Connection`` are added.
        tls: for https; None for http.
    """

    url: Url
    shown: str
    headers: Mapping[str, str] = field(repr=False)
    tls: ssl.SSLContext | None
    proxy: Proxy | None
    connect_timeout_s: float
    stall_timeout_s: float


class Answer:
    """An HTTP answer whose body is still to be read; closes its connection.

    Attributes:
        status: HTTP's number.
        length: bytes of the body as promised; None where nothing was.
        has_end: a body that is cut can be told from a whole one.
    """

    def __init__(self, call: Call, line: Line, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.length: int | None = None if response.chunked else response.length
        self.has_end = response.chunked or response.length is not None
        self.shown = call.shown
        self._call = call
        self._line = line
        self._response = response
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()

    def header(self, name: str) -> str | None:
        """A header's value, None where it is missing; any case."""
        return self._response.headers.get(name)

    def read(self) -> bytes:
        """Some bytes of the body, at most ``PIECE_BYTES``; none at its end.

        Raises:
            TransferError: the line broke, stalled, or ended before the promised length.
        """
        left = PIECE_BYTES if self.length is None else min(PIECE_BYTES, self.length - self._read)
        if left == 0:
            return b""
        try:
            if self.length is None:
                return self._response.read1(left)
            self._line.wake_for(min(left, PIECE_BYTES // 2))
            data: bytes = self._response.fp.read1(left)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise broken_line(error, self.shown, self._call.proxy) from error
        self._read += len(data)
        if not data:
            raise TransferError(
                "The model archive's transfer ended too early.",
                where=self.shown,
                expected=f"{self.length} bytes",
                got=f"{self._read} bytes",
                remedy="nothing, when it happens now and then: the rest is fetched; else check the network",
            )
        return data

    def text(self) -> str:
        """The beginning of the body of an error."""
        text = b""
        try:
            while len(text) < _TEXT_BYTES and (more := self.read()):
                text += more
        except TransferError:
            pass  # a part of an explanation is better than none
        return text[:_TEXT_BYTES].decode("utf-8", "replace")


def exchange(call: Call, watch: Watch) -> Answer:
    """Send the request, wait for the answer's headers.

    Raises:
        TransferError: no connection, or it broke; may work at once or later.
        StopError: the other end is not whom the device's settings trust, or the proxy refuses.
        FetchCancelled: see ``Watch``.
    """
    line: Line | None = None
    try:
        peer = call.proxy or call.url
        line = connect(
            peer.host,
            peer.port,
            watch,
            connect_timeout_s=call.connect_timeout_s,
            stall_timeout_s=call.stall_timeout_s,
        )
        if call.tls is not None:
            if call.proxy is not None:
                _tunnel(line, call, call.proxy)
            line.start_tls(call.tls, call.url.host)
        line.send(_head(call))
        response = http.client.HTTPResponse(line, method="GET")  # type: ignore[arg-type]  # all it wants is makefile
        response.begin()
    except BaseException as error:
        if line is not None:
            line.close()
        if isinstance(error, (OSError, http.client.HTTPException, ValueError)):
            raise broken_line(error, call.shown, call.proxy) from error
        raise
    if response.status == 407 and call.proxy is not None:
        response.close()
        raise _proxy_refuses(call.proxy, "407", call.shown)
    return Answer(call, line, response)


def _head(call: Call) -> bytes:
    target = call.url.target
    headers = {"host": call.url.authority, **call.headers, "connection": "close"}
    if call.proxy is not None and call.tls is None:
        target = call.url.whole
        if call.proxy.authorization is not None:
            headers["proxy-authorization"] = call.proxy.authorization
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a line break in a header")
    return "\r\n".join(lines).encode("latin-1")


def _tunnel(line: Line, call: Call, proxy: Proxy) -> None:
    host = f"[{call.url.host}]" if ":" in call.url.host else call.url.host
    lines = [f"CONNECT {host}:{call.url.port} HTTP/1.1", f"Host: {host}:{call.url.port}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    line.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
    head = line.read_head().decode("latin-1")
    version, _, rest = head.partition("\r\n")[0].partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdigit():
        raise http.client.BadStatusLine("the proxy's answer is no HTTP")
    if status[0] != "2":
        raise _proxy_refuses(proxy, status, call.shown)


def _proxy_refuses(proxy: Proxy, status: str, shown: str) -> MliError:
    kind = StopError if status in ("401", "403", "405", "407") else RetryError
    remedies = {
        "407": "give the proxy's user and password in store.proxy (http://user:password@host:port) or in the "
        "environment's https_proxy",
        "403": "allow the device's access to this host at the proxy, or name another proxy in store.proxy",
    }
    return kind(
        "The proxy does not let the model archive through.",
        where=f"{shown} through the proxy {proxy.shown}",
        expected="a connection",
        got=f"HTTP status {status}",
        remedy=remedies.get(status, "check the proxy; it may work later"),
    )
