"""Tests on a whole system of their own, with systemd as its first process: they need root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.booted_system import BootedSystem

SYSTEMD = Path("/lib/systemd/systemd")


def _possible() -> bool:
    """Whether this user may make namespaces and mount in them, and there is a systemd to boot."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or not shutil.which("nsenter"):
        return False
    trial = "mount -t tmpfs none /mnt && mkdir /mnt/a /mnt/b /mnt/c && mount -t overlay o -o "
    trial += "lowerdir=/,upperdir=/mnt/a,workdir=/mnt/b /mnt/c"
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "sh", "-c", trial]
    return subprocess.run(namespaces, capture_output=True, timeout=30).returncode == 0


POSSIBLE = _possible()
collect_ignore_glob = [] if POSSIBLE else ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not POSSIBLE:
        terminalreporter.write_line("tests/system was left out: it needs root, systemd, and leave to make namespaces")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[BootedSystem]:
    """A freshly booted one."""
    folder = tmp_path / "system"
    folder.mkdir()
    booted = BootedSystem(folder)
    try:
        booted.boot()
        yield booted
    finally:
        booted.end()
