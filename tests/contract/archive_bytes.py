"""Writes zip and tar.gz files byte by byte, also such as no library would write."""

from __future__ import annotations

import gzip
import stat
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """A member; ``kind`` is a Unix file type (``stat.S_IF*``), or HARDLINK, which only tar has."""

    name: str | bytes
    data: bytes = b""
    kind: int = stat.S_IFREG

    @property
    def raw_name(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode()


HARDLINK = -1
_TAR_TYPES = {
    stat.S_IFREG: b"0",
    HARDLINK: b"1",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


@dataclass
class ZipParts:
    """One member of a zip, in numbers that a test may bend before they are joined."""

    name: bytes
    packed: bytes
    crc: int
    size: int
    method: int = 8
    flags: int = 0x800
    mode: int = stat.S_IFREG | 0o644
    local_name: bytes | None = None
    local_crc: int | None = None
    local_size: int | None = None
    local_method: int | None = None
    descriptor: bytes = b""
    gap: bytes = b""
    offset: int | None = None
    extra: bytes = b""
    claimed_packed: int | None = None


def zip_parts(item: Item, *, stored: bool = False) -> ZipParts:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = item.data if stored else deflate.compress(item.data) + deflate.flush()
    method = 0 if stored else 8
    return ZipParts(item.raw_name, packed, zlib.crc32(item.data), len(item.data), method, mode=item.kind | 0o644)


def join_zip(parts: Sequence[ZipParts], *, comment: bytes = b"", prefix: bytes = b"", disk: int = 0) -> bytes:
    body, central = bytearray(prefix), bytearray()
    for part in parts:
        offset = len(body) if part.offset is None else part.offset
        size, packed = part.size, len(part.packed) if part.claimed_packed is None else part.claimed_packed
        local = part.name if part.local_name is None else part.local_name
        body += struct.pack(
            "<4s5H3L2H",
            b"PK\x03\x04",
            20,
            part.flags,
            part.method if part.local_method is None else part.local_method,
            0,
            33,
            part.crc if part.local_crc is None else part.local_crc,
            packed,
            size if part.local_size is None else part.local_size,
            len(local),
            len(part.extra),
        )
        body += local + part.extra + part.packed + part.descriptor + part.gap
        numbers = (part.flags, part.method, 0, 33, part.crc, packed, size)
        central += struct.pack("<4s2H4H3L", b"PK\x01\x02", 3 << 8 | 20, 20, *numbers)
        central += struct.pack("<5H2L", len(part.name), len(part.extra), 0, 0, 0, part.mode << 16, offset)
        central += part.name + part.extra
    end = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", disk, 0, len(parts), len(parts), len(central), len(body), len(comment)
    )
    return bytes(body + central) + end + comment


def zip_bytes(items: Sequence[Item]) -> bytes:
    return join_zip([zip_parts(item) for item in items])


def tar_header(
    name: bytes, size: int | bytes = 0, kind: bytes = b"0", *, magic: bytes = b"ustar\x0000", link: bytes = b""
) -> bytes:
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    header = bytearray(name[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"%011o\0" % 0)
    header += b" " * 8 + kind + link.ljust(100, b"\0") + magic
    header = header.ljust(512, b"\0")
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def tar_member(item: Item) -> bytes:
    kind = _TAR_TYPES[item.kind]
    link = b"/etc/passwd" if kind in b"12" else b""
    note = gnu_long_name(item.raw_name) if len(item.raw_name) > 100 or b"\0" in item.raw_name else b""
    return note + tar_header(item.raw_name, len(item.data), kind, link=link) + padded(item.data)


def gnu_long_name(name: bytes) -> bytes:
    return tar_header(b"././@LongLink", len(name) + 1, b"L", magic=b"ustar  \0") + padded(name + b"\0")


def pax(records: dict[str, bytes], kind: bytes = b"x") -> bytes:
    data = b""
    for key, value in records.items():
        rest = b" " + key.encode() + b"=" + value + b"\n"
        length = len(rest)
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        data += str(length).encode() + rest
    return tar_header(b"PaxHeaders/x", len(data), kind) + padded(data)


def targz(*blocks: bytes, end: bytes = bytes(1024)) -> bytes:
    return gzip.compress(b"".join(blocks) + end, mtime=0)


def targz_bytes(items: Sequence[Item]) -> bytes:
    return targz(*(tar_member(item) for item in items))
