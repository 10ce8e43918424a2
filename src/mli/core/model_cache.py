"""What was made of one model: ``<root>/cache/<sha256>/<key>/``, each there whole or not at all.

A key's folder holds ``files/`` and beside it ``report.json``: their digests, and what their maker said of them. What
does not agree with its digests is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Generic, TypeVar

from mli.errors import MliError, ModelRefused, RetryError, StopError
from mli.models.members import DEFAULT_LIMITS, Member
from mli.models.staging import locked, remove_stale, staging_folder, sync_directory, write_durably

log = logging.getLogger(__name__)

T = TypeVar("T")
Make = Callable[[Path], dict[str, Any]]
"""Fills the given empty folder, and gives its report: JSON values."""
Check = Callable[[Path, tuple[Member, ...], dict[str, Any]], T]
"""Says what the files in a folder are, with their report; raises where they are not what they should be."""

SPARE_DISK_BYTES = DEFAULT_LIMITS.spare_disk_bytes
_SCHEMA = "mli.cache/1"
_REPORT_LIMIT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cached(Generic[T]):
    """One key's content.

    Attributes:
        value: what ``check`` said of its files.
        is_new: it was made just now.
    """

    value: T
    is_new: bool


class ModelCache:
    """One model's folder; several processes may share it, and one at a time makes something.

    Raises:
        StopError: there cannot be such a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StopError(
                "the cache of models cannot be used", where=str(self.folder), expected="a folder", got=error.strerror
            ) from error

    def get(self, key: str, size_bytes: int, make: Make, check: Check[T]) -> Cached[T]:
        """The content of ``key``, made first where it is not there or not intact.

        What other versions made is removed.

        Args:
            key: ``KIND-VERSION`` or ``KIND-VERSION-DETAIL``, where a version is all that makes others useless.
            size_bytes: about as much will be made; nothing is begun without room for it.

        Raises:
            MliError: as ``make`` and ``check`` do; nothing is kept then.
            RetryError: no room on the disk, or it failed.
        """
        try:
            with locked(self.folder):
                remove_stale(self.folder)
                found = self._find(key, check)
                if found is None:
                    self._check_room(size_bytes)
                    self._make(key, make, check)
                    found = self._find(key, check, is_new=True)
                if found is None:
                    raise OSError("it is not what was just written")
                self._remove_others(key)
                return found
        except OSError as error:
            raise RetryError(
                "the cache of models cannot be written",
                where=str(self.folder),
                got=str(error),
                remedy="check the disk, its free space and the folder's permissions, then start again",
            ) from error

    def _find(self, key: str, check: Check[T], *, is_new: bool = False) -> Cached[T] | None:
        folder = self.folder / key
        if not os.path.lexists(folder):
            return None
        try:
            if folder.is_symlink():
                raise ValueError("it is a link")
            with _open_file(folder / "report.json") as file:
                record = json.loads(file.read(_REPORT_LIMIT_BYTES))
            members = _members(folder / "files")
            if record != _record(members, record["report"]):
                raise ValueError("its files are not those that were written")
            return Cached(check(folder / "files", members, record["report"]), is_new)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, MliError) as error:
            log.warning("%s is damaged and is made anew: %s", folder, error)
            return None

    def _check_room(self, size_bytes: int) -> None:
        """What is made here is a convenience or can be made later; the spool on the same disk must go on."""
        free = shutil.disk_usage(self.folder).free
        if free < size_bytes + SPARE_DISK_BYTES:
            raise RetryError(
                "there is no room on the disk for what is made of the model",
                where=str(self.folder),
                expected=f"{size_bytes} free bytes, and {SPARE_DISK_BYTES} that stay free",
                got=f"{free} free bytes",
                remedy="free some space, then start again",
            )

    def _make(self, key: str, make: Make, check: Check[T]) -> None:
        with staging_folder(self.folder) as staging:
            files = staging / "made" / "files"
            files.mkdir(parents=True)
            report = make(files)
            members = _members(files, sync=True)
            check(files, members, report)
            record = json.dumps(_record(members, report), indent=2) + "\n"
            write_durably(files.parent / "report.json", record.encode())
            target = self.folder / key
            if os.path.lexists(target):
                target.rename(staging / "damaged")
            files.parent.rename(target)
            sync_directory(self.folder)

    def _remove_others(self, key: str) -> None:
        """Remove what other versions made; another detail (an input size, say) may be another pipeline's."""
        kind, version = key.split("-")[:2]
        for path in self.folder.glob(f"{kind}-*"):
            if path.name.split("-")[1] == version:
                continue
            with contextlib.suppress(OSError):  # it is in nobody's way
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
                log.info("removed %s, which is out of date", path)


def _open_file(path: Path) -> BufferedReader:
    """A regular file; nothing else is opened, or waited for."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path.name} is no file")
    return file


def _members(folder: Path, *, sync: bool = False) -> tuple[Member, ...]:
    """All files with their digests; ``sync`` makes them, and their names, survive a power cut."""
    members = []
    for path in sorted(folder.rglob("*")):
        kind = path.lstat().st_mode
        if stat.S_ISDIR(kind):
            if sync:
                sync_directory(path)
            continue
        if not stat.S_ISREG(kind):
            raise ModelRefused("what was made of the model is no plain file", where=str(path))
        with _open_file(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            members.append(Member(str(path.relative_to(folder)), os.fstat(file.fileno()).st_size, digest))
            if sync:
                os.fsync(file.fileno())
    if sync:
        sync_directory(folder)
    return tuple(members)


def _record(members: tuple[Member, ...], report: dict[str, Any]) -> dict[str, Any]:
    """What ``report.json`` holds; its own digest is for a flipped bit in the report."""
    files = {member.path: {"sha256": member.sha256, "bytes": member.size_bytes} for member in members}
    digest = hashlib.sha256(json.dumps([files, report], sort_keys=True).encode()).hexdigest()
    return {"schema": _SCHEMA, "sha256": digest, "files": files, "report": report}
