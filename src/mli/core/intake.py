"""What comes on ``mli/deployments/<thing>``: opened, parsed, checked for its revision, and handed on or refused."""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from mli.config.settings import DeviceSettings
from mli.core.deployment_store import NO_REVISION, DeploymentStore, Highest
from mli.core.envelope import Opened, open_message
from mli.core.status import FINAL, DeploymentState
from mli.core.wanted import Reporter, Wanted
from mli.errors import MliError, RefusedError, UsageError

log = logging.getLogger(__name__)

LONGEST_STEP = 5 * 10**13
"""A date with its time to the second (20261231235959) is one step; all revisions are twenty."""
WAITING = 16
"""Messages that may wait; the newest counts, so that older ones may go."""


class Applies(Protocol):
    """Who applies deployments."""

    def apply(self, wanted: Wanted) -> None:
        """Apply this one next, instead of one that is not activated yet."""

    def cancel(self, revision: int) -> bool:
        """Leave a deployment that is not activated yet, and came before this revision; whether there was one."""

    def is_under_way(self, identity: str) -> bool:
        """Whether it is being applied, or on trial."""


class Intake:
    """A thread that takes deployment messages, one after another; ``message`` never waits for it.

    Args:
        origin: ``remote``: of a broker, whose messages have revisions that only rise: an old one must not come in
            again. ``component``: of a Greengrass component's configuration, which is whatever it is now and may go
            back; what failed is tried again whenever it is handed over.
    """

    def __init__(
        self,
        device: DeviceSettings,
        store: DeploymentStore,
        reporter: Reporter,
        deployer: Applies,
        clock: Callable[[], float] = time.time,
        origin: Literal["remote", "component"] = "remote",
    ) -> None:
        self._origin = origin
        self._device = device
        self._store = store
        self._reporter = reporter
        self._deployer = deployer
        self._clock = clock
        self._messages: queue.Queue[tuple[bytes, bool] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to take messages."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more."""
        self._put(None)
        self._thread.join()

    def message(self, payload: bytes, *, retained: bool) -> None:
        """A message came. Any thread; does not block.

        Args:
            retained: the broker had it; otherwise it was published just now.
        """
        self._put((payload, retained))

    def judge(self, payload: bytes, judged: Callable[[MliError | None], None]) -> None:
        """Find out whether a deployment would be activated: its model is brought and tried out, and what runs stays.

        Args:
            judged: told once, from any thread, with why not; hears nothing where something newer comes first.
        """
        try:
            opened = self._open(payload)
            wanted = self._wanted(opened, judged) if opened.kind == "deployment" else None
            if wanted is None or self._store.pointer().current == wanted.identity:
                judged(None)
                return
            log.info("deployment %s is proposed", wanted.identity[:12])
        except MliError as error:
            self._refuse(error, None)
            judged(error)
            return
        self._deployer.apply(wanted)

    def resume(self, payload: bytes) -> None:
        """What was left for one that was only judged, and is still wanted, is taken up again."""
        if self._store.highest().state not in FINAL - {"superseded"}:
            self.message(payload, retained=False)

    def check(self, payload: bytes, device: DeviceSettings) -> None:
        """Whether a deployment has the right form for a device with other settings than this one's.

        Raises:
            RefusedError: it has not.
        """
        opened = open_message(payload, thing=device.thing, trust=device.trust, now=self._clock())
        if opened.kind == "deployment":
            self._wanted(opened, device=device)

    def refuse(self, error: MliError) -> None:
        """Tell that what was sent is refused, whoever found out; what runs stays."""
        self._refuse(error, None)

    def _put(self, item: tuple[bytes, bool] | None) -> None:
        while True:
            try:
                self._messages.put_nowait(item)
                return
            except queue.Full:
                try:
                    self._messages.get_nowait()
                    log.warning("a deployment message was dropped for a newer one: too many at once")
                except queue.Empty:
                    continue

    def _run(self) -> None:
        while (item := self._messages.get()) is not None:
            try:
                self.take(*item)
            except Exception as error:  # the thread's edge: the next message must still be taken
                log.exception("a deployment message could not be taken")
                told = MliError("the deployment could not be taken", got=f"{type(error).__name__}: {error}")
                self._reporter.tell("failed", revision=None, identity=None, error=told)

    # --- one message ---------------------------------------------------------------------------------------

    def take(self, payload: bytes, retained: bool) -> None:
        """Open, check and hand on one message."""
        opened: Opened | None = None
        try:
            if self._is_known(payload, retained):
                return
            opened = self._open(payload)
            if opened.kind == "nothing":
                log.info("no deployment is wanted; what runs stays")
            elif opened.kind == "cancel":
                self._cancel(opened, retained)
            else:
                self._deploy(self._wanted(opened), retained, _digest(payload))
        except MliError as error:
            self._refuse(error, opened.revision if opened else self._claimed(payload, error))

    def _claimed(self, payload: bytes, error: MliError) -> int | None:
        """The revision of what could not be opened for a reason of this device's, for who waits; else none: it is
        believed by nobody."""
        if isinstance(error, RefusedError):
            return None
        try:
            return open_message(payload, thing=self._device.thing, trust=(), now=0.0).revision
        except MliError:
            return None

    def _is_known(self, payload: bytes, retained: bool) -> bool:
        """Whether this very message has been dealt with. The broker sends the last one at each connect; whoever
        signed it need not be trusted any more by then: it may have said so itself."""
        highest = self._store.highest()
        if highest.identity is None or highest.message != _digest(payload) or not self._is_done(highest, retained):
            return False
        self._tell_known(highest)
        return True

    def _tell_known(self, highest: Highest) -> None:
        revision = highest.told_revision
        log.info("revision %s is known: %s", revision, highest.state)
        self._reporter.tell(highest.state, revision=revision, identity=highest.identity, error=highest.error)

    def _refuse(self, error: MliError, revision: int | None) -> None:
        log.error("a deployment was refused: %s", error)
        last = self._reporter.last
        state: DeploymentState = "refused" if isinstance(error, RefusedError) else "failed"
        told = self._reporter.tell(state, revision=revision, identity=None, error=error)
        if last is not None and last.state not in FINAL:
            self._reporter.tell_again(last, told)

    def _cancel(self, opened: Opened, retained: bool) -> None:
        highest = self._store.highest()
        revision = opened.revision or 0
        if revision <= highest.revision:
            if revision < highest.revision or highest.state != "cancelled":
                raise _too_low(revision, highest.revision)
            if not retained:  # sent again: whoever sent it waits for an answer
                self._reporter.tell("cancelled", revision=revision, identity=None)
            return
        _check_step(revision, highest.revision)
        self._store.raise_to(Highest(revision, None, "cancelled"))
        log.info("revision %d cancels what is under way", revision)
        if not self._deployer.cancel(revision):
            self._reporter.tell("cancelled", revision=revision, identity=None)

    def _open(self, payload: bytes) -> Opened:
        trust = self._store.trust(self._device.trust)
        highest = self._store.highest().revision
        return open_message(payload, thing=self._device.thing, trust=trust, now=self._clock(), highest=highest)

    def _wanted(
        self,
        opened: Opened,
        judged: Callable[[MliError | None], None] | None = None,
        device: DeviceSettings | None = None,
    ) -> Wanted:
        from mli.config.deployment import parse_deployment  # pydantic and YAML: only when one comes

        folder, name = Path(self._device.root), f"mli/deployments/{self._device.thing}"
        if self._origin == "component":
            name = "the component's configuration"
        settings = parse_deployment(
            opened.payload, device or self._device, origin=self._origin, folder=folder, name=name
        )
        revision = opened.revision if opened.revision is not None else settings.revision
        if revision is None and self._origin == "remote":
            raise UsageError("a deployment from the network needs a `revision`", where=name)
        if settings.trust is not None and opened.key_id is None:
            raise RefusedError(
                "a deployment that is not signed cannot change whom this device trusts",
                where=name,
                remedy="sign it with a key that is trusted now, or change `trust` in device.yaml",
            )
        text = opened.payload.decode()
        return Wanted(settings, text, self._origin, str(folder), name, revision, opened.key_id, judged=judged)

    def _deploy(self, wanted: Wanted, retained: bool, message: str) -> None:
        revision = NO_REVISION if wanted.revision is None else wanted.revision
        if not self._is_news(revision, wanted.identity, retained):
            return
        self._store.raise_to(Highest(revision, wanted.identity, "received", message=message))
        self._deployer.apply(wanted)

    def _is_news(self, revision: int, identity: str, retained: bool) -> bool:
        """Whether a message wants something that is not done yet."""
        highest = self._store.highest()
        if self._origin == "component":
            if (revision, identity) != (highest.revision, highest.identity):
                return True
        elif revision > highest.revision:
            _check_step(revision, highest.revision)
            return True
        elif revision < highest.revision or identity != highest.identity:
            raise _too_low(revision, highest.revision)
        if self._deployer.is_under_way(identity):
            return False
        if self._is_done(highest, retained):
            self._tell_known(highest)
            return False
        return True  # it was interrupted, or somebody asks for another try

    def _is_done(self, highest: Highest, retained: bool) -> bool:
        """Who publishes once more what failed asks for another try; the broker does not."""
        if self._origin == "component":
            return highest.state in ("healthy", "rolled_back")
        return highest.state in FINAL and (retained or highest.state != "failed")


def _digest(message: bytes) -> str:
    return hashlib.sha256(message).hexdigest()


def _check_step(revision: int, highest: int) -> None:
    """One message must not use up all revisions that there are."""
    if revision - max(highest, 0) > LONGEST_STEP:
        raise RefusedError(
            "the deployment's revision is too far above the last one",
            expected=f"at most {max(highest, 0) + LONGEST_STEP}",
            got=f"revision {revision}",
            remedy=f"send it with --revision {highest + 1}",
        )


def _too_low(revision: int, highest: int) -> RefusedError:
    return RefusedError(
        "the deployment is older than one that this device has seen, or an old one sent again",
        expected=f"a revision above {highest}",
        got=f"revision {revision}",
        remedy=f"send it with revision {highest + 1} or higher",
    )
