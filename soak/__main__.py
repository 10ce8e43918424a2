"""``make soak``: long proofs of the core with real processes, kills, broken disks and power cuts.

It needs root (for strace on a running core, and for disks of its own), strace, mosquitto and bubblewrap.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_as_it_is

from soak import report
from soak.account import Account, say
from soak.beside import crash_beside
from soak.faults import fail_at_calls
from soak.fleet import cost_of_pipelines, roll_out
from soak.full_disk import fill_disk
from soak.kills import kill_at_calls, kill_at_moments
from soak.place import Place, open_place
from soak.power import cut_power
from soak.swaps import swap_often

Run = Callable[[Place, random.Random, bool], Account]


@dataclass(frozen=True, slots=True)
class Section:
    """One proof.

    Attributes:
        run: told where, by which chance, and whether it is to be short.
    """

    title: str
    run: Run


SECTIONS = {
    "calls": Section(
        "Killed at every file-system call of a deployment",
        lambda place, chance, quick: kill_at_calls(place, chance, 10 if quick else None),
    ),
    "moments": Section(
        "Killed at 300 random moments",
        lambda place, chance, quick: kill_at_moments(place, chance, 12 if quick else 300),
    ),
    "faults": Section(
        "A full or broken disk at every call",
        lambda place, chance, quick: fail_at_calls(place, chance, 10 if quick else None),
    ),
    "full": Section(
        "A disk that is really full", lambda place, chance, quick: fill_disk(place, chance, 1 if quick else 5)
    ),
    "power": Section("Power cuts", lambda place, chance, quick: cut_power(place, chance, 2 if quick else 20)),
    "swaps": Section("200 swaps", lambda place, _, quick: swap_often(place, 10 if quick else 200)),
    "fleet": Section(
        "1,000 things", lambda place, _, quick: roll_out(place, 100 if quick else 1000, 2 if quick else 6)
    ),
    "beside": Section(
        "One broken pipeline beside another", lambda place, _, quick: crash_beside(place, 4.0 if quick else 20.0)
    ),
    "pipelines": Section(
        "What one more pipeline costs", lambda place, _, quick: cost_of_pipelines(place, 5.0 if quick else 30.0)
    ),
}


def main() -> None:
    """All sections, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"some of {', '.join(SECTIONS)} [default: all]")
    parser.add_argument("--seed", type=int, help="of what is left to chance [default: another one each time]")
    parser.add_argument("--quick", action="store_true", help="a few rounds of each, to see that it works")
    parser.add_argument("--write", action="store_true", help="put the results into docs/soak.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep what came of each section there")
    parser.add_argument("--folder", type=Path, help="where to work, on the disk that matters [default: temporary]")
    options = parser.parse_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        sys.exit("make soak needs root: it attaches strace to running cores, and mounts disks of its own")
    # A job in the background ignores Ctrl-C, and so would what is started here; and all of that must end with us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    found = {}
    for name in options.sections or SECTIONS:
        found[name] = run_section(name, seed, options.quick, options.folder)
        print(report.text_of(found[name]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if options.write:
            report.write(name, found[name])
    sys.exit(any(one["failures"] for one in found.values()))


def run_section(name: str, seed: int, quick: bool, folder: Path | None) -> dict[str, Any]:
    """One section in a folder, and at a broker, of its own."""
    section = SECTIONS[name]
    say(f"--- {section.title}, seed {seed}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mli-soak-", dir=folder) as work, open_place(Path(work)) as place:
        account = section.run(place, random.Random(f"{seed} {name}"), quick)
    return {
        "name": name,
        "title": section.title,
        "seed": seed,
        "quick": quick,
        "machine": {
            **machine_as_it_is(),
            "date": date.today().isoformat(),
            "kernel": platform.release(),
            "real_time": _is_real_time(),
        },
        "seconds": round(time.monotonic() - began),
        **account.to_json(),
    }


def _is_real_time() -> bool:
    """Whether the kernel puts this process before all others (``chrt -r 1``), which comes near to a quiet machine."""
    return os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO)


if __name__ == "__main__":
    main()
