"""sha256 of a file that grows, on a thread of its own, a moment behind the one that writes it."""

from __future__ import annotations

import errno
import hashlib
import os
import threading

from mli.models.fetching.watch import POLL_S, Watch
from mli.models.members import CHUNK_BYTES


class FileDigest:
    """Reads the file's own bytes back, so nothing is shared with the writer, and what was there before counts too.

    Args:
        descriptor: of the file; must stay open until ``close``.
        size_bytes: that are there already.
    """

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size = size_bytes
        self._changed = threading.Condition()
        self._round = 0
        self._done = 0
        self._digest = hashlib.sha256()
        self._error: OSError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._follow, name="archive-digest", daemon=True)
        self._thread.start()

    def grow(self, size_bytes: int) -> None:
        """So much is written now."""
        with self._changed:
            self._size = size_bytes
            self._changed.notify_all()

    def restart(self) -> None:
        """The file is empty again."""
        with self._changed:
            self._round += 1
            self._size = self._done = 0
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
            while self._done < self._size and self._error is None:
                watch.check()
                self._changed.wait(POLL_S)
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
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while True:
            with self._changed:
                while not self._closed and (self._done >= self._size or self._error is not None):
                    self._changed.wait()
                if self._closed:
                    return
                begun, digest, offset, left = self._round, self._digest, self._done, self._size - self._done
            failed: OSError | None = None
            try:
                count = os.preadv(self._descriptor, [buffer[:left]], offset)
                if count == 0:
                    raise OSError(errno.EIO, "the file is shorter than what was written to it")
            except OSError as error:
                count, failed = 0, error
            else:
                digest.update(buffer[:count])
            with self._changed:
                if begun == self._round:
                    self._done += count
                    self._error = failed
                    self._changed.notify_all()
