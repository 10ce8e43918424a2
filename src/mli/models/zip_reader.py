"""Reads zip archives strictly: every byte of the file must belong to exactly one thing.

The standard library's reader forgives much (bytes before, between and behind members, local headers that say
something else than the directory, the last duplicate wins). Forgiving readers disagree about what an archive
holds, and what was checked is then not what is used. Layout: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.4.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mli.models.members import CHUNK_BYTES, MEBIBYTE, Entry, ExtractLimits
from mli.models.opened import OpenedArchive
from mli.models.rules import Rule

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DIRECTORY_LIMIT_BYTES = 16 * MEBIBYTE
_INPUT_BYTES = 256 * 1024

_ENCRYPTED_FLAGS = 1 << 0 | 1 << 6 | 1 << 13
_DESCRIPTOR_FLAG = 1 << 3
_PATCH_FLAG = 1 << 5
_UTF8_FLAG = 1 << 11
_STORED, _DEFLATED, _AES = 0, 8, 99
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ZIP64_EXTRA, _UNICODE_PATH_EXTRA = 0x0001, 0x7075


@dataclass(frozen=True, slots=True)
class _Central:
    """One record of the central directory."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    offset: int


def read_zip(archive: OpenedArchive, limits: ExtractLimits) -> Iterator[Entry]:
    """The members of a zip, in the order of their data, after its whole structure was checked.

    Raises:
        ArchiveRefused: the archive breaks a rule.
    """
    start, size, count = _find_directory(archive)
    if count > limits.members or size > _DIRECTORY_LIMIT_BYTES:
        raise archive.refused(Rule.MEMBERS, f"{count} members, limit {limits.members}")
    records = sorted(_directory(archive, start, size, count), key=lambda record: record.offset)
    total = sum(record.size_bytes for record in records)
    if total > limits.total_bytes:
        raise archive.refused(Rule.SIZE, f"{total} bytes, limit {limits.total_bytes}")
    ends = [record.offset for record in records[1:]] + [start]
    starts = [_check_local(archive, record, end) for record, end in zip(records, ends, strict=True)]
    first = records[0].offset if records else start
    if first != 0:
        raise archive.refused(Rule.TRAILING, f"{first} bytes before the first member")
    for record, data_start in zip(records, starts, strict=True):
        is_directory = record.name.endswith("/")
        if is_directory and record.size_bytes:
            raise archive.refused(Rule.HEADERS, "a folder with data of its own", record.name)
        yield Entry(record.name, is_directory, record.size_bytes, _data(archive, record, data_start))


def _find_directory(archive: OpenedArchive) -> tuple[int, int, int]:
    """Offset, size and number of records of the central directory."""
    tail_start = max(0, archive.size_bytes - _END.size - _FULL16)
    tail = archive.read_at(tail_start, archive.size_bytes - tail_start)
    matches, position = [], tail.find(b"PK\x05\x06")
    seen = position >= 0
    while position >= 0:
        fits = position + _END.size <= len(tail)
        if fits and position + _END.size + _END.unpack_from(tail, position)[7] == len(tail):
            matches.append(position)
        position = tail.find(b"PK\x05\x06", position + 1)
    if len(matches) > 1:
        raise archive.refused(Rule.TRAILING, "two directories, so the archive can be read in two ways")
    if not matches:
        if seen:
            raise archive.refused(Rule.TRAILING, "bytes behind the end of the zip, or a cut comment")
        raise archive.refused(Rule.TRUNCATED, "no directory at the end of the zip")
    end = tail_start + matches[0]
    _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(tail, matches[0])
    if disk or first_disk or here != count:
        raise archive.refused(Rule.HEADERS, "a zip in several parts")
    end, start, size, count = _widen(archive, end, start, size, count)
    if start + size != end:
        raise archive.refused(
            Rule.TRAILING if start + size < end else Rule.TRUNCATED,
            f"the directory should end at byte {start + size}, but it ends at byte {end}",
        )
    return start, size, count


def _widen(archive: OpenedArchive, end: int, start: int, size: int, count: int) -> tuple[int, int, int, int]:
    """The same numbers from zip64's records, where there are any."""
    locator_at = end - _END64_LOCATOR.size
    locator = archive.read_at(locator_at, _END64_LOCATOR.size) if locator_at >= 0 else b""
    if not locator.startswith(b"PK\x06\x07"):
        return end, start, size, count
    _, disk, end64, disks = _END64_LOCATOR.unpack(locator)
    if disk or disks > 1 or end64 + _END64.size > locator_at:
        raise archive.refused(Rule.HEADERS, "a zip64 locator that points nowhere")
    signature, length, _, _, disk, first_disk, here64, count64, size64, start64 = _END64.unpack(
        archive.read_at(end64, _END64.size)
    )
    if signature != b"PK\x06\x06" or end64 + 12 + length != locator_at or disk or first_disk or here64 != count64:
        raise archive.refused(Rule.HEADERS, "a zip64 record that does not fit")
    for short, wide, full in ((start, start64, _FULL32), (size, size64, _FULL32), (count, count64, _FULL16)):
        if short not in (full, wide):
            raise archive.refused(Rule.HEADERS, "a zip64 record that contradicts the plain one")
    return end64, start64, size64, count64


