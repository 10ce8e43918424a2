"""Images on disk as a camera: a folder, a glob or a single file."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mli.errors import ImageRefused, RefusedError, RetryError
from mli.pipeline.sources.image_files import (
    EXTENSIONS,
    FOLDERS,
    Below,
    list_images,
    natural_key,
    open_image,
    others_in,
    plain_text,
)
from mli.pipeline.sources.image_header import read_header
from mli.pipeline.sources.source import Capture, Reading

if TYPE_CHECKING:
    from mli.config.settings import SourceSettings
    from mli.types import Image

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 256 * 1024 * 1024
RELIST_S = 1.0
"""A folder is listed again at most so often while its pass goes on …"""
RELIST_SHARE = 0.05
"""… and listing a huge one takes no more than this part of the time."""


def decode_file(path: str, max_pixels: int, below: Below = None) -> Image:
    """Read and decode one image.

    Args:
        below: see ``open_image``.

    Returns:
        uint8 (height, width, 3), BGR; orientation by EXIF applied, alpha dropped.

    Raises:
        ImageRefused: not a regular file, not an image, larger than ``max_pixels``, or damaged.
    """
    name = plain_text(Path(path).name)
    return decode(_read(path, name, below), name, max_pixels)


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
    if sorted(image.shape[:2]) != sorted((header.width, header.height)):
        raise ImageRefused(
            f"{name}: the {header.kind} header and data disagree",
            expected=f"{header.width} x {header.height} pixels, as the header says",
            got=f"{image.shape[1]} x {image.shape[0]}",
        )
    return image.astype(np.uint8, copy=False)


def _read(path: str, name: str, below: Below) -> bytes:
    try:
        descriptor = open_image(path, below)
    except OSError as error:
        raise ImageRefused(f"{name}: cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageRefused(f"{name}: not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageRefused(f"{name}: {status.st_size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
        # No file object: it makes twice the calls, and with each another thread may take the interpreter.
        data = os.read(descriptor, status.st_size + 1)
        while len(data) < status.st_size and (more := os.read(descriptor, status.st_size - len(data))):
            data += more
        return data
    except OSError as error:
        raise ImageRefused(f"{name}: cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


class ImagesSource:
    """Hands out the images of a folder, glob or file in natural order.

    ``once`` is one sweep: each image that sorts after the last one, so that an interrupted sweep goes on where it
    stopped; a new file that sorts before it waits for the next sweep. Otherwise the source loops and picks up
    every new file; an image that was refused is not tried again until it changes.

    A folder that cannot be listed is no empty folder: a sweep fails there, to be taken up again; a loop waits.

    Args:
        position: path (as ``plain_text``) of the last image that is done, None for a fresh start.

    Raises:
        RefusedError: ``once``, and there is no image at all.
        RetryError: ``once``, and the folder cannot be listed; ``read`` raises it as well.
    """

    def __init__(
        self, settings: SourceSettings, position: str | None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.finite = settings.once
        self._uri = settings.uri
        self._below = settings.below
        self._max_pixels = settings.max_pixels
        self._clock = clock
        self._refused: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()
        self._last = position
        self._pending: list[str] = []
        self._list_again_at = 0.0
        self._gone = False
        self._list()
        if not self._pending and position is None:
            self._tell_empty()
        if not self.finite:
            self._last = None  # only the first listing goes on after it; from then on the done ones are known

    def read(self) -> Capture | Reading:
        if time.monotonic() >= self._list_again_at or not self._pending:
            self._list()
        if not self._pending:
            if self.finite:
                return Reading.END
            if not self._start_over():
                return Reading.NOTHING_YET
        path = self._pending.pop()
        position = plain_text(path)
        if self.finite:
            self._last = position
        else:
            self._done.add(path)
        return Capture(plain_text(Path(path).name), self._clock(), position, lambda: self._decode(path))

    def close(self) -> None:
        self._pending.clear()

    def _tell_empty(self) -> None:
        expected, others = f"{', '.join(EXTENSIONS)} files", others_in(self._uri, self._below)
        if self.finite:
            raise RefusedError(
                "there are no images",
                where=plain_text(self._uri),
                expected=expected,
                got=others,
                remedy=f"name what lies in its folders by a glob: '{plain_text(self._uri)}/**/*.jpg'"
                if FOLDERS in (others or "")
                else "put them there first, or leave `once` out: then the source waits for them",
            )
        if not self._gone:
            instead = f" (found: {others})" if others else ""
            log.warning("there are no images yet in %s%s; waiting for %s", plain_text(self._uri), instead, expected)

    def _list(self) -> None:
        """What is still to do in this pass, in reverse order so that the next one is popped."""
        started = time.monotonic()
        paths = self._listed()
        there = set(paths)
        self._done &= there
        for path in [path for path in self._refused if path not in there]:
            self._refused.pop(path, None)
        if self._last is not None:
            last = natural_key(self._last)
            self._done.update(path for path in paths if natural_key(plain_text(path)) <= last)
        self._pending = [path for path in reversed(paths) if path not in self._done and self._usable(path)]
        ended = time.monotonic()
        self._list_again_at = ended + max(RELIST_S, (ended - started) / RELIST_SHARE)

    def _listed(self) -> list[str]:
        try:
            paths = list_images(self._uri, self._below)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self._last == plain_text(self._uri):
                return []  # a single file that is done may be taken away
            if self.finite:
                raise RetryError(
                    "the images cannot be listed",
                    where=plain_text(self._uri),
                    got=error.strerror,
                    remedy="check the folder (is its disk mounted?); the pipeline goes on where it stopped",
                ) from error
            if not self._gone:
                log.warning("%s cannot be listed: %s; waiting for it", plain_text(self._uri), error.strerror)
            self._gone = True
            return []
        self._gone = False
        return paths

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
            return decode_file(path, self._max_pixels, self._below)
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
