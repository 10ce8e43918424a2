"""In place of the core inside its unit: tries what a core and its workers do, and what they must not be able to do.

``python -I trial_service.py RESULT MODEL [silent]``: writes what it found to RESULT, says that it is ready, and feeds
the watchdog, unless it is to fall silent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mli.core.service.notify import Notifier


def attempt(action: Callable[[], Any]) -> Any:
    """What came of it; an error by its name."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to see it
        return f"{type(error).__name__}: {error}"


def infer(model: str) -> list[float]:
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(model)
    (given,) = session.get_inputs()
    image = numpy.zeros([size if isinstance(size, int) else 1 for size in given.shape], numpy.float32)
    return [float(value) for value in session.run(None, {given.name: image})[0].ravel()]


def written(path: str) -> str:
    Path(path).write_text("x")
    return "written"


def names_in(folder: str) -> set[str]:
    return {entry.name for entry in Path(folder).iterdir()}


def container(root: Path) -> dict[str, str | None]:
    from mli.core.isolation.isolator import Isolator

    isolator = Isolator(hidden=(root,))
    try:
        found = isolator.resolve("auto")
        return {"kind": found.kind, "why_not": found.why_not, "memory": isolator.memory_control}
    finally:
        isolator.close()


def own_processes() -> int:
    """How many processes it sees that are not its own user's."""
    return sum(entry.stat().st_uid != os.getuid() for entry in Path("/proc").iterdir() if entry.name.isdigit())


def main() -> None:
    notifier = Notifier()
    result, model = Path(sys.argv[1]), sys.argv[2]
    root = result.parent
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {
        "inference": attempt(lambda: infer(model)),
        "container": attempt(lambda: container(root)),
        "psutil": attempt(lambda: __import__("psutil").Process().memory_info().rss > 0),
        "state": attempt(lambda: written(f"{root}/spool.db")),
        "key": attempt(lambda: (root / "certs" / "thing.private.key").read_text()[:10]),
        "new certificate": attempt(lambda: written(f"{root}/certs/new")),
        "config away": attempt(lambda: str((root / "config").rename(root / "gone"))),
        "device.yaml": attempt(lambda: written(f"{root}/device.yaml")),
        "system": attempt(lambda: written("/etc/mli-was-here")),
        "home": attempt(lambda: names_in("/root")),
        "clock": attempt(lambda: __import__("time").clock_settime(0, 0)),
        "other processes": attempt(own_processes),
        "devices": sorted(names_in("/dev") & {"kmsg", "loop0", "mem", "null", "urandom"}),
        "rights": {name: status[name] for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")},
        "environment": sorted(set(os.environ) & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}),
    }
    result.write_text(json.dumps(found))
    notifier.ready("tried everything")
    while "silent" not in sys.argv:
        notifier.watchdog()
        threading.Event().wait(0.05)
    threading.Event().wait()


if __name__ == "__main__":
    main()
