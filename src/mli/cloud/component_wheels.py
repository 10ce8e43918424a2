"""The wheels that a device needs: which, by name, version and digest, and how they come from the package index.

``assets/component-wheels.txt`` names every one of them for each machine and Python. It is made together with
``constraints.txt``, so the wheels are those that mli was tested with, wherever mli itself was installed from; what
an index gives under the same name must have the same digest.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

from mli.errors import RefusedError, RetryError, StopError, UsageError

ARCHITECTURES = ("x86_64", "aarch64")
PYTHONS = ("3.11", "3.12", "3.13")
EVERY = "every"
LOCK = "component-wheels.txt"
_GLIBC = (17, 24, 26, 27, 28, 31, 34)
"""Minor versions of glibc that wheels are made for; pip takes a tag only where it is named exactly."""
_CHUNK_BYTES = 1 << 20
_OTHER_INDEX = "ask an index that has each project's own wheels (pip config list says which one is asked)"
_LINE = re.compile(
    r"\s*(?P<how>Downloading|Using cached|File was already downloaded|Saved) (?:\S*/)?(?P<file>\S+\.whl)"
)
_NO_LINE = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|name resolution|Connection refused|Max retries|unreachable"
    r"|ProxyError|SSLError|Could not fetch URL"
)

OnProgress = Callable[[str, int, int], None]
"""Told what is at work, and how many bytes of how many are done."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel of the lock.

    Attributes:
        sha256: 64 lower-case hex digits.
        targets: such as ``x86_64-cp311``; empty where every machine and Python uses it.
    """

    file: str
    sha256: str
    size_bytes: int
    targets: frozenset[str]

    @property
    def requirement(self) -> str:
        """How pip is asked for exactly this one."""
        name, version = self.file.split("-")[:2]
        return f"{name}=={version}"

    def suits(self, target: str) -> bool:
        return not self.targets or target in self.targets


def targets_of(architectures: Sequence[str], pythons: Sequence[str]) -> tuple[str, ...]:
    """Every machine with every Python, such as ``x86_64-cp311``.

    Raises:
        UsageError: one that there are no wheels for.
    """
    for words, known, what in ((architectures, ARCHITECTURES, "architecture"), (pythons, PYTHONS, "Python")):
        for word in words:
            if word not in known:
                raise UsageError(f"there are no wheels for this {what}", expected=" or ".join(known), got=repr(word))
        if not words:
            raise UsageError(f"no {what} is named", expected=" or ".join(known))
    chosen = [(machine, python) for machine in ARCHITECTURES for python in PYTHONS]
    return tuple(
        f"{machine}-cp{python.replace('.', '')}"
        for machine, python in chosen
        if machine in architectures and python in pythons
    )


def locked_wheels() -> tuple[Wheel, ...]:
    """All wheels of the lock, pip's own among them."""
    lines = (files("mli") / "assets" / LOCK).read_text(encoding="utf-8").splitlines()
    return tuple(_wheel(line) for line in lines if line and not line.startswith("#"))


def _wheel(line: str) -> Wheel:
    sha256, size, file, targets = line.split()
    return Wheel(file, sha256, int(size), frozenset() if targets == EVERY else frozenset(targets.split(",")))


def platform_options(target: str) -> list[str]:
    """Options of ``pip download`` and ``pip install`` that stand for another machine and Python."""
    machine, _, tag = target.partition("-cp")
    platforms = [f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in _GLIBC)]
    named = [word for platform in platforms for word in ("--platform", platform)]
    return [*named, "--implementation", "cp", "--python-version", f"{tag[0]}.{tag[1:]}", "--only-binary", ":all:"]


def default_cache() -> Path:
    """Where wheels stay for the next time."""
    return Path("~/.cache/mli/wheels").expanduser()


def fetch(wheels: Sequence[Wheel], targets: Sequence[str], cache: Path, on_progress: OnProgress) -> None:
    """Have all ``wheels`` in ``cache``, each with its digest; those that are there already are not brought again.

    Raises:
        RetryError: no way to the package index, or the disk is full.
        RefusedError: the index has none of them, or another one under its name.
        StopError: this Python has no pip.
    """
    cache.mkdir(parents=True, exist_ok=True)
    total = sum(wheel.size_bytes for wheel in wheels)
    missing = [wheel for wheel in wheels if not is_intact(cache / wheel.file, wheel)]
    done = total - sum(wheel.size_bytes for wheel in missing)
    on_progress("wheels that are here already", done, total)
    for target in targets:
        wanted = [wheel for wheel in missing if wheel.suits(target)]
        if not wanted:
            continue
        with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as folder:
            _download(wanted, target, Path(folder), partial(_tell, on_progress, done, total))
            _keep(wanted, Path(folder), cache)
        missing = [wheel for wheel in missing if wheel not in wanted]
        done = total - sum(wheel.size_bytes for wheel in missing)
        on_progress(f"wheels for {target}", done, total)


def _tell(on_progress: OnProgress, before: int, total: int, file: str, done: int) -> None:
    on_progress(file, before + done, total)


def is_intact(path: Path, wheel: Wheel) -> bool:
    """Whether the file is there and is that wheel."""
    return path.is_file() and path.stat().st_size == wheel.size_bytes and sha256_of(path) == wheel.sha256


def sha256_of(path: Path) -> str:
    """Digest of a file, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _keep(wanted: Iterable[Wheel], folder: Path, cache: Path) -> None:
    for wheel in wanted:
        if not is_intact(folder / wheel.file, wheel):
            raise RefusedError(
                "The package index gave another wheel than mli was tested with.",
                where=wheel.requirement,
                expected=wheel.file,
                got=", ".join(sorted(path.name for path in folder.iterdir())),
                remedy=_OTHER_INDEX,
            )
        (folder / wheel.file).replace(cache / wheel.file)


def _download(wanted: Sequence[Wheel], target: str, folder: Path, on_file: Callable[[str, int], None]) -> None:
    """One run of pip, into ``folder``; each wheel is told as it begins."""
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n" for wheel in wanted))
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--no-deps", "--require-hashes", "--retries", "2"]
    command += [*platform_options(target), "--dest", str(folder), "--requirement", str(requirements)]
    sizes = {wheel.file: wheel.size_bytes for wheel in wanted}
    said: list[str] = []
    done = last = 0
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            said.append(line.rstrip())
            found = _LINE.match(line)
            if found and found["how"] != "Saved":
                done, last = done + last, sizes.get(found["file"].removesuffix(".metadata"), 0)
                on_file(found["file"], done)
    if pip.returncode:
        raise _why(said, target)


def _why(said: Sequence[str], target: str) -> RetryError | RefusedError | StopError:
    text = "\n".join(said)
    last = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1] if said else "nothing")
    if "No module named pip" in text:
        return StopError(
            "This Python has no pip, which brings the wheels.",
            where=sys.executable,
            remedy=f"{sys.executable} -m ensurepip, or install mli into an environment that has pip",
        )
    if "No space left" in text:
        return RetryError("The disk is full.", got=last, remedy="make room; what was brought is kept")
    if "HASHES" in text:
        return RefusedError(
            "The package index gave another wheel than mli was tested with.",
            where=target,
            got=next((line.strip() for line in said if "Got " in line), last),
            remedy=_OTHER_INDEX,
        )
    if _NO_LINE.search(text):
        return RetryError(
            "The package index cannot be reached.",
            where=target,
            got=last,
            remedy="check the network, HTTPS_PROXY and pip's settings; what was brought is kept, so try again",
        )
    return RefusedError("pip could not bring the wheels.", where=target, got=last)
