"""What a broker does not allow, learned from its answers, and from connections that it ends instead of answering."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

RETRY_MIN_S = 15 * 60.0  # what was left out is tried again after so long …
RETRY_MAX_S = 6 * 3600.0  # … doubling up to this: with some brokers each try costs the connection
LONE_DROPS = 3  # connections in a row that ended while it alone was unanswered

ENDS_IT = "the broker ends the connection instead of answering"


@dataclass(frozen=True, slots=True)
class Request:
    """Something that is asked of the broker beside the predictions.

    Attributes:
        name: for a person, and its identity.
        remedy: what to change where the broker does not allow it.
        without: what this device does without it.
    """

    name: str
    remedy: str
    without: str


@dataclass(slots=True)
class _LeftOut:
    why: str
    is_costly: bool  # each try costs a connection
    until: float
    pause_s: float


class Allowance:
    """Thread-safe.

    AWS IoT Core, for one, closes the connection on a subscription, publish or retained publish that the policy does
    not allow. So what was unanswered when a connection ended is a suspect. The next time it is tried alone, and
    where that connection ends too, several times in a row, it is left out for a while.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, retry_min_s: float = RETRY_MIN_S) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._retry_min_s = retry_min_s
        self._drops: dict[str, int] = {}  # suspect → connections that ended while it alone was unanswered
        self._good: set[str] = set()
        self._left_out: dict[str, _LeftOut] = {}
        self._wary = False  # the broker has ended a connection so: what it never answered is tried alone

    @property
    def left_out(self) -> tuple[str, ...]:
        """What is not allowed, and why, for a person."""
        with self._lock:
            return tuple(f"{name}: {one.why}" for name, one in self._left_out.items())

    def new_connection(self) -> None:
        """What was refused with an answer is tried at each connection: an answer costs nothing."""
        with self._lock:
            for one in self._left_out.values():
                if not one.is_costly:
                    one.until = 0.0

    def is_left_out(self, name: str) -> bool:
        """Whether the broker did not allow it when it was last tried."""
        with self._lock:
            return name in self._left_out

    def may_ask(self, name: str) -> bool:
        """Not left out, or its time has come again."""
        with self._lock:
            one = self._left_out.get(name)
            return one is None or self._clock() >= one.until

    def must_be_alone(self, name: str) -> bool:
        """Whether nothing else may be unanswered beside it, so that a lost connection says what it was."""
        with self._lock:
            one = self._left_out.get(name)
            if one is not None:
                return one.is_costly
            return name in self._drops or (self._wary and name not in self._good)

    def granted(self, request: Request) -> None:
        """The broker has answered: yes."""
        with self._lock:
            self._drops.pop(request.name, None)
            self._good.add(request.name)
            was_left_out = self._left_out.pop(request.name, None)
        if was_left_out:
            log.info("The broker allows it now: %s.", request.name)

    def denied(self, request: Request, why: str, *, is_costly: bool = False) -> None:
        """The broker has answered: no; ``is_costly``: and the connection is gone."""
        self._leave_out(request, why, is_costly)

    def dropped(self, request: Request, alone: bool) -> None:
        """The connection ended shortly after the request, before an answer; ``alone``: to nothing else either."""
        with self._lock:
            self._wary = True
            self._good.discard(request.name)
            drops = self._drops[request.name] = self._drops.get(request.name, 0) + alone
            is_guilty = drops >= LONE_DROPS or (alone and request.name in self._left_out)
        if is_guilty:
            self._leave_out(request, ENDS_IT, is_costly=True)

    def unreachable(self) -> None:
        """No connection could be made: then lost ones are the network's or the broker's doing, not a request's."""
        with self._lock:
            self._drops = dict.fromkeys(self._drops, 0)

    def _leave_out(self, request: Request, why: str, is_costly: bool) -> None:
        with self._lock:
            self._drops.pop(request.name, None)
            known = self._left_out.get(request.name)
            pause_s = min(RETRY_MAX_S, known.pause_s * 2) if known else self._retry_min_s
            self._left_out[request.name] = _LeftOut(why, is_costly, self._clock() + pause_s, pause_s)
        if known is None or known.why != why:
            log.error(
                "The broker does not allow the %s: %s. Predictions go on without it; %s. To fix: %s. It is tried "
                "again now and then, and at the next start.",
                *(request.name, why, request.without, request.remedy),
            )
