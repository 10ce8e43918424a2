"""Watches what was activated: says when it is good, takes it back where it is not, and clears away what is old."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mli.config.settings import DeviceSettings
from mli.core.bringing import Bringer
from mli.core.deployed import Deployed
from mli.core.deployment_store import DeploymentRecord, DeploymentStore, Pointer, Quarantined
from mli.core.root import Root
from mli.core.serving import Serving
from mli.core.status import DeploymentState, ModelState, Problem
from mli.core.status import Serving as Served
from mli.core.supervisor import PipelineSupervisor
from mli.core.trial import Trial
from mli.core.wanted import Reporter, Wanted
from mli.core.worker_process import Death
from mli.errors import ArchiveRefused, MliError, StopError
from mli.models.repository import Repository

log = logging.getLogger(__name__)

LOOK_S = 0.25
FAILED_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class OnTrial:
    """What is watched.

    Attributes:
        revision: under which it was sent last.
    """

    trial: Trial
    record: DeploymentRecord
    revision: int | None


class Watcher:
    """One thread that looks after the deployment that runs.

    Args:
        load: makes a deployment of the history ready to run again.
    """

    def __init__(
        self,
        device: DeviceSettings,
        root: Root,
        store: DeploymentStore,
        repository: Repository,
        bringer: Bringer,
        serving: Serving,
        reporter: Reporter,
        load: Callable[[DeploymentRecord], Deployed],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._device = device
        self._root = root
        self._store = store
        self._repository = repository
        self._bringer = bringer
        self._serving = serving
        self._reporter = reporter
        self._load = load
        self._clock = clock
        self.changing = threading.RLock()
        """Held while what runs is changed."""
        self._lock = threading.Lock()
        self._on_trial: OnTrial | None = None
        self._clearing = threading.Lock()
        self._busy = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    # --- what is told to it --------------------------------------------------------------------------------

    def begin(self, wanted: Wanted, record: DeploymentRecord, new: Iterable[str]) -> None:
        """The pointer says this one now; the workers of its ``new`` pipelines take over next."""
        self._begin(record, wanted.revision, new, crashes=0)

    def resume(self, record: DeploymentRecord, pointer: Pointer) -> None:
        """The core was started with a deployment that was not good yet."""
        names = [item.settings.name for item in self._serving.pipelines.all()]
        self._begin(record, pointer.revision, names, crashes=pointer.crashes)

    def may_go_back(self, pointer: Pointer) -> bool:
        """Whether a deployment that is good was activated so short a time ago that it is still watched."""
        age_s = self._clock() - pointer.activated_at
        return pointer.previous is not None and 0 <= age_s < self._device.health.watch_s

    def _begin(self, record: DeploymentRecord, revision: int | None, watched: Iterable[str], *, crashes: int) -> None:
        frames = {item.name: item.counters.frames for item in self._serving.pipelines.statuses()}
        trial = Trial(record.identity, self._device.health, watched, crashes_before=crashes, frames=frames)
        with self._lock:
            self._on_trial = OnTrial(trial, record, revision)
        self._reporter.serving = Served(revision, record.identity)

    def activated(self) -> None:
        """All workers of the new deployment have taken over."""
        self._wake.set()

    def renumber(self, revision: int | None) -> None:
        """What runs was sent again under another revision."""
        with self._lock:
            if self._on_trial is not None:
                self._on_trial = replace(self._on_trial, revision=revision)
        if self._reporter.serving is not None:
            self._reporter.serving = replace(self._reporter.serving, revision=revision)

    @contextmanager
    def nothing_cleared(self) -> Iterator[None]:
        """While a deployment is made ready, nothing is cleared away: it may need it."""
        with self._clearing:
            self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def is_on_trial(self, identity: str) -> bool:
        """Whether it is not known yet if it is good."""
        with self._lock:
            found = self._on_trial
        return found is not None and found.record.identity == identity and not self._store.pointer().good

    def died(self, supervisor: PipelineSupervisor, death: Death) -> None:
        """A worker ended that should not have ended. From its supervisor's thread."""
        if supervisor not in self._serving.pipelines.all():
            return  # it stood by, and never worked
        with self._lock:
            found = self._on_trial
        if found is not None:
            found.trial.died(supervisor.settings.name, death)
            self._wake.set()

    def ended(self, wanted: Wanted, state: DeploymentState, error: MliError | None = None) -> None:
        """Nothing more is done for a deployment: told, and noted where it came from the network."""
        self._finish(wanted.identity, wanted.revision, state, error, remote=wanted.origin != "file")

    def _finish(
        self,
        identity: str,
        revision: int | None,
        state: DeploymentState,
        error: MliError | None,
        *,
        remote: bool,
        models: dict[str, ModelState] | None = None,
    ) -> None:
        if remote:
            problem = None if error is None else Problem.of(error)
            try:
                highest = self._store.highest()
                if highest.told_revision == revision and highest.identity == identity:
                    self._store.raise_to(replace(highest, state=state, error=problem))
            except MliError as trouble:
                log.error("%s", trouble)
        last = self._reporter.last
        is_told_of = state != "superseded" or last is None or last.identity == identity
        self._reporter.tell(
            state, revision=revision, identity=identity, models=models, error=error, published=is_told_of
        )

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(LOOK_S if self._on_trial is not None else None)
            self._wake.clear()
            with self._lock:
                found = self._on_trial
            if found is None or self._stopping.is_set():
                continue
            try:
                self._look(found)
            except MliError as error:  # a full disk: looked at again soon
                log.error("%s", error)
                self._stopping.wait(FAILED_PAUSE_S)
            except Exception:  # the thread's edge: without it no bad deployment would be taken back
                log.exception("the watch over the deployment failed; it goes on")
                self._stopping.wait(FAILED_PAUSE_S)

    def _look(self, found: OnTrial) -> None:
        with self.changing:
            with self._lock:
                if self._on_trial is not found:
                    return
            pointer = self._store.pointer()
            if found.trial.crashes > pointer.crashes:
                self._store.point(replace(pointer, crashes=found.trial.crashes))
            bad = found.trial.bad()
            if bad is not None and pointer.good and pointer.previous is None:
                log.error("deployment %s fails, and there is none to go back to: %s", found.record.identity[:12], bad)
                self._watch_no_more(found)
                return
            if bad is not None:
                self._take_back(found, bad)
                return
            match found.trial.verdict(self._serving.pipelines.statuses()):
                case "healthy" if not pointer.good:
                    self._is_good(found)
                case "over":
                    if not pointer.good:
                        log.warning(
                            "deployment %s never became healthy, and did not fail", found.record.identity[:12]
                        )
                        self._is_good(found)
                    self._watch_no_more(found)
                case _:
                    pass

    def _watch_no_more(self, found: OnTrial) -> None:
        with self._lock:
            if self._on_trial is found:
                self._on_trial = None

    def _is_good(self, found: OnTrial) -> None:
        record = found.record
        current = self._serving.current
        trust = None if current is None else current.settings.trust
        if trust is not None and record.signed_by is not None:
            self._store.rotate(self._device.trust, trust)
            log.info("from now on deployments are trusted that are signed by %s", ", ".join(a.key_id for a in trust))
        self._store.point(replace(self._store.pointer(), good=True, boots=0))
        log.info("deployment %s is healthy", record.identity[:12])
        self._finish(
            record.identity,
            found.revision,
            "healthy",
            None,
            remote=record.origin != "file",
            models=record.models,
        )
        self.clear_away()

    # --- going back ----------------------------------------------------------------------------------------

    def _take_back(self, found: OnTrial, why: MliError) -> None:
        record, pointer = found.record, self._store.pointer()
        log.error("deployment %s is taken back: %s", record.identity[:12], why)
        reason = "; ".join(item for item in (why.what, why.got) if item)
        self._store.quarantine(Quarantined(record.identity, self._clock(), found.revision, reason))
        remote = record.origin != "file"
        try:
            back = self.go_back(pointer)
        except ArchiveRefused as error:  # its model is damaged or gone, and no waiting brings it back
            log.error("nor can the one before it run, so nothing is changed: %s", error)
            self._watch_no_more(found)
            self._finish(record.identity, found.revision, "failed", _neither(why, error), remote=remote)
            return
        self._watch_no_more(found)
        self._finish(record.identity, found.revision, "rolled_back", why, remote=remote, models=record.models)
        if back is None:
            log.error("there is no deployment before it: nothing runs now")
        else:
            log.warning("deployment %s runs again", back.identity[:12])

    def take_back_at_boot(self, record: DeploymentRecord, pointer: Pointer, why: MliError) -> None:
        """A deployment that was not good yet cannot be run any more."""
        trial = Trial(record.identity, self._device.health, ())
        self._take_back(OnTrial(trial, record, pointer.revision), why)

    def go_back(self, pointer: Pointer) -> DeploymentRecord | None:
        """Run the deployment that was good before; nothing where there is none.

        Raises:
            MliError: it cannot be run either; what runs stays.
        """
        record = None if pointer.previous is None else self._store.record(pointer.previous)
        if record is None:
            self._store.point(Pointer())
            self._serving.clear()
            self._reporter.serving = None
            return None
        deployed = self._load(record)
        new = Pointer(record.identity, None, record.revision, good=True, activated_at=self._clock())
        if self._serving.current is None:
            self._store.point(new)
            self._serving.start(deployed)
        else:
            self._serving.switch(deployed, lambda _: self._store.point(new))
        self._reporter.serving = Served(record.revision, record.identity)
        return record

    # --- clearing away -------------------------------------------------------------------------------------

    def clear_away(self) -> None:
        """Remove what neither the current nor the previous deployment needs; not while one is made ready."""
        with self._clearing:
            if not self._busy:
                self._clear_away()

    def _clear_away(self) -> None:
        pointer = self._store.pointer()
        kept = {identity for identity in (pointer.current, pointer.previous) if identity is not None}
        records = [self._store.record(identity) for identity in kept]
        if None in records:  # damaged, or a disk that fails: what it needs is not known
            log.warning("old models are not removed: a record of the deployments that need theirs cannot be read")
            return
        digests = {state.sha256 for record in records if record for state in record.models.values()}
        if self._serving.current is not None:  # whatever the records say
            digests |= {model.sha256 for model in self._serving.current.models.values()}
        try:
            removed = self._repository.keep_only(digests)
            for path in self._root.cache.glob("*"):
                if path.name not in digests and len(path.name) == 64:
                    shutil.rmtree(path, ignore_errors=True)
            self._store.forget_others(kept)
        except OSError as error:
            log.warning("old models cannot be removed: %s", error)
            return
        for digest in removed:
            log.info("model %s is not needed any more and was removed", digest[:12])
        self._bringer.forget_downloads()


def _neither(why: MliError, why_not_back: MliError) -> StopError:
    return StopError(
        f"{why.what}; and the deployment before it cannot run any more",
        where=why_not_back.where,
        expected=why_not_back.expected,
        got="; ".join(item for item in (why.got, why_not_back.what, why_not_back.got) if item),
        remedy="send a deployment that is good; check the disk",
    )
