"""Reads gzipped tar archives strictly, as a stream.

The standard library's reader ends silently at the first header it cannot read, so a damaged archive looks like
a short one. Layout: POSIX.1-2017 pax, section "ustar Interchange Format", and GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mli.models.members import CHUNK_BYTES, Entry, ExtractLimits
from mli.models.opened import OpenedArchive
from mli.models.rules import Rule

_BLOCK = 512
_INPUT_BYTES = 256 * 1024
_NOTE_LIMIT_BYTES = 1024 * 1024
_ZEROS = bytes(_BLOCK)
_FILE_TYPES = (b"0", b"\0", b"7")
_REFUSED_TYPES = {
    b"1": (Rule.HARDLINK, "a hard link"),
    b"2": (Rule.SYMLINK, "a symbolic link"),
    b"3": (Rule.SPECIAL, "a character device"),
    b"4": (Rule.SPECIAL, "a block device"),
    b"6": (Rule.SPECIAL, "a named pipe"),
    b"S": (Rule.SPARSE, "a sparse file"),
}


@dataclass(slots=True)
class _Notes:
    """What extension headers say of the next member."""

    path: str | None = None
    size: int | None = None
    sparse: bool = False


class _Stream:
    """The inflated bytes of a gzip file; ``take`` never copies more than it returns."""

    def __init__(self, archive: OpenedArchive) -> None:
        self._archive = archive
        self._chunks = _gunzip(archive)
        self._chunk = b""
        self._at = 0

    def take(self, at_most: int) -> bytes:
        """Some bytes; none at the end of the stream."""
        if self._at == len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
        part = self._chunk[self._at : self._at + at_most]
        self._at += len(part)
        return part

    def exactly(self, length: int, member: str | None = None) -> bytes:
        """``length`` bytes; refused when the stream ends before them."""
        part = self.take(length)
        while len(part) < length:
            more = self.take(length - len(part))
            if not more:
                raise self._archive.refused(Rule.TRUNCATED, "the tar ends in the middle", member)
            part += more
        return part

    def data(self, length: int, member: str) -> Iterator[bytes]:
        """A member's bytes and, unseen, the padding behind them."""
        left = length
        while left:
            part = self.take(min(left, CHUNK_BYTES))
            if not part:
                raise self._archive.refused(Rule.TRUNCATED, f"its last {left} bytes are not there", member)
            left -= len(part)
            yield part
        self.exactly(-length % _BLOCK, member)


def read_tar(archive: OpenedArchive, limits: ExtractLimits) -> Iterator[Entry]:
    """The members of a gzipped tar, in their order.

    Raises:
        ArchiveRefused: the archive breaks a rule.
    """
    stream, notes, headers = _Stream(archive), _Notes(), 0
    while (header := stream.exactly(_BLOCK)) != _ZEROS:
        headers += 1
        if headers == 1 and header.startswith((b"PK\x03\x04", b"\x1f\x8b")):
            raise archive.refused(Rule.KIND, "an archive packed once more, perhaps by its server (gzip)")
        if headers > 3 * limits.members:
            raise archive.refused(Rule.MEMBERS, f"more than {headers - 1} headers")
        size = _check_header(archive, header)
        kind, name = header[156:157], _header_name(header)
        if kind in b"LKxg":
            _read_note(archive, stream, kind, size, notes, name)
            continue
        path = _text(archive, name) if notes.path is None else notes.path
        if kind in _REFUSED_TYPES:
            raise archive.refused(*_REFUSED_TYPES[kind], path)
        if notes.sparse:
            raise archive.refused(Rule.SPARSE, "a sparse file", path)
        if kind not in (*_FILE_TYPES, b"5"):
            raise archive.refused(Rule.SPECIAL, f"a member of the unknown type {kind!r}", path)
        size = size if notes.size is None else notes.size
        # Before ustar had a type for folders, a slash at the end said it.
        is_directory = kind == b"5" or path.endswith("/")
        if is_directory and size:
            raise archive.refused(Rule.HEADERS, "a folder with data of its own", path)
        notes = _Notes()
        yield Entry(path, is_directory, size, stream.data(size, path))
    if notes != _Notes():
        raise archive.refused(Rule.TRUNCATED, "an extension header without its member", notes.path)
    _check_end(archive, stream)


