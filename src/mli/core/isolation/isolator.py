"""How this core starts processes that read somebody else's bytes: in a container or not, held to their memory."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mli.config.settings import IsolationMode
from mli.core.isolation.bubblewrap import PARENT_PID, TEMPORARY, container_arguments
from mli.core.isolation.cgroups import find_memory_control
from mli.core.isolation.memory import ControlKind, MemoryControl
from mli.core.isolation.process import Container, LaunchedProcess, start
from mli.core.isolation.trial import Containers, NoContainers, try_containers
from mli.core.isolation.view import View
from mli.errors import StopError

log = logging.getLogger(__name__)

IsolationKind = Literal["container", "none"]


@dataclass(frozen=True, slots=True)
class Isolation:
    """How one process is started.

    Attributes:
        kind: for the status.
        why_not: why it is none, where a container was not ruled out; for the status.
        how: what makes the container, None without one.
    """

    kind: IsolationKind
    why_not: str | None = None
    how: Containers | None = None

    @property
    def parent_pid(self) -> int:
        """What the process will see as its parent's number."""
        return PARENT_PID if self.how is not None else os.getpid()


NO_ISOLATION = Isolation("none")


class Isolator:
    """Starts processes; one for a core. Any thread.

    Args:
        hidden: files and folders that no contained process sees: the root with its secrets, private keys elsewhere.
        minimum: ``container`` refuses what would run without one.
        containers, memory: what this device can do, found out when it is first needed.
    """

    def __init__(
        self,
        *,
        hidden: Sequence[Path] = (),
        minimum: IsolationKind = "none",
        containers: Containers | NoContainers | None = None,
        memory: MemoryControl | None = None,
    ) -> None:
        self._hidden = tuple(path.absolute() for path in hidden)
        self._minimum = minimum
        self._containers = containers
        self._memory = memory
        self._lock = threading.Lock()

    @property
    def memory_control(self) -> ControlKind:
        """What holds the memory of processes on this device."""
        return self._control().kind

    def resolve(self, mode: IsolationMode) -> Isolation:
        """What a pipeline gets that asks for ``mode``.

        Raises:
            StopError: it, or this device, asks for a container, and none can be had.
        """
        if mode == "none":
            if self._minimum == "container":
                raise StopError(
                    "this device runs pipelines in containers only",
                    expected="`isolation: auto` or `container` (min_isolation of the device's file)",
                    got="isolation: none",
                )
            return NO_ISOLATION
        with self._lock:
            found = self._containers = self._containers or try_containers()
        if isinstance(found, Containers):
            return Isolation("container", how=found)
        if mode == "container" or self._minimum == "container":
            raise StopError(
                f"a pipeline cannot run in a container: {found.why}",
                expected="isolation: container" if mode == "container" else "min_isolation: container",
                got=found.got,
                remedy=found.remedy,
            )
        return Isolation("none", why_not=found.why if found.got is None else f"{found.why}: {found.got}")

    def launch(
        self,
        command: Sequence[str],
        *,
        isolation: Isolation,
        name: str,
        memory_bytes: int,
        environment: dict[str, str],
        view: View = View(),
        pass_fds: Sequence[int] = (),
        stdin: int = subprocess.DEVNULL,
        new_session: bool = False,
    ) -> LaunchedProcess:
        """Start a process; it ends with the thread that calls this, however that ends.

        Args:
            command: its parent is ``isolation.parent_pid`` for it.
            name: of the pipeline or job.
            memory_bytes: what it may have resident; the caller watches that, the kernel holds it a little above.
            view: what it sees in a container, beside Python and its libraries.
            new_session: without a container, not of this terminal; in one it never is.

        Raises:
            RetryError: it could not be started.
        """
        container = None
        if isolation.how is not None:
            how = isolation.how
            arguments = container_arguments(how.version, how.variant, view, self._hidden)
            container = Container(how.program, tuple(arguments))
            environment = {**environment, "HOME": TEMPORARY, "TMPDIR": TEMPORARY, "PYTHONDONTWRITEBYTECODE": "1"}
        return start(
            list(command),
            self._control().group(name, memory_bytes),
            container,
            pass_fds=tuple(pass_fds),
            environment=environment,
            stdin=stdin,
            new_session=new_session,
        )

    def close(self) -> None:
        """No process is left."""
        with self._lock:
            if self._memory is not None:
                self._memory.close()
                self._memory = None

    def _control(self) -> MemoryControl:
        with self._lock:
            if self._memory is None:
                self._memory = find_memory_control()
            return self._memory
