"""Extracts model archives: regular files only, all or nothing.

Nothing is renamed or skipped to make a bad archive fit: the first broken rule refuses the whole archive.
Files are created under directory descriptors with O_EXCL and O_NOFOLLOW, so that even a name that slipped
through the checks could not leave the folder or write over anything.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from mli.errors import RetryError
from mli.models.members import DEFAULT_LIMITS, Entry, ExtractLimits, Member, PathRegister
from mli.models.opened import FileStamp, OpenedArchive, Progress
from mli.models.rules import Rule, shown
from mli.models.staging import staging_folder, sync_directory
from mli.models.tar_reader import read_tar
from mli.models.zip_reader import read_zip

__all__ = [
    "ExtractLimits",
    "ExtractedArchive",
    "Member",
    "OpenedArchive",
    "Progress",
    "check_digest",
    "extract",
    "unpack",
]

# Files whose bytes are on their way to the disk while the next ones are unpacked.
_PENDING_FILES = 32
_SYNC_THREADS = 4
# A long file starts its way to the disk while it is still inflated.
_EARLY_SYNC_BYTES = 16 * 1024 * 1024
_BACKGROUND_BYTES = 128 * 1024
_PENDING_CHUNKS = 8
_OTHER_KINDS = (
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file"),
    (b"Rar!", "a RAR file"),
    (b"PK\x05\x06", "a zip without members"),
    (b"PK\x07\x08", "a zip in several parts"),
    (b"<", "text in HTML or XML, perhaps a server's error message"),
    (b"{", "text in JSON, perhaps a server's error message"),
    (b"TFL3", "an empty or cut TFLite file"),
)


@dataclass(frozen=True, slots=True)
class ExtractedArchive:
    """What was extracted.

    Attributes:
        sha256: of the archive's bytes, hexadecimal.
        members: sorted by path; Finder's clutter and pure folders are not among them.
    """

    sha256: str
    members: tuple[Member, ...]


def extract(
    archive: Path,
    target: Path,
    *,
    sha256: str | None = None,
    limits: ExtractLimits = DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> ExtractedArchive:
    """Extract a zip or gzipped tar into the new folder ``target``, durably.

    Args:
        sha256: digest that the archive must have; checked before anything is parsed.
        progress: called with bytes of work done and their total.

    Raises:
        ArchiveRefused: the archive breaks a rule; nothing is left behind.
        RetryError: no room on the disk, or it failed.
        FileExistsError: ``target`` is there already.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    with OpenedArchive(archive, progress) as opened, staging_folder(target.parent) as staging:
        digest = check_digest(opened, sha256)
        folder, members = unpack(opened, staging / "files", limits)
        folder.rename(target)
        sync_directory(target.parent)
    return ExtractedArchive(digest, members)


def check_digest(archive: OpenedArchive, expected: str | None, hashed: FileStamp | None = None) -> str:
    """The archive's sha256; refused with both where it is not the ``expected`` one.

    Args:
        hashed: the file's stamp when ``expected`` was found to be its digest; while it has it, nothing is read again.
    """
    if expected is not None and archive.stamp == hashed:
        archive.skip_digest()
        return expected.lower()
    digest = archive.sha256()
    if expected is not None and digest != expected.lower():
        error = archive.refused(Rule.DIGEST, f"sha256 {digest}")
        error.expected = f"sha256 {expected.lower()}"
        raise error
    return digest


def unpack(archive: OpenedArchive, folder: Path, limits: ExtractLimits) -> tuple[Path, tuple[Member, ...]]:
    """Write the members below the new ``folder`` and sync them; a lone top folder is stepped into.

    The caller removes ``folder`` after a failure.

    Returns:
        the folder that holds the files, and the files.
    """
    folder.mkdir()
    register, space = PathRegister(archive.name, limits), _Space(archive, folder, limits)
    with _Writer(archive, folder) as writer:
        for entry in _entries(archive, limits):
            path = register.accept(entry.name, entry.is_directory)
            space.claim(entry)
            if path is not None:
                writer.write(path, entry.chunks)
            else:
                for _ in entry.chunks:
                    pass
    archive.check_unchanged()
    if not writer.members:
        raise archive.refused(Rule.EMPTY, "no file")
    for directory in writer.directories():
        sync_directory(directory)
    archive.finish_progress()
    return _step_into_top(folder, writer.members)


def _entries(archive: OpenedArchive, limits: ExtractLimits) -> Iterator[Entry]:
    """The members by the archive's content; its name may lie."""
    head = archive.read_at(0, min(262, archive.size_bytes))
    if head.startswith(b"PK\x03\x04"):
        return read_zip(archive, limits)
    if head.startswith(b"\x1f\x8b"):
        return read_tar(archive, limits)
    if not head:
        raise archive.refused(Rule.KIND, "an empty file")
    kind = "a tar that is not packed with gzip" if head[257:262] == b"ustar" else "something else"
    kind = next((name for magic, name in _OTHER_KINDS if head.startswith(magic)), kind)
    raise archive.refused(Rule.KIND, f"{kind}, beginning with {head[:8]!r}")


def _step_into_top(folder: Path, members: list[Member]) -> tuple[Path, tuple[Member, ...]]:
    members = sorted(members, key=lambda member: member.path)
    tops = {member.path.partition("/")[0] for member in members}
    if len(tops) > 1 or "/" not in members[0].path:
        return folder, tuple(members)
    top = tops.pop()
    return folder / top, tuple(replace(member, path=member.path[len(top) + 1 :]) for member in members)


