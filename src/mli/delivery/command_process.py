"""One command as a process: no shell, a time limit, bounded output, and nothing of it left behind."""

from __future__ import annotations

import functools
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Literal

KEPT_OUTPUT_BYTES = 4096
_READ_BYTES = 64 * 1024
_TERM_GRACE_S = 1.0
_POLL_S = 0.02  # how soon an exit is seen where the system has no pidfd


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended.

    Attributes:
        end: ``exited`` by itself, ``timed_out``, ``stopped`` on request, or ``not_started``.
        exit_code: negative is the signal that ended it; None where it never started.
        error: why it could not start.
        stdout, stderr: the last 4 KiB of each.
    """

    end: Literal["exited", "timed_out", "stopped", "not_started"]
    exit_code: int | None
    duration_s: float
    stdout: bytes = b""
    stderr: bytes = b""
    error: str = ""


def run_command(
    argv: Sequence[str], *, environment: Mapping[str, str], timeout_s: float, stop_fd: int
) -> CommandResult:
    """Run ``argv`` to its end or to its time limit, and end whatever it left in its process group.

    Past the limit the group gets SIGTERM, and SIGKILL a second later. The child has no standard input, none of our
    files, and a session of its own. On Linux it is killed when this process dies, where util-linux's ``setpriv`` is
    installed: a hook between fork and exec would do without it, but is not safe beside threads.

    Args:
        environment: all that the child gets; its PATH also finds the command.
        stop_fd: the command is ended, as if its time were up, once this is readable or closed at its other end.
    """
    started = time.monotonic()
    program = shutil.which(argv[0], path=environment.get("PATH"))
    if program is None:
        return CommandResult("not_started", None, 0.0, error=f"no executable file {argv[0]!r} was found")
    try:
        process = subprocess.Popen(
            [*tied_to_parent(), program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return CommandResult("not_started", None, time.monotonic() - started, error=str(error))
    with _Watch(process, stop_fd) as watch:
        end: Literal["exited", "timed_out", "stopped"] = "exited"
        try:
            end = watch.until(started + timeout_s)
            if end != "exited":
                _signal_group(process, signal.SIGTERM)
                watch.until(time.monotonic() + _TERM_GRACE_S, stoppable=False)
        finally:
            _signal_group(process, signal.SIGKILL)
            process.wait()
        watch.read_rest()
        duration_s = time.monotonic() - started
        return CommandResult(end, process.returncode, duration_s, watch.stdout.kept, watch.stderr.kept)


@functools.cache
def tied_to_parent() -> tuple[str, ...]:
    """What to put before a command so that it dies with this process; empty where that cannot be had.

    The first call tries it out, which takes a few milliseconds: some systems' ``setpriv`` lacks the option.
    """
    setpriv = shutil.which("setpriv", path="/usr/bin:/bin") if sys.platform == "linux" else None
    if setpriv is None:
        return ()
    prefix = (setpriv, "--pdeathsig", "KILL", "--")
    try:
        trial = subprocess.run(
            [*prefix, setpriv, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):  # a device that is busy starting: no reason not to start
        return ()
    return prefix if trial.returncode == 0 else ()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # Members that outlive the leader keep its number taken, so this cannot hit a stranger's group.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


class _Tail:
    """The last bytes of one pipe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.kept = b""
        os.set_blocking(pipe.fileno(), False)

    def read(self) -> bool:
        """Take what is there now; False at the pipe's end."""
        try:
            part = os.read(self.pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return True
        self.kept = (self.kept + part)[-KEPT_OUTPUT_BYTES:]
        return bool(part)


class _Watch:
    """Reads both pipes while waiting for the process, the stop request or the deadline."""

    def __init__(self, process: subprocess.Popen[bytes], stop_fd: int) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._stop_fd = stop_fd
        self.stdout = _Tail(process.stdout)
        self.stderr = _Tail(process.stderr)
        self._selector = selectors.DefaultSelector()
        for tail in (self.stdout, self.stderr):
            self._selector.register(tail.pipe, selectors.EVENT_READ, tail)
        self._pidfd: int | None = None
        open_pidfd: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
        if open_pidfd is not None:
            with suppress(OSError):  # an old kernel
                self._pidfd = open_pidfd(process.pid)
                self._selector.register(self._pidfd, selectors.EVENT_READ)

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        self.stdout.pipe.close()
        self.stderr.pipe.close()

    def until(self, deadline: float, *, stoppable: bool = True) -> Literal["exited", "timed_out", "stopped"]:
        """Wait for the leader's exit; a grandchild that holds the pipes open does not count."""
        if stoppable:
            self._selector.register(self._stop_fd, selectors.EVENT_READ, "stop")
        try:
            while self._process.poll() is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return "timed_out"
                for key, _ in self._selector.select(left_s if self._pidfd is not None else min(left_s, _POLL_S)):
                    if key.data == "stop":
                        return "stopped"
                    if isinstance(key.data, _Tail) and not key.data.read():
                        self._selector.unregister(key.fileobj)
            return "exited"
        finally:
            if stoppable:
                self._selector.unregister(self._stop_fd)

    def read_rest(self) -> None:
        """Take what the pipes still hold: no more than a pipe's usual size each."""
        for tail in (self.stdout, self.stderr):
            tail.read()
