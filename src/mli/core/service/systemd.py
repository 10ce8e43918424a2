"""Speaks to the running systemd through ``systemctl``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from mli.errors import StopError

UNIT_FOLDER = Path("/etc/systemd/system")
_RUNNING = Path("/run/systemd/system")
"""Says that systemd is the init of this machine (man 3 sd_booted)."""
_ANSWER_TIMEOUT_S = 30.0
_START_TIMEOUT_S = 600.0
"""Far above the unit's own time limits, which end a start or a stop that is stuck."""


class Systemd:
    """The service manager of this machine."""

    @staticmethod
    def is_running() -> bool:
        """Whether this machine has systemd, and it runs; in containers mostly not."""
        return _RUNNING.is_dir() and shutil.which("systemctl") is not None

    def version(self) -> int:
        """Such as 252; 0 where it does not say, or does not run."""
        if not self.is_running():
            return 0
        found = re.match(r"systemd (\d+)", self._ask("--version"))
        return int(found[1]) if found else 0

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit; empty ones of a unit that is not there, and where systemd does not run."""
        if not self.is_running():
            return dict.fromkeys(names, "")
        lines = self._ask("show", unit, *(f"--property={name}" for name in names)).splitlines()
        found = dict(line.partition("=")[::2] for line in lines)
        return {name: found.get(name, "") for name in names}

    def order(self, *words: str, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Have something done.

        Raises:
            StopError: it was refused or failed, in systemd's words.
        """
        command = ["systemctl", *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout_s, env=_plain()
            )
        except subprocess.TimeoutExpired as error:
            raise StopError(f"systemctl did not end within {timeout_s:.0f} s", where=" ".join(command)) from error
        if done.returncode:
            raise StopError(
                "systemd did not do what it was asked for",
                where=" ".join(command),
                got=" ".join(done.stderr.split()) or f"exit code {done.returncode}",
            )

    def log(self, unit: str, lines: int) -> str:
        """The last lines that a unit wrote, for an error; empty where there is no journal."""
        command = ["journalctl", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={unit}"]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=_ANSWER_TIMEOUT_S,
                env=_plain(),
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip()

    def _ask(self, *words: str) -> str:
        command = ["systemctl", *words]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=True,
                stdin=subprocess.DEVNULL,
                timeout=_ANSWER_TIMEOUT_S,
                env=_plain(),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StopError("systemd does not answer", where=" ".join(command), got=str(error)) from error
        return done.stdout


def _plain() -> dict[str, str]:
    """An environment in which it speaks English, in full lines, and shows nothing page by page."""
    return {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": "", "COLUMNS": "400"}
