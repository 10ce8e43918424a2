"""Reads a rotated log from outside of the core that writes it: its last records, and what comes, across rotations."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

_BLOCK_BYTES = 64 * 1024
_LOST = "  (records are missing here: the log was rotated faster than it was read)"


def begins_record(line: str) -> bool:
    """Whether a line begins a record; the other lines of one are indented."""
    return not line.startswith(" ")


class LogReader:
    """Reads whole lines of ``path`` and of its rotated predecessors ``path.1``, ``path.2`` …

    Use as a context manager. The file need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._partial = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def last(self, count: int) -> list[str]:
        """The lines of the last ``count`` records; ``new`` goes on after them."""
        with contextlib.ExitStack() as stack:
            files = list(self._files())
            for file in files[1:]:
                stack.enter_context(file)
            if not files:
                return []
            self._file = files[0]
            lines: list[str] = []
            missing = count
            for position, file in enumerate(files):
                found, rest = _tail(file, missing)
                lines[:0] = found
                if position == 0:
                    self._partial = rest
                missing -= sum(map(begins_record, found))
                if missing <= 0:
                    break
        return lines

    def new(self) -> list[str]:
        """The lines that came since; none where nothing did."""
        if self._file is None:
            self._file = next(iter(self._files()), None)
            if self._file is None:
                return []
        lines = self._rest_of(self._file)
        if self._is_current(self._file):
            return lines
        # It will not grow any more, but may have before its end was read.
        lines += self._rest_of(self._file)
        if self._partial:
            lines.append(_text(self._partial))
            self._partial = b""
        for newer in self._successors(self._file, lines):
            self._file.close()
            self._file = newer
            lines += self._rest_of(newer)
        return lines

    def _successors(self, old: BinaryIO, lines: list[str]) -> list[BinaryIO]:
        """The files that were begun after ``old``, oldest first."""
        identity = os.fstat(old.fileno()).st_ino
        newer: list[BinaryIO] = []
        known = False
        for file in self._files():
            if os.fstat(file.fileno()).st_ino == identity:
                file.close()
                known = True
            elif known:
                file.close()
            else:
                newer.append(file)
        if not known and len(newer) > 1:
            lines.append(_LOST)
        return newer[::-1]

    def _is_current(self, file: BinaryIO) -> bool:
        try:
            return self._path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return True  # between two renames of a rotation

    def _rest_of(self, file: BinaryIO) -> list[str]:
        if os.fstat(file.fileno()).st_size < file.tell():
            file.seek(0)  # somebody emptied it
            self._partial = b""
        *whole, self._partial = (self._partial + file.read()).split(b"\n")
        return list(map(_text, whole))

    def _files(self) -> Iterator[BinaryIO]:
        """Those that are there, open, newest first; files only grow older, so that none is missed meanwhile."""
        seen = set()
        number = 0
        while True:
            path = self._path.with_name(f"{self._path.name}.{number}") if number else self._path
            try:
                file = path.open("rb")
            except FileNotFoundError:
                if number:
                    return
                number += 1
                continue
            identity = os.fstat(file.fileno()).st_ino
            if identity in seen:
                file.close()
            else:
                seen.add(identity)
                yield file
            number += 1


def _tail(file: BinaryIO, records: int) -> tuple[list[str], bytes]:
    """Lines of the last ``records`` records of a file, and what follows the last line's end."""
    size = file.seek(0, os.SEEK_END)
    block = _BLOCK_BYTES
    while True:
        start = max(0, size - block)
        file.seek(start)
        *whole, rest = file.read(size - start).split(b"\n")
        lines = list(map(_text, whole if start == 0 else whole[1:]))
        firsts = [number for number, line in enumerate(lines) if begins_record(line)]
        if len(firsts) >= records:
            return (lines[firsts[-records] :] if records else []), rest
        if start == 0:
            return lines, rest
        block *= 4


def _text(line: bytes) -> str:
    return line.decode(errors="replace")
