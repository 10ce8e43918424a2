"""The installer of the component, as a device runs it: twice, killed, on a full disk, with damaged files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.brokers import wait_until
from tests.fixtures.small_wheels import IMPORTED, MACHINE, OTHER_MACHINE, locked, pip_wheel, small_wheel, target_here

from mli.cloud import component_package
from mli.cloud.component_wheels import default_cache, fetch


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Packs small wheels into an artifact, and unpacks it as an engine does: a folder."""
    cache = tmp_path / "cache"
    cache.mkdir()
    pip = pip_wheel()
    fetch([pip], [target_here()], default_cache(), lambda *_: None)
    (cache / pip.file).symlink_to(default_cache() / pip.file)

    def pack(name: str, *, machine: str = MACHINE, numpy: str = "", mli: str = "") -> Path:
        made = {one: small_wheel(cache, one, text=numpy if one == "numpy" else "") for one in IMPORTED}
        wheels = [pip, *(locked(path) for path in made.values())]
        monkeypatch.setattr(component_package, "locked_wheels", lambda: tuple(wheels))
        monkeypatch.setattr(component_package, "write_own_wheel", lambda folder: own_wheel(folder, mli))
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        package = component_package.build(tmp_path / f"{name}-out", [machine], [python], cache=cache)
        folder = tmp_path / "a device" / name
        with zipfile.ZipFile(package.artifact) as archive:
            archive.extractall(folder)
        return folder

    return pack


def own_wheel(folder: Path, text: str) -> Path:
    wheel = small_wheel(folder, "mli", version="0.1.0", text=text)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(zipfile.ZipInfo("mli/__main__.py"), "")
    return wheel


def command(source: Path, target: Path) -> list[str]:
    return ["sh", str(source / "install.sh"), str(target), sys.executable]


