"""How long a person waits: for the help, and for the first prediction."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

MLI = (str(Path(sys.executable).with_name("mli")),)


def help_s() -> float:
    """Wall time of ``mli --help``, seconds."""
    started = time.perf_counter()
    subprocess.run([*MLI, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def first_line_s(arguments: list[str], folder: Path) -> float:
    """From the start of ``mli ARGUMENTS`` to its first line of output, seconds; the command then ends by itself."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
    started = time.perf_counter()
    with subprocess.Popen(
        [*MLI, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - started
        _, errors = process.communicate()
    if not line or process.returncode:
        raise RuntimeError(f"mli {' '.join(arguments)} failed:\n{errors.decode()}")
    return took
