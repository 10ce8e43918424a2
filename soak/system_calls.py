"""The core killed, or failed, at every file-system call of a deployment: strace puts the signal or the error there.

Each thread of the core is traced alone, so that "its third fsync" is one certain place. A thread that is born in the
deployment (the supervisor of a new worker) is followed from the thread that starts it; processes are let go.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fixtures.brokers import wait_until

from soak.device import Device

CALLS = (
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "ftruncate",
    "unlinkat",
)
"""What changes files, or may be the first step of that."""
FAILING = ("write", "pwrite64", "fsync", "fdatasync", "rename", "openat", "mkdir")
"""What a full or broken disk lets fail."""
ENDS_S = 20.0
TRACES = 3
_CALL = re.compile(r"^(\d+)\s+(\w+)\((.*)")
_CREATES = "O_CREAT"


@dataclass(frozen=True, slots=True)
class Point:
    """One call of a deployment.

    Attributes:
        thread: in the order in which a core starts them.
        number: of this thread's calls of this name, from 1.
        creates: it can make a file.
    """

    thread: int
    call: str
    number: int
    creates: bool = field(compare=False)

    def __str__(self) -> str:
        return f"thread {self.thread}: {self.call} {self.number}"


def threads_of(device: Device) -> list[int]:
    """The kernel's numbers of the core's threads, in the order of their start."""
    return sorted(int(path.name) for path in Path(f"/proc/{device.core.pid}/task").iterdir())


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of a deployment.

    Attributes:
        points: those that came in each deployment that was traced.
        sometimes: more calls that came in one of them: what is done four times a second, say.
        born: calls of threads that are born in a deployment.
    """

    points: list[Point]
    sometimes: int
    born: int


def calls_of(
    device: Device, deploy: Callable[[], None], begin_anew: Callable[[], None], traces: int = TRACES
) -> Calls:
    """Every call that a core's threads make in ``deploy``: several times, each by one that was just started."""
    found = []
    for _ in range(traces):
        begin_anew()
        found.append(_trace(device, deploy))
    certain = [point for point in found[0][0] if all(point in points for points, _ in found)]
    return Calls(certain, max(len(points) for points, _ in found) - len(certain), max(born for _, born in found))


def _trace(device: Device, deploy: Callable[[], None]) -> tuple[list[Point], int]:
    trace = device.folder / "trace"
    threads = threads_of(device)
    with traced(device, threads, ["-e", f"trace={','.join(CALLS)}"], trace, follow=True):
        deploy()
    numbers: Counter[tuple[int, str]] = Counter()
    born = 0
    points = []
    for line in trace.read_text(errors="replace").splitlines():
        found = _CALL.match(line)
        if found is None or "resumed>" in line:
            continue
        thread, call = int(found[1]), found[2]
        if thread not in threads:
            born += 1
            continue
        numbers[thread, call] += 1
        points.append(Point(threads.index(thread), call, numbers[thread, call], _CREATES in found[3]))
    return points, born


@contextmanager
def injected(device: Device, thread: int, point: Point, fault: str) -> Iterator[None]:
    """While this is entered, a call of one thread has a fault: ``signal=KILL``, ``error=EIO``."""
    options = ["-e", f"trace={point.call}", "-e", f"inject={point.call}:{fault}:when={point.number}"]
    with traced(device, [thread], options, device.folder / "trace"):
        yield


@contextmanager
def traced(
    device: Device, threads: Sequence[int], options: Sequence[str], trace: Path, *, follow: bool = False
) -> Iterator[None]:
    """strace on some threads of the core.

    Args:
        follow: also the threads that they start; a process is let go when it becomes another program.
    """
    trace.unlink(missing_ok=True)
    born = ["-f", "-b", "execve"] if follow else []
    command = ["strace", "-qq", *born, *options, "-o", str(trace), *(f"-p{thread}" for thread in threads)]
    strace = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: all(_is_traced(device, thread) for thread in threads), "strace attached")
        yield
    finally:
        # Told to end while threads of a dead core are still to be reaped, strace waits for its first one for ever.
        if device.is_alive():
            strace.send_signal(signal.SIGINT)
        try:
            strace.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            strace.kill()
            strace.wait()


def _is_traced(device: Device, thread: int) -> bool:
    try:
        status = Path(f"/proc/{device.core.pid}/task/{thread}/status").read_text()
    except FileNotFoundError:
        return True  # it has ended
    return "TracerPid:\t0\n" not in status
