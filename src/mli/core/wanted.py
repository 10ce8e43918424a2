"""A deployment that is wanted here, on its way from where it came to where it is applied."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mli.config.settings import DeploymentSettings
from mli.core.deployment_store import Origin
from mli.core.status import FINAL, DeploymentState, DeploymentStatus, ModelState, Problem, Progress, Serving
from mli.errors import MliError

Listener = Callable[[DeploymentStatus], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A deployment that was taken and parsed.

    Attributes:
        text: its exact text.
        folder: what relative paths in it belong to.
        name: what errors call it.
        revision: of the message; None for a file without one.
        signed_by: id of the trusted key; None where nothing was proved.
        listener: hears each of its states, for whoever sent it from this machine.
        judged: where not None, it is only found out whether it would be activated: told once, with why not. It hears
            nothing where something newer came first.
    """

    settings: DeploymentSettings
    text: str
    origin: Origin
    folder: str
    name: str
    revision: int | None
    signed_by: str | None = None
    received_at: float = field(default_factory=time.time)
    listener: Listener | None = None
    judged: Callable[[MliError | None], None] | None = None

    @property
    def identity(self) -> str:
        """Digest of its canonical form."""
        return self.settings.identity


class Reporter:
    """Says what becomes of deployments. Thread-safe.

    Args:
        tell: publishes a status; must not block.
    """

    def __init__(self, thing: str, tell: Listener, clock: Callable[[], float] = time.time) -> None:
        self._thing = thing
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._last: DeploymentStatus | None = None
        self._aside: str | None = None
        self._of_others: DeploymentStatus | None = None
        self._listeners: dict[str, Listener] = {}
        self.serving: Serving | None = None

    @property
    def last(self) -> DeploymentStatus | None:
        """What was told last."""
        return self._last

    def follow(self, identity: str, listener: Listener | None) -> None:
        """Let somebody hear the states of one deployment."""
        with self._lock:
            if listener is not None:
                self._listeners[identity] = listener

    def tell(
        self,
        state: DeploymentState,
        *,
        revision: int | None,
        identity: str | None,
        models: dict[str, ModelState] | None = None,
        progress: Progress | None = None,
        error: MliError | Problem | None = None,
        published: bool = True,
    ) -> DeploymentStatus:
        """Publish a state, and return it.

        Args:
            published: where false, only whoever follows the deployment hears it.
        """
        problem = Problem.of(error) if isinstance(error, MliError) else error
        with self._lock:
            status = DeploymentStatus(
                thing=self._thing,
                revision=revision,
                identity=identity,
                state=state,
                at=self._clock(),
                progress=progress,
                models=models,
                serving=self.serving,
                error=problem,
            )
            if published:
                self._last = status
                if identity != self._aside:
                    self._of_others = status
            key = identity or ""
            listener = self._listeners.pop(key, None) if state in FINAL else self._listeners.get(key)
        if published:
            self._tell(status)
        if listener is not None:
            listener(status)
        return status

    def tell_again(self, status: DeploymentStatus, after: DeploymentStatus) -> None:
        """Publish a state once more: another message's was told in between, and nothing since."""
        with self._lock:
            if self._last is not after:
                return
            self._last = again = replace(status, serving=self.serving)
        self._tell(again)

    def set_aside(self, identity: str) -> None:
        """What is told of this one from now on is for the moment alone; see ``tell_others``."""
        with self._lock:
            self._aside, self._of_others = identity, self._last

    def tell_others(self) -> None:
        """Publish once more what was told last of others than the one that was set aside: they may have gone on."""
        with self._lock:
            if self._of_others is None or self._last is self._of_others:
                return
            self._last = self._of_others = replace(self._of_others, serving=self.serving)
            again = self._last
        self._tell(again)
