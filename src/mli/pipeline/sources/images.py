"""Images on disk as a camera: a folder, a glob or a single file."""

from __future__ import annotations

import glob
import logging
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mli.errors import ImageRefused, RefusedError
from mli.pipeline.sources.image_header import read_header
from mli.pipeline.sources.source import Capture, Reading

if TYPE_CHECKING:
    from mli.config.settings import SourceSettings
    from mli.types import Image

log = logging.getLogger(__name__)

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_FILE_BYTES = 256 * 1024 * 1024
RELIST_S = 1.0
"""A folder is listed again at most so often while its pass goes on."""


def natural_key(path: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which ``image2`` comes before ``image10``."""
    parts = re.split(r"(\d+)", path.casefold())
    return tuple(
        (0, int(part), part) if part.isdigit() and part.isascii() else (1, 0, part) for part in parts if part
    )


def list_images(uri: str) -> list[str]:
    """Paths of the images that ``uri`` (folder, glob or file) stands for, in natural order."""
    path = Path(uri)
    if path.is_dir():
        names = [entry.path for entry in os.scandir(path) if not entry.name.startswith(".")]
    elif path.exists():
        return [str(path)]
    else:
        names = glob.glob(uri, recursive=True)
    return sorted((name for name in names if name.lower().endswith(EXTENSIONS)), key=natural_key)


def decode_file(path: str, max_pixels: int) -> Image:
    """Read and decode one image.

    Returns:
        uint8 (height, width, 3), BGR; orientation by EXIF applied, alpha dropped.

    Raises:
        ImageRefused: not a regular file, not an image, larger than ``max_pixels``, or damaged.
    """
    return decode(_read(path), Path(path).name, max_pixels)


def decode(data: bytes, name: str, max_pixels: int) -> Image:
    """Decode encoded bytes; see ``decode_file``."""
    header = read_header(data, name)
    if header.width * header.height > max_pixels:
        raise ImageRefused(
            f"{name}: too many pixels",
            expected=f"at most {max_pixels:,} (source.max_pixels)",
            got=f"{header.width} x {header.height} = {header.width * header.height:,} by its header",
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageRefused(f"{name}: the {header.kind} data is damaged ({error.err})") from error
    if image is None:
        raise ImageRefused(f"{name}: the {header.kind} data is damaged")
    return image.astype(np.uint8, copy=False)


def _read(path: str) -> bytes:
    name = Path(path).name
    try:
        # Non-blocking: opening a named pipe that someone put into the folder must not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImageRefused(f"{name}: cannot be read: {error.strerror}") from error
    try:
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ImageRefused(f"{name}: not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise ImageRefused(f"{name}: {status.st_size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ImageRefused(f"{name}: cannot be read: {error.strerror}") from error


class ImagesSource:
    """Hands out the images of a folder, glob or file in natural order.

    ``once`` is one sweep: each image that sorts after the last one, so that an interrupted sweep goes on where it
    stopped; a new file that sorts before it waits for the next sweep. Otherwise the source loops and picks up
    every new file; an image that was refused is not tried again until it changes.

    Args:
        position: path of the last image that is done, None for a fresh start.

    Raises:
        RefusedError: ``once``, and there is no image at all.
    """

    def __init__(
        self, settings: SourceSettings, position: str | None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.finite = settings.once
        self._uri = settings.uri
        self._max_pixels = settings.max_pixels
        self._clock = clock
        self._refused: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()
        self._last = position
        self._pending: list[str] = []
        self._list()
        if not self._pending and position is None:
            self._tell_empty()
        if not self.finite:
            self._last = None  # only the first listing goes on after it; from then on the done ones are known

    def read(self) -> Capture | Reading:
        if time.monotonic() - self._listed_at >= RELIST_S:
            self._list()
        if not self._pending:
            self._list()
        if not self._pending:
            if self.finite:
                return Reading.END
            if not self._start_over():
                return Reading.NOTHING_YET
        path = self._pending.pop()
        if self.finite:
            self._last = path
        else:
            self._done.add(path)
        return Capture(Path(path).name, self._clock(), path, lambda: self._decode(path))

    def close(self) -> None:
        self._pending.clear()

    def _tell_empty(self) -> None:
        expected = f"{', '.join(EXTENSIONS)} files"
        if self.finite:
            raise RefusedError("there are no images", where=self._uri, expected=expected)
        log.warning("there are no images yet in %s; waiting for %s", self._uri, expected)

    def _list(self) -> None:
        """What is still to do in this pass, in reverse order so that the next one is popped."""
        self._listed_at = time.monotonic()
        paths = list_images(self._uri)
        if self._last is not None:
            last = natural_key(self._last)
            self._done.update(path for path in paths if natural_key(path) <= last)
        self._pending = [path for path in reversed(paths) if path not in self._done and self._usable(path)]

    def _start_over(self) -> bool:
        self._done.clear()
        self._list()
        return bool(self._pending)

    def _usable(self, path: str) -> bool:
        if path not in self._refused:
            return True
        if self._refused[path] == _identity(path):
            return False
        del self._refused[path]
        return True

    def _decode(self, path: str) -> Image:
        identity = _identity(path)
        try:
            return decode_file(path, self._max_pixels)
        except ImageRefused:
            if not self.finite:
                self._refused[path] = identity
            raise


def _identity(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
