"""Follows the component's configuration: hands its deployment on, and says whether a proposed one is any good."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mli.config.component import ComponentEnvironment, ComponentSettings
from mli.core.component.configuration import keep, settings_of
from mli.core.intake import Intake
from mli.core.root import Root
from mli.delivery.sinks.greengrass_ipc import IdentityRefused, NucleusConnection
from mli.errors import MliError, RetryError, UsageError

log = logging.getLogger(__name__)

SETTLED_S = 0.3
"""A change comes key by key; it is whole when nothing more came for so long …"""
UNSETTLED_S = 3.0
"""… or after so long."""
PAUSE_MIN_S, PAUSE_MAX_S = 0.5, 30.0
PROPOSALS = 4
POLL_S = 0.5
JOIN_S = 2.0
UNKNOWN_S = 60.0
"""A nucleus that was started anew may know this process no more; one that it starts itself it will know."""
LONGEST_REASON = 900


@dataclass(frozen=True, slots=True)
class _Proposal:
    connection: NucleusConnection
    configuration: Mapping[str, Any]
    deployment_id: str
    at: float


class Follower:
    """Two threads: one for what the configuration is, one for what it might become.

    Args:
        settings: that the core runs with.
        problem: why they are not those of the present configuration.
        unknown_s: a nucleus that has known this process, and knows it no more for so long, has to start it anew.
    """

    def __init__(
        self,
        environment: ComponentEnvironment,
        root: Root,
        settings: ComponentSettings,
        problem: MliError | None,
        unknown_s: float = UNKNOWN_S,
    ) -> None:
        self.problem = problem
        self.failure: MliError | None = None
        self._unknown_s = unknown_s
        self._known = False
        self._unknown_since: float | None = None
        self._environment = environment
        self._root = root
        self._settings = settings
        self._refused = str(problem)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lost: str | None = None
        self._proposals: queue.Queue[_Proposal | None] = queue.Queue(PROPOSALS)
        self._intake: Intake | None = None
        self._request_stop: Callable[[], None] = lambda: None
        self.wants_another = False
        self._threads = [
            threading.Thread(target=self._run, name="configuration", daemon=True),
            threading.Thread(target=self._judge_all, name="proposals", daemon=True),
        ]

    def start(self, intake: Intake, request_stop: Callable[[], None]) -> None:
        """Begin to follow.

        Args:
            request_stop: called where the core must be started anew to be as the configuration says.
        """
        self._intake, self._request_stop = intake, request_stop
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stopping.set()
        self._wake.set()
        self._put(None)
        for thread in self._threads:
            thread.join(JOIN_S)  # one that waits for an answer of the nucleus is a daemon, and does nothing any more

    # --- what the configuration is -------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = PAUSE_MIN_S
        while not self._stopping.is_set():
            try:
                self._follow()
                pause_s = PAUSE_MIN_S
            except RetryError as error:
                if pause_s == PAUSE_MIN_S:
                    log.warning("The configuration cannot be followed now: %s", error)
                self._count(error)
            except Exception:  # the thread's edge: the next change must still be heard
                log.exception("the configuration cannot be followed now")
            self._stopping.wait(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(PAUSE_MAX_S, 2 * pause_s)

    def _follow(self) -> None:
        """Until the connection ends, or this does."""
        self._lost = None
        connection = NucleusConnection(self._environment.nucleus, self._connection_lost)
        self._known, self._unknown_since = True, None
        try:
            connection.hear_updates(self._wake.set)
            asks = connection.hear_proposals(
                lambda value, deployment: self._put(_Proposal(connection, value, deployment, time.monotonic()))
            )
            log.info(
                "The configuration is followed; the nucleus %s.",
                "asks before it changes" if asks else "changes it without asking",
            )
            self._take(connection.configuration(), connection)
            while self._goes_on():
                if self._wake.wait(POLL_S) and self._goes_on():
                    self._await_whole()
                    self._take(connection.configuration(), connection)
        finally:
            connection.close()

    def _count(self, error: RetryError) -> None:
        if not isinstance(error, IdentityRefused):
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = time.monotonic()
        elif self._known and time.monotonic() - self._unknown_since >= self._unknown_s:
            log.error("The nucleus knows this process no more; it ends, so that the nucleus starts it anew.")
            self.failure = error
            self._request_stop()

    def _goes_on(self) -> bool:
        return self._lost is None and not self._stopping.is_set()

    def _connection_lost(self, reason: str) -> None:
        self._lost = reason
        self._wake.set()

    def _await_whole(self) -> None:
        deadline = time.monotonic() + UNSETTLED_S
        while self._wake.is_set() and time.monotonic() < deadline and not self._stopping.is_set():
            self._wake.clear()
            self._stopping.wait(SETTLED_S)
        self._wake.clear()

    def _take(self, value: Mapping[str, Any], connection: NucleusConnection) -> None:
        assert self._intake is not None
        try:
            settings = settings_of(value, self._environment, self._root, connection)
        except UsageError as error:
            if str(error) != self._refused:
                self._refused, self.problem = str(error), error
                self._intake.refuse(error)
            return
        problem, self.problem, self._refused = self.problem, None, ""
        keep(value, self._environment, self._root)
        before, self._settings = self._settings, settings
        if not settings.runs_as(before):
            log.warning("The configuration has changed in more than the deployment: the core starts anew.")
            self.wants_another = True
            self._request_stop()
        elif problem is not None or settings.deployment != before.deployment:
            self._intake.message(settings.deployment, retained=False)

    # --- what it might become ------------------------------------------------------------------------------

    def _put(self, proposal: _Proposal | None) -> None:
        """The newest counts: the nucleus no longer waits for an older one."""
        while True:
            try:
                self._proposals.put_nowait(proposal)
                return
            except queue.Full:
                try:
                    self._proposals.get_nowait()
                except queue.Empty:
                    continue

    def _judge_all(self) -> None:
        while (proposal := self._proposals.get()) is not None:
            try:
                why_not = self._why_not(proposal)
            except Exception as error:  # the thread's edge: the nucleus waits for an answer
                log.exception("the proposed configuration could not be judged")
                why_not = f"it could not be judged: {type(error).__name__}: {error}"
            log.info("The proposed configuration is %s.", "accepted" if why_not is None else f"rejected: {why_not}")
            trouble = proposal.connection.report(proposal.deployment_id, why_not)
            if why_not is not None and self._intake is not None:
                self._intake.resume(self._settings.deployment)
            if trouble is not None:
                log.warning("The nucleus did not take the answer: %s", trouble.text or trouble.kind)

    def _why_not(self, proposal: _Proposal) -> str | None:
        """Why a configuration must not come; None where it may.

        What is not decided in time is accepted: the model may be large and the line slow, and no answer would count
        as a rejection. It is proved after that as any other, and what runs stays until then.
        """
        assert self._intake is not None
        try:
            settings = settings_of(proposal.configuration, self._environment, self._root, proposal.connection)
        except UsageError as error:
            return _in_a_line(error)
        if not settings.runs_as(self._settings):
            return self._why_not_for_another(settings)
        decided: queue.Queue[MliError | None] = queue.Queue(1)
        self._intake.judge(settings.deployment, decided.put_nowait)
        deadline = proposal.at + settings.validate_within_s
        while not self._stopping.is_set():
            try:
                verdict = decided.get(timeout=min(POLL_S, max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                if time.monotonic() < deadline:
                    continue
                log.warning(
                    "The proposed deployment is not proved within %g s (validate_within); it is accepted as far as "
                    "it is known, and what becomes of it is told on the status topic.",
                    settings.validate_within_s,
                )
                return None
            return None if verdict is None else _in_a_line(verdict)
        return None

    def _why_not_for_another(self, settings: ComponentSettings) -> str | None:
        """The core will be started anew for it: then only its form can be looked at before."""
        if settings.held is not None:
            return _in_a_line(settings.held)
        assert self._intake is not None
        try:
            self._intake.check(settings.deployment, settings.device)
        except MliError as error:
            return _in_a_line(error)
        return None


def _in_a_line(error: MliError) -> str:
    """For the nucleus, which shows it where the deployment is shown."""
    text = "; ".join(" ".join(item.split()) for item in (error.what, error.got, error.expected, error.remedy) if item)
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
