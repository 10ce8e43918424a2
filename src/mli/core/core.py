"""The one wiring point: a device, what it runs, and the parts between a frame and a sink.

The device on one page: this process (the core) holds the root, the spool and the connection to the broker; each
pipeline has one worker process (``mli.core.worker``); rules run the device's own commands as children.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mli.config.settings import CommandSettings, DeploymentSettings, DeviceSettings, PipelineSettings
from mli.core.journal import PipelineJournal
from mli.core.logs import close_log, log_to_file, pipeline_log
from mli.core.preparing import prepare
from mli.core.root import Root, RootLock
from mli.core.supervisor import PipelineStatus, PipelineSupervisor
from mli.delivery.actions import ActionOutcome, ActionRunner
from mli.delivery.drain import Drain, DrainStatus
from mli.delivery.sinks.sink import Sink
from mli.delivery.spool import Spool
from mli.delivery.spool_schema import SpoolStats, StoredFiring
from mli.delivery.spool_writer import SpoolWriter
from mli.errors import MliError, StopError, UsageError
from mli.models.repository import Repository
from mli.pipeline.estimators.registry import choose_backend
from mli.pipeline.rules import RuleEngine
from mli.types import ModelSpec, Record

log = logging.getLogger(__name__)

ACTIONS_STOP_S = 2.0
FRAMES_STOP_S = 20.0
DISCONNECTED_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class CoreStatus:
    """A core at one moment."""

    pipelines: tuple[PipelineStatus, ...]
    spool: SpoolStats
    drain: DrainStatus
    actions: dict[str, int]
    rules_fired: dict[str, int]
    rules_why_not: dict[str, str]


class CoreListener(Protocol):
    """Hears what a core does, from its threads; must not block."""

    def on_record(self, record: Record) -> None:
        """A record is on disk."""

    def on_action(self, outcome: ActionOutcome) -> None:
        """A command ran, failed, or was dropped."""


@dataclass(slots=True)
class _Pipeline:
    supervisor: PipelineSupervisor
    journal: PipelineJournal
    log: logging.Logger


@dataclass(slots=True)
class _Running:
    """What ``start`` has built, in the order in which it ends."""

    spool: Spool
    writer: SpoolWriter
    drain: Drain
    actions: ActionRunner
    pipelines: list[_Pipeline] = field(default_factory=list)


class Core:
    """Runs a deployment on this device until it ends or is told to stop.

    Use as a context manager: entering locks the root, installs the models and starts everything; leaving stops
    it, delivers what can be delivered, and lets go of the root.

    Args:
        make_sink: the one place where messages leave this device.
        install_progress: told of the bytes done and in all while an archive is installed.
        on_note: told, in lines for a person, what is made of a model when it is first used.
        from_start: begin every source anew, wherever an earlier run stopped.

    Raises:
        MliError: while entering: the root is in use, an archive is refused, a backend is missing, a rule names a
            label that its model lacks. Nothing is left running.
    """

    def __init__(
        self,
        device: DeviceSettings,
        deployment: DeploymentSettings,
        make_sink: Callable[[], Sink],
        *,
        listener: CoreListener | None = None,
        install_progress: Callable[[int, int], None] | None = None,
        on_note: Callable[[str], None] = lambda _: None,
        from_start: bool = False,
    ) -> None:
        self._device = device
        self._deployment = deployment
        self._make_sink = make_sink
        self._listener = listener
        self._install_progress = install_progress
        self._on_note = on_note
        self._from_start = from_start
        self._root = Root(Path(device.root))
        self._stack = contextlib.ExitStack()
        self._changed = threading.Event()
        self._stop_asked = threading.Event()
        self._running: _Running | None = None
        self._last_firing = 0
        self.models: dict[str, ModelSpec] = {}
        self.queued_at_start = 0
        self.dead_at_start = 0

    def __enter__(self) -> Core:
        with contextlib.ExitStack() as stack:
            stack.enter_context(RootLock(self._root))
            handler = log_to_file(self._root.system_log, self._device.log.level)
            stack.callback(handler.close)
            stack.callback(logging.getLogger("mli").removeHandler, handler)
            self.models = self._install()
            self._check()
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._running = None

    # --- starting ------------------------------------------------------------------------------------------

    def _install(self) -> dict[str, ModelSpec]:
        repository = Repository(self._root.path)
        models = {}
        for name, source in self._deployment.models.items():
            installed = repository.install(Path(source.uri), source.sha256, progress=self._install_progress)
            models[name] = self._prepared(name, installed)
        return models

    def _prepared(self, name: str, installed: ModelSpec) -> ModelSpec:
        """The model as its pipelines load it; one that none uses stays as it is."""
        users = [item for item in self._deployment.pipelines if item.model == name]
        if not users:
            return installed
        widest = max(users, key=lambda item: item.limits.memory_bytes)
        sizes = {
            (item.preprocess.width, item.preprocess.height): item.name
            for item in users
            if item.preprocess.width and item.preprocess.height
        }
        if installed.format == "mxnet" and len(sizes) > 1:
            raise UsageError(
                f"the MXNet model {name} is imported for one input size",
                expected="the same `preprocess: {size: …}` in all pipelines that use it",
                got=", ".join(f"{width}x{height} in {user}" for (width, height), user in sizes.items()),
                remedy="name the archive twice under `models`, once for each size",
            )
        size = next(iter(sizes), None)
        return prepare(installed, self._root, widest.backend, self._on_note, limits=widest.limits, import_size=size)

    def _check(self) -> None:
        """What can be known before a worker starts."""
        for pipeline in self._deployment.pipelines:
            model = self.models[pipeline.model]
            choose_backend(pipeline.backend, model.format)
            RuleEngine(pipeline.rules, model.labels)
            for rule in pipeline.rules:
                if rule.command is not None:
                    _check_command(rule.command, self._device.commands[rule.command])

    def _start(self, stack: contextlib.ExitStack) -> None:
        sink = self._make_sink()
        spool = Spool(self._root.spool, self._device.spool, sink=sink.kind)
        stack.callback(spool.close)
        stack.callback(self._start_over_finished, spool)
        self.queued_at_start = spool.queued
        self.dead_at_start = spool.stats().dead
        writer = SpoolWriter(spool, on_failure=self._delivery_failed)
        writer.start()
        stack.callback(writer.stop)
        drain = Drain(spool, writer, sink, on_failure=self._delivery_failed)
        drain.start()
        stack.callback(drain.stop)
        actions = ActionRunner(spool, self._device.commands, on_outcome=self._on_action)
        stack.callback(actions.stop, ACTIONS_STOP_S)
        self._running = _Running(spool, writer, drain, actions)
        self._submit_firings(spool.pending_firings())
        log.info(
            "core started: root %s, thing %s, spool epoch %s, %d queued",
            self._root.path,
            self._device.thing,
            spool.epoch,
            spool.queued,
        )
        stack.callback(self._stop_pipelines)
        for settings in self._deployment.pipelines:
            if self._from_start:
                spool.resume(settings.name, "")  # another source's key forgets the position
            self._running.pipelines.append(self._start_pipeline(settings, self._running))

    def _start_pipeline(self, settings: PipelineSettings, running: _Running) -> _Pipeline:
        user_log = pipeline_log(self._root.user_log(settings.name), settings.name)
        journal = PipelineJournal(user_log)

        def on_committed(record: Record) -> None:
            journal.record(record)
            if record.firings:
                self._submit_firings(running.spool.pending_firings())
            if self._listener is not None:
                self._listener.on_record(record)

        supervisor = PipelineSupervisor(
            settings,
            self.models[settings.model],
            running.writer,
            source_key(settings),
            on_committed,
            self._changed.set,
        )
        supervisor.start()
        return _Pipeline(supervisor, journal, user_log)

    # --- running -------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Ask ``wait`` to return; safe in a signal handler."""
        self._stop_asked.set()
        self._changed.set()

    def wait(self, wake_s: float = 1.0, on_wake: Callable[[], None] | None = None) -> bool:
        """Wait until every pipeline has ended, or the sink failed, or ``request_stop``.

        Returns:
            Whether the pipelines ended by themselves.
        """
        while not self._stop_asked.is_set():
            if self._all_ended() or self._sink_error() is not None:
                return True
            self._changed.wait(wake_s)
            self._changed.clear()
            if on_wake is not None:
                on_wake()
        return False

    def errors(self) -> list[MliError]:
        """Why pipelines are broken, and why the sink failed."""
        errors = [item.supervisor.error for item in self._pipelines() if item.supervisor.error is not None]
        sink_error = self._sink_error()
        return [*errors, *([sink_error] if sink_error is not None else [])]

    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stop_asked.is_set()

    def drain_queue(self) -> bool:
        """Stop the pipelines and deliver what is queued.

        A source that has ended is given ``drain_timeout_s`` since the last delivery; after a stop was asked for (also
        while this runs) there is so much in all, and next to nothing without a connection.

        Returns:
            Whether everything was delivered.
        """
        assert self._running is not None
        self._stop_pipelines()
        drain, timeout_s = self._running.drain, self._device.spool.drain_timeout_s
        deadline: float | None = None

        def cancelled() -> bool:
            nonlocal deadline
            if self._sink_error() is not None:
                return True
            if not self._stop_asked.is_set():
                return False
            now = time.monotonic()
            if deadline is None:
                deadline = now + timeout_s
            if not drain.status().sink.connected:
                deadline = min(deadline, now + DISCONNECTED_GRACE_S)
            return now >= deadline

        return drain.wait_until_empty(timeout_s, cancelled)

    def status(self) -> CoreStatus:
        """The core as it is now."""
        assert self._running is not None
        pipelines = self._pipelines()
        return CoreStatus(
            pipelines=tuple(item.supervisor.status() for item in pipelines),
            spool=self._running.spool.stats(),
            drain=self._running.drain.status(),
            actions={str(state): count for state, count in self._running.actions.counts().items()},
            rules_fired={rule: count for item in pipelines for rule, count in item.journal.fired.items()},
            rules_why_not={rule: reason for item in pipelines for rule, reason in item.journal.why_not.items()},
        )

    def _pipelines(self) -> Sequence[_Pipeline]:
        return [] if self._running is None else self._running.pipelines

    def _all_ended(self) -> bool:
        return all(not item.supervisor.is_alive() for item in self._pipelines())

    def _sink_error(self) -> MliError | None:
        running = self._running
        return None if running is None else running.drain.failure or running.writer.failure

    def _submit_firings(self, firings: Sequence[StoredFiring]) -> None:
        new = [stored for stored in firings if stored.id > self._last_firing]
        if new and self._running is not None:
            self._last_firing = new[-1].id
            self._running.actions.submit(new)

    def _delivery_failed(self, error: MliError) -> None:
        log.error("%s", error)
        self._changed.set()

    def _on_action(self, outcome: ActionOutcome) -> None:
        if self._listener is not None:
            self._listener.on_action(outcome)

    def _start_over_finished(self, spool: Spool) -> None:
        """A finite source that came to its end begins anew in the next run.

        Not before this core ends in order: one that is killed while it delivers must not make every frame again.
        """
        for item in self._pipelines():
            if item.supervisor.status().state == "finished":
                try:
                    spool.resume(item.supervisor.settings.name, "")
                except MliError as error:
                    log.error("the next run of %s starts at its end: %s", item.supervisor.settings.name, error)

    def _stop_pipelines(self) -> None:
        pipelines = self._pipelines()
        for item in pipelines:
            item.supervisor.stop()
        deadline = time.monotonic() + FRAMES_STOP_S
        for item in pipelines:
            item.supervisor.join(max(0.0, deadline - time.monotonic()))
            if item.supervisor.is_alive():
                log.warning("pipeline %s did not stop in time; its worker is ended", item.supervisor.settings.name)
                item.supervisor.kill()
                item.supervisor.join()
            item.journal.close()
            close_log(item.log)


def _check_command(name: str, command: CommandSettings) -> None:
    """A command that cannot start is better known now than when it is needed."""
    program = shutil.which(command.argv[0])
    if program is None:
        raise StopError(
            f"the command {name} cannot be run on this device",
            expected="a program that this user may execute",
            got=f"argv[0]: {command.argv[0]}",
            remedy=f"correct `commands: {{{name}: {{argv: [...]}}}}` in the device's file; use an absolute path",
        )
    with open(program, "rb") as file:
        start = file.read(4)
    if sys.platform.startswith("linux") and not start.startswith((b"#!", b"\x7fELF")):
        raise StopError(
            f"the command {name} is no program: the system would hand it to a shell",
            where=program,
            expected="an executable, or a script whose first line is #!INTERPRETER",
        )


def source_key(settings: PipelineSettings) -> str:
    """What a source's position belongs to; another source starts from its beginning."""
    source = settings.source
    if source.kind == "demo":
        return f"demo:{source.seed}:{source.frames}"
    return f"images:{'once' if source.once else 'loop'}:{source.uri}"
