"""A thousand things at one mosquitto take a deployment, some real cores among them; and what a pipeline costs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import cpu_s
from tests.fixtures.brokers import ROOT, wait_until
from tests.fixtures.mli_process import MLI, environment

from mli.core.topics import deployment_topic, report_topic
from soak.account import Account, say
from soak.device import Device
from soak.light_things import name_of
from soak.place import Place
from soak.swaps import memory_mb, quantiles

PROCESSES = 4
ROLL_OUTS = 3
PIPELINES = (1, 2, 4, 8)


def roll_out(place: Place, things: int, real: int, roll_outs: int = ROLL_OUTS) -> Account:
    """``things`` light ones and ``real`` cores take three deployments, by ``mli deploy --things --wait``."""
    account = Account()
    folder = place.folder / "fleet"
    folder.mkdir()
    with account.whole("the fleet"), ExitStack() as stack:
        devices = [place.device(f"real-{number}", allow={"paths": [str(folder)]}) for number in range(real)]
        for device in devices:
            device.start()
            stack.callback(device.kill)
        for number in range(PROCESSES):
            stack.enter_context(
                _light_things(place, things * number // PROCESSES, things * (number + 1) // PROCESSES)
            )
        names = [name_of(number) for number in range(things)] + [device.core.thing for device in devices]
        (folder / "things.txt").write_text("\n".join(names) + "\n")
        maker = Device(folder, place.broker.port, place.witness, "maker")
        maker.interval = "1s"
        for number in range(roll_outs):
            archive = maker.make_archive()
            (folder / "deployment.json").write_text(json.dumps(maker.deployment(archive)))
            found = _send(place, folder, names)
            say(f"roll-out {number + 1}: {found}")
            account.facts[f"roll-out {number + 1}"] = found
            account.outcomes["healthy"] += len(names)
            account.rounds += 1
            for device in devices:
                assert device.serving() == archive.sha256
    return account


@contextmanager
def _light_things(place: Place, first: int, end: int) -> Iterator[None]:
    numbers = ["--first", str(first), "--count", str(end - first)]
    command = [sys.executable, "-m", "soak.light_things", "--port", str(place.broker.port), *numbers]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _send(place: Place, folder: Path, names: list[str]) -> dict[str, Any]:
    """One roll-out: seconds from the message of a thing to its word that it is healthy, as the witness heard both."""
    already = {name: len(place.witness.heard(report_topic(name))) for name in names}
    command = [*MLI, "deploy", "deployment.json", "--things", "things.txt", "--wait", "--json"]
    command += ["--broker", f"127.0.0.1:{place.broker.port}"]
    result = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:] + result.stdout[-2000:]
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    ends = {line["thing"]: float(line["after_s"]) for line in lines if line.get("state") == "healthy"}
    assert set(ends) == set(names), f"{len(ends)} of {len(names)} are healthy"
    took: dict[str, list[float]] = {"light": [], "real": []}
    for name in names:
        sent_at = place.witness.heard(deployment_topic(name))[-1].at
        new = place.witness.heard(report_topic(name))[already[name] :]
        healthy = [item.at for item in new if json.loads(item.payload)["state"] == "healthy"]
        if healthy:
            took[name.partition("-")[0]].append(healthy[0] - sent_at)
    return {
        "sender_s": quantiles(sorted(ends.values())),
        "light_s": quantiles(sorted(took["light"])),
        "real_s": quantiles(sorted(took["real"])),
        "heard": sum(map(len, took.values())),
    }


def cost_of_pipelines(place: Place, seconds: float) -> Account:
    """PSS and processor time of a core and its workers with 1, 2, 4 and 8 pipelines, one frame a second each."""
    account = Account()
    for number in PIPELINES:
        with account.whole(f"{number} pipelines"):
            device = place.device(f"cost-{number}", interval="1s")
            device.start()
            archive = device.make_archive()
            deployment = device.deployment(archive)
            (main,) = deployment["pipelines"].values()
            deployment["pipelines"] = {f"p{index}": main for index in range(number)}
            device.core.deploy_well(deployment)
            wait_until(partial(_has_workers, device, number), f"{number} workers")
            account.facts[str(number)] = _cost(device, seconds)
            say(f"{number} pipelines: {account.facts[str(number)]}")
            device.core.stop()
            account.rounds += 1
    return account


def _has_workers(device: Device, number: int) -> bool:
    return len(device.core.workers()) == number


def _cost(device: Device, seconds: float) -> dict[str, float]:
    workers = [worker.pid for worker in device.core.workers()]
    core = device.core.pid
    threading.Event().wait(5.0)  # what a start costs is over
    before = {pid: cpu_s(pid) for pid in (core, *workers)}
    threading.Event().wait(seconds)
    used = {pid: cpu_s(pid) - before[pid] for pid in (core, *workers)}
    return {
        "core_pss_mb": round(memory_mb(core, "Pss"), 1),
        "worker_pss_mb": round(sum(memory_mb(pid, "Pss") for pid in workers) / len(workers), 1),
        "core_cpu_percent": round(100 * used[core] / seconds, 2),
        "worker_cpu_percent": round(100 * sum(used[pid] for pid in workers) / len(workers) / seconds, 2),
    }
