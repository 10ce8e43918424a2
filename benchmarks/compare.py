"""mli and the hand-written loop in turns, A B A B …, on the same images, broker and machine."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.contenders import Case, Loop, Plan, Run, run_loop, run_mli
from benchmarks.processes import Broker, mosquitto

USUAL_THREADS = (0, 2)
"""What a good engineer tries: the runtime's default, and two."""
ALL_THREADS = (*USUAL_THREADS, 1)
MXNET_THREADS = 2
PACED_S = 0.1

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: runs of each contender, in turns.
        tries: runs of each number of threads, by which the loop's is chosen.
    """

    rounds: int
    tries: int
    full_speed: Plan
    trying: Plan
    paced: Plan

    def times(self, part: float) -> Effort:
        """As many runs, of fewer frames: for a model that takes longer."""
        return replace(
            self,
            full_speed=self.full_speed.times(part),
            trying=self.trying.times(part),
            paced=self.paced.times(part),
        )


FULL = Effort(5, 2, Plan(300, 1_500), Plan(200, 600), Plan(20, 300, PACED_S))
QUICK = Effort(2, 1, Plan(100, 500), Plan(100, 200), Plan(10, 60, PACED_S))


def compare(case: Case, effort: Effort, say: Say) -> dict[str, Any]:
    """All runs of one case, as JSON values."""
    with tempfile.TemporaryDirectory(prefix="mli-bench-") as name, mosquitto(Path(name)) as broker:
        bench = _Bench(case, broker, Path(name), say)
        rates = bench.rates_by_threads(effort)
        usual = max(USUAL_THREADS, key=lambda threads: rates[threads])
        best = max(ALL_THREADS, key=lambda threads: rates[threads])
        loops = {"loop": Loop(usual)} if usual == best else {"loop": Loop(usual), "tuned loop": Loop(best)}
        if case.symbol is not None:
            loops["MXNet loop"] = Loop(MXNET_THREADS, mxnet=True)
        full = [bench.round(effort.full_speed, loops) for _ in range(effort.rounds)]
        paced = bench.round(effort.paced, loops)
    return {
        "name": case.name,
        "images": len(case.job["images"]),
        "frames": effort.full_speed.frames,
        "threads": {name: loop.threads for name, loop in loops.items()},
        "rates_by_threads": {str(key): value for key, value in rates.items()},
        "rounds": full,
        "paced": paced,
        "paced_interval_ms": 1000 * effort.paced.interval_s,
    }


class _Bench:
    def __init__(self, case: Case, broker: Broker, folder: Path, say: Say) -> None:
        self._case, self._broker, self._folder, self._say = case, broker, folder, say

    def rates_by_threads(self, effort: Effort) -> dict[int, float]:
        runs: dict[int, list[float]] = {threads: [] for threads in ALL_THREADS}
        for _ in range(effort.tries):
            for threads, rates in runs.items():
                name = f"loop, threads {threads or 'by default'}"
                rates.append(self._loop(effort.trying, Loop(threads), name).rate)
        return {threads: statistics.median(rates) for threads, rates in runs.items()}

    def round(self, plan: Plan, loops: dict[str, Loop]) -> dict[str, Any]:
        runs = {name: self._loop(plan, loop, name) for name, loop in loops.items()}
        runs["mli"] = self._told("mli run", run_mli(self._case, plan, self._broker, self._folder))
        return {name: asdict(run) for name, run in runs.items()}

    def _loop(self, plan: Plan, loop: Loop, name: str) -> Run:
        return self._told(name, run_loop(self._case, plan, self._broker, self._folder, loop))

    def _told(self, name: str, run: Run) -> Run:
        cpu = " + ".join(f"{value:.2f}" for value in run.cpu_ms.values())
        self._say(
            f"  {self._case.name}: {name}: {run.rate:.0f} frames/s, p50 {run.latency_p50_ms:.1f} ms, "
            f"p99 {run.latency_p99_ms:.1f} ms, CPU {cpu} ms a frame"
        )
        return run