def _directory(archive: OpenedArchive, start: int, size: int, count: int) -> list[_Central]:
    data = archive.read_at(start, size)
    records: list[_Central] = []
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > size or data[position : position + 4] != b"PK\x01\x02":
            raise archive.refused(Rule.HEADERS, f"{len(records)} of {count} members in the directory")
        fields = _CENTRAL.unpack_from(data, position)
        name_length, extra_length, comment_length = fields[10:13]
        name_at = position + _CENTRAL.size
        position = name_at + name_length + extra_length + comment_length
        if position > size:
            raise archive.refused(Rule.HEADERS, "a member that reaches over the directory's end")
        raw_name = data[name_at : name_at + name_length]
        extra = data[name_at + name_length : name_at + name_length + extra_length]
        records.append(_central(archive, fields, raw_name, extra))
    if position != size:
        raise archive.refused(Rule.TRAILING, f"{size - position} bytes behind the directory's last member")
    return records


def _central(archive: OpenedArchive, fields: tuple[int, ...], raw_name: bytes, raw_extra: bytes) -> _Central:
    flags, method = fields[3:5]
    crc, packed, size = fields[7:10]
    disk, attributes, offset = fields[13], fields[15], fields[16]
    extra = _extras(archive, raw_name, raw_extra)
    size, packed, offset, disk = _wide_fields(
        archive, raw_name, extra, ((size, _FULL32), (packed, _FULL32), (offset, _FULL32), (disk, _FULL16))
    )
    name = _name(archive, raw_name, extra)
    if flags & _ENCRYPTED_FLAGS or method == _AES:
        raise archive.refused(Rule.ENCRYPTED, "an encrypted member", name)
    if method not in (_STORED, _DEFLATED) or flags & _PATCH_FLAG:
        raise archive.refused(Rule.COMPRESSION, f"compression method {method}", name)
    if method == _STORED and packed != size:
        raise archive.refused(Rule.HEADERS, f"stored, yet {packed} bytes packed and {size} unpacked", name)
    if disk:
        raise archive.refused(Rule.HEADERS, "a zip in several parts", name)
    _check_type(archive, name, attributes >> 16)
    return _Central(raw_name, name, flags, method, crc, packed, size, offset)


def _check_type(archive: OpenedArchive, name: str, mode: int) -> None:
    """``mode`` is what Unix writers store; other systems store 0."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise archive.refused(Rule.SYMLINK, "a symbolic link", name)
    if kind == stat.S_IFDIR and not name.endswith("/"):
        raise archive.refused(Rule.CONFLICT, "a folder by its type, a file by its name", name)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise archive.refused(Rule.SPECIAL, f"a device, pipe or socket (type {kind:#o})", name)


def _name(archive: OpenedArchive, raw: bytes, extra: dict[int, bytes]) -> str:
    # Finder writes UTF-8 without its flag, so the flag decides nothing: UTF-8 or refused.
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise archive.refused(Rule.CHARACTERS, "a name that is not UTF-8", raw) from error
    second = extra.get(_UNICODE_PATH_EXTRA)
    if second is not None and second[5:] != raw:
        raise archive.refused(Rule.HEADERS, f"a second name, {second[5:]!r}", name)
    return name


def _extras(archive: OpenedArchive, member: bytes, data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    position = 0
    # Fewer than 4 bytes at the end are padding that some writers align data with.
    while position + 4 <= len(data):
        kind, length = struct.unpack_from("<2H", data, position)
        position += 4 + length
        if position > len(data) or (kind in fields and kind in (_ZIP64_EXTRA, _UNICODE_PATH_EXTRA)):
            raise archive.refused(Rule.HEADERS, "a malformed extra field", member)
        fields[kind] = data[position - length : position]
    return fields


def _wide_fields(
    archive: OpenedArchive, member: bytes, extra: dict[int, bytes], shorts: tuple[tuple[int, int], ...]
) -> list[int]:
    """Replace each value that is its field's maximum by the next one of the zip64 extra field."""
    wide, position, values = extra.get(_ZIP64_EXTRA, b""), 0, []
    for short, full in shorts:
        length = 4 if full == _FULL16 else 8
        if short != full or (_ZIP64_EXTRA not in extra):
            values.append(short)
            continue
        if position + length > len(wide):
            raise archive.refused(Rule.HEADERS, "a zip64 field that is too short", member)
        values.append(int.from_bytes(wide[position : position + length], "little"))
        position += length
    return values


