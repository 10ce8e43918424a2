"""What a measurement was made on."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("onnxruntime", "ai-edge-litert", "opencv-python-headless", "numpy", "paho-mqtt")


def machine_as_it_is() -> dict[str, Any]:
    """Processor, system, versions and load, as JSON values."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    present = [name for name in PACKAGES if name != "ai-edge-litert" or importlib.util.find_spec("ai_edge_litert")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": cpu,
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in present),
        "load": f"{os.getloadavg()[0]:.1f}",
    }
