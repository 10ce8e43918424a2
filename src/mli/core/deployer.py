"""Applies deployments: brings the models, proves them, switches, watches, and goes back where that was wrong."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from mli.config.settings import DeviceSettings
from mli.core.bringing import Bringer
from mli.core.canary import proof_key, prove
from mli.core.deployed import Deployed
from mli.core.deployment_store import DeploymentRecord, DeploymentStore
from mli.core.loading import Loader
from mli.core.sandbox import JobCancelled
from mli.core.serving import Interrupted, Serving
from mli.core.status import DeploymentState, ModelState, Progress
from mli.core.wanted import Reporter, Wanted
from mli.core.watcher import Watcher
from mli.errors import MliError, RefusedError, RetryError, StopError
from mli.models.fetching.watch import FetchCancelled
from mli.types import ModelSpec

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
PROGRESS_EVERY_S = 1.0


class Deployer:
    """One thread that applies what is wanted last. What runs is changed by its activation alone.

    Args:
        watcher: takes over once a deployment is active; its lock is held while what runs is changed.
        clock: Unix time, seconds.
    """

    def __init__(
        self,
        device: DeviceSettings,
        store: DeploymentStore,
        bringer: Bringer,
        loader: Loader,
        serving: Serving,
        watcher: Watcher,
        reporter: Reporter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._device = device
        self._store = store
        self._bringer = bringer
        self._loader = loader
        self._serving = serving
        self._watcher = watcher
        self._reporter = reporter
        self._clock = clock
        self._changed = threading.Condition()
        self._next: Wanted | None = None
        self._now: Wanted | None = None
        self._cancelled_by: int | None = None
        self._stopping = False
        self._trouble: MliError | None = None  # why a model of this one has not come yet
        self._thread = threading.Thread(target=self._run, name="deployer", daemon=True)

    def start(self) -> None:
        """Begin to apply."""
        self._thread.start()

    def stop(self) -> None:
        """Leave what is under way; it goes on at the next start where the broker still wants it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    # --- what is wanted (see ``intake.Applies``) ------------------------------------------------------------

    def apply(self, wanted: Wanted) -> None:
        """Apply this one next, instead of one that is not activated yet. Any thread."""
        with self._changed:
            skipped, self._next = self._next, wanted
            self._reporter.follow(wanted.identity, wanted.listener)
            self._changed.notify_all()
        if skipped is not None:
            self._end(skipped, "superseded")

    def cancel(self, revision: int) -> bool:
        """Leave what is not activated yet; whether there was something. Any thread."""
        with self._changed:
            under_way = self._next is not None or self._now is not None
            skipped, self._next = self._next, None
            self._cancelled_by = revision
            self._changed.notify_all()
        if skipped is not None:
            self._end(skipped, "cancelled")
        return under_way

    def is_under_way(self, identity: str) -> bool:
        """Whether it is being applied, or on trial."""
        with self._changed:
            known = [item.identity for item in (self._next, self._now) if item is not None]
        return identity in known or self._watcher.is_on_trial(identity)

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._stopping)
                if self._stopping:
                    return
                self._now, self._next, self._cancelled_by = self._next, None, None
            assert self._now is not None
            try:
                self._apply(self._now)
            finally:
                with self._changed:
                    self._now = None

    def _apply(self, wanted: Wanted) -> None:
        log.info(
            "deployment %s, revision %s, from %s: received",
            wanted.identity[:12],
            wanted.revision,
            wanted.name if wanted.origin == "file" else "the network",
        )
        if wanted.judged is not None:
            self._reporter.set_aside(wanted.identity)
        try:
            self._tell(wanted, "received")
            if not self._runs_already(wanted):
                with self._watcher.nothing_cleared():
                    self._carry_out(wanted)
            if wanted.judged is not None:
                self._reporter.tell_others()
        except (Interrupted, FetchCancelled, JobCancelled):
            self._left(wanted)
        except RefusedError as error:
            state = self._refused_as(wanted)
            log.error("deployment %s is %s: %s", wanted.identity[:12], state.replace("_", " "), error)
            self._end(wanted, state, error)
            self._watcher.clear_away()
        except MliError as error:
            log.error("deployment %s failed: %s", wanted.identity[:12], error)
            self._end(wanted, "failed", error)
        except Exception as error:  # the thread's edge: the next deployment must still be taken
            log.exception("deployment %s failed", wanted.identity[:12])
            self._end(wanted, "failed", MliError("the deployment failed", got=f"{type(error).__name__}: {error}"))

    def _check_quarantine(self, wanted: Wanted) -> None:
        found = self._store.quarantined(wanted.identity)
        if found is not None:
            raise RefusedError(
                "this deployment was taken back on this device, and is not tried again as it is",
                got=found.reason,
                remedy="change what was wrong with it; or, on the device: mli deploy FILE --root … --again",
            )

    def _refused_as(self, wanted: Wanted) -> DeploymentState:
        """A core that ended between taking it back and saying so says so now, when the same one is sent again."""
        found = self._store.quarantined(wanted.identity)
        is_the_same = found is not None and found.revision is not None and found.revision == wanted.revision
        return "rolled_back" if is_the_same else "refused"

    def _runs_already(self, wanted: Wanted) -> bool:
        with self._watcher.changing:  # it may be about to take this one back
            self._check_quarantine(wanted)
            pointer = self._store.pointer()
            if pointer.current != wanted.identity or self._serving.current is None:
                return False
            if wanted.judged is not None:
                wanted.judged(None)
                return True
            if pointer.revision != wanted.revision:
                self._store.point(replace(pointer, revision=wanted.revision))
                self._watcher.renumber(wanted.revision)
            if pointer.good:
                self._end(wanted, "healthy")
            return True

    def _carry_out(self, wanted: Wanted) -> None:
        deadline = time.monotonic() + self._device.health.deadline_s
        self._trouble = None
        record = self._store.record(wanted.identity)
        record = DeploymentRecord(
            identity=wanted.identity,
            revision=wanted.revision,
            origin=wanted.origin,
            text=wanted.text,
            folder=wanted.folder,
            name=wanted.name,
            received_at=wanted.received_at,
            signed_by=wanted.signed_by,
            models={} if record is None else record.models,
            proved=() if record is None else record.proved,
        )
        installed, record = self._bring(wanted, record, deadline)
        self._stop_if_left(deadline)
        self._tell(wanted, "canary", models=record.models)
        deployed = self._loader.prepare(wanted.settings, installed, lambda: self._is_left(deadline))
        record = self._prove(deployed, record, deadline)
        self._store.keep(record)
        if wanted.judged is None:
            self._activate(wanted, deployed, record, deadline)
        else:
            wanted.judged(None)

    def _bring(
        self, wanted: Wanted, record: DeploymentRecord, deadline: float
    ) -> tuple[dict[str, ModelSpec], DeploymentRecord]:
        installed: dict[str, ModelSpec] = {}
        for name, source in wanted.settings.models.items():
            known = record.models.get(name)
            brought = self._bringer.installed(source, known)
            if brought is None:
                self._tell(wanted, "downloading")
            pause_s = FIRST_PAUSE_S
            while brought is None:
                progress = _Progress(self, wanted, name)
                try:
                    brought = self._bringer.bring(
                        source,
                        known,
                        wanted.origin,
                        progress=progress,
                        verifying=lambda: self._tell(wanted, "verifying"),
                        cancelled=lambda: self._is_left(deadline),
                        trouble=progress.failed,
                    )
                except RetryError as error:
                    log.warning("model %s cannot be brought now: %s", name, error)
                    progress.failed(error)
                    self._pause(pause_s, deadline, error)
                    pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
            installed[name], self._trouble = brought.spec, None
            record = replace(record, models={**record.models, name: brought.state})
        return installed, record

    def _prove(self, deployed: Deployed, record: DeploymentRecord, deadline: float) -> DeploymentRecord:
        """Try what this device has not tried yet."""
        current = self._store.pointer().current
        running = None if current is None else self._store.record(current)
        proved = {*record.proved, *(running.proved if running else ())}
        keys = []
        for planned in deployed.planned():
            key = proof_key(planned)
            if key not in proved:
                since = self._serving.before_last_frames(planned.settings)
                prove(planned, since, self._loader.isolator, lambda: self._is_left(deadline))
                self._stop_if_left(deadline)
            keys.append(key)
        return replace(record, proved=tuple(keys))

    def _activate(self, wanted: Wanted, deployed: Deployed, record: DeploymentRecord, deadline: float) -> None:
        self._tell(wanted, "activating", models=record.models)
        with self._watcher.changing:
            self._stop_if_left(deadline)
            old = self._store.pointer()

            def commit(new: list[str]) -> None:
                self._store.point(
                    replace(
                        old,
                        current=wanted.identity,
                        previous=old.current if old.good and old.current != wanted.identity else old.previous,
                        revision=wanted.revision,
                        good=False,
                        activated_at=self._clock(),
                        crashes=0,
                        boots=0,
                    )
                )
                self._watcher.begin(wanted, record, new)

            try:
                self._serving.switch(deployed, commit, lambda: self._is_left(deadline))
            except RefusedError:
                raise
            except MliError as error:
                raise StopError(
                    "the new workers could not be started, so the old ones go on",
                    got=error.what,
                    where=error.where,
                    expected=error.expected,
                    remedy=error.remedy,
                ) from error
        self._watcher.activated()

    # --- whether it is still wanted ------------------------------------------------------------------------

    def _is_left(self, deadline: float) -> bool:
        with self._changed:
            left = self._next is not None or self._cancelled_by is not None or self._stopping
        return left or time.monotonic() >= deadline

    def _stop_if_left(self, deadline: float) -> None:
        if self._is_left(deadline):
            raise Interrupted

    def _pause(self, seconds: float, deadline: float, why: RetryError) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._next is not None or self._cancelled_by is not None or self._stopping,
                max(0.0, min(seconds, deadline - time.monotonic())),
            )
        if time.monotonic() >= deadline:
            raise self._too_late(why)
        self._stop_if_left(deadline)

    def _too_late(self, why: MliError | None) -> StopError:
        return StopError(
            "the deployment was not active by its deadline",
            expected=f"at most {self._device.health.deadline_s:g} s (health.deadline in device.yaml)",
            got=None if why is None else "; ".join(item for item in (why.what, why.got) if item),
            where=None if why is None else why.where,
            remedy="send it again" if why is None else why.remedy,
        )

    def _left(self, wanted: Wanted) -> None:
        with self._changed:
            superseded, cancelled, stopping = self._next is not None, self._cancelled_by is not None, self._stopping
        if superseded:
            self._end(wanted, "superseded")
        elif cancelled:
            self._end(wanted, "cancelled")
        elif not stopping:
            self._end(wanted, "failed", self._too_late(self._trouble))

    # --- what is told --------------------------------------------------------------------------------------

    def _tell(
        self,
        wanted: Wanted,
        state: DeploymentState,
        *,
        models: dict[str, ModelState] | None = None,
        progress: Progress | None = None,
        error: MliError | None = None,
    ) -> None:
        self._reporter.tell(
            state,
            revision=wanted.revision,
            identity=wanted.identity,
            models=models,
            progress=progress,
            error=error,
        )

    def _end(self, wanted: Wanted, state: DeploymentState, error: MliError | None = None) -> None:
        """Tell and note that nothing more is done for a deployment."""
        if wanted.judged is not None:
            if state in ("superseded", "cancelled"):
                return
            wanted.judged(error)
        with self._changed:
            if self._now is wanted:
                self._now = None  # before it is told: whoever cancels what has ended must not wait for another word
        self._watcher.ended(wanted, state, error)


class _Progress:
    """Tells how far a download is, now and then, and what is in its way."""

    def __init__(self, deployer: Deployer, wanted: Wanted, model: str) -> None:
        self._deployer = deployer
        self._wanted = wanted
        self._model = model
        self._told_at = float("-inf")
        self.last: Progress | None = None

    def __call__(self, done: int, total: int | None) -> None:
        self.last = Progress(self._model, done, total)
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = now
            self._deployer._tell(self._wanted, "downloading", progress=self.last)

    def failed(self, error: MliError) -> None:
        """It is tried again."""
        self._deployer._trouble = error
        self._deployer._tell(self._wanted, "downloading", error=error, progress=self.last)
