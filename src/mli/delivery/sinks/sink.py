"""Where messages go: the protocol that every sink keeps, and what it tells its listener."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mli.delivery.spool_schema import SinkKind, SpooledMessage
from mli.errors import MliError


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """A sink's connection.

    Attributes:
        protocol: of the present or last connection, such as ``MQTT 5``; None before the first.
        last_error: why there is no connection, or why the last one ended; None while all is well.
        subscribed: whether the far side has accepted the subscription; None where nothing was to be subscribed to.
        endpoint: where messages go, for a person: ``mqtts://host:port``.
        left_out: what the far side does not allow, and why, a line each; messages go on without it.
        hands_on: what ``delivered`` tells is only that somebody on this device has taken the message, to send it on:
            its name, such as ``the nucleus``. None: the far side itself has it.
    """

    connected: bool
    protocol: str | None = None
    last_error: str | None = None
    subscribed: bool | None = None
    endpoint: str = ""
    left_out: tuple[str, ...] = ()
    hands_on: str | None = None


class SinkListener(Protocol):
    """Hears what becomes of messages. Called from the sink's threads; must not block or call the sink."""

    def connected(self) -> None:
        """Messages may be published from now on."""

    def disconnected(self, reason: str) -> None:
        """The fate of what is in flight is unknown and will not be told any more."""

    def delivered(self, rowid: int) -> None:
        """The far side has taken the message."""

    def refused(self, rowid: int, reason: str, permanent: bool) -> None:
        """The far side answered, and did not take the message; ``permanent`` means: it never will."""

    def failed(self, error: MliError) -> None:
        """The sink has ended for good and cannot be used again."""


class Sink(Protocol):
    """Publishes messages, several at a time, and tells the fate of each to its listener."""

    @property
    def kind(self) -> SinkKind:
        """Which of the spool's messages are meant for it."""

    @property
    def window(self) -> int:
        """How many messages may be in flight now; 0 while there is no connection."""

    def open(self, listener: SinkListener) -> None:
        """Begin to connect, in the background where that takes time.

        Raises:
            StopError: the settings cannot work: a missing file, a key that does not fit its certificate.
        """

    def publish(self, message: SpooledMessage) -> None:
        """Send one message; never blocks on the far side. Its fate comes to the listener."""

    def close(self) -> None:
        """End the connection; the listener hears nothing after this returns."""

    def status(self) -> SinkStatus:
        """The connection as it is."""


class StatefulSink(Sink, Protocol):
    """A sink that also keeps what the device says of itself: one message a topic, the newest, retained."""

    def set_state(self, topic: str, payload: bytes | None) -> None:
        """Have the far side keep it: now where connected, and again at each connect; None clears what is kept.

        Never blocks on the far side, and may be called from any thread, also before ``open``.

        Raises:
            ValueError: a topic that cannot be published to, or one of too many.
        """

    def wait_states(self, timeout_s: float) -> bool:
        """Whether the far side has taken the newest state of every topic within the time."""
