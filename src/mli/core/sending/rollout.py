"""Sends a message to each of many things, and follows what becomes of it to the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mli.core.sending.current import BATCH, QUIET_S, Current, Reader
from mli.core.sending.device_report import DeploymentReport
from mli.core.sending.session import Session
from mli.core.status import Problem
from mli.core.topics import deployment_topic, report_topic
from mli.delivery.received import Received
from mli.delivery.remote import Published
from mli.errors import RetryError

_TURN_S = 0.5
_FIRST_LOOK_S = 3.0
_LONGEST_LOOK_S = 60.0
"""A broker drops what its queue for a client has no room for. The newest status is retained, so it is asked for
again: soon after a burst, then seldom."""
_LAST_LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Aim:
    """What is sent, so that an answer to something else can be told from one to this.

    Attributes:
        identity: of the deployment; None for a cancellation.
    """

    kind: Literal["deployment", "cancel"]
    revision: int
    identity: str | None = None

    @property
    def good(self) -> str:
        """The end that is hoped for."""
        return "healthy" if self.kind == "deployment" else "cancelled"


@dataclass(frozen=True, slots=True)
class Change:
    """News of a thing.

    Attributes:
        state: ``sent``, ``not_sent`` (the broker did not take it), ``unanswered`` (in time), or the thing's own.
        report: the thing's own words; None for the first three.
        after_s: since the sending began.
        ended: nothing more comes of this thing.
    """

    thing: str
    state: str
    after_s: float
    ended: bool
    report: DeploymentReport | None = None
    error: Problem | None = None


class Rollout:
    """One sending to many things.

    Args:
        messages: what each thing is sent.
        wait: follow each to its end; else the broker's answer is the end.
    """

    def __init__(
        self,
        session: Session,
        reader: Reader,
        messages: Mapping[str, bytes],
        aim: Aim,
        *,
        wait: bool,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._reader = reader
        self._messages = messages
        self._aim = aim
        self._wait = wait
        self._timeout_s = timeout_s
        self._clock = clock
        self._open = set(messages)
        self._unsent = {deployment_topic(thing): thing for thing in messages}
        self._before = {thing: reader.found[thing].report for thing in messages}
        self._shown: dict[str, DeploymentReport] = {}
        self._others: dict[str, DeploymentReport] = {}

    def run(self) -> Iterator[Change | None]:
        """Send, and yield news until every thing has ended or the time is up; None where there was none for a while.

        Raises:
            RetryError: the line is lost and does not come back.
        """
        self._started = self._clock()
        for thing, message in self._messages.items():
            self._session.publish(deployment_topic(thing), message)
        yield from self._known_already()
        look_s, looked = _FIRST_LOOK_S, self._clock()
        while self._open and self._after() < self._timeout_s:
            yield from self._turn(min(_TURN_S, max(0.0, self._timeout_s - self._after())))
            if self._clock() - looked > look_s:
                self._look_again()
                look_s, looked = min(2 * look_s, _LONGEST_LOOK_S), self._clock()
        yield from self._last_look()
        yield from self._given_up()

    def _turn(self, wait_s: float) -> Iterator[Change | None]:
        event = self._session.take(wait_s)
        change = None
        if isinstance(event, Published):
            change = self._answered(event)
        elif isinstance(event, Received):
            change = self._heard(event)
        if change is not None or event is None:
            yield change

    def _after(self) -> float:
        return self._clock() - self._started

    def _answered(self, event: Published) -> Change | None:
        thing = self._unsent.pop(event.topic, None)
        if thing is None or thing not in self._open:
            return None
        if event.error is not None:
            return self._end(thing, "not_sent", error=Problem.of(event.error))
        if not self._wait:
            return self._end(thing, "sent")
        return Change(thing, "sent", self._after(), ended=False)

    def _known_already(self) -> Iterator[Change]:
        """What is sent once more may have ended well long ago. Where it has not, the thing tries again."""
        if not self._wait:
            return
        for thing in list(self._open):
            report = self._before[thing]
            if report is not None and report.state == self._aim.good and self._is_of_aim(thing, report):
                yield self._told(thing, report)

    def _heard(self, received: Received) -> Change | None:
        place = self._reader.feed(received)
        if not self._wait or place is None or place[1] != "report" or place[0] not in self._open:
            return None
        thing = place[0]
        report = self._reader.found[thing].report
        if report is None or self._shown.get(thing) == report:
            return None
        if self._is_of_aim(thing, report):
            return self._told(thing, report)
        if report.revision is not None and report.revision > self._aim.revision and report.state != "refused":
            return self._end(thing, "superseded", error=Problem(f"Revision {report.revision} came after it."))
        if report.revision == self._aim.revision:
            self._others[thing] = report
        return None

    def _is_of_aim(self, thing: str, report: DeploymentReport) -> bool:
        aim, new = self._aim, report != self._before[thing]
        if aim.kind == "cancel":
            # What is cancelled is told under its own revision; so is what had ended before it could be.
            return report.revision == aim.revision or (new and report.ended)
        if report.revision is None:  # what could not be read has no number: it is what was sent just now
            return new and report.state == "refused"
        return report.revision == aim.revision and report.identity in (None, aim.identity)

    def _told(self, thing: str, report: DeploymentReport) -> Change:
        self._shown[thing] = report
        if report.ended:
            self._open.discard(thing)
        return Change(thing, report.state, self._after(), report.ended, report, report.error)

    def _end(self, thing: str, state: str, *, error: Problem | None = None) -> Change:
        self._open.discard(thing)
        return Change(thing, state, self._after(), ended=True, error=error)

    def _look_again(self) -> None:
        if not self._wait:
            return
        things = sorted(self._open)
        for start in range(0, len(things), BATCH):
            self._session.subscribe([report_topic(thing) for thing in things[start : start + BATCH]])

    def _last_look(self) -> Iterator[Change]:
        """Before a thing is said not to have answered."""
        self._look_again()
        until = self._clock() + _LAST_LOOK_S
        while self._wait and self._open and self._clock() < until:
            for change in self._turn(QUIET_S):
                if change is None:
                    return
                yield change

    def _given_up(self) -> Iterator[Change]:
        for thing in [thing for thing in self._messages if thing in self._open]:
            yield self._end(thing, "unanswered", error=self._why_unanswered(thing))

    def _why_unanswered(self, thing: str) -> Problem:
        within = f"within {self._timeout_s:g} s"
        if deployment_topic(thing) in self._unsent:
            return Problem(
                f"The broker did not acknowledge the message {within}.",
                remedy="Check the connection to the broker, and send it again.",
            )
        current = self._reader.found[thing]
        if thing in self._shown:
            return Problem(
                f"The deployment did not end {within}.",
                got=f"it is at {self._shown[thing].state}",
                remedy="It goes on. Follow it with the same command, or look at mli core logs on the device.",
            )
        return self._silence(thing, current, within)

    def _silence(self, thing: str, current: Current, within: str) -> Problem:
        what = f"The thing said nothing of it {within}."
        if thing in self._others:
            return Problem(
                what,
                got=f"it tells of another deployment with revision {self._aim.revision}",
                remedy="Somebody else sent that one. Send yours again; it gets a higher revision.",
            )
        if current.refused is not None:
            return Problem(
                what,
                got=current.refused.got or current.refused.what,
                remedy=f"Let this user read {report_topic(thing)} at the broker.",
            )
        if current.presence is None:
            return Problem(
                what,
                got="nothing of a thing with this name is known at this broker",
                remedy="Check the name, and that its core was started (mli core status on the device).",
            )
        if not current.presence.online:
            return Problem(
                what,
                got="it is offline",
                remedy="The message waits for it at the broker. Check the device's power and network.",
            )
        return Problem(
            what,
            got="it is online",
            remedy=f"Let the thing read {deployment_topic(thing)} and write {report_topic(thing)} at the broker, "
            "then look at mli core logs on the device.",
        )


def lost_line(error: RetryError, things: int) -> RetryError:
    """The connection's error, saying what it means for a sending."""
    return RetryError(
        f"The broker was lost while {things} things were under way; what was sent goes on.",
        where=error.where,
        got=error.got or error.what,
        remedy="Run the same command again: what is there already is not done twice.",
    )
