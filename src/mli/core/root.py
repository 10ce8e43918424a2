"""The device's folder on disk: its layout, and the lock that keeps it to one core."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from mli.errors import StopError


@dataclass(frozen=True, slots=True)
class Root:
    """Where everything of one thing lies."""

    path: Path

    @property
    def spool(self) -> Path:
        """The queue on disk."""
        return self.path / "spool.db"

    @property
    def system_log(self) -> Path:
        """The core's own log."""
        return self.path / "log" / "system" / "runtime.log"

    @property
    def deployments(self) -> Path:
        """What was deployed, and which of it runs."""
        return self.path / "deployments"

    @property
    def downloads(self) -> Path:
        """Archives that are on their way."""
        return self.path / "downloads"

    @property
    def control_socket(self) -> Path:
        """Where the running core answers."""
        return self.path / "core.sock"

    @property
    def configuration(self) -> Path:
        """Of a component of Greengrass, as it was when it was last good; no other core has one."""
        return self.path / "configuration.json"

    @property
    def cache(self) -> Path:
        """What was made of the models for this device; may be removed at any time while no core runs."""
        return self.path / "cache"

    def user_log(self, pipeline: str) -> Path:
        """What one pipeline saw, skipped and fired."""
        return self.path / "log" / "user" / f"{pipeline}.log"


class RootLock:
    """Holds a root for this process; the system lets go of it when the process ends, however it ends.

    The lock is on the folder itself, which nobody can put another in the place of while it is used. A file in it only
    says who holds it.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._holder = root.path / ".lock"
        self._descriptor = -1

    def __enter__(self) -> RootLock:
        try:
            self._root.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self._root.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StopError(
                f"the root folder cannot be used: {error.strerror}",
                where=str(self._root.path),
                remedy="choose another with --root, or make it writable for this user",
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise StopError(
                "another core works in this root folder",
                where=str(self._root.path),
                got=f"process {self._named()} holds it",
                remedy="end that one, or choose another --root or --thing",
            ) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only its holder cannot be named
            self._holder.write_text(str(os.getpid()))
        return self

    def _named(self) -> str:
        with contextlib.suppress(OSError):
            return self._holder.read_text(errors="replace")[:20].strip() or "another"
        return "another"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
