"""The wiring point of ``mli run``: a device, what it runs, and the parts between a frame and a sink.

The device on one page: this process (the core) holds the root, the spool and the connection to the broker; each
pipeline has one worker process (``mli.core.worker``); rules run the device's own commands as children.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mli.config.redaction import secrets_of
from mli.config.settings import DeploymentSettings, DeviceSettings, ModelSource
from mli.config.uris import shown_uri
from mli.core.bell import Bell
from mli.core.bringing import Bringer
from mli.core.deployed import Deployed, prepare_models
from mli.core.isolation.for_device import isolator_for
from mli.core.logs import open_logs
from mli.core.outbound import Outbound
from mli.core.pipeline_set import PipelineSet, source_key
from mli.core.root import Root, RootLock
from mli.core.supervisor import PipelineStatus
from mli.delivery.actions import ActionOutcome
from mli.delivery.drain import DrainStatus
from mli.delivery.sinks.sink import Sink
from mli.delivery.spool_schema import SpoolStats
from mli.errors import MliError
from mli.models.repository import Repository
from mli.types import ModelSpec, Record

log = logging.getLogger(__name__)

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


class Core:
    """Runs a deployment on this device until it ends or is told to stop.

    Use as a context manager: entering locks the root and installs the models, ``start`` starts everything; leaving
    stops it, delivers what can be delivered, and lets go of the root.

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
        self._isolator = isolator_for(device)
        self._stack = contextlib.ExitStack()
        self._changed = Bell()
        self._stop_asked = threading.Event()
        self._deployed: Deployed | None = None
        self._outbound: Outbound | None = None
        self._pipelines: PipelineSet | None = None
        self.models: dict[str, ModelSpec] = {}

    def __enter__(self) -> Core:
        with contextlib.ExitStack() as stack:
            stack.enter_context(RootLock(self._root))
            secrets = secrets_of(self._device, os.environ)
            stack.enter_context(open_logs(self._device.log, self._root, thing=self._device.thing, secrets=secrets))
            stack.callback(self._isolator.close)
            self._deployed = self._install()
            self.models = self._deployed.models
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._outbound = self._pipelines = None

    # --- starting ------------------------------------------------------------------------------------------

    def _install(self) -> Deployed:
        repository = Repository(self._root.path)
        bringer = Bringer(self._device, self._root, repository)
        installed = {}
        for name, source in self._deployment.models.items():
            if "://" in source.uri:
                installed[name] = self._brought(bringer, source)
            else:
                installed[name] = repository.install(Path(source.uri), source.sha256, progress=self._install_progress)
        return prepare_models(self._deployment, installed, self._device, self._root, self._on_note, self._isolator)

    def _brought(self, bringer: Bringer, source: ModelSource) -> ModelSpec:
        """A model that lies elsewhere; one with a known digest that is here already needs no network."""
        found = bringer.installed(source, None)
        if found is None:
            self._on_note(f"fetching {shown_uri(source.uri)}")
            found = bringer.bring(source, None, "file", progress=self._fetch_progress)
        return found.spec

    def _fetch_progress(self, done: int, total: int | None) -> None:
        if self._install_progress is not None and total:
            self._install_progress(done, total)

    def start(self) -> None:
        """Deliver, and begin to predict; what ends this process in order must be ready for it.

        Raises:
            MliError: the spool or the broker's certificates cannot be used.
        """
        assert self._deployed is not None
        outbound = Outbound(
            self._device,
            self._root,
            self._make_sink(),
            on_failure=self._delivery_failed,
            on_action=self._on_action,
        )
        self._outbound = self._stack.enter_context(outbound)
        pipelines = self._pipelines = PipelineSet(
            outbound,
            self._root,
            on_record=self._on_record,
            on_change=self._changed.ring,
            isolator=self._isolator,
            log_settings=self._device.log,
        )
        self._stack.callback(self._start_over_finished)
        self._stack.callback(pipelines.stop)
        log.info(
            "core started: root %s, thing %s, spool epoch %s, %d queued",
            self._root.path,
            self._device.thing,
            outbound.spool.epoch,
            outbound.spool.queued,
        )
        for planned in self._deployed.planned():
            if self._from_start:
                outbound.spool.start_over(planned.settings.name, source_key(planned.settings))
            pipelines.start(planned)

    @property
    def queued_at_start(self) -> int:
        """Messages of earlier runs that go first."""
        return 0 if self._outbound is None else self._outbound.queued_at_start

    @property
    def dead_at_start(self) -> int:
        """Dead letters of earlier runs."""
        return 0 if self._outbound is None else self._outbound.dead_at_start

    # --- running -------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Ask ``wait`` to return; safe in a signal handler."""
        self._stop_asked.set()
        self._changed.ring()

    def wait(self, wake_s: float = 1.0, on_wake: Callable[[], None] | None = None) -> bool:
        """Wait until every pipeline has ended, or the sink failed, or ``request_stop``.

        Returns:
            Whether the pipelines ended by themselves.
        """
        while not self._stop_asked.is_set():
            if self._pipelines is None or self._pipelines.all_ended() or self._sink_error() is not None:
                return True
            self._changed.wait(wake_s)
            if on_wake is not None:
                on_wake()
        return False

    def errors(self) -> list[MliError]:
        """Why pipelines are broken, and why the sink failed."""
        errors = [] if self._pipelines is None else self._pipelines.errors()
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
        assert self._outbound is not None
        assert self._pipelines is not None
        self._pipelines.stop()
        drain, timeout_s = self._outbound.drain, self._device.spool.drain_timeout_s
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
        assert self._outbound is not None
        assert self._pipelines is not None
        journals = self._pipelines.journals()
        return CoreStatus(
            pipelines=self._pipelines.statuses(),
            spool=self._outbound.spool.stats(),
            drain=self._outbound.drain.status(),
            actions={str(state): count for state, count in self._outbound.actions.counts().items()},
            rules_fired={rule: count for item in journals for rule, count in item.fired.items()},
            rules_why_not={rule: reason for item in journals for rule, reason in item.why_not.items()},
        )

    def _sink_error(self) -> MliError | None:
        return None if self._outbound is None else self._outbound.failure

    def _on_record(self, record: Record) -> None:
        if self._listener is not None:
            self._listener.on_record(record)

    def _delivery_failed(self, error: MliError) -> None:
        log.error("%s", error)
        self._changed.ring()

    def _on_action(self, outcome: ActionOutcome) -> None:
        if self._listener is not None:
            self._listener.on_action(outcome)

    def _start_over_finished(self) -> None:
        """A finite source that came to its end begins anew in the next run.

        Not before this core ends in order: one that is killed while it delivers must not make every frame again.
        """
        if self._pipelines is None or self._outbound is None:
            return
        for item in self._pipelines.all():
            if item.status().state == "finished":
                try:
                    self._outbound.spool.start_over(item.settings.name, source_key(item.settings))
                except MliError as error:
                    log.error("the next run of %s starts at its end: %s", item.settings.name, error)
