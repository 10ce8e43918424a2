"""``python -m conformance``: does mli agree with MXNet? Networks, then operators, and tables of both.

``python -m conformance op`` looks at operators alone, ``python -m conformance golden`` writes the golden files anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

from conformance import report
from conformance.compare import BOUND
from conformance.networks import NETWORKS, OLD_INCEPTION, PHOTOS, QUICK, NetworkRecord, check_network
from conformance.operators import OperatorRecord, check_operator, simplest_difference
from conformance.oracle_process import ROOT, Oracle, find_python, oracle_command, oracle_environment
from conformance.photos import PhotoRecord, check_photos
from conformance.strategies import STRATEGIES, covered
from mli.models.mxnet.operators import OPERATORS

GOLDEN = ROOT / "tests" / "golden" / "mxnet"
EXAMPLES, QUICK_EXAMPLES = 100, 20


def main() -> int:
    """1 where anything differs."""
    commands = {"op": check_operators, "golden": write_golden}
    if sys.argv[1:2] and sys.argv[1] in commands:
        return commands[sys.argv[1]](sys.argv[2:])
    return check_all(sys.argv[1:])


def check_all(arguments: list[str]) -> int:
    """Networks, then operators."""
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some networks, and fewer graphs of each operator")
    parser.add_argument("--only", metavar="NAME", action="append", help="one network or operator; may be repeated")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/mxnet.md")
    options = parser.parse_args(arguments)
    known = {network.name for network in NETWORKS} | set(STRATEGIES)
    if unknown := set(options.only or ()) - known:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    python = find_python()
    wanted = set(options.only or (QUICK if options.quick else (network.name for network in NETWORKS)))
    photos = [] if options.only or not PHOTOS.is_dir() else _check_photos(python)
    networks = _check_networks(python, wanted)
    ops = [op for op in STRATEGIES if options.only is None or op in options.only]
    operators = _check_operators(python, ops, QUICK_EXAMPLES if options.quick else EXAMPLES)
    conditions = report.Conditions(date.today().isoformat(), _versions(python), _cpu(), _command(options.quick))
    text = report.tables(conditions, photos, networks, operators, _left_out())
    print(text)
    if options.write:
        report.write(text)
        say(f"written to {report.PAGE.relative_to(ROOT)}")
    return 0 if _all_agree(photos, networks, operators) else 1


def check_operators(arguments: list[str]) -> int:
    """Graphs of one operator or some, and what differs."""
    parser = argparse.ArgumentParser(prog="python -m conformance op", description=check_operators.__doc__)
    parser.add_argument("names", nargs="*", metavar="OPERATOR", help="MXNet's name [default: all]")
    parser.add_argument("--examples", type=int, default=50, metavar="N", help="graphs each [default: 50]")
    parser.add_argument("--seed", type=int, metavar="N", help="other graphs than the usual ones")
    parser.add_argument("--shrink", action="store_true", help="look for the simplest graph that differs")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in STRATEGIES]:
        parser.error(f"no strategy for {', '.join(unknown)}; there are: {', '.join(STRATEGIES)}")
    differs = False
    with Oracle(find_python()) as oracle:
        for name in options.names or STRATEGIES:
            record = check_operator(oracle, name, options.examples, options.seed)
            print(report.operator_line(record), flush=True)
            for detail in record.details:
                print("  " + detail.replace("\n", "\n    "))
            if record.counts.get("differs"):
                differs = True
                if options.shrink:
                    print("simplest:", simplest_difference(oracle, name, options.examples))
    return int(differs)


def write_golden(arguments: list[str]) -> int:
    """Have MXNet write the golden files of the tests anew."""
    argparse.ArgumentParser(prog="python -m conformance golden", description=write_golden.__doc__).parse_args(
        arguments
    )
    command = oracle_command(find_python(), "golden", str(GOLDEN))
    return subprocess.run(command, cwd=ROOT, env=oracle_environment(), check=False).returncode


def say(text: str) -> None:
    """Progress, on standard error: the tables alone are the output."""
    print(text, file=sys.stderr, flush=True)


def _check_photos(python: Path) -> list[PhotoRecord]:
    with tempfile.TemporaryDirectory(prefix="mli-conformance-") as name:
        records = check_photos(python, Path(name))
    for record in records:
        say(f"{record.photo}: error {record.error:.2g}")
    return records


def _check_networks(python: Path, wanted: set[str]) -> list[NetworkRecord]:
    records = []
    for network in NETWORKS:
        if network.name in wanted:
            with tempfile.TemporaryDirectory(prefix="mli-conformance-") as name:
                records.append(check_network(python, network, Path(name)))
            say(report.network_line(records[-1]))
    return records


def _check_operators(python: Path, ops: list[str], examples: int) -> list[OperatorRecord]:
    records = []
    with Oracle(python) as oracle:
        for op in ops:
            records.append(check_operator(oracle, op, examples))
            say(report.operator_line(records[-1]))
            for detail in records[-1].details:
                if detail.startswith("differs"):
                    say("  " + detail.replace("\n", "\n    "))
    return records


def _all_agree(photos: list[PhotoRecord], networks: list[NetworkRecord], operators: list[OperatorRecord]) -> bool:
    photos_agree = all(record.error <= BOUND and record.same_top5 for record in photos)
    return (
        photos_agree
        and all(
            record.problem is None
            and max(record.error, record.internals_error) <= BOUND
            and record.same_top5 is not False
            and record.spread >= 1
            for record in networks
        )
        and not any(record.counts.get("differs") for record in operators)
    )


def _left_out() -> list[str]:
    left_out = []
    if uncovered := sorted(OPERATORS.keys() - covered()):
        left_out.append("no graphs are drawn for " + ", ".join(f"`{name}`" for name in uncovered))
    if not OLD_INCEPTION.exists():
        left_out.append("the Inception-BN of 2015; its symbol file is not in this repository, and not beside it")
    if not PHOTOS.is_dir():
        left_out.append("photos; smooth random images stand in for them")
    return left_out


def _versions(python: Path) -> tuple[str, ...]:
    script = "import json, mxnet, numpy; print(json.dumps([mxnet.__version__, numpy.__version__]))"
    done = subprocess.run(
        [str(python), "-c", script], capture_output=True, text=True, check=True, env=oracle_environment()
    )
    mxnet, numpy = json.loads(done.stdout.splitlines()[-1])
    ours = [f"{name} {version(name)}" for name in ("onnxruntime", "onnx", "numpy")]
    return (f"mxnet {mxnet} with numpy {numpy}", *ours)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _command(quick: bool) -> str:
    return "make conformance" + (" ARGS=--quick" if quick else "")


if __name__ == "__main__":
    sys.exit(main())
