"""The repository: installed whole or not at all, and never used when its bytes changed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.models.model_files import FILES, MANIFEST, make_tar, make_zip

from mli.errors import ArchiveRefused, RetryError
from mli.models.members import ExtractLimits
from mli.models.opened import FileStamp
from mli.models.packing import write_archive
from mli.models.repository import Repository
from mli.models.rules import Rule
from mli.models.staging import staging_folder

PLAIN = {"model.onnx": b"weights" * 1000, "labels.txt": b"cat\ndog\n"}


def tree(folder: Path) -> dict[str, int]:
    """Path and inode of everything: equal trees were not written again."""
    return {str(p.relative_to(folder)): p.stat().st_ino for p in folder.rglob("*")}


@pytest.fixture(params=["manifest zip", "manifest tar.gz", "plain zip", "plain tar.gz"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kind, form = str(request.param).split()
    path = tmp_path / f"pets.{form}"
    if kind == "manifest":
        write_archive(path, MANIFEST, FILES)
        return path
    return (make_zip if form == "zip" else make_tar)(path, PLAIN)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_installed_model_can_be_loaded(tmp_path: Path, archive: Path) -> None:
    repository = Repository(tmp_path / "root")
    spec = repository.install(archive, digest_of(archive))
    assert spec.sha256 == digest_of(archive)
    assert spec.labels == ("cat", "dog")
    assert Path(spec.directory, spec.model_file).read_bytes() == FILES["model.onnx"]
    assert Path(spec.directory).is_relative_to(tmp_path / "root" / "models" / spec.sha256)
    assert Repository(tmp_path / "root").load(spec.sha256) == spec
    (listed,) = repository.list()
    assert (listed.sha256, listed.name, listed.archive_name) == (spec.sha256, spec.name, archive.name)


def test_installing_again_writes_nothing(tmp_path: Path, archive: Path) -> None:
    repository = Repository(tmp_path / "root")
    spec = repository.install(archive)
    before = tree(tmp_path / "root")
    assert repository.install(archive) == spec
    assert tree(tmp_path / "root") == before


def test_a_file_that_was_hashed_is_not_hashed_again_until_it_is_touched(tmp_path: Path, archive: Path) -> None:
    repository, stamp, claimed = Repository(tmp_path / "root"), FileStamp.of(archive.stat()), "0" * 64
    assert repository.install(archive, claimed, hashed=stamp).sha256 == claimed
    copy = tmp_path / "copy"
    shutil.copy2(archive, copy)
    copy.rename(archive)
    with pytest.raises(ArchiveRefused, match="rule digest"):
        repository.install(archive, claimed, hashed=stamp)
    stamp = FileStamp.of(archive.stat())
    with archive.open("r+b") as file:
        file.write(archive.read_bytes()[:1])
    with pytest.raises(ArchiveRefused, match="rule digest"):
        repository.install(archive, claimed, hashed=stamp)


def test_a_wrong_digest_keeps_nothing(tmp_path: Path, archive: Path) -> None:
    repository = Repository(tmp_path / "root")
    before = tree(tmp_path / "root")
    with pytest.raises(ArchiveRefused) as caught:
        repository.install(archive, "0" * 64)
    assert f"(rule {Rule.DIGEST.code})" in caught.value.what
    assert digest_of(archive) in (caught.value.got or "")
    assert tree(tmp_path / "root") == before


@pytest.mark.parametrize(
    "files", [{"model.onnx": b"x"}, {**PLAIN, "b.onnx": b"y"}, {**PLAIN, "manifest.json": b"{}"}]
)
def test_what_is_no_model_is_not_kept(tmp_path: Path, files: dict[str, bytes]) -> None:
    repository = Repository(tmp_path / "root")
    before = tree(tmp_path / "root")
    with pytest.raises(ArchiveRefused):
        repository.install(make_zip(tmp_path / "bad.zip", files))
    assert tree(tmp_path / "root") == before


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _link(path: Path) -> None:
    moved = path.parent.parent / "moved"
    path.rename(moved)
    path.symlink_to(moved)


SPOILERS: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda model: _flip(model / "files" / "model.onnx"),
    "flipped bit in the labels": lambda model: _flip(model / "files" / "labels.txt"),
    "cut file": lambda model: os.truncate(model / "files" / "model.onnx", 10),
    "lost file": lambda model: (model / "files" / "labels.txt").unlink(),
    "new file": lambda model: (model / "files" / "new.txt").write_text("x"),
    "link instead of a file": lambda model: _link(model / "files" / "model.onnx"),
    "lost record": lambda model: (model / "install.json").unlink(),
    "broken record": lambda model: (model / "install.json").write_text("{"),
    "emptied record": lambda model: (model / "install.json").write_text("{}"),
}


@pytest.mark.parametrize("spoil", SPOILERS)
def test_changed_bytes_are_refused_at_load_and_replaced_at_install(tmp_path: Path, archive: Path, spoil: str) -> None:
    repository = Repository(tmp_path / "root")
    spec = repository.install(archive)
    SPOILERS[spoil](tmp_path / "root" / "models" / spec.sha256)
    with pytest.raises(ArchiveRefused, match="not what was installed") as caught:
        repository.load(spec.sha256)
    assert caught.value.where
    assert len(repository.list()) == 1
    assert repository.install(archive) == spec
    assert repository.load(spec.sha256) == spec
    assert [p.name for p in (tmp_path / "root" / "models").glob(".incoming-*")] == []


@pytest.mark.parametrize("name", ["0" * 64, "../../etc", "A" * 64, ""])
def test_a_model_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveRefused):
        Repository(tmp_path / "root").load(name)


def test_progress_ends_at_the_total_and_never_falls(tmp_path: Path, archive: Path) -> None:
    repository = Repository(tmp_path / "root")
    for _ in range(2):
        seen: list[tuple[int, int]] = []

        def note(done: int, total: int, seen: list[tuple[int, int]] = seen) -> None:
            seen.append((done, total))

        repository.install(archive, progress=note)
        assert {total for _, total in seen} == {2 * archive.stat().st_size}
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1][0] == seen[-1][1]


def test_an_archive_that_changes_while_it_is_read_is_refused(tmp_path: Path, archive: Path) -> None:
    repository = Repository(tmp_path / "root")

    def write(done: int, total: int) -> None:
        if done >= total // 2:
            os.utime(archive)

    with pytest.raises(ArchiveRefused, match="rule changed"):
        repository.install(archive, progress=write)
    assert repository.list() == ()


def test_a_full_disk_can_be_tried_again(tmp_path: Path, archive: Path) -> None:
    with pytest.raises(RetryError, match="no room"):
        Repository(tmp_path / "root", ExtractLimits(spare_disk_bytes=1 << 60)).install(archive)
    Repository(tmp_path / "root").install(archive)


def test_processes_that_install_the_same_archive_at_once_all_succeed(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "big.zip", {"model.onnx": os.urandom(4_000_000), "labels.txt": b"a\nb\n"})
    code = (
        "import sys; from pathlib import Path; from mli.models.repository import Repository\n"
        "sys.stdin.read(); r = Repository(Path(sys.argv[1])); print(r.install(Path(sys.argv[2])).sha256)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "root"), str(archive)]
    pipe = subprocess.PIPE
    children = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for child in children:  # all wait for the end of their input, so they begin together
        assert child.stdin is not None
        child.stdin.close()
        child.stdin = None
    outputs = [child.communicate() for child in children]
    assert [(child.returncode, err) for child, (_, err) in zip(children, outputs, strict=True)] == [(0, "")] * 4
    assert {out.strip() for out, _ in outputs} == {digest_of(archive)}
    assert sorted(p.name for p in (tmp_path / "root" / "models").iterdir()) == [".lock", digest_of(archive)]


def test_the_folder_of_a_killed_install_is_removed_at_the_next_start(tmp_path: Path, archive: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from mli.models.repository import Repository\n"
        "def die(done, total):\n"
        "    if done > total // 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Repository(Path(sys.argv[1])).install(Path(sys.argv[2]), progress=die)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "root"), str(archive)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    models = tmp_path / "root" / "models"
    assert len(list(models.glob(".incoming-*"))) == 1
    assert Repository(tmp_path / "root").list() == ()
    assert list(models.glob(".incoming-*")) == []


def test_the_folder_of_a_living_install_stays(tmp_path: Path) -> None:
    models = Repository(tmp_path / "root").folder
    with staging_folder(models) as staging:
        Repository(tmp_path / "root")
        assert staging.is_dir()
    assert not staging.exists()


def test_a_loaded_model_survives_the_loss_of_its_archive(tmp_path: Path, archive: Path) -> None:
    repository = Repository(tmp_path / "root")
    spec = repository.install(archive)
    shutil.move(archive, tmp_path / "elsewhere")
    assert repository.load(spec.sha256) == spec


def test_what_cannot_be_removed_of_an_interrupted_install_is_no_reason_not_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root ran a core here by hand, say, and it was killed."""
    left = tmp_path / "models" / ".incoming-0011223344556677"
    left.mkdir(parents=True)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert Repository(tmp_path).list() == ()
    assert left.is_dir()
