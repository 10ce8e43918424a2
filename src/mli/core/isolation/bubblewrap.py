"""The arguments with which bubblewrap starts a process in a container (man 1 bwrap)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mli.core.isolation.view import NETWORK_FILES, SYSTEM_FILES, SYSTEM_FOLDERS, View, runtime_paths

HOSTNAME = "mli-worker"
TEMPORARY = "/tmp"
TEMPORARY_BYTES = 16 * 1024 * 1024
"""Of the container's /tmp, which is memory that no watchdog sees."""
PARENT_PID = 1
"""What a contained process has for a parent: bubblewrap's own first process in there."""
_DEVICES = ("null", "zero", "full", "random", "urandom")
_PROC_FILES = ("cpuinfo", "meminfo", "stat", "loadavg", "uptime", "version", "filesystems")
_CPU_FOLDERS = ("/sys/devices/system/cpu", "/sys/devices/system/node")
_SIZES_SINCE = (0, 7)
_NESTED_USERS_REFUSED_SINCE = (0, 8)


@dataclass(frozen=True, slots=True)
class Variant:
    """How much of a container this device lets us make; found by trial, the strongest first.

    Attributes:
        hostname: its own.
        no_nesting: no further user namespaces in it, which have opened many a hole of the kernel.
        proc: a /proc of its own; otherwise a few files of the device's, which tell of no process.
        user: a user namespace; only root can do without.
    """

    hostname: bool = True
    no_nesting: bool = True
    proc: bool = True
    user: bool = True

    def lacks(self) -> str:
        """What it lacks, for people; empty for nothing."""
        missing = (
            (self.user, "a user namespace"),
            (self.proc, "a /proc of its own"),
            (self.no_nesting, "a ban on further user namespaces"),
            (self.hostname, "a host name of its own"),
        )
        return ", ".join(text for has, text in missing if not has)


def variants(*, root: bool, version: tuple[int, ...]) -> tuple[Variant, ...]:
    """Those worth a trial, the strongest first."""
    with_user = [
        Variant(),
        Variant(hostname=False),
        Variant(hostname=False, no_nesting=False),
        Variant(hostname=False, no_nesting=False, proc=False),
    ]
    if version < _NESTED_USERS_REFUSED_SINCE:
        with_user = [variant for variant in with_user if not variant.no_nesting]
    without = [Variant(hostname=False, no_nesting=False, proc=proc, user=False) for proc in (True, False) if root]
    return (*with_user, *without)


def container_arguments(
    version: tuple[int, ...], variant: Variant, view: View, hidden: tuple[Path, ...]
) -> list[str]:
    """Everything before ``-- COMMAND``.

    Args:
        hidden: files and folders that nobody in a container sees, even where they lie in a folder that is seen;
            what is named in ``view`` and lies deeper is seen.
    """
    spaces = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    spaces += [] if view.network else ["--unshare-net"]
    spaces += ["--unshare-user"] if variant.user else []
    spaces += ["--disable-userns"] if variant.no_nesting else []
    spaces += ["--hostname", HOSTNAME] if variant.hostname else []
    places = _Places(sizes=version >= _SIZES_SINCE)
    _add_system(places, variant, view)
    linked = [path for path in view.linked if not _lies_in(path, hidden)]
    named = [path for path in view.readable if not _strays(path, hidden)]
    for path in (*runtime_paths(), *named, *linked):
        places.bind("--ro-bind-try", path)
    for path in view.writable:
        places.bind("--bind", path)
    for path in hidden:
        places.hide(path)
    return [
        *spaces,
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        *places.arguments(),
        "--chdir",
        "/",
    ]


def _lies_in(path: Path, hidden: tuple[Path, ...]) -> bool:
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(place)) for place in hidden)


def _strays(path: Path, hidden: tuple[Path, ...]) -> bool:
    """Whether somebody has put a link in the place of a folder, and it leads to another one that is hidden."""
    real = Path(os.path.realpath(path))
    for place in hidden:
        real_place = Path(os.path.realpath(place))
        if real.is_relative_to(real_place):
            meant = real_place / path.relative_to(place) if path.is_relative_to(place) else path
            if real != meant:
                return True
    return False


def _add_system(places: _Places, variant: Variant, view: View) -> None:
    for folder in map(Path, SYSTEM_FOLDERS):
        if folder.is_symlink():
            places.link(folder, str(folder.readlink()))
        elif folder.is_dir():
            places.bind("--ro-bind", folder)
    for path in ("/usr", *SYSTEM_FILES, *_CPU_FOLDERS, *(NETWORK_FILES if view.network else ())):
        places.bind("--ro-bind-try", Path(path))
    places.memory(TEMPORARY, TEMPORARY_BYTES, writable=True)
    places.memory("/dev", 4096)
    for name in _DEVICES:
        places.bind("--dev-bind", Path("/dev", name))
    for device in view.devices:
        places.bind("--dev-bind", Path(device))
    if variant.proc:
        places.own_proc()
    else:
        for name in _PROC_FILES:
            places.bind("--ro-bind-try", Path("/proc", name))


class _Places:
    """What lies where in the container; an outer folder is made before what lies in it."""

    def __init__(self, *, sizes: bool) -> None:
        self._sizes = sizes
        self._bound: dict[Path, str] = {}
        self._made: list[tuple[int, int, list[str]]] = []
        self._sealed = ["/"]

    def bind(self, how: str, path: Path) -> None:
        """A file or folder of the device, at its own path."""
        if self._bound.get(path) != "--bind":
            self._bound[path] = how

    def link(self, path: Path, target: str) -> None:
        self._add(path, 0, ["--symlink", target, str(path)])

    def own_proc(self) -> None:
        """Of this container's processes, and read-only: root's worker could change the kernel's settings in it."""
        self._add(Path("/proc"), 0, ["--proc", "/proc"])
        self._sealed.append("/proc")

    def memory(self, path: str, size_bytes: int, *, writable: bool = False, rank: int = 0) -> None:
        """An empty folder; where bubblewrap is too old to bound it, nothing can be written there."""
        size = ["--size", str(size_bytes)] if self._sizes else []
        self._add(Path(path), rank, [*size, "--tmpfs", path])
        if not (writable and self._sizes):
            self._sealed.append(path)

    def hide(self, path: Path) -> None:
        """Cover a path wherever a folder that is seen leads to it, by whatever name."""
        real = Path(os.path.realpath(path))
        for seen in list(self._bound):
            seen_real = Path(os.path.realpath(seen))
            if real.is_relative_to(seen_real):
                cover = seen / real.relative_to(seen_real)
                if real.is_dir():
                    self.memory(str(cover), 4096, rank=2)
                elif real.exists():
                    self._add(cover, 2, ["--ro-bind", "/dev/null", str(cover)])

    def arguments(self) -> list[str]:
        binds = [(len(path.parts), 1, [how, str(path), str(path)]) for path, how in self._bound.items()]
        made = sorted(self._made + binds, key=lambda item: item[:2])
        seals = [text for path in self._sealed for text in ("--remount-ro", path)]
        return [text for _, _, arguments in made for text in arguments] + seals

    def _add(self, path: Path, rank: int, arguments: list[str]) -> None:
        self._made.append((len(path.parts), rank, arguments))
