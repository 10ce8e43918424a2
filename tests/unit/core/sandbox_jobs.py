"""Jobs that misbehave, each in its own way."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mli.errors import ArchiveRefused

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A number and a text, whatever a job makes of them."""

    number: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What a job came to."""

    text: str


def echo(request: Asked, note: Note) -> Said:
    note("first\x1b[31m")
    note("second")
    return Said(f"{request.text} {request.number}")


def connect(request: Asked, note: Note) -> Said:  # noqa: ARG001 - every job has the same form
    return Said(_tried(lambda: socket.create_connection(("127.0.0.1", request.number), 5).close()))


def connect_locally(request: Asked, note: Note) -> Said:  # noqa: ARG001
    def attempt() -> None:
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(request.text)

    return Said(_tried(attempt))


def replace_program(request: Asked, note: Note) -> Said:  # noqa: ARG001
    return Said(_tried(lambda: os.execv(request.text, [request.text])))


def start_program(request: Asked, note: Note) -> Said:  # noqa: ARG001
    return Said(_tried(lambda: subprocess.run([request.text], check=True)))


def fork(request: Asked, note: Note) -> Said:  # noqa: ARG001
    return Said(_tried(lambda: os._exit(0) if os.fork() == 0 else None))


def outlive_parent(request: Asked, note: Note) -> Said:  # noqa: ARG001
    """Take back that it dies with its parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    return Said("done" if libc.prctl(1, 0) == 0 else os.strerror(ctypes.get_errno()))


def system_call(request: Asked, note: Note) -> Said:  # noqa: ARG001
    """Call the kernel by number, without arguments."""
    libc = ctypes.CDLL(None, use_errno=True)
    return Said("done" if libc.syscall(request.number, 0, 0, 0, 0, 0, 0) >= 0 else os.strerror(ctypes.get_errno()))


def kill(request: Asked, note: Note) -> Said:  # noqa: ARG001
    return Said(_tried(lambda: os.kill(request.number, signal.SIGKILL)))


def use_threads_and_numpy(request: Asked, note: Note) -> Said:  # noqa: ARG001
    import numpy as np

    sums: list[float] = []
    threads = [threading.Thread(target=lambda: sums.append(float(np.ones(1000).sum()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Said(str(sum(sums)))


def refuse(request: Asked, note: Note) -> Said:  # noqa: ARG001
    class NewerRefused(ArchiveRefused):
        """A class that only this process knows."""

    raise NewerRefused(request.text, where="here", expected="this", got="that", remedy="so")


def crash(request: Asked, note: Note) -> Said:  # noqa: ARG001
    return Said({"known": ""}[request.text])


def spin(request: Asked, note: Note) -> Said:
    """Say who it is, and go on for ever."""
    note(f"{os.getpid()}")
    while request.number == 0:
        pass
    return Said("")


def hang(request: Asked, note: Note) -> Said:  # noqa: ARG001
    """Say who it is, and wait in a library call that lets no other thread of Python's run."""
    note(f"{os.getpid()}")
    ctypes.PyDLL(None).pause()
    return Said("")


def grow(request: Asked, note: Note) -> Said:
    """Megabyte after megabyte."""
    kept = []
    for count in range(request.number):
        kept.append(b"x" * 2**20)
        note(str(count))
    return Said(str(len(kept)))


def ask_for_all_at_once(request: Asked, note: Note) -> Said:  # noqa: ARG001
    return Said(str(len(bytes(request.number))))


def die(request: Asked, note: Note) -> Said:  # noqa: ARG001
    os.write(2, b"its last words\n")
    signal.raise_signal(request.number)
    return Said("")


def write_much(request: Asked, note: Note) -> Said:  # noqa: ARG001
    with Path(request.text).open("wb", buffering=0) as file:
        for _ in range(request.number):
            file.write(bytes(2**20))
    return Said("")


def talk(request: Asked, note: Note) -> Said:  # noqa: ARG001
    while True:
        note("x" * 10_000)


def _tried(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error)
    return "done"
