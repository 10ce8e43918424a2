"""Prints each payload as a line: the sink of a device without a broker."""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from mli.delivery.sinks.sink import SinkListener, SinkStatus
from mli.delivery.spool_schema import SinkKind, SpooledMessage
from mli.errors import StopError
from mli.types import Message

WINDOW = 64
ROOM_POLL_S = 0.2


class StdoutSink:
    """One payload a line on a text stream; delivered after the write succeeded.

    Args:
        stream: standard output where none is given.
        render: how a message reads; its payload where none is given.
    """

    def __init__(self, stream: TextIO | None = None, render: Callable[[Message], str] | None = None) -> None:
        self._render = render or _payload
        self._stream = stream if stream is not None else sys.stdout
        self._listener: SinkListener | None = None
        self._error: str | None = None
        self._closing = False
        self._lock = threading.Lock()

    @property
    def kind(self) -> SinkKind:
        """``stdout``."""
        return "stdout"

    @property
    def window(self) -> int:
        """See ``Sink``."""
        return WINDOW if self._listener and not self._error else 0

    def open(self, listener: SinkListener) -> None:
        """See ``Sink``."""
        self._listener = listener
        listener.connected()

    def publish(self, message: SpooledMessage) -> None:
        """See ``Sink``. Blocks as long as the reader of the stream does."""
        with self._lock:
            listener = self._listener
            if listener is None or self._error:
                return
            line = self._render(message.message)
            if not await_room(self._stream, lambda: self._closing):
                return  # it stays in the spool
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError) as error:  # ValueError: the stream was closed
                self._error = f"{type(error).__name__}: {error}"
                listener.failed(_ended(error))
                return
            listener.delivered(message.rowid)

    def close(self) -> None:
        """See ``Sink``. A reader that has stopped reading does not hold it up."""
        self._closing = True
        with self._lock:
            self._listener = None

    def status(self) -> SinkStatus:
        """See ``Sink``."""
        return SinkStatus(
            self._listener is not None and not self._error, "stdout", self._error, endpoint="standard output"
        )


def await_room(stream: TextIO, cancelled: Callable[[], bool]) -> bool:
    """Wait until a stream takes more, however long its reader pauses; False where ``cancelled`` came first."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # no file behind it: it never blocks
        return True
    while not select.select([], [descriptor], [], ROOM_POLL_S)[1]:
        if cancelled():
            return False
    return True


def _payload(message: Message) -> str:
    return message.payload.decode("utf-8", "backslashreplace")


def _ended(error: Exception) -> StopError:
    ended = StopError(
        "Predictions cannot be printed any more: the reader of standard output went away.",
        got=str(error),
        remedy="what was not printed is kept in the spool; start again to go on",
    )
    ended.__cause__ = error
    return ended
