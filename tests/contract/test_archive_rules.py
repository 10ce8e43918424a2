"""Each rule of docs/archives.md against real hostile files, for zip and tar.gz alike."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.archive_bytes import (
    HARDLINK,
    Item,
    ZipParts,
    gnu_long_name,
    join_zip,
    padded,
    pax,
    tar_header,
    tar_member,
    targz,
    targz_bytes,
    zip_bytes,
    zip_parts,
)

from mli.errors import ArchiveRefused, RetryError
from mli.models.archive import ExtractLimits, extract
from mli.models.rules import Rule

GOOD = Item("model.onnx", b"weights" * 100)
FORMATS: dict[str, Callable[[list[Item]], bytes]] = {"zip": zip_bytes, "tar.gz": targz_bytes}
SMALL = ExtractLimits(total_bytes=20_000_000, members=50, ratio=200, ratio_floor_bytes=100_000)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    found = folder.rglob("*")
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in found}


def refuse(tmp_path: Path, data: bytes, limits: ExtractLimits = SMALL) -> ArchiveRefused:
    """Extract ``data``; it must be refused, and no trace of it may stay."""
    archive = tmp_path / "home" / "bad.archive"
    archive.parent.mkdir()
    archive.write_bytes(data)
    before = snapshot(tmp_path)
    with pytest.raises(ArchiveRefused) as caught:
        extract(archive, tmp_path / "home" / "target", limits=limits)
    assert snapshot(tmp_path) == before
    assert caught.value.expected
    assert caught.value.got
    assert caught.value.remedy
    return caught.value


def assert_names(error: ArchiveRefused, rule: Rule, member: str | None) -> None:
    assert f"(rule {rule.code})" in error.what, str(error)
    if member is not None:
        assert f"member '{member}'" in error.what, str(error)


# The rules that both formats can break in the same way: items, rule, member as it is shown.
SHARED: dict[str, tuple[list[Item], Rule, str]] = {
    "parent": ([GOOD, Item("../evil", b"x")], Rule.PARENT, "../evil"),
    "parent inside": ([GOOD, Item("a/../../evil", b"x")], Rule.PARENT, "a/../../evil"),
    "parent at the end": ([GOOD, Item("a/..", b"x")], Rule.PARENT, "a/.."),
    "parent folder": ([GOOD, Item("../", kind=stat.S_IFDIR)], Rule.PARENT, "../"),
    "parent in Finder's clutter": ([GOOD, Item("__MACOSX/../../evil")], Rule.PARENT, "__MACOSX/../../evil"),
    "dot": ([GOOD, Item("a/./b", b"x")], Rule.PARENT, "a/./b"),
    "absolute": ([GOOD, Item("/etc/cron.d/evil", b"x")], Rule.ABSOLUTE, "/etc/cron.d/evil"),
    "drive letter": ([GOOD, Item("C:/evil", b"x")], Rule.ABSOLUTE, "C:/evil"),
    "backslash": ([GOOD, Item("..\\evil", b"x")], Rule.CHARACTERS, "..\\evil"),
    "NUL": ([GOOD, Item("model.onnx\0.txt", b"x")], Rule.CHARACTERS, "model.onnx\\x00.txt"),
    "control character": ([GOOD, Item("a\x1b[2Jb", b"x")], Rule.CHARACTERS, "a\\x1b[2Jb"),
    "newline": ([GOOD, Item("a\nb", b"x")], Rule.CHARACTERS, "a\\nb"),
    "turned writing": ([GOOD, Item("a\u202etxt.exe", b"x")], Rule.CHARACTERS, "a\\u202etxt.exe"),
    "not UTF-8": ([GOOD, Item(b"caf\xe9.txt", b"x")], Rule.CHARACTERS, "caf\\xe9.txt"),
    "empty name": ([GOOD, Item("", b"x")], Rule.EMPTY_NAME, ""),
    "empty part": ([GOOD, Item("a//b", b"x")], Rule.EMPTY_NAME, "a//b"),
    "long part": ([GOOD, Item("a" * 256, b"x")], Rule.LONG_PATH, f"{'a' * 120}…{'a' * 60}"),
    "long path": ([GOOD, Item("a/" * 15 + "b" * 250 + "/" + "c" * 250)], Rule.LONG_PATH, ""),
    "deep path": ([GOOD, Item("a/" * 16 + "b", b"x")], Rule.LONG_PATH, "a/" * 16 + "b"),
    "symlink": ([GOOD, Item("labels.txt", b"/etc/passwd", stat.S_IFLNK)], Rule.SYMLINK, "labels.txt"),
    "device": ([GOOD, Item("dev", kind=stat.S_IFCHR)], Rule.SPECIAL, "dev"),
    "block device": ([GOOD, Item("sda", kind=stat.S_IFBLK)], Rule.SPECIAL, "sda"),
    "pipe": ([GOOD, Item("pipe", kind=stat.S_IFIFO)], Rule.SPECIAL, "pipe"),
    "duplicate": ([GOOD, Item("a", b"1"), Item("a", b"2")], Rule.DUPLICATE, "a"),
    "duplicate by dot": ([GOOD, Item("a", b"1"), Item("./a", b"2")], Rule.DUPLICATE, "a"),
    "case": ([GOOD, Item("MODEL.onnx", b"x")], Rule.CASE, "MODEL.onnx"),
    "case of a folder": ([GOOD, Item("a/x", b"1"), Item("A/y", b"2")], Rule.CASE, "A/y"),
    "composed accent": ([GOOD, Item("e\u0301", b"1"), Item("\u00e9", b"2")], Rule.CASE, "\u00e9"),
    "sharp s": ([GOOD, Item("strasse", b"1"), Item("straße", b"2")], Rule.CASE, "straße"),
    "file, then folder": ([GOOD, Item("a", b"1"), Item("a/b", b"2")], Rule.CONFLICT, "a/b"),
    "folder, then file": ([GOOD, Item("a/b", b"1"), Item("a", b"2")], Rule.CONFLICT, "a"),
    "folder by its entry": ([GOOD, Item("a/", kind=stat.S_IFDIR), Item("a", b"2")], Rule.CONFLICT, "a"),
    "folder with data": ([GOOD, Item("a/", b"data", stat.S_IFDIR)], Rule.HEADERS, "a/"),
    "bomb": ([GOOD, Item("zeros", bytes(19_000_000))], Rule.BOMB, "zeros"),
    "size": ([GOOD, Item("zeros", bytes(20_000_001))], Rule.SIZE, ""),
    "members": ([GOOD, *(Item(str(n), b"x") for n in range(50))], Rule.MEMBERS, ""),
    "no member": ([], Rule.EMPTY, ""),
    "only folders": ([Item("a/", kind=stat.S_IFDIR)], Rule.EMPTY, ""),
    "only clutter": ([Item("__MACOSX/._a", b"x"), Item(".DS_Store", b"x")], Rule.EMPTY, ""),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("case", SHARED)
def test_a_broken_rule_refuses_the_whole_archive_naming_member_and_rule(tmp_path: Path, case: str, form: str) -> None:
    items, rule, member = SHARED[case]
    if not items and form == "zip":
        rule = Rule.KIND  # an empty zip has no first member that would show its kind
    assert_names(refuse(tmp_path, FORMATS[form](items)), rule, member or None)


def _bent(**changes: object) -> bytes:
    bent = replace(zip_parts(Item("bent", b"payload" * 50)), **changes)  # type: ignore[arg-type]
    return join_zip([zip_parts(GOOD), bent])


def _overlapping() -> bytes:
    """Two names for the same data: the trick of zip bombs that expand a million times."""
    first = zip_parts(Item("a", b"payload"))
    return join_zip([first, replace(first, name=b"b", local_name=b"a", offset=0)])


def _nested_overlap() -> bytes:
    """The first member's stored data contain the second member."""
    inner = join_zip([zip_parts(Item("inner", b"payload"), stored=True)])
    inner = inner[: inner.index(b"PK\x01\x02")]
    outer = zip_parts(Item("outer", inner), stored=True)
    return join_zip([outer, replace(zip_parts(Item("inner", b"payload"), stored=True), offset=30 + 5)])


