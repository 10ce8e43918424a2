"""Paths that files name: absolute, there, and below what the device allows."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mli.errors import RetryError

if TYPE_CHECKING:
    from mli.config.yaml_places import Location

Problems = list[tuple["Location", str]]
"""What is wrong, and at which key of the long form."""

_GLOB = frozenset("*?[")
_PASSING = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT})
"""What a disk says that fails for a moment, and a system that has run short of something."""


def absolute(folder: Path, text: str) -> Path:
    """An absolute path; relative ones are of ``folder``, ``~`` is the user's home."""
    try:
        return (folder / Path(text).expanduser()).absolute()
    except RuntimeError:  # ~name of an unknown user: then it is a file's own name
        return (folder / text).absolute()


def check_file(path: Path, written: str, here: Location, problems: Problems) -> bool:
    """Whether there is a file; tells where there is none."""
    try:
        kind = "" if path.is_file() else "is a folder, not a file" if path.is_dir() else "no such file"
    except OSError as error:
        kind = why_unreadable(error)
    if kind:
        problems.append((here, f"{written}: {kind}" if Path(written) == path else f"{written}: {kind} ({path})"))
    return not kind


def why_unreadable(error: OSError) -> str:
    """What the system says, and what to do where it is about rights.

    Raises:
        RetryError: nobody's settings are to blame. A service is started again after it, and not after a wrong file.
    """
    if error.errno in _PASSING:
        raise RetryError(
            "a file cannot be read just now",
            where=error.filename,
            got=error.strerror,
            remedy="check the disk; then the same again",
        ) from error
    why = error.strerror or "cannot be read"
    return f"{why}; let the user that runs mli read it" if isinstance(error, PermissionError) else why


def exists(path: Path) -> bool:
    """Whether something is there, as far as one may look."""
    try:
        return path.exists()
    except OSError:  # a name that is too long, or a folder that may not be entered
        return False


def fixed_part(path: Path) -> Path:
    """The folder before the first wildcard of a glob; the path itself where it has none."""
    for index, part in enumerate(path.parts):
        if _GLOB & set(part):
            return Path(*path.parts[:index])
    return path


def lies_below(path: Path, folders: Iterable[str]) -> bool:
    """Whether a path or glob stays below one of the folders, once links and ``..`` are followed.

    Links that a wildcard meets are not followed here: the source looks at each of them when it reads.
    """
    fixed = fixed_part(path)
    if ".." in path.parts[len(fixed.parts) :]:  # what * stands for may be a link, and .. would leave its target
        return False
    try:
        real = (path.resolve(), fixed.resolve())
        allowed = [Path(folder).resolve() for folder in folders]
    except (OSError, RuntimeError):  # links in a circle, or a name that is too long
        return False
    return any(all(part.is_relative_to(folder) for part in real) for folder in allowed)


def with_targets(folders: Iterable[str]) -> tuple[str, ...]:
    """The folders, and where they lie once links are followed.

    Found out here and not when an image is read: a folder that a link has replaced by then is not the one that its
    owner allowed. The folders' own names stay: a container shows the folder itself where its link was.
    """
    return tuple(dict.fromkeys(path for folder in folders for path in (folder, os.path.realpath(folder))))
