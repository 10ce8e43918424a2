"""The sandbox: what a job cannot do, how its end becomes an error, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.fixtures.brokers import wait_until
from tests.unit.core import sandbox_jobs as jobs
from tests.unit.core.sandbox_jobs import Asked, Said

from mli.core import confinement, sandbox
from mli.core.sandbox import MEBIBYTE, Finished, SandboxLimits
from mli.errors import ArchiveRefused, ModelRefused, StopError

LINUX = sys.platform.startswith("linux")
DENIED = "Operation not permitted"
TOP = str(Path(__file__).parents[3])


@pytest.fixture(autouse=True)
def jobs_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", TOP, prepend=os.pathsep)


def run(job: Callable[[Asked, jobs.Note], Said], number: int = 0, text: str = "", **limits: Any) -> Finished[Said]:
    return sandbox.run(job, Asked(number, text), SandboxLimits(**limits), title="the job")


def own_children() -> list[psutil.Process]:
    """The sandbox's; other tests in this process may have brokers of their own."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "mli.core.sandbox_child" in child.cmdline():
                found.append(child)
    return found


def test_a_job_gets_its_request_and_gives_notes_and_a_result() -> None:
    notes: list[str] = []
    done = sandbox.run(jobs.echo, Asked(7, "seven"), SandboxLimits(), title="the job", on_note=notes.append)
    assert done.value == Said("seven 7")
    assert notes == ["first [31m", "second"]  # nothing that a terminal would obey
    assert done.peak_bytes < 200 * MEBIBYTE
    assert not own_children()


def test_numpy_and_threads_work_inside() -> None:
    assert run(jobs.use_threads_and_numpy).value == Said("4000.0")


# --- what it cannot do ------------------------------------------------------------------------------------------


def test_a_job_cannot_reach_a_listening_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = run(jobs.connect, server.getsockname()[1])
        assert done.no_network is LINUX
        assert done.value.text == (DENIED if LINUX else "done")
        server.setblocking(False)
        if LINUX:
            with pytest.raises(BlockingIOError):
                server.accept()


def test_a_job_cannot_reach_a_service_of_this_device(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        assert run(jobs.connect_locally, text=str(tmp_path / "s")).value.text == DENIED


@pytest.mark.parametrize("job", [jobs.replace_program, jobs.start_program, jobs.fork, jobs.outlive_parent])
def test_a_job_cannot_start_anything_or_stay_behind(job: Callable[[Asked, jobs.Note], Said]) -> None:
    assert run(job, text="/bin/true").value.text == DENIED


@pytest.mark.parametrize(
    "number",
    [425, 434, 430, 0x4000_0000 + 41],
    ids=["io_uring_setup", "pidfd_open", "fsopen", "socket by its x32 number"],
)
def test_a_job_cannot_reach_the_kernel_by_a_side_door(number: int) -> None:
    assert run(jobs.system_call, number).value.text == DENIED


def test_a_job_cannot_kill_its_parent() -> None:
    assert run(jobs.kill, os.getpid()).value.text == DENIED


def test_a_processor_whose_calls_nobody_numbered_keeps_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "_MACHINES", {})
    assert confinement.refuse_system_calls() is False
    socket.socket().close()


# --- how it ends ------------------------------------------------------------------------------------------------


def test_an_error_of_the_job_comes_back_in_its_class_with_its_fields() -> None:
    with pytest.raises(ArchiveRefused) as caught:
        run(jobs.refuse, text="what is wrong")
    assert type(caught.value) is ArchiveRefused
    assert caught.value.to_json() == {
        "what": "what is wrong",
        "where": "here",
        "expected": "this",
        "got": "that",
        "remedy": "so",
    }


def test_a_job_that_crashes_is_the_models_fault_and_says_how() -> None:
    with pytest.raises(ModelRefused, match="the job failed: KeyError: 'nothing'"):
        run(jobs.crash, text="nothing")


def test_a_job_that_takes_too_long_is_ended_with_the_numbers() -> None:
    with pytest.raises(ModelRefused, match="took too long") as caught:
        run(jobs.hang, time_s=1.0, time_remedy="raise it")
    assert caught.value.expected == "at most 1 s"
    assert caught.value.remedy == "raise it"
    assert not own_children()


def test_a_job_that_grows_is_ended_with_the_numbers() -> None:
    with pytest.raises(ModelRefused, match="more memory") as caught:
        run(jobs.grow, 4096, memory_bytes=100 * MEBIBYTE, memory_remedy="set it to {need}MB")
    assert caught.value.expected == "at most 100 MB"
    used = re.fullmatch(r"(\d+) MB", caught.value.got or "")
    assert used
    assert 100 <= int(used[1]) < 200
    assert re.fullmatch(r"set it to \d+MB", caught.value.remedy or "")


def test_a_job_cannot_even_ask_for_much_more_than_it_may_use() -> None:
    with pytest.raises(ModelRefused, match="more memory") as caught:
        run(jobs.ask_for_all_at_once, 2**30, memory_bytes=100 * MEBIBYTE)
    assert caught.value.got == "it asked for more than that at once"


def test_a_job_that_dies_of_its_own_work_is_refused_with_its_last_words() -> None:
    with pytest.raises(ModelRefused, match="ended by SIGSEGV") as caught:
        run(jobs.die, signal.SIGSEGV)
    assert caught.value.got == "its last words"


def test_a_job_that_somebody_killed_is_nobodys_fault() -> None:
    def kill_it(pid: str) -> None:
        os.kill(int(pid), signal.SIGKILL)

    with pytest.raises(StopError, match=r"somebody killed its process \(SIGKILL\)"):
        sandbox.run(jobs.spin, Asked(), SandboxLimits(), title="the job", on_note=kill_it)


def test_a_file_that_grows_too_large_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="too large a file") as caught:
        run(jobs.write_much, 20, str(tmp_path / "file"), file_bytes=5 * MEBIBYTE)
    assert caught.value.expected == "at most 5 MB a file"
    assert (tmp_path / "file").stat().st_size == 5 * MEBIBYTE


def test_a_job_that_talks_without_end_is_ended() -> None:
    with pytest.raises(ModelRefused, match="it says more than"):
        run(jobs.talk)


# --- nothing is left --------------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_job_at_once() -> None:
    def interrupt(_: str) -> None:
        threading.Timer(0, signal.raise_signal, [signal.SIGINT]).start()

    with pytest.raises(KeyboardInterrupt):
        sandbox.run(jobs.spin, Asked(), SandboxLimits(), title="the job", on_note=interrupt)
    assert not own_children()


PARENT = """
from mli.core import sandbox
from tests.unit.core import sandbox_jobs as jobs
sandbox.run(jobs.hang, jobs.Asked(), sandbox.SandboxLimits(), title="the job", on_note=lambda t: print(t, flush=True))
"""


def test_a_job_ends_with_its_parent_however_that_ends() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    wait_until(lambda: not child.is_running(), "the end of the child")


def test_a_job_that_nobody_wants_any_more_is_ended() -> None:
    said: list[str] = []
    with pytest.raises(sandbox.JobCancelled):
        sandbox.run(
            jobs.spin,
            Asked(0, ""),
            SandboxLimits(),
            title="the job",
            on_note=said.append,
            cancelled=lambda: bool(said),
        )
    assert not own_children()
