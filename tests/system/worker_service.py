"""In place of the core inside its unit: real workers, in each mode, and one that takes too much memory.

``python -I worker_service.py RESULT``: writes what became of them to RESULT, and says that it is ready.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fixtures.worker_lives import Life, Place, make_place

from mli.config.settings import IsolationMode, LimitSettings
from mli.core.isolation.cgroups import find_memory_control
from mli.core.isolation.environment import child_environment
from mli.core.isolation.isolator import Isolator
from mli.core.isolation.memory import MEBIBYTE, WatchdogOnly
from mli.core.service.notify import Notifier
from mli.errors import MliError

HOG = "blocks = []\nfor _ in range(400): blocks.append(bytearray(1 << 20))"


def main() -> None:
    """Try it all."""
    result = Path(sys.argv[1])
    place = make_place(result.parent / "images")
    control = find_memory_control()
    isolator = Isolator(hidden=[result.parent], memory=control)
    why_not = control.why if isinstance(control, WatchdogOnly) else None
    found: dict[str, Any] = {"memory": control.kind, "why not the kernel": why_not}
    modes: tuple[IsolationMode, ...] = ("none", "auto", "container")
    for mode in modes:
        found[mode] = life(place, isolator, mode, LimitSettings())
    found["small"] = life(place, isolator, "auto", LimitSettings(memory_bytes=30 * MEBIBYTE))
    found["hog"] = hog(isolator)
    isolator.close()
    result.write_text(json.dumps(found))
    Notifier().ready("tried everything")
    signal.pause()


def life(place: Place, isolator: Isolator, mode: IsolationMode, limits: LimitSettings) -> dict[str, Any]:
    """One worker, until it has seen all images, or dies."""
    try:
        lived = Life(place.settings(mode, limits), place.model, isolator)
    except MliError as error:
        return {"refused": str(error)}
    isolation = lived.worker.isolation
    death = lived.run()
    return {
        "kind": isolation.kind,
        "how": str(isolation.how),
        "records": len(lived.records),
        "source_ended": death.source_ended,
        "out_of_memory": death.out_of_memory,
        "error": str(death.error),
    }


def hog(isolator: Isolator) -> dict[str, Any]:
    """A burst that only the kernel can stop."""
    process = isolator.launch(
        [sys.executable, "-c", HOG],
        isolation=isolator.resolve("auto"),
        name="hog",
        memory_bytes=60 * MEBIBYTE,
        environment=child_environment(),
    )
    code = process.wait(60)
    ended = process.out_of_memory()
    process.close()
    return {"code": code, "ended": None if ended is None else dataclasses.asdict(ended)}


if __name__ == "__main__":
    main()
