"""What a broker holds of things before they are sent something: the wanted deployment, and how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mli.config.settings import TrustAnchor
from mli.core.envelope import Opened, open_message
from mli.core.sending.device_report import DeploymentReport, Presence, read_deployment_report, read_presence
from mli.core.sending.session import Session
from mli.core.topics import deployment_topic, report_topic, status_topic
from mli.delivery.received import Received
from mli.errors import MliError, RefusedError

BATCH = 100
"""Things that are asked for at a time: brokers drop what waits for a client beyond a limit (mosquitto: 1,000)."""
BELIEVED = 5 * 10**13
"""No counting, and no date, comes to such a revision."""
QUIET_S = 1.0
"""MQTT does not say when all retained messages came: after so long without one, there is none."""
_BATCH_QUIET_S = 0.1


@dataclass(frozen=True, slots=True)
class Current:
    """What holds for a thing.

    Attributes:
        wanted: the retained deployment, its signature not checked; None where there is none that can be read.
        message: its bytes; empty where there is none.
        is_proved: the deployment is signed by the key that signs the next one.
        report: how the newest deployment went.
        refused: why a topic of it may not be read.
    """

    wanted: Opened | None = None
    message: bytes = b""
    is_proved: bool = False
    report: DeploymentReport | None = None
    presence: Presence | None = None
    refused: MliError | None = None

    @property
    def highest(self) -> int | None:
        """The highest revision that is known of; the next one must be above.

        What nobody has signed, a report among it, is believed only up to where counting or a date may have come.
        """
        told = [] if self.report is None else [self.report.revision, self.report.serving]
        wanted = None if self.wanted is None else self.wanted.revision
        known = [revision for revision in (*told, wanted) if revision is not None and revision <= BELIEVED]
        if self.is_proved and wanted is not None:
            known.append(wanted)
        return max(known, default=None)

    def looked_at(self, thing: str, anchor: TrustAnchor) -> Current:
        """The same, knowing whether the holder of this key signed it; else anybody could have put it there."""
        try:
            open_message(self.message, thing=thing, trust=(anchor,), now=0.0)
        except RefusedError:
            return self
        return replace(self, is_proved=self.wanted is not None)

    @property
    def signed_by(self) -> str | None:
        """The key that what is wanted now says it is signed with; None for what is not signed."""
        if self.wanted is None or self.wanted.expires_at is None:
            return None
        key = json.loads(self.message).get("key")  # an envelope, or it had no expiry
        return key if isinstance(key, str) else None


class Reader:
    """Collects what arrives on the topics of things."""

    def __init__(self, things: Sequence[str]) -> None:
        self.found = dict.fromkeys(things, Current())
        self._topics: dict[str, tuple[str, str]] = {}
        for thing in things:
            self._topics[deployment_topic(thing)] = (thing, "wanted")
            self._topics[report_topic(thing)] = (thing, "report")
            self._topics[status_topic(thing)] = (thing, "presence")
        self._unheard = set(self._topics)

    def read(self, session: Session, *, clock: Callable[[], float] = time.monotonic) -> dict[str, Current]:
        """Subscribe to all topics, and take what is retained on them; the subscriptions stay.

        Raises:
            RetryError: the line is lost.
        """
        longest_s = 0.0
        for batch in _batches(list(self._topics), 3 * BATCH):
            started = clock()
            for topic, error in session.subscribe(batch).items():
                thing, kind = self._topics[topic]
                self._unheard.discard(topic)
                if kind != "presence":  # nothing that is needed
                    self.found[thing] = replace(self.found[thing], refused=error)
            longest_s = max(longest_s, clock() - started)
            self._drain(session, _BATCH_QUIET_S)
        self._drain(session, max(QUIET_S, 3 * longest_s))
        return self.found

    def _drain(self, session: Session, quiet_s: float) -> None:
        while self._unheard:
            event = session.take(quiet_s)
            if event is None:
                return
            if isinstance(event, Received):
                self.feed(event)

    def feed(self, received: Received) -> tuple[str, str] | None:
        """Take a message; which thing it is of, and which of its topics. None for what is neither's."""
        place = self._topics.get(received.topic)
        if place is None:
            return None
        self._unheard.discard(received.topic)
        thing, kind = place
        if kind == "wanted":
            wanted = _opened(received.payload, thing)
            self.found[thing] = replace(self.found[thing], wanted=wanted, message=received.payload)
        elif kind == "report":
            self.found[thing] = replace(self.found[thing], report=read_deployment_report(received.payload))
        else:
            self.found[thing] = replace(self.found[thing], presence=read_presence(received.payload))
        return place


def _opened(message: bytes, thing: str) -> Opened | None:
    try:
        return open_message(message, thing=thing, trust=(), now=0.0)
    except RefusedError:
        return None


def _batches(topics: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(topics), size):
        yield topics[start : start + size]