def _second_directory() -> bytes:
    hidden = join_zip([zip_parts(Item("hidden", b"x"))])
    return join_zip([zip_parts(GOOD)], comment=hidden)


PACKED = zip_parts(Item("bent", b"payload" * 50)).packed
ZIPS: dict[str, tuple[bytes, Rule, str | None]] = {
    "encrypted": (_bent(flags=0x801), Rule.ENCRYPTED, "bent"),
    "AES": (_bent(method=99), Rule.ENCRYPTED, "bent"),
    "masked headers": (_bent(flags=0x2000), Rule.ENCRYPTED, "bent"),
    "LZMA": (_bent(method=14), Rule.COMPRESSION, "bent"),
    "deflate64": (_bent(method=9), Rule.COMPRESSION, "bent"),
    "same data twice": (_overlapping(), Rule.OVERLAP, "a"),
    "member within a member": (_nested_overlap(), Rule.OVERLAP, "outer"),
    "data over the directory": (_bent(claimed_packed=len(PACKED) + 9), Rule.OVERLAP, "bent"),
    "other local name": (_bent(local_name=b"evil"), Rule.HEADERS, "bent"),
    "other local checksum": (_bent(local_crc=1), Rule.HEADERS, "bent"),
    "other local size": (_bent(local_size=1), Rule.HEADERS, "bent"),
    "other local method": (_bent(local_method=0), Rule.HEADERS, "bent"),
    "second name": (
        _bent(extra=struct.pack("<2HBL", 0x7075, 9, 1, zlib.crc32(b"bent")) + b"evil"),
        Rule.HEADERS,
        "bent",
    ),
    "cut zip64 field": (_bent(size=0xFFFFFFFF, extra=struct.pack("<2HL", 1, 4, 0)), Rule.HEADERS, "bent"),
    "more data than promised": (_bent(size=5), Rule.HEADERS, "bent"),
    "less data than promised": (_bent(size=500), Rule.HEADERS, "bent"),
    "stored with two sizes": (_bent(method=0), Rule.HEADERS, "bent"),
    "wrong checksum": (_bent(crc=1), Rule.DAMAGED, "bent"),
    "broken deflate": (_bent(packed=b"\xff" * 20), Rule.DAMAGED, "bent"),
    "deflate without end": (_bent(packed=PACKED[:-4]), Rule.TRUNCATED, "bent"),
    "bytes behind deflate's end": (_bent(packed=PACKED + b"hidden"), Rule.TRAILING, "bent"),
    "bytes between members": (_bent(gap=b"hidden"), Rule.TRAILING, "bent"),
    "wrong descriptor": (_bent(flags=0x808, descriptor=b"PK\x07\x08" + bytes(12)), Rule.HEADERS, "bent"),
    "bytes like a descriptor": (_bent(flags=0x808, descriptor=b"hide" + bytes(12)), Rule.TRAILING, "bent"),
    "folder by type, file by name": (_bent(mode=stat.S_IFDIR), Rule.CONFLICT, "bent"),
    "socket": (_bent(mode=stat.S_IFSOCK), Rule.SPECIAL, "bent"),
    "second zip behind": (zip_bytes([GOOD]) + zip_bytes([Item("b", b"x")]), Rule.TRAILING, None),
    "second zip in the comment": (_second_directory(), Rule.TRAILING, None),
    "garbage behind": (zip_bytes([GOOD]) + b"garbage", Rule.TRAILING, None),
    "bytes before the first member": (
        join_zip([zip_parts(GOOD)], prefix=b"PK\x03\x04 hidden"),
        Rule.TRAILING,
        None,
    ),
    "several disks": (join_zip([zip_parts(GOOD)], disk=1), Rule.HEADERS, None),
    "cut": (zip_bytes([GOOD])[:-30], Rule.TRUNCATED, None),
    "cut to a header": (zip_bytes([GOOD])[:20], Rule.TRUNCATED, None),
    "first byte of the data lost": (zip_bytes([GOOD])[:40] + zip_bytes([GOOD])[41:], Rule.TRUNCATED, None),
}


