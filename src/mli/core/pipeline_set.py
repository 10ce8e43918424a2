"""The pipelines that run in this core: their supervisors, and what is written down of each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mli.config.settings import LogSettings, PipelineSettings
from mli.core.isolation.isolator import Isolator
from mli.core.journal import PipelineJournal
from mli.core.logs import close_log, pipeline_log
from mli.core.outbound import Outbound
from mli.core.root import Root
from mli.core.supervisor import PipelineStatus, PipelineSupervisor
from mli.core.worker_process import Death
from mli.errors import MliError
from mli.types import ModelSpec, Record

log = logging.getLogger(__name__)

FRAMES_STOP_S = 20.0
"""Frames under way may take so long when their pipeline is told to stop."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A pipeline and the model that it loads."""

    settings: PipelineSettings
    model: ModelSpec


class PipelineSet:
    """Starts, replaces and stops pipelines by name. One thread at a time changes it; any thread reads it.

    Args:
        on_record: hears each record once it is on disk.
        on_change: called when a pipeline changes its state.
        on_death: hears the pipeline and how its worker ended, where it should not have ended.
        forever: a broken pipeline is tried again now and then.
        isolator: how workers are started.
        log_settings: of the pipelines' own logs.
    """

    def __init__(
        self,
        outbound: Outbound,
        root: Root,
        *,
        on_record: Callable[[Record], None],
        on_change: Callable[[], None],
        isolator: Isolator,
        on_death: Callable[[PipelineSupervisor, Death], None] = lambda *_: None,
        forever: bool = False,
        log_settings: LogSettings | None = None,
    ) -> None:
        self._isolator = isolator
        self._log_settings = log_settings
        self._outbound = outbound
        self._root = root
        self._on_record = on_record
        self._on_change = on_change
        self._on_death = on_death
        self._forever = forever
        self._lock = threading.Lock()
        self._running: dict[str, PipelineSupervisor] = {}
        self._journals: dict[str, tuple[PipelineJournal, logging.Logger]] = {}

    # --- what runs -----------------------------------------------------------------------------------------

    def all(self) -> list[PipelineSupervisor]:
        """The pipelines that run, by name."""
        with self._lock:
            return [self._running[name] for name in sorted(self._running)]

    def journals(self) -> list[PipelineJournal]:
        """What each pipeline's rules did."""
        with self._lock:
            return [journal for journal, _ in self._journals.values()]

    def statuses(self) -> tuple[PipelineStatus, ...]:
        """Each pipeline as it is now."""
        return tuple(item.status() for item in self.all())

    def errors(self) -> list[MliError]:
        """Why pipelines fail."""
        return [item.error for item in self.all() if item.error is not None]

    def all_ended(self) -> bool:
        """Whether no pipeline runs any more."""
        return all(not item.is_alive() for item in self.all())

    # --- changes -------------------------------------------------------------------------------------------

    def start(self, planned: Planned) -> None:
        """Start a pipeline that does not run yet."""
        supervisor = self._supervisor(planned, standby=False)
        self._put(supervisor)
        supervisor.start()

    def stand_by(self, planned: Planned) -> PipelineSupervisor:
        """A pipeline whose worker loads its model now, and begins only when ``take_over`` lets it."""
        supervisor = self._supervisor(planned, standby=True)
        supervisor.start()
        return supervisor

    def take_over(self, successor: PipelineSupervisor) -> float:
        """Let a pipeline that stands by replace the one of its name, if one runs.

        The old one's last frame is on disk before the new one is told where to begin, so each frame is one model's.

        Returns:
            Seconds in which neither of them worked.
        """
        with self._lock:
            old = self._running.get(successor.settings.name)
        stopped_at = time.monotonic()
        if old is not None:
            end([old])
        self._put(successor)
        if not successor.go():  # it died since it was warm; its successor need not stand by
            self.start(Planned(successor.settings, successor.model))
        return time.monotonic() - stopped_at

    def remove(self, names: Iterable[str]) -> None:
        """Stop pipelines that are not wanted any more."""
        with self._lock:
            gone = [self._running[name] for name in names if name in self._running]
        end(gone)
        with self._lock:
            for supervisor in gone:
                del self._running[supervisor.settings.name]
                self._close_journal(supervisor.settings.name)

    def stop(self) -> None:
        """Stop all, and close what is written down of them. Their last states can still be read."""
        end(self.all())
        with self._lock:
            for name in list(self._journals):
                self._close_journal(name)

    def _put(self, supervisor: PipelineSupervisor) -> None:
        with self._lock:
            self._running[supervisor.settings.name] = supervisor
        self._on_change()

    def _supervisor(self, planned: Planned, *, standby: bool) -> PipelineSupervisor:
        settings = planned.settings
        journal = self._journal(settings)

        def on_committed(record: Record) -> None:
            journal.record(record)
            if record.firings:
                self._outbound.submit_firings()
            self._on_record(record)

        def on_death(death: Death) -> None:
            self._on_death(supervisor, death)

        supervisor = PipelineSupervisor(
            settings,
            planned.model,
            self._outbound.writer,
            source_key(settings),
            on_committed,
            self._on_change,
            on_death=on_death,
            standby=standby,
            forever=self._forever,
            isolator=self._isolator,
        )
        return supervisor

    def _journal(self, settings: PipelineSettings) -> PipelineJournal:
        name = settings.name
        with self._lock:
            if name not in self._journals:
                user_log = pipeline_log(self._root.user_log(name), name, self._log_settings, thing=settings.thing)
                self._journals[name] = (PipelineJournal(user_log), user_log)
            return self._journals[name][0]

    def _close_journal(self, name: str) -> None:
        found = self._journals.pop(name, None)
        if found is not None:
            journal, user_log = found
            journal.close()
            close_log(user_log)


def end(supervisors: list[PipelineSupervisor]) -> None:
    """Let workers finish the frames under way, all at once; who does not in time is ended."""
    for item in supervisors:
        item.stop()
    deadline = time.monotonic() + FRAMES_STOP_S
    for item in supervisors:
        item.join(max(0.0, deadline - time.monotonic()))
        if item.is_alive():
            log.warning("pipeline %s did not stop in time; its worker is ended", item.settings.name)
            item.kill()
            item.join()


def source_key(settings: PipelineSettings) -> str:
    """What a source's position belongs to."""
    source = settings.source
    if source.kind == "demo":
        return f"demo:{source.seed}:{source.frames}"
    return f"images:{'once' if source.once else 'loop'}:{source.uri}"
