"""A disk in a file: ext4 on a loop device. What a power cut leaves is what the file has at that moment."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEBIBYTE = 1024**2


@contextmanager
def new_disk(image: Path, megabytes: int, place: Path) -> Iterator[None]:
    """Make an image of so many MiB and mount it at ``place``."""
    with image.open("wb") as file:
        file.truncate(megabytes * MEBIBYTE)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    with mounted(image, place):
        yield


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    """Mount an image; it is unmounted in the end."""
    place.mkdir(exist_ok=True)
    _run("mount", "-o", "loop", str(image), str(place))
    try:
        yield
    finally:
        _run("umount", str(place))


def copy_image(image: Path, copy: Path) -> None:
    """The image as it is now, without what only the mounted file system knows yet."""
    _run("cp", "--sparse=always", str(image), str(copy))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
