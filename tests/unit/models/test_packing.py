"""Packing: the same bytes for the same files, and nothing that a device would refuse."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.models.model_files import FILES, MANIFEST, make_zip, members

from mli.errors import ArchiveRefused, UsageError
from mli.models.packing import verify, write_archive

SUFFIXES = ["zip", "tar.gz", "tgz"]


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_holds_what_was_packed(tmp_path: Path, suffix: str, compress: bool) -> None:
    out = tmp_path / f"pets.{suffix}"
    sha256 = write_archive(out, replace(MANIFEST, files=()), FILES, compress=compress)
    report = verify(out, sha256=sha256)
    assert sha256 == report.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (report.name, report.version, report.has_manifest) == ("pets", "1.2", True)
    assert report.size_bytes == out.stat().st_size
    assert [f for f in report.files if f.path != "manifest.json"] == list(members(FILES))
    assert report.spec.golden == MANIFEST.golden
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_files_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "source").mkdir()
    paths: dict[str, Path | bytes] = {}
    for number, (name, data) in enumerate(reversed(FILES.items())):
        path = tmp_path / "source" / str(number)
        path.write_bytes(data)
        path.chmod(0o600)
        os.utime(path, (number, number))
        paths[name] = path
    first = write_archive(tmp_path / f"a.{suffix}", MANIFEST, FILES)
    assert write_archive(tmp_path / f"b.{suffix}", MANIFEST, paths) == first


def test_other_tools_can_read_it(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", MANIFEST, FILES)
    write_archive(tmp_path / "a.tar.gz", MANIFEST, FILES)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", "golden/cat.png", "labels.txt", "model.onnx"]
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        assert tar.getnames() == ["manifest.json", "golden/cat.png", "labels.txt", "model.onnx"]


def test_an_archive_that_is_there_is_replaced_only_on_request(tmp_path: Path) -> None:
    out = tmp_path / "a.zip"
    out.write_bytes(b"mine")
    with pytest.raises(UsageError, match="there already"):
        write_archive(out, MANIFEST, FILES)
    assert out.read_bytes() == b"mine"
    write_archive(out, MANIFEST, FILES, overwrite=True)
    assert verify(out).name == "pets"


def test_another_suffix_and_a_manifest_of_ones_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a \.zip or a \.tar\.gz"):
        write_archive(tmp_path / "a.rar", MANIFEST, FILES)
    with pytest.raises(UsageError, match="written by mli"):
        write_archive(tmp_path / "a.zip", MANIFEST, {**FILES, "manifest.json": b"{}"})
    with pytest.raises(UsageError, match="cannot be read"):
        write_archive(tmp_path / "a.zip", MANIFEST, {**FILES, "model.onnx": tmp_path / "missing"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "extra", [{"../evil": b"x"}, {"MODEL.onnx": b"x"}, {"a\\b": b"x"}, {"labels.txt": b"cat\n\ndog"}]
)
def test_what_a_device_would_refuse_is_not_packed(tmp_path: Path, suffix: str, extra: dict[str, bytes]) -> None:
    with pytest.raises(ArchiveRefused):
        write_archive(tmp_path / f"a.{suffix}", MANIFEST, {**FILES, **extra})
    assert list(tmp_path.iterdir()) == []


def test_a_golden_image_that_is_not_packed_is_refused(tmp_path: Path) -> None:
    files = {path: data for path, data in FILES.items() if not path.startswith("golden")}
    with pytest.raises(ArchiveRefused, match="golden"):
        write_archive(tmp_path / "a.zip", MANIFEST, files)


def test_an_archive_without_manifest_is_verified_too(tmp_path: Path) -> None:
    report = verify(make_zip(tmp_path / "pets.zip", {"model.onnx": b"x", "labels.txt": b"a\n"}))
    assert (report.name, report.has_manifest, report.spec.directory) == ("pets", False, "")
