"""Two deployments that replace each other again and again under a running source, at a broker that records."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from tests.fixtures.brokers import RecordingBrokerProcess
from tests.fixtures.core_process import Recorder, check_unbroken, models_of, without_repeats

from soak.account import Account, say
from soak.device import IMAGES, Device, groups_of
from soak.place import Place

INTERVAL_MS = 20
BEFORE = 20
"""Swaps before what a core uses is compared: caches fill, and the history has its ten entries."""
MOST_GROWTH_MB = 3.0


def swap_often(place: Place, rounds: int) -> Account:
    """``rounds`` swaps; every frame is accounted for, and nothing grows."""
    account = Account()
    with recorded_device(place, "swaps", interval=f"{INTERVAL_MS}ms") as (device, broker), account.whole("the swaps"):
        device.start()
        both = [device.make_archive(), device.make_archive()]
        uses = []
        for number in range(rounds + 1):
            state = device.core.deploy_here(device.deployment(both[number % 2]))["state"]
            account.outcomes[state] += 1
            assert state == "healthy", f"swap {number}: {state}"
            device.check_leftovers()
            uses.append(_use(device))
            if number % 20 == 19:
                say(f"swap {number + 1} of {rounds}: {uses[-1]}")
        device.core.stop()
        account.rounds = rounds
        seen = device.core.seen()
        check_unbroken(without_repeats(seen), device.labels, [f"frame-{index}.png" for index in range(IMAGES)])
        models = models_of(without_repeats(seen))
        expected = [both[number % 2].sha256 for number in range(rounds + 1)]
        assert models == expected, f"{len(models) - 1} swaps were seen"
        account.facts |= {"predictions": len(seen), "sent_again": len(seen) - len(without_repeats(seen))}
        account.facts |= _gaps(broker, device)
        account.facts["use"] = {name: _growth(name, uses) for name in uses[0]}
        if rounds > 2 * BEFORE:
            _check_growth(account.facts["use"])
    return account


@contextmanager
def recorded_device(place: Place, thing: str, **options: Any) -> Iterator[tuple[Device, RecordingBrokerProcess]]:
    """A device at a broker that writes down what it acknowledges."""
    folder = place.folder / f"{thing}-broker"
    folder.mkdir()
    broker = RecordingBrokerProcess(folder)
    broker.start()
    try:
        device = place.device(thing, port=broker.port, witness=Recorder(broker), **options)
        yield device, broker
    finally:
        broker.kill()


def _use(device: Device) -> dict[str, float]:
    core = psutil.Process(device.core.pid)
    root = device.core.root
    return {
        "pss_mb": memory_mb(core.pid, "Pss"),
        "private_mb": memory_mb(core.pid, "Private_Dirty"),
        "open_files": core.num_fds(),
        "threads": core.num_threads(),
        "processes": len(core.children(recursive=True)),
        "control_groups": len(list(groups_of({core.pid}))),
        "spool_mb": sum(path.stat().st_size for path in root.glob("spool.db*")) / 1e6,
        "files": sum(1 for _ in root.rglob("*")),
    }


def memory_mb(pid: int, name: str) -> float:
    """A line of the kernel's account of a process's memory (man 5 proc, smaps_rollup), MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def _growth(name: str, uses: list[dict[str, float]]) -> dict[str, float]:
    part = max(1, min(BEFORE, len(uses) // 4))
    begin, end = uses[part : 2 * part], uses[-part:]
    return {
        "before": round(statistics.median(use[name] for use in begin), 1),
        "after": round(statistics.median(use[name] for use in end), 1),
        "most": round(max(use[name] for use in uses), 1),
    }


def _check_growth(found: dict[str, dict[str, float]]) -> None:
    for name in ("open_files", "threads", "processes", "control_groups"):
        assert found[name]["after"] <= found[name]["before"], f"{name} grow: {found[name]}"
    for name in ("pss_mb", "private_mb", "spool_mb"):
        assert found[name]["after"] - found[name]["before"] <= MOST_GROWTH_MB, f"{name} grows: {found[name]}"


def _gaps(broker: RecordingBrokerProcess, device: Device) -> dict[str, Any]:
    """From the last prediction of the old model to the first of the new one, as the broker received them, ms."""
    topic = device.core.topic("main")
    arrivals = [(item["at"], item["properties"]["model"]) for item in broker.events() if item["topic"] == topic]
    pairs = list(itertools.pairwise(arrivals))
    swaps = sorted(1000 * (after[0] - before[0]) for before, after in pairs if before[1] != after[1])
    others = sorted(1000 * (after[0] - before[0]) for before, after in pairs if before[1] == after[1])
    return {"gap_ms": quantiles(swaps), "other_gap_ms": quantiles(others)}


def quantiles(ordered: list[float]) -> dict[str, float]:
    """p50, p99 and the most."""
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 1) for name, part in at.items()}
