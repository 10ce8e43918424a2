"""The start of a core: what ran before runs again, without network and without a new proof."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mli.core.deployer import Deployer
from mli.core.deployment_store import DeploymentRecord, DeploymentStore, Highest, Pointer
from mli.core.loading import Loader
from mli.core.sandbox import JobCancelled
from mli.core.serving import Serving
from mli.core.status import FINAL, DeploymentStatus
from mli.core.status import Serving as Served
from mli.core.wanted import Reporter
from mli.core.watcher import Watcher
from mli.errors import MliError, RetryError, StopError

log = logging.getLogger(__name__)

BOOTS = 3
"""A core that was started so often with a deployment that did not get good goes back."""


class Boot:
    """Starts what the pointer names; the deployment before it where that cannot be run.

    Args:
        cancelled: whether the core was told to end while it starts.
    """

    def __init__(
        self,
        store: DeploymentStore,
        loader: Loader,
        serving: Serving,
        watcher: Watcher,
        deployer: Deployer,
        reporter: Reporter,
        file: Path,
        *,
        cancelled: Callable[[], bool],
    ) -> None:
        self._file = file
        self._cancelled = cancelled
        self._store = store
        self._loader = loader
        self._serving = serving
        self._watcher = watcher
        self._deployer = deployer
        self._reporter = reporter

    def run(self) -> None:
        """Start it. An error is logged and told; the core goes on, so that it can be sent another deployment."""
        try:
            self._run_last()
        except JobCancelled as cancelled:
            log.info("the core is told to end while it starts: %s", cancelled)
        if self._cancelled():
            return
        try:
            self._apply_file()
        except MliError as error:
            log.error("%s is not applied: %s", self._file, error)
            self._reporter.tell("refused", revision=None, identity=None, error=error)

    def _apply_file(self) -> None:
        """The device's own deployment.yaml counts when it has changed; what came later over the network stays."""
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StopError("the deployment cannot be read", where=str(self._file), got=error.strerror) from error
        sha256 = hashlib.sha256(text).hexdigest()
        if sha256 == self._store.from_file().sha256:
            return

        def came_to_an_end(status: DeploymentStatus) -> None:
            """Only then: a core that ends before, or a network that is away, must not cost the device its file."""
            if status.state in FINAL and status.state != "failed":
                try:
                    self._store.note_file(sha256)
                except MliError as error:  # a full disk: the next start applies it once more
                    log.error("%s", error)

        self._deployer.apply(self._loader.wanted_from_file(text, self._file, came_to_an_end))

    def _run_last(self) -> None:
        pointer = self._store.pointer()
        record = None if pointer.current is None else self._store.record(pointer.current)
        try:
            if record is None:
                self._run_what_is_left(pointer)
                return
        except MliError as error:
            log.error("%s", error)
            return
        try:
            if not pointer.good:
                pointer = self._count(pointer)
            self._start(record, pointer)
        except MliError as error:
            log.error("deployment %s cannot be run: %s", record.identity[:12], error)
            self._help(record, pointer, error)
            return
        self._tell_what_runs(record, pointer)

    def _run_what_is_left(self, pointer: Pointer) -> None:
        """Either nothing was ever deployed, or the disk has lost what was: then it must come once more."""
        highest = self._store.highest()
        ran = pointer.current or (highest.identity if highest.state == "healthy" else None)
        if ran is None:
            log.info("nothing is deployed yet")
            return
        error = StopError(
            "what this device knew of the deployment that ran is damaged or gone",
            where=str(self._store.folder),
            remedy="check the disk; the deployment is applied once more where the broker, or deployment.yaml, has it",
        )
        log.error("%s", error)
        if highest.identity == ran:
            self._store.raise_to(replace(highest, state="received", error=None))
        if highest.identity != ran or pointer.current is None:
            self._store.note_file("")
        if pointer.previous is not None:
            self._watcher.go_back(pointer)
        self._reporter.tell("failed", revision=pointer.revision, identity=ran, error=error)

    def _count(self, pointer: Pointer) -> Pointer:
        """A deployment that ends the core itself must not do so for ever."""
        if pointer.boots >= BOOTS:
            raise StopError(
                "the core ended again and again with the new deployment",
                expected=f"healthy within {BOOTS} starts",
                got=f"{pointer.boots} starts",
            )
        pointer = replace(pointer, boots=pointer.boots + 1)
        try:
            self._store.point(pointer)
        except RetryError as error:  # a full disk; it must run all the same
            log.error("%s", error)
        return pointer

    def _start(self, record: DeploymentRecord, pointer: Pointer) -> None:
        self._serving.start(self._loader.load(record, self._cancelled))
        self._reporter.serving = Served(pointer.revision, record.identity)
        log.info("deployment %s, revision %s, runs", record.identity[:12], pointer.revision)
        if not pointer.good or self._watcher.may_go_back(pointer):
            self._watcher.resume(record, pointer)

    def _tell_what_runs(self, record: DeploymentRecord, pointer: Pointer) -> None:
        if not pointer.good:
            return  # that is told when it is known
        try:
            highest = self._store.highest()
        except MliError as error:
            log.error("%s", error)
            highest = Highest()
        if highest.identity not in (None, record.identity) and highest.state in FINAL:
            self._reporter.tell(
                highest.state, revision=highest.told_revision, identity=highest.identity, error=highest.error
            )
        else:
            self._reporter.tell("healthy", revision=pointer.revision, identity=record.identity, models=record.models)

    def _help(self, record: DeploymentRecord, pointer: Pointer, why: MliError) -> None:
        """Run the one before it; and where the current one was good, or only this device is to blame, try it anew."""
        try:
            if not pointer.good and not isinstance(why, RetryError):
                self._watcher.take_back_at_boot(record, pointer, why)
                return
            if pointer.previous is not None:
                self._watcher.go_back(pointer)
        except MliError as error:
            log.error("nor can the one before it: %s", error)
        self._reporter.tell(
            "failed", revision=pointer.revision, identity=record.identity, models=record.models, error=why
        )
        try:
            self._deployer.apply(self._loader.wanted_again(record, pointer.revision))
        except MliError as error:
            log.error("%s", error)
