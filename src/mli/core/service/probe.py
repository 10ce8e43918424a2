"""Whether the service's user can do what the core will do, tried as that user before anything is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import mli
from mli.core.service.account import Account
from mli.errors import StopError

ANYBODY = Account("nobody", 65534, 65534)
"""Stands for the service's user as long as that is not made."""
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))
"""What the unit hides (ProtectHome, PrivateTmp)."""
_TIMEOUT_S = 120.0
_IMPORT = """
import json, os
import mli.__main__
folder = os.path.dirname(mli.__file__)
print(json.dumps([folder] if os.access(folder, os.W_OK) else []))
"""
_READ = """
import json, os, sys
told = []
for path in sys.argv[2:]:
    try:
        open(path, "rb").close()
    except OSError as error:
        told.append(f"{path}: {error.strerror}")
if not os.access(sys.argv[1], os.R_OK | os.W_OK | os.X_OK):
    told.append(f"{sys.argv[1]}: not writable")
print(json.dumps(told))
"""
"""Both run as ``python -I -c``: whether that user can start this Python at all is part of the question."""
_ELSEWHERE = "python3 -m venv /opt/mli, install mli into that, and say: /opt/mli/bin/mli device install"


def check_place(root: Path) -> None:
    """Whether a unit can see this root at all.

    Raises:
        StopError: it is below a folder that the unit hides.
    """
    hidden = _hidden_above(root)
    if hidden:
        raise StopError(
            f"the device's folder is below {hidden}, where a service sees nothing",
            where=str(root),
            remedy="move it, to /var/lib/mli for example",
        )


def check_environment() -> None:
    """Whether a unit can see the Python that runs this, and mli in it.

    Raises:
        StopError: part of it is below a folder that the unit hides.
    """
    for part in (Path(sys.executable), Path(sys.prefix), Path(sys.base_prefix), Path(mli.__file__).parent):
        hidden = _hidden_above(part)
        if hidden:
            raise StopError(
                f"mli's Python is below {hidden}, where a service sees nothing",
                where=str(part),
                expected="an environment that every user may read",
                remedy=_ELSEWHERE,
            )


def check_import(account: Account) -> str | None:
    """Import mli as the service's user, as the unit will.

    Returns:
        what somebody should know although it works.

    Raises:
        StopError: that user cannot, and what to do about it.
    """
    try:
        writable = _ask(account, _IMPORT)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise StopError(
            f"the user {account.name} cannot import mli",
            where=sys.executable,
            expected="an environment that every user may read",
            got=_last_line(error),
            remedy=_ELSEWHERE,
        ) from error
    return f"the service's user can change {writable[0]}; better it belonged to root alone" if writable else None


def check_files(account: Account, root: Path, files: Sequence[Path]) -> None:
    """Open ``files`` as the service's user, and look whether it may write into ``root``.

    Raises:
        StopError: it cannot.
    """
    try:
        told = _ask(account, _READ, str(root), *map(str, files))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise StopError(f"nothing can be run as the user {account.name}", got=_last_line(error)) from error
    if told:
        raise StopError(
            f"the user {account.name} cannot use the device's folder",
            where=str(root),
            got="; ".join(told),
            remedy=f"every folder above must let it pass (chmod o+x {root.parent}); files elsewhere must let it read",
        )


def _ask(account: Account, program: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *arguments],
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=True,
    )
    answer: list[str] = json.loads(done.stdout)
    return answer


def _last_line(error: Exception) -> str:
    told = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = (told or "").strip().splitlines()
    return lines[-1] if lines else str(error)


def _hidden_above(path: Path) -> Path | None:
    """The hidden folder in which ``path``, or what it links to, lies."""
    for seen in (path.absolute(), path.resolve()):
        for hidden in _HIDDEN:
            if seen.is_relative_to(hidden):
                return hidden
    return None
