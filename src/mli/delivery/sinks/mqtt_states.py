"""Retained states that wait for the broker: the newest of each topic, in the order in which they were set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

MAX_STATES = 64


@dataclass(frozen=True, slots=True)
class State:
    """One topic's retained message; an empty payload clears it."""

    topic: str
    payload: bytes
    version: int


@dataclass(slots=True)
class _Entry:
    state: State
    fate: Literal["due", "sent", "taken", "refused"] = "due"


class RetainedStates:
    """Thread-safe. A state that is replaced before it was sent is never sent."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}  # in the order of the last ``set``
        self._version = 0

    def set(self, topic: str, payload: bytes | None) -> None:
        """Replace a topic's state; None clears what the broker keeps, and forgets the topic once that is done.

        Raises:
            ValueError: a topic that cannot be published to, or one too many of them.
        """
        if not topic or any(sign in topic for sign in "+#\0"):
            raise ValueError(f"{topic!r} is not a topic that can be published to")
        with self._changed:
            if topic not in self._entries and len(self._entries) >= MAX_STATES:
                raise ValueError(f"{topic!r} would be retained state number {MAX_STATES + 1}")
            self._version += 1
            self._entries.pop(topic, None)
            self._entries[topic] = _Entry(State(topic, payload or b"", self._version))

    def restart(self) -> None:
        """A new connection: what the broker keeps of the last one is not known, so all of it is due again."""
        with self._changed:
            for entry in self._entries.values():
                entry.fate = "due"

    def next_due(self, allowed: Callable[[str], bool]) -> State | None:
        """The state that was set first of those that are due and ``allowed`` (asked with the topic)."""
        with self._changed:
            for entry in self._entries.values():
                if entry.fate == "due" and allowed(entry.state.topic):
                    return entry.state
        return None

    def send(self, state: State) -> bool:
        """Mark a state as on its way; False where it has been replaced meanwhile."""
        with self._changed:
            entry = self._entries.get(state.topic)
            if entry is None or entry.state.version != state.version:
                return False
            entry.fate = "sent"
            return True

    def settle(self, state: State, fate: Literal["taken", "due", "refused"]) -> None:
        """The broker has answered. ``due`` is tried again when it may be; a newer state of the topic stays due."""
        with self._changed:
            self._changed.notify_all()
            entry = self._entries.get(state.topic)
            if entry is None or entry.state.version != state.version:
                return
            if fate == "taken" and not state.payload:
                del self._entries[state.topic]
            else:
                entry.fate = fate

    def wake(self) -> None:
        """Something changed that may make waiting hopeless."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, timeout_s: float, hopeless: Callable[[str], bool]) -> bool:
        """Whether the broker has taken every topic's newest state within the time.

        Does not wait for a state that was refused, or for a topic that is ``hopeless``.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                waiting = [one for one in self._entries.values() if one.fate != "taken"]
                open_ones = [one for one in waiting if one.fate != "refused" and not hopeless(one.state.topic)]
                left_s = deadline - time.monotonic()
                if not open_ones or left_s <= 0:
                    return not waiting
                self._changed.wait(left_s)
