"""Control groups of the kernel, version 1 and 2 (Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst).

Each child gets a group of its own, below the one that the core was started in. Which version a device has, and
whether this user may make groups there, is found out by making one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from mli.core.isolation.memory import (
    MEBIBYTE,
    ControlKind,
    MemoryControl,
    MemoryGroup,
    OutOfMemory,
    WatchdogOnly,
    hard_bound,
)

log = logging.getLogger(__name__)

CORE_LEAF = "core"
"""A group of version 2 holds processes or limits other groups, not both: the core moves down into this one."""
REMOVE_WAIT_S = 1.0
_TRIAL_BYTES = 64 * MEBIBYTE
_NAME = re.compile(r"mli-(?P<pid>[0-9]+)-(?P<started>[0-9]+)-.+")


def find_memory_control(proc: Path = Path("/proc")) -> MemoryControl:
    """The best that this device gives to this process: version 2, version 1, or none.

    Args:
        proc: where the kernel tells of processes.
    """
    reasons = []
    for find in (_find_v2, _find_v1):
        found = find(proc)
        if isinstance(found, CgroupMemory):
            return found
        reasons.append(found)
    reason = "; ".join(reasons)
    log.info("no control group can hold the memory of workers, a watchdog does: %s", reason)
    return WatchdogOnly(reason)


class _Version(Protocol):
    """The files of one version."""

    kind: ControlKind

    def limit(self, folder: Path, bound_bytes: int) -> None:
        """Bound a new group."""
        ...

    def out_of_memory(self, folder: Path, bound_bytes: int) -> OutOfMemory | None:
        """What the kernel counted."""
        ...


class CgroupMemory:
    """Groups below ``parent``, one a child.

    Args:
        undo: called when all are gone.
    """

    def __init__(self, parent: Path, version: _Version, undo: Callable[[], None] = lambda: None) -> None:
        self.parent = parent
        self._version = version
        self._undo = undo
        self._numbers = itertools.count(1)
        self._owner = f"mli-{os.getpid()}-{_started(os.getpid())}"

    @property
    def kind(self) -> ControlKind:
        """For the status."""
        return self._version.kind

    def group(self, name: str, memory_bytes: int) -> MemoryGroup:
        """A new group; where that fails (a full disk of groups), the child has none, and the watchdog watches."""
        bound = hard_bound(memory_bytes)
        folder = self.parent / f"{self._owner}-{next(self._numbers)}-{re.sub('[^A-Za-z0-9_-]', '_', name)[:64]}"
        try:
            folder.mkdir()
            self._version.limit(folder, bound)
        except OSError as error:
            log.warning("no control group could be made for %s: %s", name, error)
            _remove(folder)
            return WatchdogOnly(str(error)).group(name, memory_bytes)
        return _Group(folder, self._version, bound)

    def try_out(self) -> None:
        """Make a group and take it away again.

        Raises:
            OSError: this cannot be done here.
        """
        folder = self.parent / f"{self._owner}-0-trial"
        folder.mkdir()
        try:
            self._version.limit(folder, _TRIAL_BYTES)
        finally:
            _remove(folder)

    def remove_leftovers(self) -> None:
        """Take away the groups of cores that were killed, with what still lives in them.

        A container that was being made when its core was killed can wait for ever, for a word of bubblewrap's first
        process, which is gone.
        """
        for folder in self.parent.glob("mli-*"):
            match = _NAME.fullmatch(folder.name)
            if match and _started(int(match["pid"])) != match["started"]:
                _kill_all(folder)
                _remove(folder)

    def close(self) -> None:
        """No child is left."""
        self._undo()


@dataclass(frozen=True, slots=True)
class _Group:
    folder: Path
    version: _Version
    bound_bytes: int

    @property
    def join_file(self) -> Path | None:
        return self.folder / "cgroup.procs"

    def out_of_memory(self) -> OutOfMemory | None:
        try:
            return self.version.out_of_memory(self.folder, self.bound_bytes)
        except OSError as error:
            log.debug("%s: %s", self.folder, error)
            return None

    def remove(self) -> None:
        # Without a container, a process that the child started may have outlived it.
        _kill_all(self.folder)
        _remove(self.folder)


# --- version 2 -------------------------------------------------------------------------------------------------


class _V2:
    kind: ControlKind = "cgroup v2"

    def limit(self, folder: Path, bound_bytes: int) -> None:
        _write(folder / "memory.max", str(bound_bytes))
        for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap, or older than 4.19
                _write(folder / name, value)

    def out_of_memory(self, folder: Path, bound_bytes: int) -> OutOfMemory | None:
        events = _counters(folder / "memory.events")
        if not events.get("oom_kill"):
            return None
        used = _number(folder / "memory.peak")  # since Linux 5.19
        # ``oom`` counts when this very group came to its bound, ``oom_kill`` whoever was short of memory.
        return OutOfMemory(used, bound_bytes, own_fault=events.get("oom", 0) > 0)


def _find_v2(proc: Path) -> CgroupMemory | str:
    own = _own_folder(proc, "cgroup2", "")
    if own is None:
        return "no cgroup v2 is mounted"
    if own.name == CORE_LEAF and (own.parent / "cgroup.procs").exists():
        own = own.parent  # this process is where an earlier call brought it
    if "memory" not in _text(own / "cgroup.controllers").split():
        return "cgroup v2 has no memory controller here"
    undo = contextlib.ExitStack()
    try:
        _delegate_memory(own, undo)
        found = CgroupMemory(own, _V2(), undo.close)
        found.remove_leftovers()
        found.try_out()
    except OSError as error:
        undo.close()
        return f"cgroup v2: {own}: {error.strerror}"
    return found


def _delegate_memory(own: Path, undo: contextlib.ExitStack) -> None:
    """Let groups below ``own`` have a limit of memory, and this process leave it for a leaf."""
    control = own / "cgroup.subtree_control"
    if "memory" in _text(control).split():
        return
    if (own / "cgroup.type").exists():  # the root group of the system has none, and may hold processes as well
        leaf = own / CORE_LEAF
        leaf.mkdir(exist_ok=True)
        undo.callback(_remove, leaf)
        for pid in _own_family(own):
            _write(leaf / "cgroup.procs", pid)
            undo.callback(_try_write, own / "cgroup.procs", pid)
    _write(control, "+memory")  # EBUSY: others than this process are in the group
    undo.callback(_try_write, control, "-memory")


def _own_family(group: Path) -> list[str]:
    """The processes of a group that are this one, or were started by it."""
    family = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return [pid for pid in _text(group / "cgroup.procs").split() if int(pid) in family]


# --- version 1 -------------------------------------------------------------------------------------------------


class _V1:
    kind: ControlKind = "cgroup v1"

    def limit(self, folder: Path, bound_bytes: int) -> None:
        _write(folder / "memory.limit_in_bytes", str(bound_bytes))
        with contextlib.suppress(OSError):  # a kernel that does not account swap
            _write(folder / "memory.memsw.limit_in_bytes", str(bound_bytes))

    def out_of_memory(self, folder: Path, bound_bytes: int) -> OutOfMemory | None:
        used = _number(folder / "memory.max_usage_in_bytes")
        # The kernel counts in batches, and not every one counts its failures.
        came_to_bound = used > bound_bytes - MEBIBYTE or _number(folder / "memory.failcnt") > 0
        kills = _counters(folder / "memory.oom_control").get("oom_kill")  # since Linux 4.13
        if kills == 0 or (kills is None and not came_to_bound):
            return None
        return OutOfMemory(used, bound_bytes, own_fault=came_to_bound)


def _find_v1(proc: Path) -> CgroupMemory | str:
    own = _own_folder(proc, "cgroup", "memory")
    if own is None:
        return "no cgroup v1 with memory is mounted"
    found = CgroupMemory(own, _V1())
    try:
        found.remove_leftovers()
        found.try_out()
    except OSError as error:
        return f"cgroup v1: {own}: {error.strerror}"
    return found


# --- files of the kernel ---------------------------------------------------------------------------------------


def _own_folder(proc: Path, file_system: str, controller: str) -> Path | None:
    """Where the group of this process lies."""
    group = None
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if (number == "0") if not controller else (controller in controllers.split(",")):
            group = path
    if group is None:
        return None
    for line in _text(proc / "self" / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind != file_system or (controller and controller not in options.split(",")):
            continue
        root, mounted_at = (_unescaped(text) for text in before.split(" ")[3:5])
        below = os.path.relpath(group, root) if Path(group).is_relative_to(root) else "."
        folder = Path(mounted_at, below)
        if (folder / "cgroup.procs").exists():
            return folder
    return None


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty for none, and for one that has ended."""
    # Its name is in brackets, and may itself contain brackets and blanks.
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _counters(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _write(path: Path, value: str) -> None:
    # Opened without O_CREAT: what is not there is not made.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _try_write(path: Path, value: str) -> None:
    with contextlib.suppress(OSError):  # tidying up
        _write(path, value)


def _kill_all(folder: Path) -> None:
    """End the processes of a group. One that this process cannot see is told as 0, which would be its own group."""
    for pid in map(int, _text(folder / "cgroup.procs").split()):
        if pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _remove(folder: Path) -> None:
    """Take a group away as soon as the kernel has seen its last process go."""
    deadline = time.monotonic() + REMOVE_WAIT_S
    wait = threading.Event()
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                log.warning("the control group %s stays: %s", folder, error.strerror)
                return
            wait.wait(0.01)
        else:
            return
