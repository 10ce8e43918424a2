"""One pipeline that crashes again and again, and the rate of the one beside it."""

from __future__ import annotations

import threading
import time
from functools import partial

import psutil
from tests.fixtures.brokers import wait_until
from tests.fixtures.core_process import HEALTH

from soak.account import Account, say
from soak.device import Device
from soak.place import Place

ROUNDS = 3
LOOK_S = 0.05


def crash_beside(place: Place, seconds: float) -> Account:
    """Frames a second of a pipeline while its neighbour works, and while the neighbour's workers are killed."""
    account = Account()
    with account.whole("one broken pipeline"):
        device = place.device("beside", interval="50ms", health={**HEALTH, "watch": "1s"})
        device.start()
        deployment = device.deployment(device.make_archive())
        device.core.deploy_well(deployment)
        (spared,) = device.core.workers()  # it is kept over the next deployment, which does not change its pipeline
        (main,) = deployment["pipelines"].values()
        deployment["pipelines"]["broken"] = main
        device.core.deploy_well(deployment)
        wait_until(lambda: len(device.core.workers()) == 2, "both workers")
        threading.Event().wait(2.0)  # it is not watched any more, so that nothing is taken back
        rates: dict[str, list[float]] = {"calm": [], "crashing": []}
        kills = 0
        for number in range(ROUNDS):
            wait_until(partial(_is_running, device), f"round {number}: the neighbour runs", 120.0)
            rates["calm"].append(_rate(device, seconds, spared.pid)[0])
            rate, killed = _rate(device, seconds, spared.pid, crash=True)
            rates["crashing"].append(rate)
            kills += killed
            account.rounds += 1
        calm, crashing = (sorted(found)[ROUNDS // 2] for found in rates.values())
        account.facts["frames a second"] = {
            "calm": round(calm, 2),
            "crashing": round(crashing, 2),
            "percent": round(100 * crashing / calm, 1),
            "workers_killed": kills,
        }
        say(f"beside: {account.facts['frames a second']}")
        device.core.stop()
    return account


def _rate(device: Device, seconds: float, spared: int, *, crash: bool = False) -> tuple[float, int]:
    """Frames a second of ``main``, and how many workers of its neighbour were killed meanwhile."""
    before, began, killed = _frames(device), time.monotonic(), 0
    while time.monotonic() < began + seconds:
        for worker in device.core.workers() if crash else ():
            if worker.pid != spared:
                worker.kill()
                psutil.wait_procs([worker], 5.0)
                killed += 1
        threading.Event().wait(LOOK_S)
    return (_frames(device) - before) / (time.monotonic() - began), killed


def _pipeline(device: Device, name: str) -> dict[str, object]:
    return next(item for item in device.core.status()["pipelines"] if item["name"] == name)


def _frames(device: Device) -> int:
    return int(str(_pipeline(device, "main")["frames"]))


def _is_running(device: Device) -> bool:
    return _pipeline(device, "broken")["state"] == "running"
