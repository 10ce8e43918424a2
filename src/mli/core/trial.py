"""The time in which a new deployment must show that it works: when it counts as good, and when it is taken back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mli.config.settings import HealthSettings
from mli.core.supervisor import PipelineStatus
from mli.core.worker_process import Death
from mli.errors import MliError, StopError

CRASHES = 3
"""So many workers that end while a deployment can still be taken back are too many."""

Verdict = Literal["waiting", "healthy", "over"]


@dataclass(frozen=True, slots=True)
class _Crash:
    pipeline: str
    at: float
    error: MliError | None


class Trial:
    """Watches one activation. Thread-safe.

    Args:
        watched: pipelines that the activation started; what the others do is not its fault.
        crashes_before: of the same deployment, before the core was started again.
        frames: each pipeline's counted frames at the activation.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        identity: str,
        health: HealthSettings,
        watched: Iterable[str],
        *,
        crashes_before: int = 0,
        frames: dict[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self._health = health
        self._watched = frozenset(watched)
        self._clock = clock
        self._lock = threading.Lock()
        self._began_at = clock()
        self._crashes_before = crashes_before
        self._crashes: list[_Crash] = []
        self._fatal: MliError | None = None
        self._frames = frames or {}

    @property
    def crashes(self) -> int:
        """Workers that ended since the activation."""
        with self._lock:
            return self._crashes_before + len(self._crashes)

    def died(self, pipeline: str, death: Death) -> None:
        """Note how a worker ended that should not have ended."""
        if pipeline not in self._watched:
            return
        with self._lock:
            self._crashes.append(_Crash(pipeline, self._clock(), death.error))
            if death.silent or death.permanent:
                self._fatal = self._fatal or death.error

    def bad(self) -> MliError | None:
        """Why the deployment must be taken back; None while it need not."""
        with self._lock:
            if self._fatal is not None:
                return self._fatal
            if self._crashes_before + len(self._crashes) < CRASHES:
                return None
            last = self._crashes[-1] if self._crashes else None
            cause = last.error if last else None
            name = f" (the last one: {last.pipeline})" if last else ""
            return StopError(
                f"workers of the new deployment ended {self._crashes_before + len(self._crashes)} times{name}",
                expected=f"fewer than {CRASHES} within {self._health.watch_s:g} s",
                got=None if cause is None else "; ".join(item for item in (cause.what, cause.got) if item),
                remedy=None if cause is None else cause.remedy,
            )

    def verdict(self, statuses: Sequence[PipelineStatus]) -> Verdict:
        """Where it stands, when nothing is bad: ``over`` is when it cannot be taken back any more."""
        now = self._clock()
        with self._lock:
            quiet_since = max((item.at for item in self._crashes), default=self._began_at)
            if now - self._began_at >= self._health.watch_s:
                return "over"
        works = all(self._works(item) for item in statuses if item.name in self._watched)
        return "healthy" if works and now - quiet_since >= self._health.healthy_after_s else "waiting"

    def _works(self, status: PipelineStatus) -> bool:
        """A source that gives nothing yet (an empty folder) is no trouble; a frame that is late is."""
        if status.state == "finished":
            return True
        return status.state == "running" and (
            status.counters.frames > self._frames.get(status.name, 0) or not status.busy
        )