@pytest.mark.parametrize("case", ZIPS)
def test_a_zip_that_can_be_read_in_two_ways_or_not_at_all_is_refused(tmp_path: Path, case: str) -> None:
    data, rule, member = ZIPS[case]
    assert_names(refuse(tmp_path, data), rule, member)


def _wrong_crc(data: bytes) -> bytes:
    return data[:-8] + bytes(4) + data[-4:]


MEMBER = tar_member(GOOD)
NEXT = tar_header(b"next", 7) + padded(b"payload")
TARS: dict[str, tuple[bytes, Rule, str | None]] = {
    "hard link": (targz(MEMBER, tar_member(Item("b", kind=HARDLINK))), Rule.HARDLINK, "b"),
    "GNU sparse": (targz(MEMBER, tar_header(b"s", 0, b"S")), Rule.SPARSE, "s"),
    "pax sparse": (targz(MEMBER, pax({"GNU.sparse.major": b"1"}), NEXT), Rule.SPARSE, "next"),
    "unknown type": (targz(MEMBER, tar_header(b"s", 0, b"Z")), Rule.SPECIAL, "s"),
    "long name": (targz(MEMBER, gnu_long_name(b"../evil"), NEXT), Rule.PARENT, "../evil"),
    "pax path": (targz(MEMBER, pax({"path": b"/evil"}), NEXT), Rule.ABSOLUTE, "/evil"),
    "pax path with NUL": (targz(MEMBER, pax({"path": b"a\0b"}), NEXT), Rule.CHARACTERS, "a\\x00b"),
    "pax path twice": (targz(MEMBER, gnu_long_name(b"a"), pax({"path": b"b"}), NEXT), Rule.HEADERS, "a"),
    "pax path not UTF-8": (targz(MEMBER, pax({"path": b"\xff"}), NEXT), Rule.CHARACTERS, "\\xff"),
    "pax path for all": (targz(pax({"path": b"a"}, b"g"), MEMBER), Rule.HEADERS, "PaxHeaders/x"),
    "pax binary names": (targz(pax({"hdrcharset": b"BINARY"}), MEMBER), Rule.CHARACTERS, "PaxHeaders/x"),
    "pax size too large": (targz(pax({"size": b"9" * 19}), MEMBER), Rule.SIZE, "model.onnx"),
    "pax size negative": (targz(pax({"size": b"-1"}), MEMBER), Rule.HEADERS, "PaxHeaders/x"),
    "pax size beyond the tar": (targz(pax({"size": b"9000"}), MEMBER), Rule.TRUNCATED, "model.onnx"),
    "pax record without end": (
        targz(tar_header(b"pax", 6, b"x"), padded(b"99 a=b"), NEXT),
        Rule.HEADERS,
        "pax",
    ),
    "huge pax header": (targz(tar_header(b"pax", 1 << 30, b"x")), Rule.LONG_PATH, "pax"),
    "long name without member": (targz(MEMBER, gnu_long_name(b"a")), Rule.TRUNCATED, "a"),
    "negative size": (targz(MEMBER, tar_header(b"s", b"\xff" * 12)), Rule.HEADERS, "s"),
    "size that is no number": (targz(MEMBER, tar_header(b"s", b"0000000009z\0")), Rule.HEADERS, "s"),
    "huge size": (targz(MEMBER, tar_header(b"s", b"\x80" + b"\xff" * 11)), Rule.SIZE, "s"),
    "changed header": (targz(MEMBER, NEXT.replace(b"next", b"evil")), Rule.DAMAGED, "evil"),
    "garbage instead of a header": (targz(MEMBER, b"garbage!" * 64), Rule.DAMAGED, None),
    "member of prefix and name": (
        targz(tar_header(b"evil", 0)[:345] + b"..".ljust(167, b"\0")),
        Rule.DAMAGED,
        "../evil",
    ),
    "no end": (targz(MEMBER, end=b""), Rule.TRUNCATED, None),
    "half an end": (targz(MEMBER, end=bytes(512)), Rule.TRUNCATED, None),
    "cut data": (targz(MEMBER[:600], end=b""), Rule.TRUNCATED, "model.onnx"),
    "lone zero block": (targz(MEMBER, bytes(512), NEXT), Rule.HEADERS, None),
    "second tar behind": (targz(MEMBER, bytes(1024), NEXT), Rule.TRAILING, None),
    "second gzipped tar behind": (targz(MEMBER) + targz(NEXT), Rule.TRAILING, None),
    "garbage behind gzip": (targz(MEMBER) + b"garbage", Rule.TRAILING, None),
    "zip behind": (targz(MEMBER) + zip_bytes([GOOD]), Rule.TRAILING, None),
    "cut gzip": (targz(MEMBER)[:-9], Rule.TRUNCATED, None),
    "gzip without its length": (targz(MEMBER)[:-1], Rule.TRUNCATED, None),
    "gzip's checksum": (_wrong_crc(targz(MEMBER)), Rule.DAMAGED, None),
    "gzip of nothing": (gzip.compress(b""), Rule.TRUNCATED, None),
}