def _check_local(archive: OpenedArchive, record: _Central, end: int) -> int:
    """Check the header in front of the data, and that both end where the next member starts.

    Returns:
        offset of the data.
    """
    data_start = record.offset + _LOCAL.size + len(record.raw_name)
    if data_start > end:
        raise archive.refused(Rule.OVERLAP, "its header reaches into another member", record.name)
    header = archive.read_at(record.offset, _LOCAL.size + len(record.raw_name), record.name)
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack_from(header)
    if signature != b"PK\x03\x04":
        raise archive.refused(Rule.HEADERS, "no member where the directory says", record.name)
    if name_length != len(record.raw_name) or header[_LOCAL.size :] != record.raw_name:
        raise archive.refused(Rule.HEADERS, "another name in front of its data", record.name)
    if (flags ^ record.flags) & (_ENCRYPTED_FLAGS | _UTF8_FLAG | _PATCH_FLAG) or method != record.method:
        raise archive.refused(Rule.HEADERS, "another method in front of its data", record.name)
    if data_start + extra_length + record.packed_bytes > end:
        raise archive.refused(Rule.OVERLAP, "its data reach into another member", record.name)
    extra = _extras(archive, record.raw_name, archive.read_at(data_start, extra_length, record.name))
    _name(archive, record.raw_name, extra)
    data_start += extra_length
    size, packed = _wide_fields(archive, record.raw_name, extra, ((size, _FULL32), (packed, _FULL32)))
    told: tuple[tuple[int, int], ...] = (
        (crc, record.crc),
        (packed, record.packed_bytes),
        (size, record.size_bytes),
    )
    # A writer that cannot seek leaves zeros here, if only for what it cannot know, and writes all behind the data.
    blanks = (0, _FULL32) if flags & _DESCRIPTOR_FLAG else ()
    if not all(value == right or value in blanks for value, right in told):
        raise archive.refused(Rule.HEADERS, "other sizes or checksum in front of its data", record.name)
    rest = end - data_start - record.packed_bytes
    if rest == 0 and all(value == right for value, right in told):
        return int(data_start)
    if not flags & _DESCRIPTOR_FLAG or rest not in (12, 16, 20, 24):
        raise archive.refused(Rule.TRAILING, f"{rest} bytes between this member and the next", record.name)
    _check_descriptor(archive, record, archive.read_at(end - rest, rest, record.name))
    return int(data_start)


def _check_descriptor(archive: OpenedArchive, record: _Central, found: bytes) -> None:
    signed = len(found) in (16, 24)
    numbers = struct.Struct("<LLL" if len(found) in (12, 16) else "<LQQ")
    if signed and not found.startswith(b"PK\x07\x08"):
        raise archive.refused(Rule.TRAILING, f"{len(found)} bytes between this member and the next", record.name)
    if numbers.unpack(found[4:] if signed else found) != (record.crc, record.packed_bytes, record.size_bytes):
        raise archive.refused(Rule.HEADERS, "other sizes or checksum behind its data", record.name)


def _data(archive: OpenedArchive, record: _Central, start: int) -> Iterator[bytes]:
    """The member's bytes, counted and checked; its last chunk comes before the check of the checksum."""
    if record.method == _STORED:
        chunks = archive.chunks(start, record.packed_bytes)
    else:
        chunks = _inflate(archive, record, archive.chunks(start, record.packed_bytes, _INPUT_BYTES))
    crc = count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > record.size_bytes:
            raise archive.refused(Rule.HEADERS, f"more than the {record.size_bytes} bytes promised", record.name)
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if count != record.size_bytes:
        raise archive.refused(Rule.HEADERS, f"{count} bytes, {record.size_bytes} promised", record.name)
    if crc != record.crc:
        raise archive.refused(Rule.DAMAGED, f"CRC {crc:08x}, {record.crc:08x} promised", record.name)


def _inflate(archive: OpenedArchive, record: _Central, packed: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for data in packed:
            if inflater.eof:
                raise archive.refused(Rule.TRAILING, "bytes behind its deflated data", record.name)
            while data and not inflater.eof:
                chunk = inflater.decompress(data, CHUNK_BYTES)
                data = inflater.unconsumed_tail
                if chunk:
                    yield chunk
        while not inflater.eof:
            chunk = inflater.decompress(b"", CHUNK_BYTES)
            if not chunk:
                raise archive.refused(Rule.TRUNCATED, "deflated data without their end", record.name)
            yield chunk
    except zlib.error as error:
        raise archive.refused(Rule.DAMAGED, f"data that cannot be inflated ({error})", record.name) from error
    if inflater.unused_data:
        raise archive.refused(Rule.TRAILING, "bytes behind its deflated data", record.name)
