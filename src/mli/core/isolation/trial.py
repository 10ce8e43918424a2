"""Whether containers work on this device: found out by starting one, and explained where they do not."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mli.core.isolation.bubblewrap import Variant, container_arguments, variants
from mli.core.isolation.view import View

log = logging.getLogger(__name__)

TRIAL_TIMEOUT_S = 20.0
INSTALL = "install bubblewrap (Debian, Ubuntu: apt install bubblewrap), or set `isolation: none` for the pipeline"


@dataclass(frozen=True, slots=True)
class Containers:
    """Containers work, made in this way."""

    program: str
    version: tuple[int, ...]
    variant: Variant

    def __str__(self) -> str:
        text = f"bubblewrap {'.'.join(map(str, self.version))}"
        lacks = self.variant.lacks()
        return f"{text}, without {lacks}" if lacks else text


@dataclass(frozen=True, slots=True)
class NoContainers:
    """Containers do not work here.

    Attributes:
        why: one sentence.
        got: what bubblewrap said, None where it is not there.
        remedy: what a person can do.
    """

    why: str
    got: str | None
    remedy: str


@cache
def try_containers() -> Containers | NoContainers:
    """Start the strongest container that works here; once a process."""
    if not sys.platform.startswith("linux"):
        return NoContainers("containers need Linux", None, "set `isolation: none` for the pipeline")
    program = shutil.which("bwrap")
    if program is None:
        return NoContainers("bubblewrap is not installed", None, INSTALL)
    version = _version(program)
    said = ""
    for variant in variants(root=os.geteuid() == 0, version=version):
        problem = _problem(program, version, variant)
        if problem is None:
            found = Containers(program, version, variant)
            log.info("workers can run in containers: %s", found)
            return found
        log.debug("no container with %s: %s", variant, problem)
        said = said or problem
    return explain(said)


def _version(program: str) -> tuple[int, ...]:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=TRIAL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(int(number) for number in re.findall(rb"\d+", done.stdout))


def _problem(program: str, version: tuple[int, ...], variant: Variant) -> str | None:
    """What is wrong with a container of this kind, None where this very Python runs in it."""
    arguments = container_arguments(version, variant, View(), ())
    try:
        done = subprocess.run(
            [program, *arguments, "--", sys.executable, "-I", "-S", "-c", ""],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TRIAL_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def explain(said: str, settings: Path = Path("/proc/sys")) -> NoContainers:
    """The likely cause, from what the kernel tells of its settings.

    Args:
        said: by bubblewrap.
    """
    for name, forbids, remedy in (
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "give bwrap an AppArmor profile with `userns` (Ubuntu: apt install apparmor-profiles, then copy "
            "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict to /etc/apparmor.d and reload AppArmor)",
        ),
    ):
        if _setting(settings / name) == forbids:
            key = name.replace("/", ".")
            return NoContainers(f"user namespaces are forbidden on this device ({key} is {forbids})", said, remedy)
    if _filtered():
        return NoContainers(
            "something that started this process forbids it namespaces or mounts",
            said,
            "in a systemd unit allow them (RestrictNamespaces=, SystemCallFilter=@mount; `mli device install` writes "
            "such a unit), in Docker use --security-opt seccomp=unconfined --security-opt systempaths=unconfined; "
            "or set `isolation: none`",
        )
    return NoContainers(
        "bubblewrap cannot make a container on this device", said, "see what it said, or set `isolation: none`"
    )


def _setting(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _filtered() -> bool:
    """Whether a filter of system calls holds for this process."""
    try:
        return re.search(r"^Seccomp:\s*2$", Path("/proc/self/status").read_text(), re.MULTILINE) is not None
    except OSError:
        return False
