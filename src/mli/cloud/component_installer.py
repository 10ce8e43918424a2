"""Installs mli on a device, from the wheels that lie beside this file; nothing here needs a network.

The component's artifact holds it as ``install.py``, and ``install.sh`` starts it with a Python of the device:
``python3.11 -I install.py FOLDER``. It runs where mli is not yet, so it uses the standard library alone, and says
what is wrong itself. What it makes in FOLDER::

    environments/<digest>-cp311/   a virtual environment; ``complete`` is written into it last
    current                        a link to the one that is used, replaced in one step
    bin/mli                        the command

Whatever ends it half-way, the next run starts over what was half made, and ``current`` still leads to what worked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK = "complete"
"""The file that makes an environment one that may be used."""
_SPARE_BYTES = 64 << 20
_COMPILED = 1.15
"""Files on the disk, with Python's compiled ones, for each byte in the wheels."""
_CHECK_TIMEOUT_S = 300
_TRY = "import ssl, sqlite3, mli.__main__, numpy, cv2, onnxruntime, cryptography, psutil, pydantic, yaml"
_OLDEST_GLIBC = (2, 28)


class Trouble(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n  to fix:   {remedy}")


def main(arguments: list[str]) -> int:
    """``install.py FOLDER`` installs; ``install.py --fits`` says by its exit code whether this Python will do."""
    source = Path(__file__).resolve().parent
    index = json.loads((source / "index.json").read_text(encoding="utf-8"))
    if arguments == ["--fits"]:
        return 0 if target_here() in index["targets"] else 1
    if len(arguments) != 1:
        sys.stderr.write("usage: install.py FOLDER\n")
        return 2
    os.umask(0o022)  # the service's user reads what root installs
    try:
        Installation(source, Path(arguments[0]).absolute(), index).run()
    except Trouble as trouble:
        sys.stderr.write(f"mli cannot be installed: {trouble}\n")
        return 1
    except OSError as error:
        told = _full(Path(arguments[0])) if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        sys.stderr.write(f"mli cannot be installed: {told or error}\n")
        return 1
    return 0


def target_here() -> str:
    """What this Python needs wheels for, such as ``x86_64-cp311``: its own word size counts, not the kernel's."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if struct.calcsize("P") != 8:
        machine = f"{machine}-32bit"
    kind = "cp" if sys.implementation.name == "cpython" else sys.implementation.name
    return f"{machine}-{kind}{sys.version_info.major}{sys.version_info.minor}"


class Installation:
    """One artifact, and the folder into which it goes."""

    def __init__(self, source: Path, folder: Path, index: dict[str, Any]) -> None:
        self._source = source
        self._folder = folder
        self._index = index
        self._target = target_here()
        self._name = f"{index['digest'][:12]}-{self._target.rpartition('-')[2]}"
        self._environment = folder / "environments" / self._name
        self._python = self._environment / "bin" / "python"

    def run(self) -> None:
        """Install, unless it is installed already; then have ``current`` lead to it."""
        self._check_machine()
        self._environment.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            made = not self._is_complete()
            if made:
                self._make()
            self._activate()
        _say(f"mli {self._index['mli']} {'was' if made else 'is'} installed: {self._folder}/current")

    def _check_machine(self) -> None:
        if self._target not in self._index["targets"]:
            raise Trouble(
                f"it was not made for {self._target}, only for {', '.join(self._index['targets'])}",
                "another Python, or an artifact that holds more (mli stack package --component)",
            )
        kind, version = platform.libc_ver()
        if kind == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_GLIBC:
            raise Trouble(f"this system's C library is glibc {version}", "a system with glibc 2.28 or newer")
        if kind != "glibc":
            raise Trouble("this system's C library is not glibc", "a system such as Debian, Ubuntu or Amazon Linux")
        if (self._folder / "pyvenv.cfg").exists():
            raise Trouble(
                f"{self._folder} is a virtual environment that something else made", "name another folder, or move it"
            )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two at a time would be in each other's way; the second one finds the work done."""
        with (self._folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _is_complete(self) -> bool:
        """Whether it is all there, and its Python starts: a newer system may have taken that away."""
        mark = self._environment / MARK
        if not mark.is_file() or mark.read_text(encoding="utf-8") != self._index["digest"]:
            return False
        try:
            return self._start("-c", "import mli").returncode == 0
        except OSError:
            return False

    def _make(self) -> None:
        if self._environment.exists():
            _say("what an earlier run left half made is made anew")
            shutil.rmtree(self._environment)
        needed = int(self._index["targets"][self._target]["bytes"] * _COMPILED) + _SPARE_BYTES
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise _full(self._folder, f"{free >> 20} MB are free, {needed >> 20} MB are needed")
        pip = self._source / self._index["pip"]["file"]
        if _sha256(pip) != self._index["pip"]["sha256"]:
            raise Trouble(f"{pip.name} is damaged", "have the artifact brought or unpacked again")
        _say(f"installing mli {self._index['mli']} for {self._target} ...")
        venv.EnvBuilder(with_pip=False, symlinks=True).create(self._environment)
        scratch = self._environment / "scratch"
        scratch.mkdir()
        self._pip(pip, "install", "--no-deps", "--require-hashes", "-r", f"requirements-{self._target}.txt")
        self._pip(pip, "check")
        shutil.rmtree(scratch)
        self._try()
        os.sync()  # before the mark: a power cut leaves no mark over files that are not there
        _write(self._environment / MARK, self._index["digest"])

    def _pip(self, pip: Path, *arguments: str) -> None:
        """pip runs out of its own wheel: a device's Python may have none."""
        options = ("--isolated", "--disable-pip-version-check", "--no-input", "--no-color", "--quiet")
        more = ("--no-index", "--no-cache-dir", "--no-warn-script-location", "--root-user-action=ignore")
        command = (
            f"{pip}/pip",
            *options,
            *arguments[:1],
            *(more if arguments[0] == "install" else ()),
            *arguments[1:],
        )
        done = self._start(*command)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            if "No space left" in said or shutil.disk_usage(self._folder).free < 1 << 20:
                raise _full(self._folder)
            if "HASHES" in said:
                raise Trouble(f"a wheel is not what it was\n{said}", "have the artifact brought or unpacked again")
            raise Trouble(f"pip {arguments[0]} ended with code {done.returncode}\n{said}", "what pip says above")

    def _try(self) -> None:
        done = self._start("-c", _TRY)
        if done.returncode:
            raise Trouble(
                f"what was installed does not start (code {done.returncode})\n{done.stderr.strip()[-2000:]}",
                "install what it misses on this system",
            )

    def _start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The environment's Python, with nothing of this process's surroundings that could change what it does."""
        scratch = self._environment / "scratch"
        surroundings = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(scratch if scratch.exists() else "/nonexistent"),
            "TMPDIR": str(scratch),
            "PIP_CONFIG_FILE": os.devnull,
            "ORT_DISABLE_TELEMETRY": "1",
        }
        return subprocess.run(
            [str(self._python), "-I", *arguments],
            cwd=self._source,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=None if arguments[0].endswith("/pip") else _CHECK_TIMEOUT_S,
            check=False,
        )

    def _activate(self) -> None:
        """One step leads from the old one to the new one; the old one stays, for a process that still runs in it."""
        link = self._folder / "current"
        before = link.readlink().name if link.is_symlink() else None
        if before != self._name:
            _link(link, f"environments/{self._name}")
        command = self._folder / "bin" / "mli"
        if not command.is_symlink():
            command.parent.mkdir(exist_ok=True)
            _link(command, "../current/bin/mli")
        if before in (self._name, None):
            return
        for environment in self._environment.parent.iterdir():
            if environment.name not in (self._name, before) and not _is_used(environment):
                shutil.rmtree(environment, ignore_errors=True)


def _is_used(environment: Path) -> bool:
    """Whether a process runs in it: a service that nobody has started anew since."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(os.fsencode(environment) + b"/"):
                return True
    return False


def _full(folder: Path, told: str | None = None) -> Trouble:
    what = f"the disk of {folder} is full" + (f": {told}" if told else "")
    return Trouble(what, "make room; then the same again")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _link(path: Path, leads_to: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(leads_to)
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
