"""The wiring point of ``mli core start`` and ``mli component run``: a device's agent.

The device on one page: this process holds the root, the spool and the one connection to the broker. Its threads:

    home        (a component of Greengrass) follows the configuration, answers what is proposed
    intake      opens, checks and parses what comes on ``mli/deployments/<thing>``, or from there
    deployer    brings the models, proves them in a sandboxed child, activates
    watcher     says that a new deployment is healthy, or takes it back
    supervisor  one a pipeline, with its worker process
    control     answers on ``<root>/core.sock``
    main        feeds the watchdog, publishes the summary, hears signals

and those of ``outbound``. All but ``main`` may wait for disks, networks and children.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from mli import __version__
from mli.config.settings import DeviceSettings
from mli.core.bell import Bell
from mli.core.booting import Boot
from mli.core.bringing import Bringer
from mli.core.control import ControlServer, Request
from mli.core.deployer import Deployer
from mli.core.deployment_store import DeploymentStore
from mli.core.home import BrokerHome, Home
from mli.core.intake import Intake
from mli.core.isolation.for_device import isolator_for
from mli.core.loading import Loader
from mli.core.outbound import Outbound
from mli.core.own_certificate import own_certificate_id
from mli.core.pipeline_set import PipelineSet
from mli.core.root import Root
from mli.core.service.notify import Notifier
from mli.core.serving import Serving
from mli.core.status import (
    FINAL,
    BrokerState,
    DeploymentStatus,
    Summary,
    offline_document,
)
from mli.core.summary import broker_state, summarize
from mli.core.supervisor import PipelineSupervisor
from mli.core.topics import report_topic, status_topic
from mli.core.wanted import Reporter
from mli.core.watcher import Watcher
from mli.core.worker_process import Death
from mli.errors import MliError
from mli.frozen_json import to_json
from mli.models.repository import Repository

log = logging.getLogger(__name__)

DEPLOYMENT_FILE = "deployment.yaml"
"""Of the device's owner, in its root: applied at a start when it has changed."""
TICK_S = 0.5
SUMMARY_EVERY_S = 300.0
"""So often the summary is published when nothing has changed; its counters are as old as that."""
SUMMARY_AFTER_S = 1.0
"""Changes are told together."""
LAST_WORD_S = 3.0
BOOT_S = 600.0
"""A cache that an update of the system made useless is made again before the first frame."""