def _check_end(archive: OpenedArchive, stream: _Stream) -> None:
    """Two blocks of zeros end a tar; zeros may follow them, and nothing else."""
    if stream.exactly(_BLOCK) != _ZEROS:
        raise archive.refused(Rule.HEADERS, "a lone block of zeros between members")
    while part := stream.take(CHUNK_BYTES):
        if part.count(0) != len(part):
            raise archive.refused(Rule.TRAILING, "bytes behind the end of the tar")


def _check_header(archive: OpenedArchive, header: bytes) -> int:
    """The size field of a header whose checksum is right."""
    told = _number(header[148:156])
    if told != sum(header) - sum(header[148:156]) + 8 * 0x20:
        raise archive.refused(Rule.DAMAGED, "a header with a wrong checksum", _header_name(header))
    size = _number(header[124:136])
    if size is None:
        raise archive.refused(Rule.HEADERS, f"the size {header[124:136]!r}", _header_name(header))
    return size


def _header_name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    # GNU's own format uses the prefix' bytes for something else; its magic ends in blanks.
    if header[257:263] == b"ustar\0" and header[345] != 0:
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def _number(field: bytes) -> int | None:
    """A tar number: octal text, or base 256 where the first bit is set; None for neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not all(digit in b"01234567" for digit in digits):
        return None
    return int(digits, 8)


def _text(archive: OpenedArchive, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise archive.refused(Rule.CHARACTERS, "a name that is not UTF-8", raw) from error


def _read_note(archive: OpenedArchive, stream: _Stream, kind: bytes, size: int, notes: _Notes, name: bytes) -> None:
    """Take an extension header's contents into ``notes``."""
    if size > _NOTE_LIMIT_BYTES:
        raise archive.refused(Rule.LONG_PATH, f"an extension header of {size} bytes", name)
    data = b"".join(stream.data(size, repr(name)))
    if kind == b"K":
        return  # the target of a link; the link itself is refused by its name
    if kind == b"L":
        _set_path(archive, notes, data.removesuffix(b"\0"))
        return
    for key, value in _pax_records(archive, data, name):
        if kind == b"g" and (key in ("path", "size", "hdrcharset") or key.startswith("GNU.sparse.")):
            raise archive.refused(Rule.HEADERS, f"the pax key {key} for all members at once", name)
        if key == "path":
            _set_path(archive, notes, value)
        elif key == "size":
            if not value.isdigit() or len(value) > 20 or notes.size is not None:
                raise archive.refused(Rule.HEADERS, f"the pax size {value[:40]!r}", name)
            notes.size = int(value)
        elif key == "hdrcharset" and value not in (b"", b"ISO-IR 10646 2000 UTF-8"):
            raise archive.refused(Rule.CHARACTERS, f"names in {value[:40]!r}", name)
        elif key.startswith("GNU.sparse."):
            notes.sparse = True


def _set_path(archive: OpenedArchive, notes: _Notes, raw: bytes) -> None:
    path = _text(archive, raw)
    if notes.path is not None:
        raise archive.refused(Rule.HEADERS, f"two long names for one member, the second {path!r}", notes.path)
    notes.path = path


def _pax_records(archive: OpenedArchive, data: bytes, name: bytes) -> Iterator[tuple[str, bytes]]:
    """Records are "length key=value" lines; the length counts the whole record with its newline."""
    position = 0
    while position < len(data):
        blank = data.find(b" ", position, position + 10)
        digits = data[position:blank] if blank > 0 else b""
        end = position + int(digits) if digits.isdigit() else 0
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if end <= blank + 1 or end > len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise archive.refused(Rule.HEADERS, "a malformed pax header", name)
        yield _text(archive, key), value
        position = end


def _gunzip(archive: OpenedArchive) -> Iterator[bytes]:
    """Inflated chunks of one gzip stream or of several in a row (as parallel packers write them)."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        for data in archive.chunks(0, archive.size_bytes, _INPUT_BYTES):
            while data:
                if inflater.eof:
                    if data[0] != 0x1F:
                        raise archive.refused(Rule.TRAILING, "bytes behind the end of the gzip data")
                    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
                chunk = inflater.decompress(data, CHUNK_BYTES)
                data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
                if chunk:
                    yield chunk
        while not inflater.eof:
            chunk = inflater.decompress(b"", CHUNK_BYTES)
            if not chunk:
                raise archive.refused(Rule.TRUNCATED, "gzip data without their end")
            yield chunk
    except zlib.error as error:
        raise archive.refused(Rule.DAMAGED, f"data that cannot be inflated ({error})") from error
