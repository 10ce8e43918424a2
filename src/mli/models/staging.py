"""Temporary folders that a killed process leaves behind at most until the next start."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = ".incoming-"


@contextmanager
def staging_folder(parent: Path) -> Iterator[Path]:
    """A new empty folder in ``parent``; whatever is still in it at the end is removed.

    A lock on the folder itself says that its process lives; the kernel drops it when the process dies, however
    it dies.
    """
    path, lock = _create_locked(parent)
    try:
        yield path
    finally:
        try:
            shutil.rmtree(path)
        finally:
            os.close(lock)


def remove_stale(parent: Path) -> tuple[str, ...]:
    """Remove the temporary folders of processes that are gone; those of living ones stay.

    Returns:
        names of the removed folders.
    """
    removed = []
    for path in sorted(parent.glob(f"{PREFIX}*")):
        lock = _lock(path)
        if lock is None:
            continue
        try:
            shutil.rmtree(path)
            removed.append(path.name)
        except (
            OSError
        ) as error:  # root's, who once ran a core here by hand, or a disk that fails: nobody needs it gone
            log.warning("what a core that was ended left in %s cannot be removed: %s", path, error)
        finally:
            os.close(lock)
    return tuple(removed)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time works in ``folder``; the kernel frees the lock of a dead one."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Create or replace the small file ``path`` so that a power cut leaves the old or the new one."""
    temporary = path.with_name(f"{PREFIX}{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _create_locked(parent: Path) -> tuple[Path, int]:
    while True:
        path = parent / f"{PREFIX}{secrets.token_hex(8)}"
        path.mkdir()
        lock = _lock(path)
        if lock is not None:
            return path, lock
        # Another process took it for a stale one between the two lines above; it removes it.


def _lock(path: Path) -> int | None:
    """A locked descriptor of the folder; None where it is another's, gone, or no folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
