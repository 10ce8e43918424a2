"""Zip files of which the same content always makes the same bytes."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

from mli.errors import RetryError, StopError

_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX, _FILE, _PROGRAM = 3, 0o100644, 0o100755
_CHUNK_BYTES = 1 << 20


def write_archive(path: Path, members: Mapping[str, Path | bytes]) -> None:
    """Write the zip file in the order of ``members``, then move it into its place.

    Nothing is compressed: wheels are already, and what a compressor makes depends on its version. Files are copied in
    pieces, so that no wheel has to fit into memory.

    Args:
        members: name to content; names that end in ``.sh`` become programs.

    Raises:
        RetryError: the disk is full.
        StopError: the folder or a file cannot be written or read.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, content in members.items():
                _add(archive, name, content)
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RetryError("The disk is full.", where=str(path), remedy="make room; then the same again") from error
        raise StopError(
            "The archive cannot be written.", where=str(error.filename or path), got=error.strerror
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, content: Path | bytes) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    info.create_system = _UNIX
    info.external_attr = (_PROGRAM if name.endswith(".sh") else _FILE) << 16
    if isinstance(content, bytes):
        archive.writestr(info, content)
        return
    info.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(info, "w") as target:
        shutil.copyfileobj(source, target, _CHUNK_BYTES)
