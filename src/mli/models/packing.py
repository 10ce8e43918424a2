"""Writes model archives, the same bytes for the same files, and verifies finished ones."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO

from mli.errors import ArchiveRefused, RetryError, UsageError
from mli.models.archive import OpenedArchive, Progress, check_digest, unpack
from mli.models.contents import describe_checked
from mli.models.manifest import MANIFEST_NAME, Manifest
from mli.models.members import CHUNK_BYTES, DEFAULT_LIMITS, Member
from mli.models.staging import remove_stale, staging_folder, sync_directory
from mli.types import ModelSpec

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # a zip knows no time before


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a good archive holds.

    Attributes:
        sha256: of the archive's bytes.
        size_bytes: of the archive.
        has_manifest: without one, only sizes and checksums of zip or gzip were checked.
        files: all of the archive's files, sorted by path.
        spec: its ``directory`` is empty: the files are not kept.
    """

    name: str
    version: str
    sha256: str
    size_bytes: int
    has_manifest: bool
    files: tuple[Member, ...]
    spec: ModelSpec


def write_archive(
    out: Path,
    manifest: Manifest,
    files: Mapping[str, Path | bytes],
    *,
    overwrite: bool = False,
    compress: bool = True,
) -> str:
    """Write ``manifest`` and ``files`` as ``.zip``, ``.tar.gz`` or ``.tgz``; verified before it gets its name.

    The same files give the same bytes (compressed ones: with the same zlib).

    Args:
        manifest: its ``files`` are replaced by those given.
        files: contents by path inside the archive.
        overwrite: replace an ``out`` that is there.
        compress: else members are stored (zip) or packed at level 0 (tar.gz).

    Returns:
        sha256 of the archive.

    Raises:
        UsageError: ``out`` is there, or its suffix is none of the three.
        ArchiveRefused: the result would be refused on a device, and why.
    """
    check_target(out, overwrite=overwrite)
    if MANIFEST_NAME in files:
        raise UsageError(f"{MANIFEST_NAME} is written by mli itself.", remedy="leave it out of the files")
    try:
        return _write_archive(out, manifest, files, overwrite, compress)
    except OSError as error:
        raise RetryError(
            "The archive cannot be written.",
            where=str(out),
            got=error.strerror or str(error),
            remedy="check the disk and its free space; nothing of it was kept",
        ) from error


def check_target(out: Path, *, overwrite: bool = False) -> None:
    """Whether an archive can be written there, before any work is done for it.

    Raises:
        UsageError: wrong suffix, no such folder, a folder that is not writable, or ``out`` is there already.
    """
    if not out.name.lower().endswith((".zip", ".tar.gz", ".tgz")):
        raise UsageError("A model archive is a .zip or a .tar.gz.", where=str(out), got=out.suffix or "no suffix")
    if not os.access(out.parent, os.W_OK | os.X_OK) or not out.parent.is_dir():
        raise UsageError("The archive cannot be written there.", where=str(out.parent), expected="a writable folder")
    if os.path.lexists(out) and not overwrite:
        raise UsageError("The archive is there already.", where=str(out), remedy="remove it, or say --force")


def _write_archive(
    out: Path, manifest: Manifest, files: Mapping[str, Path | bytes], overwrite: bool, compress: bool
) -> str:
    listed = tuple(hashed(path, content) for path, content in sorted(files.items()))
    manifest = replace(manifest, files=listed)
    remove_stale(out.parent)
    with staging_folder(out.parent) as staging:
        temporary = staging / out.name
        write = _write_zip if out.name.lower().endswith(".zip") else _write_tar
        contents = {MANIFEST_NAME: manifest.to_bytes(), **dict(sorted(files.items()))}
        first = hashed(MANIFEST_NAME, contents[MANIFEST_NAME])
        with temporary.open("xb") as file:
            write(file, contents, (first, *listed), compress)
            file.flush()
            os.fsync(file.fileno())
        # A file that changed since it was hashed, or a name that breaks a rule, shows here and not on a device.
        report = _verify_in(temporary, staging / "check", None)
        if overwrite:
            temporary.replace(out)
        else:
            os.link(temporary, out)
        sync_directory(out.parent)
    return report.sha256


def verify(archive: Path, *, sha256: str | None = None, progress: Progress | None = None) -> VerifyReport:
    """Extract an archive to a temporary folder and check every rule and digest.

    Raises:
        ArchiveRefused: the archive breaks a rule or is no model.
    """
    with tempfile.TemporaryDirectory(prefix="mli-verify-") as folder:
        return _verify_in(archive, Path(folder) / "files", sha256, progress)


def _verify_in(archive: Path, folder: Path, sha256: str | None, progress: Progress | None = None) -> VerifyReport:
    with OpenedArchive(archive, progress) as opened:
        digest = check_digest(opened, sha256)
        extracted, members = unpack(opened, folder, DEFAULT_LIMITS)
        spec = describe_checked(extracted, members, digest, opened.name)
        has_manifest = any(member.path == MANIFEST_NAME for member in members)
        spec = replace(spec, directory="")
        return VerifyReport(spec.name, spec.version, digest, opened.size_bytes, has_manifest, members, spec)


@contextmanager
def _opened(content: Path | bytes) -> Iterator[IO[bytes]]:
    with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
        yield stream


def hashed(path: str, content: Path | bytes) -> Member:
    """A file as a manifest lists it: its path in the archive, its size and digest.

    Raises:
        UsageError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with _opened(content) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise UsageError(
            f"The file for {path} cannot be read.", where=str(content), got=error.strerror or str(error)
        ) from error
    return Member(path, size, digest.hexdigest())


def _write_zip(
    file: BinaryIO, contents: Mapping[str, Path | bytes], files: tuple[Member, ...], compress: bool
) -> None:
    sizes = {file.path: file.size_bytes for file in files}
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in contents.items():
            info = zipfile.ZipInfo(path, _EARLIEST)
            info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            info.create_system = 3  # Unix: the mode below counts
            info.external_attr = 0o100644 << 16
            info.file_size = sizes[path]  # decides whether zip64 is needed
            with _opened(content) as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target, CHUNK_BYTES)


def _write_tar(
    file: BinaryIO, contents: Mapping[str, Path | bytes], files: tuple[Member, ...], compress: bool
) -> None:
    sizes = {file.path: file.size_bytes for file in files}
    with (
        gzip.GzipFile("", "wb", 6 if compress else 0, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, content in contents.items():
            info = tarfile.TarInfo(path)
            info.size = sizes[path]
            info.mode = 0o644
            with _opened(content) as source:
                try:
                    archive.addfile(info, source)
                except OSError as error:
                    raise ArchiveRefused(
                        f"The file for {path} changed while it was packed.", where=str(content)
                    ) from error
