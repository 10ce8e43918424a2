"""What makes the predictions now, and the switch from one deployment to another without a gap."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from mli.config.settings import PipelineSettings
from mli.core.deployed import Deployed
from mli.core.pipeline_set import PipelineSet, Planned, end, source_key
from mli.core.supervisor import PipelineSupervisor
from mli.errors import MliError

log = logging.getLogger(__name__)

_WAIT_S = 0.1


class Interrupted(Exception):
    """What was being done is not wanted any more; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Switched:
    """A switch that was made.

    Attributes:
        gaps_s: for each pipeline that was replaced, seconds in which neither its old nor its new worker worked.
    """

    gaps_s: dict[str, float] = field(default_factory=dict)


class Serving:
    """The deployment that runs. One thread at a time changes it.

    A pipeline whose settings and model stay the same is not touched.
    """

    def __init__(self, pipelines: PipelineSet) -> None:
        self.pipelines = pipelines
        self.current: Deployed | None = None
        self._changed = threading.Event()

    def changed(self) -> None:
        """A pipeline has changed its state. Any thread; does not block."""
        self._changed.set()

    def switch(
        self, deployed: Deployed, commit: Callable[[list[str]], None], cancelled: Callable[[], bool] = lambda: False
    ) -> Switched:
        """Load the new workers, make the change durable, and let each take over from the old one.

        Args:
            commit: makes the new deployment the one that a restart would run; told the changed pipelines.

        Raises:
            MliError: a new worker cannot be loaded, or ``commit`` failed; everything is as it was.
            Interrupted: ``cancelled`` before ``commit``; everything is as it was.
        """
        running = {item.settings.name: item for item in self.pipelines.all()}
        planned = deployed.planned()
        new = [item for item in planned if not _is_same(running.get(item.settings.name), item)]
        standbys = [self.pipelines.stand_by(item) for item in new]
        try:
            self._wait_until_warm(standbys, cancelled)
            commit([item.settings.name for item in new])
        except BaseException:
            end(standbys)
            raise
        # First, for what they let go of: a renamed pipeline opens the same camera.
        self.pipelines.remove(running.keys() - {item.settings.name for item in planned})
        gaps_s = {}
        for item in standbys:
            name = item.settings.name
            gap_s = self.pipelines.take_over(item)
            if name in running:
                gaps_s[name] = gap_s
                log.info("pipeline %s: the new worker took over after %.0f ms", name, 1000 * gap_s)
        self.current = deployed
        return Switched(gaps_s)

    def start(self, deployed: Deployed) -> None:
        """Run a deployment where none runs yet."""
        self.current = deployed
        for item in deployed.planned():
            self.pipelines.start(item)

    def clear(self) -> None:
        """Run nothing."""
        self.pipelines.remove([item.settings.name for item in self.pipelines.all()])
        self.current = None

    def before_last_frames(self, settings: PipelineSettings) -> str | None:
        """Where the last frames of the running pipeline with the same source begin; None where there is none."""
        for item in self.pipelines.all():
            if item.settings.name == settings.name and source_key(item.settings) == source_key(settings):
                return item.before_last_frames
        return None

    def _wait_until_warm(self, standbys: list[PipelineSupervisor], cancelled: Callable[[], bool]) -> None:
        waiting = list(standbys)
        while waiting:
            self._changed.clear()
            for item in list(waiting):
                state = item.status().state
                if state == "standby":
                    waiting.remove(item)
                elif state not in ("starting",) or not item.is_alive():
                    raise item.error or MliError(f"the new worker of {item.settings.name} ended")
            if cancelled():
                raise Interrupted
            if waiting:
                self._changed.wait(_WAIT_S)


def _is_same(running: PipelineSupervisor | None, wanted: Planned) -> bool:
    """Whether a pipeline can go on as it is."""
    return (
        running is not None
        and running.settings == wanted.settings
        and running.model == wanted.model
        and running.status().state not in ("broken", "stopped")
    )