@pytest.mark.parametrize("case", TARS)
def test_a_tar_that_is_damaged_or_bends_its_headers_is_refused(tmp_path: Path, case: str) -> None:
    data, rule, member = TARS[case]
    assert_names(refuse(tmp_path, data), rule, member)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "an empty file"),
        (b"<?xml version='1.0'?><Error>", "error message"),
        (b"BZh91AY", "bzip2"),
        (tar_member(GOOD) + bytes(1024), "not packed with gzip"),
        (join_zip([]), "a zip without members"),
        (bytes(range(200, 250)) * 10, "something else"),
        (gzip.compress(zip_bytes([Item("model.onnx", os.urandom(1024))])), "packed once more"),
        (gzip.compress(gzip.compress(os.urandom(1024))), "packed once more"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path: Path, data: bytes, kind: str) -> None:
    error = refuse(tmp_path, data)
    assert_names(error, Rule.KIND, None)
    assert kind in (error.got or "")


@pytest.mark.parametrize("make", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, make: str) -> None:
    archive = tmp_path / "model.zip"
    if make == "folder":
        archive.mkdir()
    elif make == "pipe":
        os.mkfifo(archive)
    with pytest.raises(ArchiveRefused, match="no readable model archive"):
        extract(archive, tmp_path / "target")


