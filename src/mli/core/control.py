"""The control socket of a running core: ``<root>/core.sock``, one JSON object a line, for this machine's owner only.

A request is ``{"do": NAME, …}``; the answer is one object or several, the last with ``"end": true``. An error is an
object with the key ``error``, the fields of an MliError.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mli.errors import MliError, RetryError, StopError, UsageError

log = logging.getLogger(__name__)

Request = Mapping[str, Any]
Handler = Callable[[Request, Callable[[], bool]], Iterator[dict[str, Any]]]
"""Answers a request; the second argument says whether the asker has gone."""

MAX_REQUEST_BYTES = 2 * 1024 * 1024
MOST_CLIENTS = 16
SILENT_S = 10.0
"""So long a client may take to say what it wants."""


class ControlServer:
    """Answers on the socket from its own threads.

    Args:
        path: of the socket; what is left of a dead core is replaced. The caller holds the root's lock.

    Raises:
        StopError: on ``start``: the socket cannot be made.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._room = threading.Semaphore(MOST_CLIENTS)
        self._stopping = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)

    def start(self) -> None:
        """Listen."""
        try:
            self._path.unlink(missing_ok=True)
            with _short(self._path) as name:
                self._socket.bind(name)
            self._path.chmod(0o600)
            self._socket.listen(MOST_CLIENTS)
        except OSError as error:
            self._socket.close()
            raise StopError(
                "the control socket cannot be made", where=str(self._path), got=error.strerror or str(error)
            ) from error
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; answers under way end by themselves."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if not self._room.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="control-client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(SILENT_S)
                self._answer(connection)
        except OSError as error:
            log.debug("a client of the control socket went away: %s", error)
        except Exception:  # the thread's edge: the core must live on
            log.exception("a request on the control socket failed")
        finally:
            self._room.release()

    def _answer(self, connection: socket.socket) -> None:
        try:
            request = _request(_line(connection))
            handler = self._handlers.get(request["do"])
            if handler is None:
                raise UsageError(
                    "the core does not know what is asked of it",
                    expected=", ".join(sorted(self._handlers)),
                    got=str(request["do"])[:100],
                    remedy="use the mli of the same version as the core's",
                )
            for answer in handler(request, lambda: _has_gone(connection)):
                _send(connection, answer)
        except (KeyError, TypeError, ValueError) as error:
            log.exception("a request on the control socket failed")
            got = f"{type(error).__name__}: {error}"
            _send_error(connection, UsageError("the core cannot read what is asked of it", got=got))
        except MliError as error:
            _send_error(connection, error)


class ControlClient:
    """Asks the core that runs in a root."""

    def __init__(self, root: Path) -> None:
        self._path = root / "core.sock"

    def request(self, request: Request, timeout_s: float = 10.0) -> dict[str, Any]:
        """The last object of an answer; see ``stream``."""
        return list(self.stream(request, timeout_s))[-1]

    def stream(self, request: Request, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Each object of an answer.

        Args:
            timeout_s: longest silence; None waits.

        Raises:
            StopError: no core runs in this root, or it is another user's.
            RetryError: it ended while it answered, or is too busy.
            MliError: what the core answered.
        """
        with self._connect() as connection:
            connection.settimeout(timeout_s)
            try:
                _send(connection, dict(request))
                with connection.makefile("rb") as lines:
                    for line in lines:
                        answer = json.loads(line)
                        if "error" in answer:
                            raise _error(answer)
                        yield answer
                        if answer.get("end"):
                            return
            except (OSError, ValueError) as error:
                raise self._ended(str(error)) from error
        raise self._ended("it closed the connection")

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(self._path) as name:
                connection.connect(name)
        except OSError as error:
            connection.close()
            missing = isinstance(error, (FileNotFoundError, ConnectionRefusedError, NotADirectoryError))
            raise StopError(
                "no core runs in this root folder" if missing else "the core's control socket cannot be used",
                where=str(self._path.parent),
                got=None if missing else error.strerror,
                remedy=f"start it: mli core start --root {self._path.parent}"
                if missing
                else "ask as the user that the core runs as, or as root",
            ) from error
        return connection

    def _ended(self, how: str) -> RetryError:
        return RetryError(
            "the core did not answer to the end",
            where=str(self._path.parent),
            got=how,
            remedy="look at its log: mli core logs",
        )


def _error(answer: dict[str, Any]) -> MliError:
    fields = dict(answer["error"])
    kind = UsageError if answer.get("exit_code") == UsageError.exit_code else MliError
    return kind(fields.pop("what"), **fields)


def _request(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError("what is asked of the core is no JSON", got=str(error)) from error
    if not isinstance(value, dict) or not isinstance(value.get("do"), str):
        raise UsageError("what is asked of the core is no request", expected='{"do": NAME, …}')
    return value


def _line(connection: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        part = connection.recv(65_536)
        if not part:
            break
        data += part
        if len(data) > MAX_REQUEST_BYTES:
            raise UsageError("what is asked of the core is too long", expected=f"at most {MAX_REQUEST_BYTES:,} bytes")
    return bytes(data)


def _send(connection: socket.socket, value: dict[str, Any]) -> None:
    connection.sendall(json.dumps(value).encode() + b"\n")


def _send_error(connection: socket.socket, error: MliError) -> None:
    _send(connection, {"error": error.to_json(), "exit_code": error.exit_code, "end": True})


def _has_gone(connection: socket.socket) -> bool:
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for the socket that fits into its address, however deep its folder is (Linux)."""
    if not sys.platform.startswith("linux"):
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
