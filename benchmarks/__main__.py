"""``python -m benchmarks [--quick] [--write]``: measure, print the tables, and keep them in RESULTS.md."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from conformance.photos import make_archive

from benchmarks import report
from benchmarks.compare import FULL, QUICK, Effort, compare
from benchmarks.contenders import MXNET_PYTHON, make_case
from benchmarks.fetch_speed import compare_fetching
from benchmarks.idle_core import measure_idle
from benchmarks.machine import machine_as_it_is
from benchmarks.spool_speed import disk_rate, socket_rate, spool_rate
from benchmarks.start_speed import MLI, first_line_s, help_s

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "src" / "mli" / "assets" / "recycling.zip"
BELT = ROOT / "examples" / "belt"
DATA = ROOT.parent / "shared" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, to see that it works")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/RESULTS.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every number there")
    parser.add_argument("--disk", type=Path, help="folder for spools, on the disk that matters [default: temporary]")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="mli-bench-", dir=options.disk) as name:
        measured = measure(effort, Path(name))
    measured["command"] = "make bench" + (" ARGS=--quick" if options.quick else "")
    text = report.tables(measured)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if options.write:
        report.write(text)
        say(f"written to {report.RESULTS}")


def say(text: str) -> None:
    """Progress, on standard error: the tables alone are the output."""
    print(text, file=sys.stderr, flush=True)


def measure(effort: Effort, folder: Path) -> dict[str, Any]:
    """Everything, as JSON values."""
    left_out: list[str] = []
    machine = machine_as_it_is()
    cases = []
    for name, title, archive, images, part in _cases(folder, left_out):
        say(title)
        case = make_case(name, archive, images, folder)
        cases.append({**compare(case, effort.times(part), say), "title": title})
    for why in left_out:
        say(f"left out: {why}")
    return {
        "date": date.today().isoformat(),
        "machine": machine,
        "cases": cases,
        "left_out": left_out,
        "start": _measure_start(effort, folder),
        "spool": _measure_spool(effort, folder),
        "idle": measure_idle(DEMO, BELT, folder, 60.0 if effort is FULL else 10.0, say),
        "fetch": compare_fetching(folder, effort.rounds, 300 if effort is FULL else 60, say),
    }


def _cases(folder: Path, left_out: list[str]) -> list[tuple[str, str, Path, Path, float]]:
    """Name, title, archive, images, and the part of the usual number of frames that is enough."""
    cases = []
    if DEMO.exists() and BELT.is_dir():
        cases.append(("demo", "Demo model (onnxruntime), examples/belt, 320 × 240 JPEG", DEMO, BELT, 1.0))
    else:
        left_out.append("the demo model; src/mli/assets/recycling.zip or examples/belt is not there")
    models = DATA / "mobilenet-tflite"
    if not models.is_dir():
        left_out.append("MobileNet; its files are not in this repository, and not beside it")
    elif importlib.util.find_spec("ai_edge_litert") is None:
        left_out.append("MobileNet; the backend litert is not installed: pip install 'mli[litert]'")
    else:
        archive = folder / "mobilenet.zip"
        parts = [*map(str, models.glob("*.tflite")), *map(str, models.glob("*labels.txt"))]
        command = [*MLI, "model", "pack", *parts, "-o", str(archive)]
        subprocess.run(command, check=True, capture_output=True)
        title = "MobileNet v1 0.25 128, 8 bits (litert), six photos of 0.2 to 1.6 megapixels"
        cases.append(("mobilenet", title, archive, DATA / "photos", 1.0))
    if not MXNET_PYTHON.exists():
        left_out.append("Inception-BN and MXNet; MXNet is not set up: make .venv-mxnet/.ready")
    elif not (DATA / "photos").is_dir():
        left_out.append("Inception-BN and MXNet; the photos are not in this repository, and not beside it")
    else:
        title = "Inception-BN 224 of an MXNet archive (onnxruntime), six photos of 0.2 to 1.6 megapixels"
        cases.append(("inception-bn", title, make_archive(MXNET_PYTHON, folder), DATA / "photos", 0.15))
    return cases


def _measure_start(effort: Effort, folder: Path) -> dict[str, Any]:
    say("Start")
    runs = 2 * effort.rounds + 1
    first = ["run", str(DEMO), str(BELT), "--once", "--interval", "0", "--json", "--from-start"]
    found: dict[str, Any] = {
        "help": {"title": "`mli --help`", "budget_s": 0.3, "seconds": [help_s() for _ in range(runs)]}
    }
    if DEMO.exists() and BELT.is_dir():
        found["demo"] = {
            "title": "`mli demo --frames 1 --json`, start → first prediction",
            "budget_s": 2.0,
            "seconds": [first_line_s(["demo", "--frames", "1", "--json"], folder) for _ in range(runs)],
        }
        found["run"] = {
            "title": "`mli run recycling.zip examples/belt --once --json`, start → first prediction",
            "budget_s": 2.0,
            "seconds": [first_line_s(first, folder) for _ in range(runs)],
        }
    return found


def _measure_spool(effort: Effort, folder: Path) -> dict[str, Any]:
    say("Spool")
    found: dict[str, Any] = {
        "disk": {"title": "the disk alone: 4 KB and fdatasync, one at a time", "budget": None, "rates": []},
        "window 1": {"title": "spool, window 1, synchronous=FULL", "budget": 1_000, "rates": []},
        "window 32": {"title": "spool, window 32, synchronous=FULL", "budget": 10_000, "rates": []},
        "socket": {"title": "worker's socket → spool → acknowledgement", "budget": None, "rates": []},
    }
    for _ in range(effort.rounds):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            found["disk"]["rates"].append(disk_rate(Path(name), 1_000))
            found["window 1"]["rates"].append(spool_rate(Path(name), 1, 2_000))
            found["window 32"]["rates"].append(spool_rate(Path(name), 32, 20_000))
            found["socket"]["rates"].append(socket_rate(Path(name), 10_000))
    return found


if __name__ == "__main__":
    main()