class _Space:
    """Grants room to members; readers refuse data of another size than the one claimed."""

    def __init__(self, archive: OpenedArchive, folder: Path, limits: ExtractLimits) -> None:
        self._archive = archive
        self._folder = folder
        self._limits = limits
        self._total = 0

    def claim(self, entry: Entry) -> None:
        limits, size = self._limits, self._archive.size_bytes
        self._total += entry.size_bytes
        if self._total > limits.total_bytes:
            found = f"{self._total} bytes so far, limit {limits.total_bytes}"
            raise self._archive.refused(Rule.SIZE, found, entry.name)
        if self._total > max(limits.ratio_floor_bytes, limits.ratio * size):
            found = f"{self._total} bytes from an archive of {size}, limit {limits.ratio} times as many"
            raise self._archive.refused(Rule.BOMB, found, entry.name)
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize - limits.spare_disk_bytes
        if entry.size_bytes > free:
            raise RetryError(
                f"There is no room on the disk for {shown(entry.name)} of the model archive {self._archive.name}.",
                where=str(self._folder.parent.parent),
                expected=f"{entry.size_bytes} free bytes, and {limits.spare_disk_bytes} that stay free",
                got=f"{max(0, disk.f_bavail * disk.f_frsize)} free bytes",
                remedy="free some space, then deploy again",
            )


class _BackgroundDigest:
    """sha256 on another core, a few chunks behind at most; small files are not worth the switch."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._digest = hashlib.sha256()
        self._waiting: deque[Future[None]] = deque()

    def update(self, chunk: bytes) -> None:
        if not self._waiting and len(chunk) < _BACKGROUND_BYTES:
            self._digest.update(chunk)
            return
        if len(self._waiting) >= _PENDING_CHUNKS:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._digest.update, chunk))

    def finish(self) -> str:
        while self._waiting:
            self._waiting.popleft().result()
        return self._digest.hexdigest()


class _Writer:
    """Writes files below one folder, hashes them, and syncs them while the next ones are written."""

    def __init__(self, archive: OpenedArchive, folder: Path) -> None:
        self.members: list[Member] = []
        self._archive = archive
        self._folder = folder
        self._directories = {""}
        self._syncing: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(_SYNC_THREADS, "model-fsync")
        self._hashing = ThreadPoolExecutor(1, "model-hash")
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._syncing:
                self._finish_one()
        finally:
            self._hashing.shutdown()
            self._pool.shutdown()
            os.close(self._root)

    def directories(self) -> list[Path]:
        """All folders that were made, the deepest first."""
        return [self._folder / path for path in sorted(self._directories, key=lambda path: -path.count("/"))]

    def write(self, path: str, chunks: Iterator[bytes]) -> None:
        """Write one file of the given, checked path."""
        while len(self._syncing) >= _PENDING_FILES:
            self._finish_one()
        digest, count = _BackgroundDigest(self._hashing), 0
        try:
            descriptor = self._create(path)
        except OSError as error:
            raise self._failed(path, error) from error
        early: Future[None] | None = None
        unsynced = 0
        try:
            for chunk in chunks:
                digest.update(chunk)
                self._write_all(descriptor, chunk, path)
                count += len(chunk)
                unsynced += len(chunk)
                if unsynced >= _EARLY_SYNC_BYTES and (early is None or early.done()):
                    early, unsynced = self._pool.submit(self._sync, descriptor, path, early), 0
            sha256 = digest.finish()
        except BaseException:
            if early is not None:
                wait([early])  # it uses the descriptor
            os.close(descriptor)
            raise
        self._syncing.append(self._pool.submit(self._sync_and_close, descriptor, path, early))
        self.members.append(Member(path, count, sha256))

    def _create(self, path: str) -> int:
        parent, name = os.path.split(path)
        directory, walked = os.dup(self._root), ""
        try:
            for part in parent.split("/") if parent else ():
                walked = f"{walked}/{part}" if walked else part
                if walked not in self._directories:
                    os.mkdir(part, dir_fd=directory)
                    self._directories.add(walked)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                deeper = os.open(part, flags, dir_fd=directory)
                os.close(directory)
                directory = deeper
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(name, flags, 0o644, dir_fd=directory)
        finally:
            os.close(directory)

    def _write_all(self, descriptor: int, chunk: bytes, path: str) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError as error:
            raise self._failed(path, error) from error

    def _sync(self, descriptor: int, path: str, earlier: Future[None] | None) -> None:
        if earlier is not None:
            earlier.result()  # the kernel tells a failed write once; a later sync would not
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise self._failed(path, error) from error

    def _sync_and_close(self, descriptor: int, path: str, earlier: Future[None] | None) -> None:
        try:
            self._sync(descriptor, path, earlier)
        finally:
            os.close(descriptor)

    def _finish_one(self) -> None:
        self._syncing.popleft().result()

    def _failed(self, path: str, error: OSError) -> RetryError:
        return RetryError(
            f"A file of the model archive {self._archive.name} cannot be written.",
            where=str(self._folder / path),
            got=f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}",
            remedy="check the disk and its free space, then deploy again",
        )
