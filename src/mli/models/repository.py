"""The device's models: ``<root>/models/<sha256>/``, each installed whole or not at all.

A model's folder holds ``files/``, the archive's files, and ``install.json``, their digests: a flipped bit is
found at load also where the archive has no manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mli.errors import ArchiveRefused, RetryError, StopError
from mli.models.archive import OpenedArchive, Progress, check_digest, unpack
from mli.models.contents import describe, describe_checked
from mli.models.json_check import Checker, parse_json
from mli.models.members import CHUNK_BYTES, DEFAULT_LIMITS, ExtractLimits, Member
from mli.models.opened import FileStamp
from mli.models.rules import shown
from mli.models.staging import locked, remove_stale, staging_folder, sync_directory, write_durably
from mli.types import ModelSpec

_SCHEMA = "mli.install/1"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One folder of the repository, as its record has it; its files are not read for this.

    Attributes:
        problem: why the record cannot be used; the other fields are then empty.
    """

    sha256: str
    name: str
    version: str
    archive_name: str
    size_bytes: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Record:
    archive_name: str
    name: str
    version: str
    files: tuple[Member, ...]


class Repository:
    """Installs and loads models; several processes may share one root."""

    def __init__(self, root: Path, limits: ExtractLimits = DEFAULT_LIMITS) -> None:
        self.folder = root.absolute() / "models"
        self._limits = limits
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StopError(
                "the model repository cannot be used", where=str(self.folder), expected="a folder", got=error.strerror
            ) from error
        remove_stale(self.folder)

    def install(
        self,
        archive: Path,
        sha256: str | None = None,
        *,
        hashed: FileStamp | None = None,
        progress: Progress | None = None,
    ) -> ModelSpec:
        """Extract, check and keep a model archive; an installed one is verified and used again.

        Args:
            sha256: digest that the archive must have.
            hashed: the archive's stamp when ``sha256`` was found to be its digest, as a fetch does; a file that was
                not touched since then is not hashed again.
            progress: called with bytes of work done and their total.

        Raises:
            ArchiveRefused: the archive breaks a rule or is no model; nothing of it is kept.
            RetryError: no room on the disk, or it failed.
        """
        with OpenedArchive(archive, progress) as opened:
            digest = check_digest(opened, sha256, hashed)
            if self._is_intact(digest):
                opened.check_unchanged()
                opened.finish_progress()
                return self._spec(digest)
            try:
                with staging_folder(self.folder) as staging:
                    self._stage(opened, digest, staging)
                    self._commit(digest, staging)
            except OSError as error:
                raise RetryError(
                    f"The model archive {opened.name} cannot be installed.",
                    where=str(self.folder),
                    got=str(error),
                    remedy="check the disk, its free space and the folder's permissions, then deploy again",
                ) from error
        return self._spec(digest)

    def load(self, sha256: str) -> ModelSpec:
        """An installed model, after all of its bytes were compared with those installed.

        Raises:
            ArchiveRefused: it is not installed, or its files changed.
        """
        folder = self._model_folder(sha256)
        if not folder.is_dir():
            raise ArchiveRefused(
                "The model is not installed.",
                where=str(folder),
                got="no such folder",
                remedy="deploy it again, so that its archive is installed",
            )
        self._verify(sha256)
        return self._spec(sha256)

    def keep_only(self, digests: Container[str]) -> tuple[str, ...]:
        """Remove all other models.

        Returns:
            Digests of the removed ones.
        """
        removed = []
        with locked(self.folder):
            for path in self.folder.iterdir():
                if not _DIGEST.fullmatch(path.name) or path.name in digests:
                    continue
                with staging_folder(self.folder) as staging:
                    path.rename(staging / "removed")  # at once, so that no half of it is ever found
                removed.append(path.name)
        return tuple(removed)

    def list(self) -> tuple[InstalledModel, ...]:
        """All installed models, by digest; :meth:`load` tells whether their files are intact."""
        digests = sorted(path.name for path in self.folder.iterdir() if _DIGEST.fullmatch(path.name))
        return tuple(self._installed(digest) for digest in digests)

    def _installed(self, digest: str) -> InstalledModel:
        try:
            record = self._record(digest)
        except ArchiveRefused as error:
            return InstalledModel(digest, "", "", "", 0, problem=f"{error.what} {error.got or ''}".strip())
        size = sum(file.size_bytes for file in record.files)
        return InstalledModel(digest, record.name, record.version, record.archive_name, size)

    def _stage(self, opened: OpenedArchive, digest: str, staging: Path) -> None:
        """Make the model's whole folder as ``staging/model``."""
        folder, members = unpack(opened, staging / "unpacked", self._limits)
        spec = describe_checked(folder, members, digest, opened.name)
        model = staging / "model"
        model.mkdir()
        folder.rename(model / "files")
        write_durably(model / "install.json", _record_bytes(opened.name, spec, members))
        sync_directory(staging)

    def _commit(self, digest: str, staging: Path) -> None:
        target = self._model_folder(digest)
        with locked(self.folder):
            if target.exists():
                if self._is_intact(digest):
                    return  # another process was faster
                target.rename(staging / "damaged")
            (staging / "model").rename(target)
            sync_directory(self.folder)

    def _model_folder(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ArchiveRefused(
                "A model is named by the sha256 of its archive.",
                expected="64 hexadecimal digits in lower case",
                got=shown(digest),
            )
        return self.folder / digest

    def _spec(self, digest: str) -> ModelSpec:
        return describe(self._model_folder(digest) / "files", digest, self._record(digest).archive_name)

    def _is_intact(self, digest: str) -> bool:
        if not self._model_folder(digest).is_dir():
            return False
        try:
            self._verify(digest)
        except ArchiveRefused:
            return False  # the archive at hand replaces it
        return True

    def _verify(self, digest: str) -> None:
        """Compare the files with the record."""
        files = self._model_folder(digest) / "files"
        listed = {file.path: file for file in self._record(digest).files}
        there = {str(path.relative_to(files)) for path in files.rglob("*") if path.is_symlink() or not path.is_dir()}
        for path in sorted(there ^ listed.keys()):
            raise _changed(files / path, "the files that were installed", "gone" if path in listed else "new")
        for path, file in sorted(listed.items()):
            found = _digest(files / path, path)
            if found != file:
                expected = f"{file.size_bytes} bytes, sha256 {file.sha256}"
                raise _changed(files / path, expected, f"{found.size_bytes} bytes, sha256 {found.sha256}")

    def _record(self, digest: str) -> _Record:
        path = self._model_folder(digest) / "install.json"
        try:
            value = parse_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise _changed(path, "the record of the installation", str(error)) from error
        check = Checker()
        record = _parse_record(check, value)
        if check.problems:
            raise _changed(path, "the record of the installation", "; ".join(check.problems[:3]))
        return record


def _record_bytes(archive_name: str, spec: ModelSpec, members: tuple[Member, ...]) -> bytes:
    files = {member.path: {"sha256": member.sha256, "bytes": member.size_bytes} for member in members}
    record = {
        "schema": _SCHEMA,
        "archive": archive_name,
        "name": spec.name,
        "version": spec.version,
        "files": files,
    }
    return (json.dumps(record, indent=2) + "\n").encode()


def _parse_record(check: Checker, value: Any) -> _Record:
    def files(value: Any, path: str) -> tuple[Member, ...]:
        found = []
        for name, entry in check.object(value, path, tuple(value) if isinstance(value, dict) else ()).items():
            data = check.object(entry, name, ("sha256", "bytes"))
            size = check.get(data, name, "bytes", check.whole(0), 0)
            found.append(Member(name, size, check.get(data, name, "sha256", check.sha256, "")))
        return tuple(found)

    data = check.object(value, "", ("schema", "archive", "name", "version", "files"))
    check.get(data, "", "schema", check.choice((_SCHEMA,)), _SCHEMA)
    return _Record(
        check.get(data, "", "archive", check.text, ""),
        check.get(data, "", "name", check.text, ""),
        check.get(data, "", "version", check.text, ""),
        check.get(data, "", "files", files, ()),
    )


def _digest(file: Path, path: str) -> Member:
    digest, size = hashlib.sha256(), 0
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise _changed(file, "a readable file", error.strerror or str(error)) from error
    return Member(path, size, digest.hexdigest())


def _changed(path: Path, expected: str, found: str) -> ArchiveRefused:
    return ArchiveRefused(
        "An installed model is not what was installed.",
        where=str(path),
        expected=expected,
        got=found,
        remedy="deploy it again, so that its archive is installed anew; check the disk if it happens again",
    )
