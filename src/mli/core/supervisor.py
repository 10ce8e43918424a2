"""Keeps one pipeline's worker alive: starts it, replaces it, and says when it is broken and why."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

from mli.config.settings import PipelineSettings
from mli.core.isolation.isolator import Isolator
from mli.core.record_check import RecordCheck
from mli.core.restart import LONGEST_DELAY_S, RestartPolicy
from mli.core.wire import Ack, Go, Ready, Start, Stop, Warm
from mli.core.worker_process import Death, WorkerProcess
from mli.errors import MliError, RetryError, StopError
from mli.types import Caution, Counters, ModelSpec, Record, ResumeState

log = logging.getLogger(__name__)

RESUME_RETRY_S = 1.0
AVOIDED = 100
"""Frames that ended a worker are remembered up to so many, while the core runs."""
SUSPECTS_IN_A_ROW = 5
"""Bad frames without a good one in between; after that it is rather the model."""
RECENT = 5
"""Positions that are remembered, so that a new model can be tried on the last frames."""
ACK_EVERY = 8
"""Records that are committed together share an acknowledgement; at the latest every so many there is one."""

State = Literal["starting", "standby", "running", "waiting", "finished", "stopped", "broken"]


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """A pipeline as its supervisor sees it.

    Attributes:
        allowed_bytes: bound of the worker's resident memory.
        state: ``standby`` is warm and waits for ``go``; ``waiting`` is the pause before a failed worker is
            started again.
        restarts: workers that were replaced since the core started.
        timeouts: those of them that were ended because something took too long.
        isolation: ``container`` or ``none``, as the last worker was started; None before the first.
        why_not_isolated: why it is none where a container was asked for, or would have been taken.
        memory_control: what holds the worker's memory: ``cgroup v2``, ``cgroup v1`` or ``watchdog``.
        busy: a frame is under way.
        error: the last failure, None while there was none since the last progress.
    """

    name: str
    model: ModelSpec
    allowed_bytes: int
    state: State = "starting"
    pid: int | None = None
    backend: str | None = None
    input_text: str | None = None
    resident_bytes: int = 0
    restarts: int = 0
    timeouts: int = 0
    isolation: str | None = None
    why_not_isolated: str | None = None
    memory_control: str | None = None
    counters: Counters = Counters()
    busy: bool = False
    error: str | None = None


class RecordStore(Protocol):
    """Where a worker's records become durable."""

    def submit(self, record: Record, committed: Callable[[Record], None]) -> None:
        """Commit soon, then call back."""
        ...

    def resume(self, pipeline: str, source_key: str) -> ResumeState:
        """Where a new worker goes on; nothing of the old one is committed after this."""
        ...