def install(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    surroundings = {
        "PATH": os.environ["PATH"],
        "PIP_INDEX_URL": "http://nowhere.example",
        "PIP_REQUIRE_VIRTUALENV": "1",
    }
    return subprocess.run(
        command(source, target),
        env=surroundings,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=280,
    )


def used(target: Path) -> str:
    return (target / "current").readlink().name


def environments(target: Path) -> set[str]:
    return {path.name for path in (target / "environments").iterdir()}


def imports_mli(target: Path) -> bool:
    python = target / "current" / "bin" / "python"
    return subprocess.run([python, "-I", "-c", "import mli, numpy"], timeout=60).returncode == 0


def test_a_second_run_changes_nothing(artifact: Callable[..., Path], tmp_path: Path) -> None:
    source, target = artifact("one"), tmp_path / "work" / "mli"
    first = install(source, target)
    assert first.returncode == 0, first.stderr
    assert "was installed" in first.stdout
    before = {path: path.lstat().st_mtime_ns for path in target.rglob("*")}
    second = install(source, target)
    assert second.returncode == 0, second.stderr
    assert "is installed" in second.stdout
    assert {path: path.lstat().st_mtime_ns for path in target.rglob("*") if path in before} == before
    assert imports_mli(target)
    assert not (target / "current" / "scratch").exists()


def test_nothing_is_written_where_the_artifact_lies(artifact: Callable[..., Path], tmp_path: Path) -> None:
    source = artifact("one")
    before = sorted(path.name for path in source.iterdir())
    source.chmod(0o555)
    assert install(source, tmp_path / "mli").returncode == 0
    assert sorted(path.name for path in source.iterdir()) == before


def test_what_was_killed_half_way_is_made_anew(artifact: Callable[..., Path], tmp_path: Path) -> None:
    old, new, target = artifact("old"), artifact("new", mli="NEW = 1"), tmp_path / "mli"
    assert install(old, target).returncode == 0
    before = used(target)
    with subprocess.Popen(
        command(new, target), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as killed:
        wait_until(lambda: list(target.glob("environments/*/scratch")), "an environment that is being filled")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(killed.pid, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert used(target) == before
    assert imports_mli(target)
    done = install(new, target)
    assert done.returncode == 0, done.stderr
    assert "half made" in done.stdout
    assert used(target) != before
    assert imports_mli(target)


def test_only_its_mark_makes_an_environment_complete(artifact: Callable[..., Path], tmp_path: Path) -> None:
    """A power cut may leave an mli that can be imported, and not all that it needs."""
    source, target = artifact("one"), tmp_path / "mli"
    assert install(source, target).returncode == 0
    (target / "current" / "complete").unlink()
    (numpy,) = target.glob("current/lib/python*/site-packages/numpy/__init__.py")
    numpy.unlink()
    done = install(source, target)
    assert done.returncode == 0, done.stderr
    assert "half made" in done.stdout
    assert numpy.exists()


def test_the_one_before_stays_and_what_a_process_still_runs_in(artifact: Callable[..., Path], tmp_path: Path) -> None:
    target = tmp_path / "mli"
    assert install(artifact("v0"), target).returncode == 0
    names = [used(target)]
    python = (target / "current").resolve() / "bin" / "python"
    with subprocess.Popen([python, "-I", "-c", "input()"], stdin=subprocess.PIPE) as service:
        for number in (1, 2):
            assert install(artifact(f"v{number}", mli=f"N = {number}"), target).returncode == 0
            names.append(used(target))
        assert len(set(names)) == 3
        assert environments(target) == set(names)
        service.communicate()
    assert install(artifact("v1-again", mli="N = 1"), target).returncode == 0, "the way back"
    assert used(target) == names[1]
    assert environments(target) == set(names[1:])


def test_one_that_does_not_start_does_not_take_over(artifact: Callable[..., Path], tmp_path: Path) -> None:
    target = tmp_path / "mli"
    assert install(artifact("good"), target).returncode == 0
    before = used(target)
    done = install(artifact("bad", numpy="raise ImportError('libgfortran.so.5: cannot open')"), target)
    assert done.returncode == 1
    assert "does not start" in done.stderr
    assert "libgfortran.so.5" in done.stderr
    assert used(target) == before
    assert imports_mli(target)


@pytest.mark.parametrize("part", ["numpy", "pip"])
def test_damaged_wheels_are_not_installed(part: str, artifact: Callable[..., Path], tmp_path: Path) -> None:
    source = artifact("one")
    (wheel,) = source.glob(f"{part}-*.whl")
    data = wheel.read_bytes()
    wheel.unlink()
    wheel.write_bytes(data.replace(b"METADATA", b"METADATa", 1) + b"x")
    done = install(source, tmp_path / "mli")
    assert done.returncode == 1
    assert "brought or unpacked again" in done.stderr
    assert not (tmp_path / "mli" / "current").exists()


def test_a_python_that_went_away_gets_a_new_environment(artifact: Callable[..., Path], tmp_path: Path) -> None:
    source, target = artifact("one"), tmp_path / "mli"
    assert install(source, target).returncode == 0
    for name in ("python", "python3"):
        link = target / "current" / "bin" / name
        link.unlink()
        link.symlink_to("/usr/bin/python-of-an-older-system")
    done = install(source, target)
    assert done.returncode == 0, done.stderr
    assert imports_mli(target)


def test_two_at_a_time_do_not_disturb_each_other(artifact: Callable[..., Path], tmp_path: Path) -> None:
    source, target = artifact("one"), tmp_path / "mli"
    both = [subprocess.Popen(command(source, target), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("was installed" in text for text in said) == [False, True]


@pytest.mark.parametrize(("size", "told"), [(20_000_000, "are needed"), (30_000_000, "is full")])
def test_a_full_disk_is_said(size: int, told: str, artifact: Callable[..., Path]) -> None:
    """First by what it will need; then, where that was too little, by what the system says."""
    source = artifact("one", numpy="x = '" + "0123456789" * 4_000_000 + "'")
    if told == "is full":
        index = json.loads((source / "index.json").read_text())
        index["targets"][target_here()]["bytes"] = -(100 << 20)
        (source / "index.json").write_text(json.dumps(index))
    box = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--size", str(size), "--tmpfs", "/mnt"]
    done = subprocess.run([*box, *command(source, Path("/mnt/mli"))], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "the disk of /mnt/mli is full" in done.stderr
    assert told in done.stderr
    assert "make room" in done.stderr


def test_an_artifact_for_another_machine_says_for_which(artifact: Callable[..., Path], tmp_path: Path) -> None:
    source = artifact("one", machine=OTHER_MACHINE)
    done = install(source, tmp_path / "mli")
    assert done.returncode == 1
    assert f"requirements-{target_here(OTHER_MACHINE)}.txt" in done.stderr
    by_hand = [sys.executable, "-I", str(source / "install.py"), str(tmp_path / "mli")]
    done = subprocess.run(by_hand, capture_output=True, text=True, timeout=60)
    assert f"not made for {target_here()}, only for {target_here(OTHER_MACHINE)}" in done.stderr


def test_an_environment_of_somebody_else_is_left_alone(artifact: Callable[..., Path], tmp_path: Path) -> None:
    target = tmp_path / "mli"
    target.mkdir()
    (target / "pyvenv.cfg").touch()
    done = install(artifact("one"), target)
    assert done.returncode == 1
    assert "name another folder" in done.stderr
    assert [path.name for path in target.iterdir()] == ["pyvenv.cfg"]


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"]])
def test_wrong_usage(arguments: list[str], artifact: Callable[..., Path]) -> None:
    script = ["sh", str(artifact("one") / "install.sh"), *arguments]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_a_python_may_lie_in_any_folder(artifact: Callable[..., Path], tmp_path: Path) -> None:
    python = tmp_path / "a *folder*" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    source, target = artifact("one"), tmp_path / "in $(here)"
    words = ["sh", str(source / "install.sh"), str(target), str(python)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert imports_mli(target)


def test_without_a_python_that_fits_it_says_what_would(artifact: Callable[..., Path], tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("dirname", "uname", "sh"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    old = programs / "python3"
    old.write_text("#!/bin/sh\n[ $# -gt 1 ] && exit 1\necho Python 3.9.2\n")
    old.chmod(0o755)
    script = ["/bin/sh", str(artifact("one") / "install.sh"), str(tmp_path / "mli")]
    done = subprocess.run(script, env={"PATH": str(programs)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"requirements-{target_here()}.txt" in done.stderr
    assert "Python 3.9.2" in done.stderr
