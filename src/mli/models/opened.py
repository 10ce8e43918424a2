"""An archive that is open for reading: its digest, and bounded reads that notice a changing file."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mli.errors import ArchiveRefused, RetryError
from mli.models.members import CHUNK_BYTES
from mli.models.rules import Rule, refusal

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FileStamp:
    """Which file it is, and in which state: any write to it, or another file of its name, makes another stamp."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileStamp:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class OpenedArchive:
    """A model archive's bytes, read through one descriptor so that a swapped name changes nothing.

    Attributes:
        name: base name, for messages.
        size_bytes: of the whole archive.
        stamp: of the file when it was opened.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.name = path.name
        self._progress = progress
        self._done = 0
        try:
            # O_NONBLOCK: opening a named pipe must not wait for a writer.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from error
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._descriptor)
            raise _unreadable(path, "it is not a file")
        self.stamp = FileStamp.of(found)
        self.size_bytes = found.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def refused(self, rule: Rule, found: str, member: str | bytes | None = None) -> ArchiveRefused:
        """The error for this archive; the caller raises it."""
        return refusal(self.name, rule, found, member)

    def read_at(self, offset: int, length: int, member: str | bytes | None = None) -> bytes:
        """Exactly ``length`` bytes.

        Raises:
            ArchiveRefused: the archive ends before them.
        """
        data = self._pread(offset, length)
        if len(data) != length:
            raise self.refused(Rule.TRUNCATED, f"the archive ends {length - len(data)} bytes early", member)
        return data

    def chunks(self, offset: int, length: int, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """``length`` bytes from ``offset`` in pieces; counted as progress.

        Raises:
            ArchiveRefused: the archive ends before them.
        """
        end = offset + length
        while offset < end:
            data = self.read_at(offset, min(size, end - offset))
            offset += len(data)
            self._advance(len(data))
            yield data

    def sha256(self) -> str:
        """Digest of all bytes, in one pass."""
        digest = hashlib.sha256()
        for data in self.chunks(0, self.size_bytes):
            digest.update(data)
        return digest.hexdigest()

    def check_unchanged(self) -> None:
        """Raises ArchiveRefused if somebody wrote to the archive since it was opened."""
        if FileStamp.of(os.fstat(self._descriptor)) != self.stamp:
            raise self.refused(Rule.CHANGED, "it was written to while it was read")

    def skip_digest(self) -> None:
        """Count the digest's pass as done: it was taken before."""
        self._advance(self.size_bytes)

    def finish_progress(self) -> None:
        """Report all work as done (headers are not counted one by one)."""
        self._done = 2 * self.size_bytes
        self._advance(0)

    def _advance(self, count: int) -> None:
        # Two passes over the archive: its digest, then its contents.
        self._done = min(self._done + count, 2 * self.size_bytes)
        if self._progress is not None:
            self._progress(self._done, 2 * self.size_bytes)

    def _pread(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, offset)
            while 0 < len(data) < length:
                more = os.pread(self._descriptor, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise RetryError(
                f"The model archive {self.name} cannot be read.",
                where=self.name,
                got=f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}",
                remedy="check the disk, or fetch the archive again",
            ) from error
        return data


def _unreadable(path: Path, found: str) -> ArchiveRefused:
    return ArchiveRefused(
        f"There is no readable model archive at {path}.",
        where=str(path),
        expected=Rule.KIND.wants,
        got=found,
        remedy="check the path and its permissions",
    )
