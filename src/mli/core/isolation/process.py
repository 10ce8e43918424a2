"""A child process that was started, in a container or not: what it uses, how it ended, and its sure end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from mli.core.isolation.memory import MemoryGroup, OutOfMemory
from mli.errors import RetryError, StopError

log = logging.getLogger(__name__)

CONTAINER_START_S = 20.0
GONE_WAIT_S = 10.0
_LOOK_S = 0.001


@dataclass(frozen=True, slots=True)
class Container:
    """A program that makes a container, and its arguments before ``-- COMMAND``."""

    program: str
    arguments: tuple[str, ...]


class LaunchedProcess:
    """One child. ``wait`` and ``close`` belong to one thread, the rest to any.

    Attributes:
        pid: of the process that does the work, as this system counts them.
    """

    def __init__(
        self, child: subprocess.Popen[bytes], group: MemoryGroup, first: ProcessHandle | None, pid: int
    ) -> None:
        self._child = child
        self._group = group
        self._first = first
        self.pid = pid

    @property
    def stdin(self) -> IO[bytes] | None:
        """Where it was asked for."""
        return self._child.stdin

    @property
    def stderr(self) -> IO[bytes]:
        """What it says."""
        assert self._child.stderr is not None
        return self._child.stderr

    @property
    def returncode(self) -> int | None:
        """Exit code, or minus the number of the signal that ended it; None while it was not seen to end."""
        code = self._child.returncode
        if self._first is not None and code is not None and code > 128:
            return 128 - code  # as bubblewrap, like a shell, says it
        return code

    def resident_bytes(self) -> int:
        """Resident memory, 0 once it is gone."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def out_of_memory(self) -> OutOfMemory | None:
        """Whether the kernel ended it for want of memory; only where a control group holds it."""
        return self._group.out_of_memory()

    def poll(self) -> int | None:
        """As ``returncode``, after a look."""
        self._child.poll()
        return self.returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it lives.
        """
        self._child.wait(timeout_s)
        code = self.returncode
        assert code is not None
        return code

    def kill(self) -> None:
        """End it at once, with all that it started if it is in a container."""
        if self._first is not None:
            self._first.kill()  # the first process of a container takes all others along, then bubblewrap ends
        else:
            self._child.kill()

    def close(self) -> None:
        """Whatever it still does, it is gone after this. Its streams are the caller's to close."""
        self.kill()
        try:
            self._child.wait(GONE_WAIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._first is not None:
            self._first.wait(GONE_WAIT_S)  # bubblewrap may have been killed before it
            self._first.close()
        self._group.remove()


class ProcessHandle:
    """A process that is not our own child: bubblewrap's first one in a container. Any thread."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._lock = threading.Lock()
        self._closed = False
        self._descriptor = -1
        with contextlib.suppress(OSError):  # Linux before 5.3, or a filter of system calls: its number must do
            self._descriptor = os.pidfd_open(pid)

    def kill(self) -> None:
        """End it; nothing happens when it is gone."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._closed:
                return
            if self._descriptor >= 0:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            else:
                os.kill(self._pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> None:
        """Wait for its end, at most so long; belongs to the thread that closes it."""
        if self._closed:
            return
        if self._descriptor >= 0:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            poll.poll(timeout_s * 1000)
            return
        _look_until(lambda: True if not psutil.pid_exists(self._pid) else None, timeout_s)

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            if self._descriptor >= 0 and not self._closed:
                os.close(self._descriptor)
            self._closed = True


def start(
    command: list[str],
    group: MemoryGroup,
    container: Container | None,
    *,
    pass_fds: tuple[int, ...],
    environment: dict[str, str],
    stdin: int,
    new_session: bool,
) -> LaunchedProcess:
    """Start a child.

    Args:
        container: to start it in; None for none.

    Raises:
        StopError: there is no child.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        information = -1
        if container is not None:
            information, written = os.pipe()
            ours.callback(os.close, information)
            theirs.callback(os.close, written)
            arguments = _in_memory(os.fsencode("\0".join(container.arguments)))
            theirs.callback(os.close, arguments)
            # Not on the command line: it may be long, and is nothing to look at in a list of processes.
            options = ["--args", str(arguments), "--info-fd", str(written)]
            command = [container.program, *options, "--", *command]
            pass_fds = (*pass_fds, written, arguments)
        try:
            child = subprocess.Popen(
                _prepared(command, group),
                pass_fds=pass_fds,
                env=environment,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=new_session or container is not None,
            )
        except OSError as error:
            group.remove()
            raise StopError("a process cannot be started", where=command[0], got=error.strerror) from error
        theirs.close()
        if container is None:
            return LaunchedProcess(child, group, None, child.pid)
        return _inside(child, group, information)


def _in_memory(data: bytes) -> int:
    """A file that only its descriptor leads to."""
    descriptor = os.memfd_create("arguments", 0)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _prepared(command: list[str], group: MemoryGroup) -> list[str]:
    """A command that does first what only the child itself can do.

    It joins its group before it is what it shall be: memory that it had before is not moved along. What a terminal or
    a service manager sends to all processes at once is the core's to decide on; bubblewrap would end of it.
    """
    if group.join_file is None:
        return ["/bin/sh", "-c", 'trap "" HUP INT TERM; exec "$@"', "sh", *command]
    return ["/bin/sh", "-c", 'trap "" HUP INT TERM; echo 0 >"$0" && exec "$@"', str(group.join_file), *command]


def _inside(child: subprocess.Popen[bytes], group: MemoryGroup, information: int) -> LaunchedProcess:
    """Wait until bubblewrap has made the container and the process in it runs."""
    first: ProcessHandle | None = None
    deadline = time.monotonic() + CONTAINER_START_S
    first_pid = _first_pid(information, deadline)
    if first_pid is not None:
        first = ProcessHandle(first_pid)
        pid = _look_until(
            lambda: _only_child(first_pid) or (-1 if child.poll() is not None else None), CONTAINER_START_S
        )
        if pid is not None and pid > 0:
            return LaunchedProcess(child, group, first, pid)
    LaunchedProcess(child, group, first, child.pid).close()
    said = _last_words(child)
    raise RetryError(
        "a container could not be started",
        got=said[-1] if said else "bubblewrap ended without a word",
        remedy="see what bubblewrap said; `isolation: none` for the pipeline runs it without a container",
    )


def _last_words(child: subprocess.Popen[bytes]) -> list[str]:
    """What is left to read of a child that has ended; another process may still hold the other end."""
    assert child.stderr is not None
    with child.stderr as stream:
        os.set_blocking(stream.fileno(), False)
        return (stream.read() or b"").decode(errors="replace").strip().splitlines()


def _first_pid(information: int, deadline: float) -> int | None:
    """What bubblewrap tells of its container: the number of the first process in it."""
    text = b""
    while select.select([information], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(information, 4096)
        text += part
        with contextlib.suppress(ValueError):
            return int(json.loads(text)["child-pid"])
        if not part:
            break
    return None


def _only_child(pid: int) -> int | None:
    children: list[str] = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # it is gone, or the kernel was built without this file
        with contextlib.suppress(psutil.Error):
            children = [str(child.pid) for child in psutil.Process(pid).children()]
    except OSError:
        return None
    return int(children[0]) if children else None


def _look_until(found: Callable[[], int | None], timeout_s: float) -> int | None:
    """Look again and again; there is nothing that one could wait for."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while (value := found()) is None and time.monotonic() < deadline:
        pause.wait(_LOOK_S)
    return value
