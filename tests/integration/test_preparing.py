"""What is made of a model before its worker starts: once, whole, in a sandbox, and made again when it is damaged."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.fixtures.brokers import wait_until
from tests.fixtures.color_model import LABELS, SIZE, color_archive, large_model, numbered_images
from tests.fixtures.mli_process import run_mli
from tests.integration import preparing_jobs as jobs

from mli.core import model_cache, preparing
from mli.core.preparing import Importer, prepare
from mli.core.root import Root
from mli.errors import ArchiveRefused, MliError, ModelRefused, RetryError
from mli.models.repository import Repository
from mli.pipeline.estimators.registry import open_estimator
from mli.types import ModelSpec

TOP = str(Path(__file__).parents[2])
SHA = "5" * 64


@pytest.fixture(autouse=True)
def jobs_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", TOP, prepend=os.pathsep)


@pytest.fixture
def mxnet(tmp_path: Path) -> ModelSpec:
    """An installed archive, as far as its preparation looks at it."""
    folder = tmp_path / "archive" / "files"
    folder.mkdir(parents=True)
    (folder / "x-symbol.json").write_text("{}")
    return ModelSpec("colors", "5555", SHA, "mxnet", "classification", str(folder), "x-symbol.json", LABELS)


def imported(spec: ModelSpec, root: Path, importer: Importer = jobs.import_small) -> tuple[ModelSpec, list[str]]:
    notes: list[str] = []
    return prepare(spec, Root(root), "auto", notes.append, importer=importer), notes


def runs(spec: ModelSpec) -> int:
    """How many children have worked on the model."""
    return len((Path(spec.directory).parent / "runs").read_text().splitlines())


def cached(root: Path) -> list[str]:
    """Names in the model's cache."""
    return sorted(path.name for path in (root / "cache" / SHA).iterdir() if path.name != ".lock")


# --- import -----------------------------------------------------------------------------------------------------


def test_an_imported_model_is_native_and_keeps_the_archives_identity(
    mxnet: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mli")
    spec, notes = imported(mxnet, tmp_path)
    assert (spec.format, spec.name, spec.version, spec.sha256) == ("onnx", "colors", "5555", SHA)
    assert Path(spec.directory) == tmp_path / "cache" / SHA / "mxnet-1" / "files"
    assert spec.labels == LABELS
    assert open_estimator(spec).inputs[0].name == "input"
    assert notes[-1] == "colors: it was decided so"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["colors: beware"]
    assert "colors: it was decided so" in caplog.text
    assert cached(tmp_path) == ["mxnet-1"]


def test_the_second_start_imports_nothing(mxnet: ModelSpec, tmp_path: Path) -> None:
    first, _ = imported(mxnet, tmp_path)
    second, notes = imported(mxnet, tmp_path)
    assert second == first
    assert notes == []
    renamed, _ = imported(replace(mxnet, name="renamed"), tmp_path)
    assert renamed == replace(first, name="renamed")
    assert runs(mxnet) == 1


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("files/model.onnx", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ("files/manifest.json", lambda data: data.replace(b"255", b"254") + b" "),
        ("files/labels.txt", None),
        ("files/new.txt", lambda _: b"new"),
        ("report.json", lambda data: data.replace(b"decided", b"denied!")),
        ("report.json", lambda data: data[:40]),
        ("report.json", lambda _: b"[]"),
        ("report.json", lambda _: b"[" * 100_000),
        ("report.json", None),
    ],
)
def test_a_damaged_import_is_made_again(mxnet: ModelSpec, tmp_path: Path, file: str, damage: object) -> None:
    first, _ = imported(mxnet, tmp_path)
    path = tmp_path / "cache" / SHA / "mxnet-1" / file
    before = path.read_bytes() if path.exists() else b""
    if callable(damage):
        path.write_bytes(damage(before))
    else:
        path.unlink()
    second, _ = imported(mxnet, tmp_path)
    assert second == first
    assert runs(mxnet) == 2
    assert (path.read_bytes() if path.exists() else b"") == before
    assert cached(tmp_path) == ["mxnet-1"]


def fifo(entry: Path) -> None:
    (entry / "report.json").unlink()
    os.mkfifo(entry / "report.json")


def dangling_link(entry: Path) -> None:
    entry.rename(entry.parent / "elsewhere")
    entry.symlink_to("nowhere")


def link_to_another(entry: Path) -> None:
    entry.rename(entry.parent / "elsewhere")
    entry.symlink_to("elsewhere")


