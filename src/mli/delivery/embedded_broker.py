"""A small MQTT broker in a process of its own, for the demo and for trying things out. Not for production.

It is amqtt (extra ``demo``) behind a listener of ours. amqtt speaks MQTT 3.1.1 only and, asked for another
version, answers wrongly or not at all: an MQTT 5 CONNECT with properties leaves the client waiting for ever. So the
listener reads the first packet's version itself, and refuses what amqtt cannot speak in that version's own words.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from mli.errors import MliError, StopError

if TYPE_CHECKING:
    from types import TracebackType

INSTALL_COMMAND = "pip install amqtt"
_MQTT_3_1_1 = 4
_MQTT_5 = 5
_LISTENER = "default"
_CONNECT_TIMEOUT_S = 10.0
_MAX_LINE_BYTES = 64 * 1024
# CONNACK, 2 or 3 bytes: no session, "unsupported protocol version" as MQTT 3.1.1 (1) and MQTT 5 (132) say it.
_REFUSED = {_MQTT_5: bytes((0x20, 3, 0, 132, 0))}
_REFUSED_OLD = bytes((0x20, 2, 0, 1))


class EmbeddedBroker:
    """The broker as a child process; ``host`` and ``port`` are known once it is entered.

    The child ends when this context ends, and also when this process dies in any way: its standard input is a
    pipe that then closes.

    Args:
        host: address to listen on; the default can be reached from this machine only.
        port: 0 takes a free one.
        start_timeout_s: longest wait for the child to listen.

    Raises:
        StopError: on entering, where amqtt is not installed, the port is taken, or the child does not start.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, start_timeout_s: float = 20.0) -> None:
        self.host = host
        self.port = port
        self._start_timeout_s = start_timeout_s
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, None when it does not run."""
        return None if self._child is None else self._child.pid

    def __enter__(self) -> Self:
        command = [sys.executable, "-P", "-m", "mli.delivery.embedded_broker"]
        command += ["--host", self.host, "--port", str(self.port)]
        # A session of its own: Ctrl-C must reach the core first, which still wants to deliver through this broker.
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        try:
            ready = self._first_line(self._child)
            if "error" in ready:
                raise StopError(**ready["error"])
        except BaseException:
            self.close()
            raise
        self.host, self.port = ready["host"], ready["port"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout_s: float = 5.0) -> None:
        """End the child; kill it where it does not end by itself in time."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        child.stdout.close()
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _first_line(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        """The JSON line that says where the child listens, or why it does not."""
        assert child.stdout is not None
        deadline = time.monotonic() + self._start_timeout_s
        text = b""
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while not text.endswith(b"\n") and len(text) < _MAX_LINE_BYTES:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise StopError(
                        "The embedded broker did not start in time.",
                        expected=f"a listening broker within {self._start_timeout_s:g} s",
                        remedy="Try again when the machine is less busy.",
                    )
                part = os.read(child.stdout.fileno(), 4096)
                if not part:
                    raise StopError(
                        "The embedded broker ended before it was ready.",
                        got=f"exit code {child.wait()}; its own words are on standard error",
                        remedy="Try again; if it happens again, `mli run` works with any other broker.",
                    )
                text += part
        answer: dict[str, Any] = json.loads(text)
        return answer


def _bound_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise StopError(
            f"The embedded broker cannot listen on {host} port {port}.",
            got=str(error),
            remedy="Choose another port; port 0 takes a free one.",
        ) from error
    return listener


def _new_broker() -> Any:
    try:
        from amqtt.broker import Broker
    except ImportError as error:
        raise StopError(
            "The embedded broker needs the package amqtt, which is not installed.",
            got=str(error),
            remedy=INSTALL_COMMAND,
        ) from error
    anonymous = "amqtt.plugins.authentication.AnonymousAuthPlugin"
    return Broker(
        {
            "listeners": {_LISTENER: {"type": "external"}},
            "plugins": {anonymous: {"allow_anonymous": True}},
        }
    )


def _version(packet: bytes) -> int | None:
    """Protocol level of a CONNECT packet's first bytes, None where it is no CONNECT.

    The level follows the type (1 byte), the remaining length (1 to 4) and the protocol's name (2 + its length).
    """
    if not packet or packet[0] >> 4 != 1:
        return None
    at = 1
    while at < 5 and packet[at] & 0x80:
        at += 1
    name_bytes = int.from_bytes(packet[at + 1 : at + 3], "big")
    return packet[at + 3 + name_bytes]


async def _first_bytes(reader: asyncio.StreamReader) -> bytes:
    """Read a CONNECT packet as far as its protocol level, and no byte further."""
    packet = await reader.readexactly(2)
    while packet[-1] & 0x80 and len(packet) < 5:
        packet += await reader.readexactly(1)
    packet += await reader.readexactly(2)
    name_bytes = int.from_bytes(packet[-2:], "big")
    if packet[0] >> 4 != 1 or name_bytes > 6:
        return b""
    return packet + await reader.readexactly(name_bytes + 1)


class _Listener:
    """Hands each connection to amqtt, after a look at the version that the client asks for."""

    def __init__(self, broker: Any) -> None:
        from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter

        class Replay(StreamReaderAdapter):  # type: ignore[misc, unused-ignore]
            """Gives amqtt the bytes that were already read, then the rest."""

            def __init__(self, first: bytes, reader: asyncio.StreamReader) -> None:
                super().__init__(reader)
                self._first = first

            async def read(self, n: int = -1) -> bytes:
                part, self._first = (self._first, b"") if n < 0 else (self._first[:n], self._first[n:])
                if n < 0 or len(part) < n:
                    part += await super().read(n if n < 0 else n - len(part))
                return part

        self._broker = broker
        self._replay = Replay
        self._writer_adapter = StreamWriterAdapter

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        try:
            first = await asyncio.wait_for(_first_bytes(reader), _CONNECT_TIMEOUT_S)
            version = _version(first)
            if version == _MQTT_3_1_1:
                await self._broker.external_connected(
                    self._replay(first, reader), self._writer_adapter(writer), _LISTENER
                )
            elif version is not None:
                writer.write(_REFUSED.get(version, _REFUSED_OLD))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            logging.getLogger(__name__).debug("a client left: %s", error)
        finally:
            writer.close()


async def _serve(host: str, port: int) -> None:
    """Listen, say so on standard output, and go on until SIGTERM, SIGINT or the end of standard input."""
    listener = _bound_socket(host, port)
    broker = _new_broker()
    await broker.start()
    server = await asyncio.start_server(_Listener(broker), sock=listener)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    threading.Thread(target=_watch_standard_input, args=(loop, stop), daemon=True).start()
    bound_host, bound_port = listener.getsockname()[:2]
    _say({"host": bound_host, "port": bound_port})
    await stop.wait()
    server.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(broker.shutdown(), 2.0)


def _watch_standard_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # os.read, not sys.stdin: a thread inside a buffered read would crash the interpreter's shutdown.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop is closed: already ending
        loop.call_soon_threadsafe(stop.set)


def _say(answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent died; standard input ends as well
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """``python -m mli.delivery.embedded_broker``; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mli.delivery.embedded_broker",
        description="MQTT 3.1.1 broker for trying things out; ends when its standard input closes.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=1883, help="0 takes a free one (default: 1883)")
    options = parser.parse_args(arguments)
    # amqtt logs every packet, and each client that just goes away as an error.
    logging.basicConfig(level=logging.WARNING)
    for noisy in ("amqtt", "transitions", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    try:
        asyncio.run(_serve(options.host, options.port))
    except MliError as error:
        _say({"error": error.to_json()})
        return error.exit_code
    # Connections that amqtt still serves would hold the interpreter's end back; nothing here is worth saving.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
