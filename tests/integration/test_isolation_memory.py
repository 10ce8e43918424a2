"""How the memory of workers is held: by the kernel where it lets us, and by the watchdog."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.fixtures.worker_lives import Life, Place, make_place

from mli.config.settings import IsolationMode, LimitSettings
from mli.core.isolation import cgroups
from mli.core.isolation.cgroups import CgroupMemory, find_memory_control
from mli.core.isolation.environment import child_environment
from mli.core.isolation.isolator import Isolator
from mli.core.isolation.memory import MEBIBYTE, MemoryControl, WatchdogOnly, hard_bound

CONTROLS: dict[str, MemoryControl] = {"the watchdog": WatchdogOnly("a test"), "what there is": find_memory_control()}
HOG = "blocks = []\nwhile True: blocks.append(bytearray(1 << 20))"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture(params=CONTROLS)
def isolator(request: pytest.FixtureRequest, place: Place) -> Any:
    return Isolator(hidden=[place.root], memory=CONTROLS[request.param])


def test_a_model_that_was_not_yet_loaded_is_told_by_its_size_what_it_needs(place: Place, isolator: Isolator) -> None:
    """What it used when it was ended is far less: whoever set that would be told more and more."""
    weights = Path(place.model.directory) / "weights.bin"
    with weights.open("wb") as file:
        file.truncate(1024 * MEBIBYTE)
    death = Life(place.settings("none", LimitSettings(memory_bytes=30 * MEBIBYTE)), place.model, isolator).run()
    assert death.error is not None
    assert "limits: {memory: 2433MB}" in str(death.error.remedy)
    assert "--memory 2433MB" in str(death.error.remedy)


@pytest.mark.parametrize("mode", ["none", "container"])
def test_a_worker_that_takes_too_much_is_ended_and_told_what_to_set(
    place: Place, isolator: Isolator, mode: IsolationMode
) -> None:
    """The accelerator's FAQ 4: a worker that used 165 MB of its 120 MB was killed, and nobody said of what."""
    other = Life(place.settings(mode), place.model, isolator)
    small = LimitSettings(memory_bytes=30 * MEBIBYTE)
    life = Life(place.settings(mode, small), place.model, isolator)
    death = life.run()
    assert death.out_of_memory
    assert death.permanent  # it was not even loaded
    assert death.error is not None
    assert "used more memory than its pipeline allows" in death.error.what
    assert death.error.expected == "at most 30 MB (limits.memory)"
    assert int(str(death.error.got).split(" MB")[0]) > 30
    assert "limits: {memory: " in str(death.error.remedy)
    assert not psutil.pid_exists(life.worker.pid)
    assert other.run().source_ended
    assert len(other.records) == 3


@pytest.mark.parametrize("mode", ["none", "container"])
def test_a_burst_between_two_looks_of_the_watchdog_is_stopped_by_the_kernel(mode: IsolationMode) -> None:
    control = cgroup_control()
    isolator = Isolator(memory=control)
    process = isolator.launch(
        [sys.executable, "-c", HOG],
        isolation=isolator.resolve(mode),
        name="a hog/with any name",
        memory_bytes=60 * MEBIBYTE,
        environment=child_environment(),
    )
    assert process.wait(60) == -9
    ended = process.out_of_memory()
    assert ended is not None
    assert ended.own_fault
    assert ended.bound_bytes == hard_bound(60 * MEBIBYTE)
    assert 60 * MEBIBYTE < ended.used_bytes <= ended.bound_bytes
    process.close()
    assert process.out_of_memory() is None  # its group is gone
    assert not groups_of(os.getpid())


def test_what_the_kernel_stopped_is_told_as_what_the_watchdog_stopped(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = cgroup_control()
    monkeypatch.setattr(cgroups, "hard_bound", lambda _: 24 * MEBIBYTE)  # so that the watchdog sees nothing
    life = Life(place.settings("container"), place.model, Isolator(memory=control))
    death = life.run()
    assert death.out_of_memory
    assert death.error is not None
    assert "used more memory than its pipeline allows" in death.error.what
    assert re.fullmatch(rf"\d+ MB, and it asked for more \({control.kind} stopped it\)", str(death.error.got))
    assert "limits: {memory: " in str(death.error.remedy)


def test_groups_that_a_killed_core_left_are_taken_away_with_what_lives_in_them() -> None:
    control = cgroup_control()
    group = control.group("door", 10**9)
    assert group.join_file is not None
    left = group.join_file.parent.with_name("mli-1-17-3-door")  # process 1 started at another time
    left.mkdir()
    # As bubblewrap's first process in a container, when its core was killed while it was being made.
    orphan = subprocess.Popen(["sleep", "600"])
    (left / "cgroup.procs").write_text(str(orphan.pid))
    reaper = threading.Thread(target=orphan.wait)
    reaper.start()
    find_memory_control()
    reaper.join()
    assert orphan.returncode == -signal.SIGKILL
    assert not left.exists()
    assert group.join_file.exists()  # of a core that lives
    group.remove()
    assert not group.join_file.exists()


def groups_of(pid: int) -> list[Path]:
    return list(cgroup_control().parent.glob(f"mli-{pid}-*"))


def cgroup_control() -> CgroupMemory:
    """Of this machine; these tests need root, or a group that was given to this user."""
    control = CONTROLS["what there is"]
    assert isinstance(control, CgroupMemory), control
    return control
