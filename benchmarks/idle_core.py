"""What a core takes while it has next to nothing to do: processor time and memory.

``python -m benchmarks.idle_core`` measures this alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import children, cpu_s, mosquitto, private_mb, pss_mb
from mli.core.control import ControlClient
from mli.errors import MliError

MLI = (sys.executable, "-m", "mli")
START_S = 5.0
"""What a start costs is over then."""
CASES = (("nothing deployed", None), ("a frame each hour", "1h"), ("a frame each second", "1s"))


def measure_idle(
    archive: Path, images: Path, folder: Path, seconds: float, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A core that waits for its first deployment, then with a pipeline that waits, then with one frame a second.

    Args:
        seconds: of each measurement.
    """
    root = folder / "idle-root"
    root.mkdir()
    found: list[dict[str, Any]] = []
    with mosquitto(folder) as broker:
        (root / "device.yaml").write_text(f"thing: idle\nmqtt: {{host: 127.0.0.1, port: {broker.port}}}\n")
        core = subprocess.Popen(
            [*MLI, "core", "start", "--root", str(root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for_answer(root)
            for title, interval in CASES:
                say(f"Idle core: {title}")
                if interval is not None:
                    _deploy(root, archive, images, interval)
                found.append({"title": title, **_measure(core.pid, seconds)})
        finally:
            core.terminate()
            core.wait()
    return found


def _wait_for_answer(root: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            ControlClient(root).request({"do": "status"})
            return
        except MliError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _deploy(root: Path, archive: Path, images: Path, interval: str) -> None:
    text = json.dumps({"model": str(archive), "source": str(images), "interval": interval})
    request = {"do": "deploy", "text": text, "folder": str(root), "name": "bench.json", "wait": True}
    *_, last = ControlClient(root).stream(request, 120.0)
    if last["status"]["state"] != "healthy":
        raise RuntimeError(f"the deployment did not become healthy: {last}")


def _measure(core: int, seconds: float) -> dict[str, Any]:
    time.sleep(START_S)
    before, began = cpu_s(core), time.monotonic()
    time.sleep(seconds)
    used, took = cpu_s(core) - before, time.monotonic() - began
    workers = [pid for child in children(core) for pid in _last_children(child)]
    return {
        "cpu_percent": 100 * used / took,
        "pss_mb": pss_mb(core),
        "private_mb": private_mb(core),
        "workers_pss_mb": sum(map(pss_mb, workers)),
    }


def _last_children(pid: int) -> list[int]:
    """A container's processes stand between a core and its worker."""
    below = children(pid)
    return [last for child in below for last in _last_children(child)] if below else [pid]


def main() -> None:
    """The table, for the demo's model."""
    from benchmarks.report import idle_table

    sources = Path(__file__).resolve().parents[1]
    archive, images = sources / "src" / "mli" / "assets" / "recycling.zip", sources / "examples" / "belt"
    with tempfile.TemporaryDirectory(prefix="mli-bench-") as name:
        measured = measure_idle(archive, images, Path(name), 60.0, lambda text: print(text, file=sys.stderr))
    print(idle_table(measured))


if __name__ == "__main__":
    main()