class PipelineSupervisor(threading.Thread):
    """One thread a pipeline. The thread that starts a worker must outlive it, or Linux would end the worker.

    Args:
        source_key: what the source's position belongs to.
        on_committed: hears each record once it is on disk; must not block.
        on_death: hears how a worker ended that should not have ended; must not block.
        standby: the first worker loads its model and waits for ``go``; when it dies before that, no other is started.
        forever: a broken pipeline is tried again now and then: nobody stands by a device to start it again.
        isolator: how workers are started; None without containers.
    """

    def __init__(
        self,
        settings: PipelineSettings,
        model: ModelSpec,
        store: RecordStore,
        source_key: str,
        on_committed: Callable[[Record], None],
        on_change: Callable[[], None],
        *,
        on_death: Callable[[Death], None] = lambda _: None,
        standby: bool = False,
        forever: bool = False,
        policy: RestartPolicy | None = None,
        isolator: Isolator | None = None,
    ) -> None:
        super().__init__(name=f"supervisor-{settings.name}")
        self.settings = settings
        self.model = model
        self.error: MliError | None = None
        # In the pipeline's own log as well.
        self._log = logging.LoggerAdapter(log, {"pipeline": settings.name})
        self._store = store
        self._source_key = source_key
        self._on_committed = on_committed
        self._on_change = on_change
        self._policy = policy or RestartPolicy()
        self._on_death = on_death
        self._forever = forever
        self._stop_asked = threading.Event()
        self._lock = threading.Lock()
        self._status_lock = threading.Lock()
        self._may_go = not standby
        self._gave_up = False
        self._isolator = isolator
        self._worker: WorkerProcess | None = None
        self._check = RecordCheck(settings, model)
        self._epoch = ""
        self._newest = 0
        self._positions: deque[str] = deque(maxlen=RECENT)
        self._counters = Counters()
        self._caution = Caution()
        self._suspects = 0
        self._status = PipelineStatus(settings.name, model, settings.limits.memory_bytes)

    def status(self) -> PipelineStatus:
        """The pipeline as it is now."""
        worker = self._worker
        if worker is None:
            return replace(self._status, counters=self._counters)
        return replace(
            self._status,
            counters=self._counters,
            resident_bytes=worker.resident_bytes,
            busy=worker.oldest_frame_s > 0,
        )

    @property
    def before_last_frames(self) -> str | None:
        """The source's position before the last few frames; None where there were none."""
        positions = list(self._positions)
        return positions[0] if positions else None

    def go(self) -> bool:
        """Let a worker that stands by begin where the pipeline stands in the spool now. Any thread.

        Returns:
            False where it died before: this supervisor has given up, and another one is needed.
        """
        with self._lock:
            if self._gave_up:
                return False
            self._may_go = True
            worker = self._worker
        if worker is None:
            return True  # it died just now; the next one need not wait
        self._set("starting")
        try:
            worker.go(self._go_message())
        except (OSError, RetryError) as error:
            self._log.warning("pipeline %s: its warm worker could not begin: %s", self.settings.name, error)
            worker.kill()
        return True

    def stop(self) -> None:
        """Let the worker finish the frames under way, then end. Any thread."""
        self._stop_asked.set()
        worker = self._worker
        if worker is not None:
            if self._status.state in ("starting", "standby"):
                worker.kill()  # it has nothing to finish
            with contextlib.suppress(OSError):  # it is ending anyway
                worker.wire.send(Stop())

    def kill(self) -> None:
        """End the worker at once. Any thread."""
        self._stop_asked.set()
        worker = self._worker
        if worker is not None:
            worker.kill()

    def run(self) -> None:
        try:
            self._supervise()
        except Exception as error:
            log.exception("the supervisor of %s failed", self.settings.name, extra=self._log.extra)
            self.error = error if isinstance(error, MliError) else MliError(f"{type(error).__name__}: {error}")
            with self._lock:
                self._gave_up = True
            self._set("broken", error=str(self.error))

    def _supervise(self) -> None:
        while not self._stop_asked.is_set():
            death = self._one_life()
            if death is None:
                continue
            if death.error is None:
                if death.source_ended:
                    self._log.info("pipeline %s: its source came to its end", self.settings.name)
                self._set("finished" if death.source_ended else "stopped", pid=None)
                return
            if self._stop_asked.is_set():
                break
            delay_s = self._policy.failed()
            self.error = death.error
            self._log.error("pipeline %s: %s", self.settings.name, death.error)
            self._learn(death)
            if death.timed_out:
                self._change(timeouts=self._status.timeouts + 1)
            self._on_death(death)
            with self._lock:
                self._gave_up = not self._may_go
            if death.permanent or self._policy.broken or self._gave_up:
                self._set("broken", pid=None, error=str(death.error))
                if self._gave_up or not self._forever:
                    return
                delay_s = LONGEST_DELAY_S
            self._log.info("pipeline %s: a new worker starts in %.1f s", self.settings.name, delay_s)
            state: State = "broken" if self._status.state == "broken" else "waiting"
            self._set(state, pid=None, error=str(death.error), restarts=self._status.restarts + 1)
            self._stop_asked.wait(delay_s)
        self._set("stopped", pid=None)

    def _learn(self, death: Death) -> None:
        """The next worker is careful; a frame that ended a careful one is not tried again."""
        avoid = self._caution.avoid
        if death.suspect is not None:
            avoid = (*avoid, death.suspect)[-AVOIDED:]
            self._suspects += 1
            if self._suspects <= SUSPECTS_IN_A_ROW:
                self._policy.progressed()  # the cause is found and out of the way
        self._caution = Caution(one_by_one=True, avoid=avoid)

    def _one_life(self) -> Death | None:
        self._set("starting")
        try:
            worker = WorkerProcess(Start(self.settings, self.model), self._take, self._isolator)
        except StopError as error:  # a container is asked for, and none can be had
            return Death(error=error, permanent=True)
        except RetryError as error:  # this one could not be made: no word on the deployment
            return Death(error=error)
        self._change(
            isolation=worker.isolation.kind,
            why_not_isolated=worker.isolation.why_not,
            memory_control=worker.memory_control,
        )
        self._set("starting", pid=worker.pid)
        with self._lock:
            self._worker = worker
            goes = self._may_go
        try:
            go = self._go_message() if goes else None
            if self._stop_asked.is_set():
                worker.kill()
            return worker.run(go)
        except RetryError as error:  # a full disk is no failure of the worker
            self._log.error("pipeline %s cannot start: %s", self.settings.name, error)
            self._set("waiting", error=str(error))
            worker.end()
            self._stop_asked.wait(RESUME_RETRY_S)
            return None
        finally:
            with self._lock:
                self._worker = None

    def _go_message(self) -> Go:
        resume = self._store.resume(self.settings.name, self._source_key)
        if resume.position is not None and self.settings.source.once:
            self._log.warning("pipeline %s goes on after %s, where it stopped", self.settings.name, resume.position)
        self._counters, self._epoch = resume.counters, resume.epoch
        return Go(resume, self._caution)

    def _take(self, message: Warm | Ready | Record) -> None:
        if isinstance(message, Record):
            if (why_not := self._check.why_not(message, self._epoch)) is not None:
                raise ValueError(f"it sent a record that no worker of this pipeline makes: {why_not}")
            self._newest = message.number
            self._store.submit(message, partial(self._committed, self._worker))
            return
        if isinstance(message, Warm):
            self._log.info("pipeline %s: %s, input %s", self.settings.name, message.backend, message.input_text)
            state: State = self._status.state if self._may_go else "standby"
            self._set(state, backend=message.backend, input_text=message.input_text)
        else:
            self._set("running")
        if self._stop_asked.is_set():
            self.stop()

    def _committed(self, worker: WorkerProcess | None, record: Record) -> None:
        """Called from the spool's thread once the record is on disk, perhaps long after its worker ended."""
        lives = worker is not None and worker is self._worker
        if worker is not None and (record.number == self._newest or record.number % ACK_EVERY == 0):
            with contextlib.suppress(OSError):  # a dead worker needs no acknowledgement
                worker.wire.send(Ack(record.number))
        if record.sequence is not None:
            if record.position is not None:
                self._positions.append(record.position)
            self._policy.progressed()
            self._suspects = 0
            if lives:
                self.error = None
        if lives and self._status.error is not None:
            self._change(error=None)
        self._counters = record.counters
        self._on_committed(record)

    def _set(
        self,
        state: State,
        *,
        pid: int | None = 0,
        backend: str | None = None,
        input_text: str | None = None,
        restarts: int | None = None,
        error: str | None = None,
    ) -> None:
        told = {"backend": backend, "input_text": input_text, "restarts": restarts, "error": error}
        changes = {name: value for name, value in told.items() if value is not None}
        self._change(state=state, **changes, **({} if pid == 0 else {"pid": pid}))
        self._on_change()

    def _change(self, **changes: Any) -> None:
        """Several threads have something to tell: none undoes what another told."""
        with self._status_lock:
            self._status = replace(self._status, **changes)
