"""What sending needs of a connection to the broker; ``mli.delivery.remote`` has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mli.delivery.received import Received
from mli.delivery.remote import Published
from mli.errors import MliError


class Session(Protocol):
    """One connection, used by one thread."""

    def subscribe(self, topics: Sequence[str]) -> dict[str, MliError]:
        """Subscribe, also once more: the broker then hands out what it retains. Returns what it refused, and why.

        Raises:
            RetryError: the line is lost and does not come back.
        """

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand over a retained message; its answer comes by ``take``."""

    def take(self, timeout_s: float) -> Received | Published | None:
        """The next message or answer; None where none came in time.

        Raises:
            RetryError: the line is lost and does not come back.
        """