class Agent:
    """A device's core. Enter it to start everything; ``run`` serves until ``request_stop``.

    The caller holds the root's lock, and its logs are open.

    Args:
        home: a device with a broker where none is given.

    Raises:
        MliError: on entering: the root, the spool or the broker's certificates cannot be used.
    """

    def __init__(
        self, device: DeviceSettings, root: Root, notifier: Notifier | None = None, home: Home | None = None
    ) -> None:
        self._device = device
        self._home = home or BrokerHome(device)
        self._root = root
        self._notifier = notifier or Notifier()
        self._stack = contextlib.ExitStack()
        self._taking = contextlib.ExitStack()  # what takes deployments and requests
        self._stop_asked = threading.Event()
        self._wake = Bell()
        self._summary_asked = threading.Event()
        self._last_error: str | None = None

    # --- starting and ending -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        device, root = self._device, self._root
        log.info("mli %s, root %s, thing %s", __version__, root.path, device.thing)
        self._certificate = own_certificate_id(device.mqtt)  # before the connection reads the same file
        with contextlib.ExitStack() as stack:
            self._store = DeploymentStore(root.deployments)
            self._reporter = Reporter(device.thing, self._publish_status)
            self._repository = Repository(root.path)
            self._isolator = isolator_for(device)
            stack.callback(self._isolator.close)
            self._sink = self._home.make_sink(self._deployment_came)
            self._outbound = Outbound(
                device, root, self._sink, on_failure=self._delivery_failed, on_action=lambda _: None
            )
            self._pipelines = PipelineSet(
                self._outbound,
                root,
                on_record=lambda _: None,
                on_change=self._pipelines_changed,
                on_death=self._worker_died,
                forever=True,
                isolator=self._isolator,
                log_settings=device.log,
            )
            self._serving = Serving(self._pipelines)
            self._wire_deployments()
            self._notifier.more_time(BOOT_S)  # a large spool takes its time to be checked
            # Only now: the broker sends the retained deployment as soon as it is connected.
            stack.enter_context(self._outbound)
            stack.callback(self._pipelines.stop)
            self._boot.run()
            stack.enter_context(self._taking)
            self._start_threads(self._taking)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._notifier.stopping("delivering what is queued")
        self._stack.close()

    def _wire_deployments(self) -> None:
        device, root = self._device, self._root
        bringer = Bringer(device, root, self._repository)
        self._loader = Loader(device, root, self._repository, self._isolator)
        self._watcher = Watcher(
            device, root, self._store, self._repository, bringer, self._serving, self._reporter, self._loader.load
        )
        self._deployer = Deployer(
            device, self._store, bringer, self._loader, self._serving, self._watcher, self._reporter
        )
        self._intake = Intake(device, self._store, self._reporter, self._deployer, origin=self._home.origin)
        self._boot = Boot(
            self._store,
            self._loader,
            self._serving,
            self._watcher,
            self._deployer,
            self._reporter,
            root.path / DEPLOYMENT_FILE,
            cancelled=self._stop_asked.is_set,
        )

    def _start_threads(self, stack: contextlib.ExitStack) -> None:
        """The last ones to start are the first to end."""
        self._watcher.start()
        stack.callback(self._watcher.stop)
        self._deployer.start()
        stack.callback(self._deployer.stop)
        self._intake.start()
        stack.callback(self._intake.stop)
        handlers = {"status": self._answer_status, "deploy": self._answer_deploy, "cancel": self._answer_cancel}
        control = ControlServer(self._root.control_socket, handlers)
        control.start()
        stack.callback(control.stop)
        self._home.start(self._intake, self.request_stop)
        stack.callback(self._home.stop)

    # --- running -------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Ask ``run`` to return; safe in a signal handler."""
        self._stop_asked.set()
        self._wake.ring()

    def run(self) -> None:
        """Serve until ``request_stop``, or until nothing can be stored any more.

        Raises:
            MliError: the spool is damaged, or the connection to the broker failed for good.
        """
        self._notifier.ready(self._in_a_line())
        published_at, told = float("-inf"), ""
        while not self._stop_asked.is_set():
            self._wake.wait(TICK_S)
            self._notifier.watchdog()
            if (failure := self._outbound.failure) is not None:
                raise failure
            line = self._in_a_line()
            if line != told:
                told = line
                self._notifier.status(line)
                self._summary_asked.set()
            now = time.monotonic()
            asked = self._summary_asked.is_set() and now - published_at >= SUMMARY_AFTER_S
            if asked or now - published_at >= SUMMARY_EVERY_S:
                self._summary_asked.clear()
                published_at = now
                self._publish_summary()

    def drain(self) -> None:
        """Take nothing more, stop the pipelines, deliver what can be delivered, and say goodbye."""
        self._taking.close()
        self._pipelines.stop()
        deadline = time.monotonic() + self._device.spool.drain_timeout_s

        def enough() -> bool:
            self._notifier.watchdog()
            return time.monotonic() >= deadline or not self._outbound.drain.status().sink.connected

        self._outbound.drain.wait_until_empty(self._device.spool.drain_timeout_s, enough)
        document = offline_document(self._device.thing, __version__)
        self._sink.set_state(status_topic(self._device.thing), self._home.message(document))
        line = self._outbound.drain.status().sink
        # A nucleus may be there for this alone: it holds messages back, and says at once where it cannot.
        self._sink.wait_states(LAST_WORD_S if line.connected or line.hands_on else 0.0)
        left = self._outbound.spool.queued
        log.info("the core ends; %d messages wait for its next start", left)

    # --- what comes ----------------------------------------------------------------------------------------

    def _deployment_came(self, payload: bytes, retained: bool) -> None:
        self._intake.message(payload, retained=retained)

    def _pipelines_changed(self) -> None:
        self._serving_changed()
        self._summary_asked.set()
        self._wake.ring()

    def _serving_changed(self) -> None:
        serving = getattr(self, "_serving", None)
        if serving is not None:
            serving.changed()

    def _worker_died(self, supervisor: PipelineSupervisor, death: Death) -> None:
        if death.error is not None:
            self._last_error = death.error.what
        self._watcher.died(supervisor, death)

    def _delivery_failed(self, error: MliError) -> None:
        log.error("%s", error)
        self._wake.ring()

    # --- what is told --------------------------------------------------------------------------------------

    def _publish_status(self, status: DeploymentStatus) -> None:
        self._summary_asked.set()
        if status.error is not None:
            self._last_error = status.error.what
        self._sink.set_state(report_topic(self._device.thing), self._home.message(status.document()))

    def _publish_summary(self) -> None:
        self._sink.set_state(status_topic(self._device.thing), self._home.message(self.summary().document()))

    def summary(self) -> Summary:
        """The core as it is now."""
        return summarize(
            self._device.thing,
            self._reporter.serving,
            self._pipelines.statuses(),
            self._serving.current,
            self._outbound.spool.stats(),
            self._last_error or self._home.problem,
            self._certificate,
        )

    def _in_a_line(self) -> str:
        """For ``systemctl status``."""
        summary = self.summary()
        broker: BrokerState = broker_state(self._outbound.drain.status())
        connected = "connected" if broker.connected else "not connected"
        revision = "nothing deployed" if summary.identity is None else f"revision {summary.revision}"
        return f"{summary.health}, {revision}, {len(summary.pipelines)} pipelines, {connected}"

    # --- the control socket --------------------------------------------------------------------------------

    def _answer_status(self, _request: Request, _gone: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        last = self._reporter.last
        drain = self._outbound.drain.status()
        yield {
            **self.summary().document(),
            "root": str(self._root.path),
            "broker": to_json(broker_state(drain)),
            "delivered": 0 if drain.sink.hands_on else drain.delivered,
            "handed_on": {"to": drain.sink.hands_on, "messages": drain.delivered} if drain.sink.hands_on else None,
            "deployment": None if last is None else last.document(),
            "end": True,
        }

    def _answer_deploy(self, request: Request, gone: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        states: list[DeploymentStatus] = []
        came = threading.Event()

        def listener(status: DeploymentStatus) -> None:
            states.append(status)
            came.set()

        path = Path(str(request["folder"])) / str(request["name"])
        wanted = self._loader.wanted_from_file(str(request["text"]).encode(), path, listener)
        if request.get("again"):
            from mli.config.deployment import read_deployment

            for identity in (wanted.identity, read_deployment(str(request["text"]).encode(), wanted.name).identity):
                self._store.pardon(identity)  # as it is here, and as it came over the network
        self._deployer.apply(wanted)
        yield {"identity": wanted.identity, "revision": wanted.revision, "end": not request.get("wait")}
        told = 0
        while request.get("wait") and not gone() and not self._stop_asked.is_set():
            came.wait(TICK_S)
            came.clear()
            for status in states[told:]:
                told += 1
                yield {"status": status.document(), "end": status.state in FINAL}
                if status.state in FINAL:
                    return

    def _answer_cancel(self, _request: Request, _gone: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        yield {"under_way": self._deployer.cancel(-1), "end": True}