@pytest.mark.parametrize("form", FORMATS)
def test_a_wrong_digest_is_refused_with_both_before_anything_is_parsed(tmp_path: Path, form: str) -> None:
    archive = tmp_path / "model"
    archive.write_bytes(FORMATS[form]([Item("../evil")]))
    before = snapshot(tmp_path)
    with pytest.raises(ArchiveRefused) as caught:
        extract(archive, tmp_path / "target", sha256="0" * 64)
    assert_names(caught.value, Rule.DIGEST, None)
    assert "0" * 64 in (caught.value.expected or "")
    assert "sha256 " in (caught.value.got or "")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_no_fault_of_the_archive(tmp_path: Path, form: str) -> None:
    archive = tmp_path / "model"
    archive.write_bytes(FORMATS[form]([GOOD]))
    with pytest.raises(RetryError, match="no room"):
        extract(archive, tmp_path / "target", limits=ExtractLimits(spare_disk_bytes=1 << 60))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_existing_target_is_never_touched(tmp_path: Path, form: str) -> None:
    archive = tmp_path / "model"
    archive.write_bytes(FORMATS[form]([GOOD]))
    (tmp_path / "target").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        extract(archive, tmp_path / "target")
    assert not (tmp_path / "nowhere").exists()


def extracted(tmp_path: Path, data: bytes) -> dict[str, bytes]:
    archive = tmp_path / "good.archive"
    archive.write_bytes(data)
    found = extract(archive, tmp_path / "target", limits=SMALL)
    files = {p: b for p, b in snapshot(tmp_path / "target").items() if b is not None}
    assert [member.path for member in found.members] == sorted(files)
    assert all(len(files[member.path]) == member.size_bytes for member in found.members)
    assert {path.name for path in tmp_path.iterdir()} == {"good.archive", "target"}
    return files


@pytest.mark.parametrize("form", FORMATS)
def test_files_are_extracted_as_they_were_packed(tmp_path: Path, form: str) -> None:
    items = [GOOD, Item("empty"), Item("a/b/ü.bin", os.urandom(3_000_000)), Item("big", bytes(19_000))]
    assert extracted(tmp_path, FORMATS[form](items)) == {str(item.name): item.data for item in items}


@pytest.mark.parametrize("form", FORMATS)
def test_finders_clutter_and_folders_are_left_out(tmp_path: Path, form: str) -> None:
    items = [Item("top/", kind=stat.S_IFDIR), Item("top/model.onnx", b"x"), Item("__MACOSX/top/._model.onnx", b"y")]
    items += [Item("top/.DS_Store", b"z"), Item("top/empty/", kind=stat.S_IFDIR)]
    assert extracted(tmp_path, FORMATS[form](items)) == {"model.onnx": b"x"}


@pytest.mark.parametrize("form", FORMATS)
def test_one_top_folder_is_stepped_into_and_no_second(tmp_path: Path, form: str) -> None:
    items = [Item("top/inner/model.onnx", b"x"), Item("top/inner/labels.txt", b"y")]
    assert set(extracted(tmp_path, FORMATS[form](items))) == {"inner/model.onnx", "inner/labels.txt"}


