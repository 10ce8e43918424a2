"""The environment of a child: what libraries may need, and none of the secrets that a core may have in its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_NAMES = frozenset({"PATH", "HOME", "TMPDIR", "TZ", "VIRTUAL_ENV", "GLIBC_TUNABLES"})
_PREFIXES = (
    *("LANG", "LC_", "LD_", "DYLD_", "PYTHON", "MALLOC_", "COVERAGE_"),
    *("OMP_", "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "BLIS_", "ORT_", "OPENCV_", "OV_", "TF_", "XNN"),
)


def child_environment(core: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Of the core's environment what a worker or a sandboxed job may see."""
    chosen = {name: value for name, value in core.items() if name in _NAMES or name.startswith(_PREFIXES)}
    if path := chosen.get("PYTHONPATH"):
        # A contained process has another working directory.
        chosen["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in path.split(os.pathsep))
    return {
        **chosen,
        # Threads belong to the backend; a BLAS pool of numpy's own would only take memory.
        "OPENBLAS_NUM_THREADS": "1",
        # onnxruntime from 1.32 on would report to its maker, and keep a number for this device in the home folder.
        "ORT_DISABLE_TELEMETRY": "1",
        "MALLOC_ARENA_MAX": "2",
    }