@pytest.mark.parametrize("damage", [fifo, dangling_link, link_to_another])
def test_what_is_no_folder_of_files_is_made_again(
    mxnet: ModelSpec, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    first, _ = imported(mxnet, tmp_path)
    entry = tmp_path / "cache" / SHA / "mxnet-1"
    damage(entry)
    assert imported(mxnet, tmp_path)[0] == first
    assert runs(mxnet) == 2
    assert entry.is_dir()
    assert not entry.is_symlink()


def test_what_cannot_be_removed_hinders_nothing(mxnet: ModelSpec, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / SHA
    cache.mkdir(parents=True)
    (cache / "mxnet-old").symlink_to("nowhere")
    spec, _ = imported(mxnet, tmp_path)
    assert Path(spec.directory).is_dir()
    assert cached(tmp_path) == ["mxnet-1"]


def test_two_input_sizes_of_one_archive_are_both_kept(mxnet: ModelSpec, tmp_path: Path) -> None:
    specs = [
        prepare(mxnet, Root(tmp_path), "auto", lambda _: None, import_size=size, importer=jobs.import_small)
        for size in ((96, 96), (128, 128), (96, 96))
    ]
    assert runs(mxnet) == 2
    assert specs[0] == specs[2] != specs[1]
    assert all(Path(spec.directory).is_dir() for spec in specs)


def test_another_importer_imports_again_and_removes_what_the_old_one_made(
    mxnet: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(mxnet, tmp_path)
    monkeypatch.setattr(preparing, "IMPORTER_VERSION", "next")
    spec, _ = imported(mxnet, tmp_path)
    assert Path(spec.directory).parent.name == "mxnet-next"
    assert runs(mxnet) == 2
    assert cached(tmp_path) == ["mxnet-next"]


@pytest.mark.parametrize(
    ("importer", "error", "words"),
    [
        (jobs.import_and_refuse, ModelRefused, "the operator Foo is not supported"),
        (jobs.import_without_labels, ArchiveRefused, "labels.txt"),
        (jobs.import_with_a_link, ModelRefused, "no plain file"),
    ],
)
def test_nothing_is_kept_of_an_import_that_is_refused(
    mxnet: ModelSpec, tmp_path: Path, importer: Importer, error: type[MliError], words: str
) -> None:
    with pytest.raises(error, match=words):
        imported(mxnet, tmp_path, importer)
    assert cached(tmp_path) == []


def test_nothing_is_begun_on_a_full_disk(mxnet: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_cache, "SPARE_DISK_BYTES", 2**60)
    with pytest.raises(RetryError, match="no room on the disk"):
        imported(mxnet, tmp_path)
    assert not (tmp_path / "archive" / "runs").exists()
    assert cached(tmp_path) == []


PREPARE = """
import sys
from pathlib import Path
from mli.core.preparing import prepare
from mli.core.root import Root
from mli.types import ModelSpec
from tests.integration import preparing_jobs as jobs
root, folder, importer = sys.argv[1:]
spec = ModelSpec("colors", "5555", "5" * 64, "mxnet", "classification", folder, "x-symbol.json", ("a",))
prepare(spec, Root(Path(root)), "auto", lambda text: print(text, flush=True), importer=getattr(jobs, importer))
"""


def start_prepare(spec: ModelSpec, root: Path, importer: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(root), spec.directory, importer], stdout=subprocess.PIPE, text=True
    )


def test_a_kill_in_the_middle_leaves_nothing_that_is_taken_for_good(mxnet: ModelSpec, tmp_path: Path) -> None:
    process = start_prepare(mxnet, tmp_path, "import_half")
    assert process.stdout is not None
    with process.stdout as lines:
        child = next(psutil.Process(int(line)) for line in lines if line.strip().isdigit())
    process.kill()
    process.wait()
    wait_until(lambda: not child.is_running(), "the end of the child")
    assert [name.startswith(".incoming-") for name in cached(tmp_path)] == [True]
    spec, _ = imported(mxnet, tmp_path)
    assert open_estimator(spec).inputs
    assert runs(mxnet) == 2
    assert cached(tmp_path) == ["mxnet-1"]


def test_two_processes_on_one_root_import_once(mxnet: ModelSpec, tmp_path: Path) -> None:
    processes = [start_prepare(mxnet, tmp_path, "import_small") for _ in range(2)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    assert runs(mxnet) == 1


# --- a copy for this processor ----------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> ModelSpec:
    return Repository(tmp_path).install(color_archive(tmp_path, model=large_model))


def compiled(spec: ModelSpec, root: Path) -> tuple[ModelSpec, list[str]]:
    notes: list[str] = []
    return prepare(spec, Root(root), "onnxruntime", notes.append), notes


def answers(spec: ModelSpec) -> np.ndarray:
    estimator = open_estimator(spec)
    image = np.linspace(-1, 1, 3 * SIZE * SIZE, dtype=np.float32).reshape(1, 3, SIZE, SIZE)
    return np.concatenate([estimator.infer({"input": image * k})["probabilities"] for k in (1, 10, -5)])


def test_the_copy_answers_as_the_model_does(large: ModelSpec, tmp_path: Path) -> None:
    spec, notes = compiled(large, tmp_path)
    assert spec.compiled_file is not None
    assert spec == replace(large, compiled_file=spec.compiled_file)
    assert len(notes) == 1
    expected = answers(large)
    (Path(spec.directory) / spec.model_file).unlink()  # so that the copy it is that answers
    np.testing.assert_allclose(answers(spec), expected, rtol=1e-5, atol=1e-7)
    assert expected.std() > 0.1


def test_the_copy_is_made_once(large: ModelSpec, tmp_path: Path) -> None:
    first, _ = compiled(large, tmp_path)
    assert first.compiled_file is not None
    made = Path(first.compiled_file).stat()
    second, notes = compiled(large, tmp_path)
    assert second == first
    assert notes == []
    assert Path(first.compiled_file).stat() == made


def test_a_damaged_copy_is_made_again(large: ModelSpec, tmp_path: Path) -> None:
    first, _ = compiled(large, tmp_path)
    assert first.compiled_file is not None
    path = Path(first.compiled_file)
    good = path.read_bytes()
    path.write_bytes(good[:1000] + b"bad" + good[1003:])
    second, notes = compiled(large, tmp_path)
    assert second == first
    assert len(notes) == 1
    assert path.read_bytes()[1000:1003] != b"bad"


@pytest.mark.parametrize("other", ["1.0.0+{processor}", "{version}+0123456789ab"])
def test_a_copy_of_another_processor_or_runtime_is_replaced(large: ModelSpec, tmp_path: Path, other: str) -> None:
    first, _ = compiled(large, tmp_path)
    assert first.compiled_file is not None
    folder = Path(first.compiled_file).parents[1]
    version, processor = folder.name.split("-")[1].split("+")
    name = other.format(version=version, processor=processor)
    folder.rename(folder.parent / f"onnxruntime-{name}-archive")
    second, notes = compiled(large, tmp_path)
    assert second == first
    assert len(notes) == 1
    assert [path.name for path in folder.parent.glob("onnxruntime-*")] == [folder.name]


def test_a_model_that_cannot_be_copied_runs_as_it_is(
    large: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (Path(large.directory) / large.model_file).write_bytes(b"\xff" * 20_000_000)
    spec, _ = compiled(large, tmp_path)
    assert spec == large
    assert "runs without a copy for this processor" in caplog.text
    assert not list((tmp_path / "cache" / large.sha256).glob("onnxruntime-*"))


def test_a_copy_that_cannot_be_loaded_is_left_for_the_model_itself(
    large: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec, _ = compiled(large, tmp_path)
    assert spec.compiled_file is not None
    Path(spec.compiled_file).write_bytes(b"not a model")
    np.testing.assert_array_equal(answers(spec), answers(large))
    assert "the model runs without it" in caplog.text


def test_a_small_model_needs_no_copy(tmp_path: Path) -> None:
    small = Repository(tmp_path).install(color_archive(tmp_path))
    assert compiled(small, tmp_path) == (small, [])
    assert not (tmp_path / "cache").exists()


def test_a_run_says_what_it_makes_of_a_model_once(tmp_path: Path) -> None:
    numbered_images(tmp_path / "images", 2)
    archive = color_archive(tmp_path, model=large_model)
    arguments = ("run", archive, tmp_path / "images", "--once", "--interval", "0", "--root", tmp_path / "root")
    first = run_mli(*arguments, state=tmp_path)
    second = run_mli(*arguments, state=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "mli: optimising color (" in first.stderr
    assert "optimising" not in second.stderr
    assert first.stdout == second.stdout != ""
    shutil.rmtree(tmp_path / "root" / "cache")
    assert run_mli(*arguments, state=tmp_path).stdout == first.stdout