def _streamed_zip() -> bytes:
    """As a writer makes it that cannot seek: sizes behind the data."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", GOOD.data)
        with archive.open("wide", "w", force_zip64=True) as member:
            member.write(b"x" * 1000)
    return pipe.data


def _info_zip_streamed() -> bytes:
    """Info-ZIP on a pipe leaves checksum and packed size blank, but not the size it knows."""
    part = zip_parts(GOOD)
    descriptor = b"PK\x07\x08" + struct.pack("<3L", part.crc, len(part.packed), part.size)
    data = join_zip([replace(part, flags=0x808, local_crc=0, descriptor=descriptor)])
    packed_at = 18
    return data[:packed_at] + bytes(4) + data[packed_at + 4 :]


def _library_tar(form: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=form) as archive:
        for name in ("model.onnx", "long/" + "n" * 180):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(GOOD.data), 1.5
            archive.addfile(info, io.BytesIO(GOOD.data))
    return stream.getvalue()


WELL_MADE: dict[str, bytes] = {
    "zip from a pipe": _streamed_zip(),
    "Info-ZIP from a pipe": _info_zip_streamed(),
    "zip with a comment": join_zip([zip_parts(GOOD)], comment=b"made by hand"),
    "stored zip": join_zip([zip_parts(GOOD, stored=True)]),
    "tar with GNU's long names": _library_tar(tarfile.GNU_FORMAT),
    "tar with pax headers": _library_tar(tarfile.PAX_FORMAT),
    "tar from its own folder": targz(tar_header(b"./", 0, b"5"), tar_member(Item("./model.onnx", GOOD.data))),
    "tar from git": targz(pax({"comment": b"abc"}, b"g"), MEMBER),
    "tar with a size in pax": targz(pax({"size": b"700"}), tar_header(b"model.onnx", 0), padded(GOOD.data)),
    "tar of many blocks": targz(MEMBER, end=bytes(10240)),
    "gzip in two streams": gzip.compress(MEMBER) + gzip.compress(bytes(1024)),
}


@pytest.mark.parametrize("case", WELL_MADE)
def test_archives_as_real_tools_write_them_are_accepted(tmp_path: Path, case: str) -> None:
    assert extracted(tmp_path, WELL_MADE[case])["model.onnx"] == GOOD.data


def test_a_prefix_ustar_name_is_joined(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("a" * 60 + "/" + "b" * 60, "c"):
            archive.addfile(tarfile.TarInfo(name))
    assert set(extracted(tmp_path, stream.getvalue())) == {"a" * 60 + "/" + "b" * 60, "c"}


def test_weights_of_zeros_pass_below_the_floor_of_the_bomb_rule(tmp_path: Path) -> None:
    archive = tmp_path / "zeros.zip"
    archive.write_bytes(zip_bytes([Item("model.onnx", bytes(100_000_000))]))
    assert extract(archive, tmp_path / "target").members[0].size_bytes == 100_000_000


def test_every_rule_has_a_test_here_or_with_the_manifest() -> None:
    tested = {rule for _, rule, _ in [*SHARED.values(), *ZIPS.values(), *TARS.values()]}
    elsewhere = {Rule.KIND, Rule.DIGEST, Rule.CHANGED, Rule.EXTRA, Rule.MISSING, Rule.FILE_DIGEST}
    assert tested | elsewhere == set(Rule)


def test_the_parts_builder_writes_what_the_standard_library_reads() -> None:
    """Else a refusal above could have another cause than the one it names."""
    with zipfile.ZipFile(io.BytesIO(join_zip([zip_parts(GOOD)]))) as archive:
        assert archive.read("model.onnx") == GOOD.data
    with tarfile.open(fileobj=io.BytesIO(targz(MEMBER)), mode="r:gz") as tar:
        member = tar.extractfile("model.onnx")
        assert member is not None
        assert member.read() == GOOD.data
    assert isinstance(zip_parts(GOOD), ZipParts)


def test_the_users_page_explains_every_rule() -> None:
    page = Path(__file__).parents[2] / "docs" / "archives.md"
    table = page.read_text().partition("## The rules")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(code.strip(" `") for row in rows for code in row.split(",")) == sorted(r.code for r in Rule)
