"""sha256 of a file that grows, on a thread of its own, a moment behind the one that writes it."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections import deque

from mli.models.fetching.watch import POLL_S, Watch
from mli.models.members import CHUNK_BYTES

_MOST_FRESH = 8


class FileDigest:
    """Takes what was just written from memory while it keeps up, and reads the rest back from the file.

    Args:
        descriptor: of the file; must stay open until ``close``.
        size_bytes: that are there already, and count too.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size = size_bytes
        self._fresh: deque[tuple[int, bytes]] = deque()
        self._changed = threading.Condition()
        self._round = 0
        self._done = 0
        self._digest = hashlib.sha256()
        self._error: OSError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._follow, name="archive-digest", daemon=True)
        self._thread.start()

    def grow(self, data: bytes) -> None:
        """These bytes were written at the file's end; the thread is woken when some have gathered."""
        with self._changed:
            if len(self._fresh) < _MOST_FRESH:
                self._fresh.append((self._size, data))
            self._size += len(data)
            if self._size - self._done >= CHUNK_BYTES:
                self._changed.notify_all()

    def restart(self) -> None:
        """The file is empty again."""
        with self._changed:
            self._round += 1
            self._size = self._done = 0
            self._fresh.clear()
            self._digest = hashlib.sha256()
            self._error = None

    def sha256(self, watch: Watch) -> str:
        """Of all that is written, hexadecimal.

        Raises:
            OSError: it cannot be read back.
            FetchCancelled: see ``Watch``.
        """
        watch.check()
        with self._changed:
            self._changed.notify_all()
            while self._done < self._size and self._error is None:
                self._changed.wait(POLL_S)
                watch.check()
            if self._error is not None:
                raise self._error
            return self._digest.hexdigest()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _follow(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (self._done >= self._size or self._error is not None):
                    self._changed.wait()
                if self._closed:
                    return
                begun, digest, data = self._round, self._digest, self._next_fresh()
                offset, end = self._done, self._fresh[0][0] if self._fresh else self._size
            failed: OSError | None = None
            try:
                data = data or self._read_back(offset, end)
            except OSError as error:
                data, failed = b"", error
            digest.update(data)
            with self._changed:
                if begun == self._round:
                    self._done += len(data)
                    self._error = failed
                    self._changed.notify_all()

    def _next_fresh(self) -> bytes:
        """The next bytes from memory; empty where they are only in the file."""
        if self._fresh and self._fresh[0][0] == self._done:
            return self._fresh.popleft()[1]
        return b""

    def _read_back(self, offset: int, end: int) -> bytes:
        data = os.pread(self._descriptor, min(CHUNK_BYTES, end - offset), offset)
        if not data:
            raise OSError(errno.EIO, "the file is shorter than what was written to it")
        return data
