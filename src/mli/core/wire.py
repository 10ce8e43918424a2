"""The wire between core and worker: one JSON message a frame, with its length before it.

core → worker: ``start`` (what to load), ``go`` (where to begin), ``ack`` (records up to a number are committed),
``stop``.
worker → core: ``warm``, ``ready``, ``trying``, ``record``, ``heartbeat``, ``finished``, ``failed``.

A worker loads its model at once and opens its source only at ``go``, so that it can be warm before the one that it
replaces has left.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any

from mli import frozen_json
from mli.config.settings import PipelineSettings
from mli.types import Caution, ModelSpec, Record, ResumeState

WINDOW = 32
"""Records that a worker may send ahead of their acknowledgement."""

_LENGTH = struct.Struct(">I")
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_MAX_BYTES = 16 * 1024 * 1024
_PART_BYTES = 64 * 1024
"""Read at a time; what malloc gives without a call of the system each time."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker loads; the first message it gets. With ``Go`` it is the worker's whole world."""

    settings: PipelineSettings
    model: ModelSpec


@dataclass(frozen=True, slots=True)
class Go:
    """Open the source and work.

    Attributes:
        caution: what earlier workers of this pipeline died of.
    """

    resume: ResumeState
    caution: Caution = Caution()


@dataclass(frozen=True, slots=True)
class Ack:
    """Every record up to ``number`` is on disk."""

    number: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Read no more frames; finish those under way, then end."""


@dataclass(frozen=True, slots=True)
class Trying:
    """A careful worker begins with this frame, and works on no other."""

    position: str


@dataclass(frozen=True, slots=True)
class Warm:
    """The model is loaded and has run once.

    Attributes:
        backend: name and version.
        input_text: the model's input for people, ``128 x 128 RGB uint8 NHWC``.
    """

    backend: str
    input_text: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The source is open; frames follow."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sent by the worker's own work loop.

    Attributes:
        oldest_frame_s: for how long the oldest frame has been worked on, 0 for none.
    """

    oldest_frame_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The source came to its end (or the worker was told to stop), and everything is committed."""

    source_ended: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """Why the worker cannot go on.

    Attributes:
        error: the fields of an MliError.
        permanent: trying again with the same model and settings cannot help.
    """

    error: dict[str, str | None]
    permanent: bool


WireMessage = Start | Go | Ack | Stop | Warm | Ready | Trying | Record | Heartbeat | Finished | Failed

_KINDS: dict[str, type[Any]] = {
    kind.__name__.lower(): kind
    for kind in (Start, Go, Ack, Stop, Warm, Ready, Trying, Record, Heartbeat, Finished, Failed)
}


class Wire:
    """One end of the socket. Sending is thread-safe; one thread receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        self._buffer = bytearray()

    def fileno(self) -> int:
        """The socket, for select."""
        return self._socket.fileno()

    def send(self, message: WireMessage) -> None:
        """Send one message.

        Raises:
            OSError: the other end is gone.
        """
        body = {"kind": type(message).__name__.lower(), "value": frozen_json.to_json(message)}
        data = _ENCODE(body).encode()
        with self._sending:
            self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self, timeout_s: float | None = None) -> WireMessage | None:
        """The next message, None when the other end is gone.

        Raises:
            TimeoutError: nothing came within ``timeout_s``.
            ValueError, TypeError: what came is no message of this version.
        """
        self._socket.settimeout(timeout_s)
        while True:
            message = self._take()
            if message is not None:
                return message
            try:
                part = self._socket.recv(_PART_BYTES)
            except ConnectionError:
                return None
            if not part:
                return None
            self._buffer += part

    def _take(self) -> WireMessage | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > _MAX_BYTES:
            raise ValueError(f"a message of {length} bytes on the wire; at most {_MAX_BYTES}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        try:
            body = json.loads(bytes(self._buffer[_LENGTH.size : end]))
        except RecursionError as error:
            raise ValueError("a message on the wire is nested too deeply") from error
        del self._buffer[:end]
        message: WireMessage = frozen_json.from_json(_KINDS[body["kind"]], body["value"])
        return message

    def close(self) -> None:
        """Close the socket; the other end sees it at once."""
        with contextlib.suppress(OSError):  # the other end may have been faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
