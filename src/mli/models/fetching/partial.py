"""An archive on its way: the bytes that came, and what they are bytes of. Both outlive the process.

A download's folder is named by the digest of its URI. It holds ``.part``, ``.part.json`` and, once complete, the
archive under its own name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mli.config.settings import ModelSource
from mli.errors import RetryError, StopError
from mli.models.fetching.addresses import archive_name
from mli.models.fetching.file_digest import FileDigest
from mli.models.fetching.url import shown_uri
from mli.models.fetching.watch import POLL_S, Watch
from mli.models.members import DEFAULT_LIMITS

SPARE_BYTES = DEFAULT_LIMITS.spare_disk_bytes
_SYNC_EVERY_S = 15.0
_SCHEMA = "mli.partial/1"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a partial file is a part of; None for what the other end did not say.

    Attributes:
        etag: as in the header, with its quotes.
        total_bytes: of the whole archive.
    """

    etag: str | None
    total_bytes: int | None


def remove_partials(folder: Path, keep: Iterable[ModelSource] = ()) -> None:
    """Remove every download from ``folder`` but those of the sources that are still wanted."""
    kept = {_key(source.uri) for source in keep}
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


class Partial:
    """The download of one archive into ``folder``; one process and thread at a time has it.

    Raises:
        StopError: the folder cannot be used.
        FetchCancelled: another had it until this was cancelled.
    """

    def __init__(self, folder: Path, source: ModelSource, watch: Watch) -> None:
        self.shown = shown_uri(source.uri)
        self.size_bytes = 0
        self.origin = Origin(None, None)
        self._key = _key(source.uri)
        self._watch = watch
        self._digest: FileDigest | None = None
        self._synced_at = time.monotonic()
        self._folder = folder / self._key
        self._part = self._folder / ".part"
        self._record = self._folder / ".part.json"
        self._final = self._folder / archive_name(source)
        self._descriptor = self._lock = -1

    def __enter__(self) -> Self:
        """Wait for its turn, then read what is there."""
        try:
            while (lock := self._take()) is None:
                self._watch.pause(POLL_S)
            self._lock = lock
            self._open()
            self._resume()
        except OSError as error:
            self._close()
            raise _unusable(self._folder, error) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def sha256(self) -> str:
        """Of the bytes so far.

        Raises:
            OSError: they cannot be read back.
        """
        assert self._digest is not None
        return self._digest.sha256(self._watch)

    def begin(self, origin: Origin) -> None:
        """Forget what came, and write down what comes now."""
        self._truncate()
        self.origin = origin
        record = {"schema": _SCHEMA, "uri": self._key, "etag": origin.etag, "total": origin.total_bytes}
        try:
            # Not durably: an old record, or none, costs a download; old bytes are gone before a new one is written.
            written = self._record.with_suffix(".new")
            written.write_text(json.dumps(record) + "\n", encoding="utf-8")
            written.rename(self._record)
        except OSError as error:
            raise self._failed(error) from error

    def append(self, data: bytes) -> None:
        """Write; the digest follows, and the disk gets it now and then, so that a power cut costs little.

        Raises:
            RetryError: the disk is full or failed.
        """
        assert self._digest is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if time.monotonic() - self._synced_at > _SYNC_EVERY_S:
                self._synced_at = time.monotonic()
                descriptor = os.dup(self._descriptor)
                threading.Thread(target=_sync, args=(descriptor,), name="archive-sync", daemon=True).start()
        except OSError as error:
            raise self._failed(error) from error
        self.size_bytes += len(data)
        self._digest.grow(data)

    def check_space(self, coming_bytes: int) -> None:
        """Raises RetryError where so many bytes more would fill the disk; other parts of the device live on it."""
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        if coming_bytes + SPARE_BYTES > free:
            raise RetryError(
                "There is no room on the disk for the model archive.",
                where=str(self._folder.parent),
                expected=f"{coming_bytes} free bytes, and {SPARE_BYTES} that stay free",
                got=f"{free} free bytes",
                remedy="free some space, then deploy again",
            )

    def check_space_meanwhile(self, coming_bytes: int) -> None:
        """The same while bytes come: what came is given back as well."""
        try:
            self.check_space(coming_bytes)
        except RetryError:
            self.discard()
            raise

    def finish(self) -> Path:
        """Give the complete archive its name. Not durably: what is installed of it will be."""
        try:
            self._part.rename(self._final)
        except OSError as error:
            raise self._failed(error) from error
        return self._final

    def discard(self) -> None:
        """Give the room back."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self) -> int | None:
        """A locked descriptor of the folder; None while another has it, or just removed it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == self._folder.stat().st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def _open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._final.rename(self._part)  # complete, but nobody took it: it is as good as a part
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._part, flags, 0o600)

    def _close(self) -> None:
        if self._digest is not None:
            self._digest.close()
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    def _resume(self) -> None:
        self.size_bytes = os.lseek(self._descriptor, 0, os.SEEK_END)
        self._digest = FileDigest(self._descriptor, self.size_bytes)
        found = self._read_record()
        if found is None:
            self._truncate()
        else:
            self.origin = found

    def _read_record(self) -> Origin | None:
        try:
            value: Any = json.loads(self._record.read_bytes())
            if value["schema"] != _SCHEMA or value["uri"] != self._key:
                return None
            return Origin(value["etag"], value["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not written to its end, or damaged: the bytes beside it are worth nothing

    def _truncate(self) -> None:
        assert self._digest is not None
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            if self.size_bytes:  # else ext4 would write out all that comes later when the file is closed
                os.ftruncate(self._descriptor, 0)
                os.fsync(self._descriptor)  # the old bytes must not outlive a power cut under the new record
        except OSError as error:
            raise self._failed(error) from error
        self.size_bytes = 0
        self._digest.restart()

    def _failed(self, error: OSError) -> RetryError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self.discard()
        return RetryError(
            "The model archive cannot be written to the disk.",
            where=str(self._folder),
            got=f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}",
            remedy="check the disk and its free space, then deploy again",
        )


def _sync(descriptor: int) -> None:
    # Says nothing when it fails: a disk that does fails a write too, and a digest has the last word.
    with contextlib.suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)


def _key(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:32]


def _unusable(folder: Path, error: OSError) -> StopError:
    return StopError(
        "The folder for downloads cannot be used.",
        where=str(folder),
        expected="a folder that the core may write to",
        got=error.strerror,
        remedy="check the root's owner and permissions",
    )
