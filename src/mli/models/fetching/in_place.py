"""An archive that is on this device already: hashed where it lies, not copied."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from mli.errors import RefusedError, RetryError
from mli.models.fetching.download import Progress, check_size
from mli.models.fetching.watch import Watch
from mli.models.members import CHUNK_BYTES


def hash_in_place(
    path: Path, max_bytes: int, watch: Watch, progress: Progress, on_size: Callable[[int], None] | None
) -> tuple[str, os.stat_result]:
    """sha256 of the file, and what it was when its bytes were read.

    Raises:
        RefusedError: no readable file there, or too large.
        RetryError: the disk failed, or somebody wrote to it meanwhile.
        FetchCancelled: see ``Watch``.
    """
    digest, done = hashlib.sha256(), 0
    buffer = memoryview(bytearray(CHUNK_BYTES))
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _no_file(path, error.strerror) from error
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise _no_file(path, "it is not a file")
        check_size(before.st_size, max_bytes, str(path))
        if on_size is not None:
            on_size(before.st_size)
        try:
            while count := os.readv(descriptor, [buffer]):
                watch.check()
                digest.update(buffer[:count])
                done += count
                progress(done, before.st_size)
        except OSError as error:
            raise RetryError(
                "The model archive cannot be read.", where=str(path), got=error.strerror, remedy="check the disk"
            ) from error
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if done != before.st_size or (before.st_mtime_ns, before.st_ctime_ns) != (after.st_mtime_ns, after.st_ctime_ns):
        raise RetryError(
            "The model archive was written to while it was read.",
            where=str(path),
            expected="an archive that nobody writes to",
            got=f"{before.st_size} bytes at first, then {after.st_size}",
            remedy="put it there under another name and rename it when it is complete",
        )
    return digest.hexdigest(), after


def size_in_place(path: Path) -> int:
    """Bytes of the file; RefusedError where there is none that can be read."""
    try:
        found = path.stat()
    except OSError as error:
        raise _no_file(path, error.strerror) from error
    if not stat.S_ISREG(found.st_mode):
        raise _no_file(path, "it is not a file")
    if not os.access(path, os.R_OK):
        raise _no_file(path, "it may not be read")
    return found.st_size


def _no_file(path: Path, found: str | None) -> RefusedError:
    return RefusedError(
        "There is no model archive at this path.",
        where=str(path),
        expected="a readable file",
        got=found,
        remedy="check the path, and that the core's user may read it",
    )
