"""The two that are compared: ``mli run`` as a user starts it, and the hand-written loop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.processes import (
    DEADLINE_S,
    Arrivals,
    Broker,
    children,
    cpu_s,
    machine_cpu_s,
    pss_mb,
    wait_for_end,
)
from mli.core.preparing import prepare
from mli.core.proving import Prover
from mli.core.root import Root
from mli.models.repository import Repository
from mli.pipeline.sources.image_files import list_images

POLL_S = 0.05
LOOP = Path(__file__).with_name("hand_written_loop.py")
MXNET_PYTHON = Path(__file__).resolve().parents[1] / ".venv-mxnet" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Case:
    """A model on images.

    Attributes:
        archive: what mli runs.
        images: folder of what is predicted, over and over.
        job: the same for the hand-written loop, which knows no archives.
        symbol: MXNet's symbol file of the model, where it is one of MXNet's.
    """

    name: str
    archive: Path
    images: Path
    job: dict[str, Any]
    symbol: Path | None = None


@dataclass(frozen=True, slots=True)
class Loop:
    """One way to run the hand-written loop.

    Attributes:
        threads: of its runtime; 0 is the runtime's default.
        mxnet: on MXNet instead of the backend that mli uses.
    """

    threads: int = 0
    mxnet: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How long one run is.

    Attributes:
        warm_up: messages that are not counted.
        frames: messages that are.
        interval_s: from frame to frame; 0 is as fast as possible.
    """

    warm_up: int
    frames: int
    interval_s: float = 0.0

    def times(self, part: float) -> Plan:
        """The same with another number of frames."""
        return replace(self, warm_up=max(5, round(part * self.warm_up)), frames=max(20, round(part * self.frames)))


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave, all of it between the same two messages.

    Attributes:
        rate: frames a second, by the times at which a subscriber received them.
        latency_p50_ms, latency_p99_ms: from the frame's capture to its PUBACK.
        others_cores: processor time that the rest of the machine took meanwhile; the broker's and the subscriber's
            is in it, and whatever disturbed.
        cpu_ms: processor time a frame, by process.
        pss_mb: memory at the end, by process.
    """

    rate: float
    latency_p50_ms: float
    latency_p99_ms: float
    others_cores: float
    cpu_ms: dict[str, float] = field(default_factory=dict)
    pss_mb: dict[str, float] = field(default_factory=dict)


def make_case(name: str, archive: Path, images: Path, folder: Path) -> Case:
    """Unpack an archive for the loop, with what its manifest says of input and output.

    Raises:
        ValueError: a model that the loop was not written for.
    """
    installed = Repository(folder / name).install(archive, None)
    spec = prepare(installed, Root(folder / name), "auto", lambda _: None)
    prover = Prover(spec)
    wanted, output = prover.io.input, prover.io.outputs[0]
    if spec.task != "classification" or wanted.resize != "stretch" or wanted.color != "RGB":
        raise ValueError(f"{archive}: the hand-written loop stretches RGB images for a classifier, nothing else")
    labels = folder / name / "labels.txt"
    labels.write_text("\n".join(spec.labels))
    quantization = output.quantization
    job = {
        "model": str(Path(spec.directory) / spec.model_file),
        "labels": str(labels),
        "images": list_images(str(images)),
        "size": [wanted.width, wanted.height],
        "dtype": wanted.dtype,
        "layout": wanted.layout,
        "mean": wanted.mean,
        "scale": wanted.scale,
        "kind": output.kind,
        "output_scale": quantization.scale if quantization else 1.0,
        "output_zero": quantization.zero_point if quantization else 0,
    }
    symbol = Path(installed.directory) / installed.model_file if installed.format == "mxnet" else None
    return Case(name, archive, images, job, symbol)


def run_loop(case: Case, plan: Plan, broker: Broker, folder: Path, loop: Loop) -> Run:
    """Measure the hand-written loop."""
    topic = "bench/loop"
    job = {
        **case.job,
        "model": str(case.symbol) if loop.mxnet else case.job["model"],
        "threads": loop.threads,
        "port": broker.port,
        "topic": topic,
        "interval_s": plan.interval_s,
        # A few more than are counted: the last ones are waited for, which is not the loop's pace.
        "frames": plan.warm_up + plan.frames + max(10, plan.frames // 20),
    }
    arrivals = Arrivals(broker, topic, folder)
    python = str(MXNET_PYTHON) if loop.mxnet else sys.executable
    environment = {**os.environ, "OMP_NUM_THREADS": str(loop.threads)} if loop.mxnet else None
    command = [python, str(LOOP), json.dumps(job)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        watched = _watch(arrivals, plan, {"loop": process.pid}, process)
        output, errors = wait_for_end(process)
        if process.returncode:
            raise RuntimeError(f"the hand-written loop failed:\n{errors}")
        latencies = json.loads(output)["latencies_ms"][plan.warm_up : plan.warm_up + plan.frames]
        return watched.run(arrivals, plan, percentile(latencies, 0.5), percentile(latencies, 0.99))
    finally:
        process.kill()
        arrivals.close()


def run_mli(case: Case, plan: Plan, broker: Broker, folder: Path) -> Run:
    """Measure ``mli run``; its own account gives the latency of its last 2,000 frames."""
    root = folder / "root"
    arrivals = Arrivals(broker, "mli/predictions/bench", folder)
    command = [sys.executable, "-m", "mli", "run", str(case.archive), str(case.images), "--from-start"]
    command += ["--interval", f"{plan.interval_s * 1000:g}ms", "--thing", "bench", "--root", str(root)]
    command += ["--broker", f"mqtt://127.0.0.1:{broker.port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not arrivals.poll():
            _check(process)
            time.sleep(POLL_S)
        (worker,) = children(process.pid)
        watched = _watch(arrivals, plan, {"core": process.pid, "worker": worker}, process)
        process.send_signal(signal.SIGTERM)
        _, errors = wait_for_end(process)
        told = re.search(r"([\d.]+) ms from frame to delivery \(p99 ([\d.]+) ms\)", errors)
        if process.returncode or told is None:
            raise RuntimeError(f"mli run failed:\n{errors}")
        return watched.run(arrivals, plan, float(told[1]), float(told[2]))
    finally:
        process.kill()
        arrivals.close()


@dataclass(frozen=True, slots=True)
class _Watched:
    """Processor time at two counts of messages, and the memory at the end."""

    frames: int
    others_cores: float
    cpu_s: dict[str, float]
    pss_mb: dict[str, float]

    def run(self, arrivals: Arrivals, plan: Plan, p50_ms: float, p99_ms: float) -> Run:
        times = arrivals.times()
        rate = plan.frames / (times[plan.warm_up + plan.frames - 1] - times[plan.warm_up - 1])
        cpu_ms = {name: 1000 * used / self.frames for name, used in self.cpu_s.items()}
        return Run(rate, p50_ms, p99_ms, self.others_cores, cpu_ms, self.pss_mb)


def _watch(arrivals: Arrivals, plan: Plan, pids: dict[str, int], process: subprocess.Popen[str]) -> _Watched:
    first = _wait_for(arrivals, plan.warm_up, process)
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    machine_before, started = machine_cpu_s(), time.monotonic()
    last = _wait_for(arrivals, plan.warm_up + plan.frames, process)
    used = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    others_s = machine_cpu_s() - machine_before - sum(used.values())
    others_cores = max(0.0, others_s) / (time.monotonic() - started)
    return _Watched(last - first, others_cores, used, {name: pss_mb(pid) for name, pid in pids.items()})


def _wait_for(arrivals: Arrivals, count: int, process: subprocess.Popen[str]) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while arrivals.poll() < count:
        _check(process)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{arrivals.count} of {count} messages came within {DEADLINE_S:g} s")
        time.sleep(POLL_S)
    return arrivals.count


def _check(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        _, errors = process.communicate()
        raise RuntimeError(f"it ended too early:\n{errors}")


def percentile(values: list[float], part: float) -> float:
    """The value below which ``part`` of all lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
