"""Which files a source of images stands for, in which order, and how one is opened; nothing is decoded here."""

from __future__ import annotations

import errno
import fnmatch
import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

log = logging.getLogger(__name__)

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FOLDERS = "folders"
_MOST_KINDS = 5
# Non-blocking: opening a named pipe that someone put into the folder must not hang.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OUTSIDE = "a link leads out of the folders that a deployment from the network may read (the device's `allow.paths`)"

Below = tuple[str, ...] | None
"""The folders in which everything lies that may be read, once links are followed; None is anywhere."""

NaturalKey = tuple[tuple[tuple[int, int, str], ...], str]


def natural_key(path: str) -> NaturalKey:
    """Sort key by which ``image2`` comes before ``image10``; no two paths have the same."""
    parts = re.split(r"([0-9]+)", path.casefold())
    key = tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts if part)
    return key, path


def plain_text(path: str) -> str:
    """A path as every encoder and terminal takes it.

    File names may hold any bytes: those that are no UTF-8, and control characters, become ``\\xff``.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def list_images(uri: str, below: Below = None) -> list[str]:
    """Paths of the images that ``uri`` (folder, glob or file) stands for, in natural order.

    Hidden files are left out, unless the file is ``uri`` itself. A link to an image is listed wherever it leads:
    ``open_image`` refuses it, so that somebody hears of it.

    Raises:
        OSError: there is no such file or folder, or it cannot be listed, or a link leads out of ``below`` to it.
    """
    path = Path(uri)
    if path.is_dir():
        _check(uri, below)
        with os.scandir(path) as entries:
            names = [entry.path for entry in entries if not entry.name.startswith(".")]
    elif path.exists():
        return [str(path)]
    else:
        fixed = fixed_part(path)
        if not fixed.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)
        _check(str(fixed), below)
        names = list(matches(uri, below))
    images = {name for name in names if name.lower().endswith(EXTENSIONS)}
    return sorted(images, key=lambda name: natural_key(plain_text(name)))


def others_in(folder: str, below: Below = None) -> str | None:
    """What a folder without images holds instead, ``.heic (3), folders (1)``; None for nothing, a glob or a file."""
    if not lies_inside(folder, below):
        return None
    found = Counter(_kind_of(entry) for entry in _entries(folder) if not entry.name.startswith("."))
    return ", ".join(f"{kind} ({count})" for kind, count in found.most_common(_MOST_KINDS)) or None


def _kind_of(entry: os.DirEntry[str]) -> str:
    if _is_folder(entry):
        return FOLDERS
    return plain_text(Path(entry.name).suffix.lower()) or "files without an extension"


def fixed_part(path: Path) -> Path:
    """The folder before the first wildcard of a glob; the path itself where it has none."""
    for index, part in enumerate(path.parts):
        if glob.has_magic(part):
            return Path(*path.parts[:index])
    return path


def matches(pattern: str, below: Below = None) -> Iterator[str]:
    """What a glob stands for.

    Where ``below`` bounds it, no folder outside is listed, and ``**`` follows no link: two that lead to each other
    would have no end.
    """
    if below is None:
        return glob.iglob(pattern, recursive=True)
    path = Path(pattern)
    fixed = fixed_part(path)
    return _matches(str(fixed), path.parts[len(fixed.parts) :], below) if lies_inside(str(fixed), below) else iter(())


def _matches(folder: str, parts: Sequence[str], below: tuple[str, ...]) -> Iterator[str]:
    part, *rest = parts
    if not glob.has_magic(part):
        path = os.path.join(folder, part)  # noqa: PTH118 - a listing of thousands
        if rest and os.path.isdir(path) and _may_enter(path, below):  # noqa: PTH112
            yield from _matches(path, rest, below)
        elif not rest and os.path.lexists(path):
            yield path
        return
    is_deep = part == "**"
    if is_deep and rest:
        yield from _matches(folder, rest, below)
    for entry in _entries(folder):
        if entry.name.startswith(".") and not part.startswith("."):
            continue
        if is_deep:
            if not rest:
                yield entry.path
            if entry.is_dir(follow_symlinks=False):
                yield from _matches(entry.path, parts, below)
        elif fnmatch.fnmatchcase(entry.name, part):
            if not rest:
                yield entry.path
            elif _is_folder(entry) and (not entry.is_symlink() or _may_enter(entry.path, below)):
                yield from _matches(entry.path, rest, below)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # gone, or closed to us: as glob has it, nothing matches in there
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _may_enter(folder: str, below: tuple[str, ...]) -> bool:
    inside = lies_inside(folder, below)
    if not inside:
        _tell_left_out(folder)
    return inside


@lru_cache(maxsize=256)
def _tell_left_out(folder: str) -> None:
    """Once: a source lists its images every second."""
    log.warning("%s is left out: %s", plain_text(folder), _OUTSIDE)


def lies_inside(path: str, below: Below) -> bool:
    """Whether a path lies below one of the folders, once links are followed."""
    return below is None or _is_below(os.path.realpath(path), below)


def _is_below(real: str, below: tuple[str, ...]) -> bool:
    return any(Path(real).is_relative_to(folder) for folder in below)


def _check(folder: str, below: Below) -> None:
    if not lies_inside(folder, below):
        raise PermissionError(errno.EACCES, _OUTSIDE, folder)


def open_image(path: str, below: Below = None) -> int:
    """A descriptor of a file, whatever kind of file it is.

    Where ``below`` bounds it, no link is met on the way that was not looked at: one that is put there at the
    wrong moment leads nowhere.

    Raises:
        OSError: it cannot be opened, or a link leads out of ``below``.
    """
    if below is None:
        return os.open(path, _READ)
    real = os.path.realpath(path)
    if not _is_below(real, below):
        raise PermissionError(errno.EACCES, _OUTSIDE, path)
    *folders, name = Path(real).parts[1:]
    here = os.open("/", _PASS)
    try:
        for folder in folders:
            above, here = here, os.open(folder, _PASS, dir_fd=here)
            os.close(above)
        return os.open(name, _READ | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)
