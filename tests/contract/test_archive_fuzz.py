"""Random damage to good archives: either the very same content comes out, or a refusal; never anything else."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.archive_bytes import (
    Item,
    join_zip,
    pax,
    tar_header,
    tar_member,
    targz,
    targz_bytes,
    zip_bytes,
    zip_parts,
)

from mli.errors import ArchiveRefused
from mli.models.archive import ExtractLimits, extract

ITEMS = [Item("model.onnx", b"weights" * 60), Item("a/labels.txt", b"cat\ndog\n"), Item("zeros", bytes(3000))]
CONTENT = {str(item.name): item.data for item in ITEMS}
BLOCKS = [pax({"path": b"model.onnx"}), tar_header(b"x", 420), ITEMS[0].data.ljust(512, b"\0")]
SEEDS = {
    "zip": zip_bytes(ITEMS),
    "stored zip": join_zip([zip_parts(item, stored=True) for item in ITEMS]),
    "tar.gz": targz_bytes(ITEMS),
    "pax": targz(*BLOCKS, *(tar_member(item) for item in ITEMS[1:])),
}
LIMITS = ExtractLimits(total_bytes=1_000_000, members=100)

edits = st.lists(
    st.tuples(st.sampled_from(["set", "insert", "delete", "copy"]), st.integers(0, 1 << 16), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, content in changes:
        at = place % (len(data) + 1)
        if kind == "set":
            data = data[:at] + content + data[at + len(content) :]
        elif kind == "insert":
            data = data[:at] + content + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + len(content) :]
        else:
            data = data[:at] + data[at // 2 : at] + data[at:]
    return data


def outcome(data: bytes) -> dict[str, bytes] | None:
    """What comes out; None where it is refused, and then nothing stays."""
    with tempfile.TemporaryDirectory() as folder:
        archive, target = Path(folder) / "archive", Path(folder) / "target"
        archive.write_bytes(data)
        refused = False
        try:
            extract(archive, target, limits=LIMITS)
        except ArchiveRefused:
            refused = True
        if refused:
            assert [path.name for path in Path(folder).iterdir()] == ["archive"]
            return None
        return {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}


@pytest.mark.parametrize("form", SEEDS)
@settings(max_examples=150, deadline=None)
@given(changes=edits)
def test_damaged_archives_are_refused_or_give_the_same_bytes(
    form: str, changes: list[tuple[str, int, bytes]]
) -> None:
    found = outcome(damaged(SEEDS[form], changes))
    # A name in a zip has no checksum: a change of both of its copies is another name, not other content.
    assert found is None or sorted(found.values()) == sorted(CONTENT.values())


@settings(max_examples=150, deadline=None)
@given(changes=edits)
def test_a_damaged_tar_in_intact_gzip_never_ends_in_another_error(changes: list[tuple[str, int, bytes]]) -> None:
    raw = b"".join(tar_member(item) for item in ITEMS) + bytes(1024)
    # Tar has no checksum of data, so here content may differ; the reader must only stay in its rules.
    outcome(targz(damaged(raw, changes), end=b""))


@pytest.mark.parametrize("form", SEEDS)
def test_undamaged_they_are_all_read(form: str) -> None:
    assert outcome(SEEDS[form]) == CONTENT


@pytest.mark.parametrize("form", SEEDS)
def test_every_cut_is_refused(form: str) -> None:
    data = SEEDS[form]
    for length in range(0, len(data), max(1, len(data) // 150)):
        assert outcome(data[:length]) is None, length
