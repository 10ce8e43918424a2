"""Measured numbers as the tables of RESULTS.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from conformance.marked_page import write_between

RESULTS = Path(__file__).with_name("RESULTS.md")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

IDLE_CPU_PERCENT, IDLE_PSS_MB = 1.0, 60.0

TITLES = {
    "loop": "hand-written loop",
    "tuned loop": "the same, best threads",
    "MXNet loop": "the same on MXNet",
    "mli": "`mli run`",
}


def tables(measured: dict[str, Any]) -> str:
    """Everything measured, as Markdown."""
    machine = measured["machine"]
    parts = [
        f"Measured {measured['date']} by `{measured['command']}` on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['system']}, Python {machine['python']}, {machine['packages']}; load before: {machine['load']}.",
        *(_case(case) for case in measured["cases"]),
        *(f"Not measured: {why}." for why in measured["left_out"]),
        _start(measured["start"]),
        _spool(measured["spool"]),
        idle_table(measured["idle"]),
        fetch_table(measured["fetch"]),
    ]
    return "\n\n".join(parts)


def write(text: str) -> None:
    """Put the tables between the markers of the page."""
    write_between(RESULTS, BEGIN, END, text)


def ratios(rounds: list[dict[str, Any]], against: str) -> list[float]:
    """mli's rate by the loop's, one a round."""
    return [one["mli"]["rate"] / one[against]["rate"] for one in rounds]


def spread(values: Iterable[float], digits: int = 0) -> str:
    """``median (min to max)``."""
    listed = sorted(values)
    return f"{statistics.median(listed):,.{digits}f} ({listed[0]:,.{digits}f} to {listed[-1]:,.{digits}f})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _case(case: dict[str, Any]) -> str:
    names = [name for name in TITLES if name in case["rounds"][0]]
    rounds = case["rounds"]

    def row(title: str, cell: Callable[[str], str]) -> list[str]:
        return [title, *(cell(name) for name in names)]

    def over_rounds(field: str, digits: int) -> Callable[[str], str]:
        return lambda name: spread((one[name][field] for one in rounds), digits)

    def by_process(field: str, digits: int) -> Callable[[str], str]:
        def cell(name: str) -> str:
            processes = rounds[0][name][field]
            medians = {key: statistics.median(one[name][field][key] for one in rounds) for key in processes}
            if len(medians) == 1:
                return f"{next(iter(medians.values())):.{digits}f}"
            told = " + ".join(f"{key} {value:.{digits}f}" for key, value in medians.items())
            return f"{sum(medians.values()):.{digits}f} ({told})"

        return cell

    pace = f"one frame each {case['paced_interval_ms']:g} ms"
    rows = [
        row("frames/s", over_rounds("rate", 0)),
        row(
            "`mli run` by this, pair by pair",
            lambda name: "" if name == "mli" else f"**{spread(ratios(rounds, name), 2)}**",
        ),
        row("frame → PUBACK at full speed, p50, ms", over_rounds("latency_p50_ms", 1)),
        row("… p99, ms", over_rounds("latency_p99_ms", 1)),
        row(f"frame → PUBACK, {pace}, p50, ms", lambda name: f"{case['paced'][name]['latency_p50_ms']:.1f}"),
        row("… p99, ms", lambda name: f"{case['paced'][name]['latency_p99_ms']:.1f}"),
        row("processor time a frame, ms", by_process("cpu_ms", 2)),
        row("memory (PSS), MB", by_process("pss_mb", 0)),
        row("cores that all else took meanwhile", over_rounds("others_cores", 2)),
    ]
    threads = ", ".join(
        f"{'default' if key == '0' else key}: {rate:.0f}" for key, rate in case["rates_by_threads"].items()
    )
    chosen = " and ".join(
        f"{TITLES[name]}: {'default' if number == 0 else number}" for name, number in case["threads"].items()
    )
    return "\n\n".join(
        [
            f"### {case['title']}",
            f"{case['frames']:,} counted frames a run, {len(rounds)} runs each in turns, {case['images']} images "
            f"over and over. The loop's frames/s by threads of its runtime: {threads}; taken: {chosen}.",
            _table(["median (min to max)", *(TITLES[name] for name in names)], rows),
        ]
    )


def _start(start: dict[str, Any]) -> str:
    rows = [
        [item["title"], f"{spread(item['seconds'], 2)} s", f"≤ {item['budget_s']:g} s", _met(item)]
        for item in start.values()
    ]
    return "### Start\n\n" + _table(["median (min to max)", "measured", "budget", ""], rows)


def _met(item: dict[str, Any]) -> str:
    return "met" if statistics.median(item["seconds"]) <= item["budget_s"] else "**missed**"


def _spool(spool: dict[str, Any]) -> str:
    rows = []
    for item in spool.values():
        budget = item["budget"]
        met = "" if budget is None else ("met" if statistics.median(item["rates"]) >= budget else "**missed**")
        rows.append([item["title"], spread(item["rates"]), "" if budget is None else f"≥ {budget:,}", met])
    return "### Spool\n\n" + _table(["messages a second, median (min to max)", "measured", "budget", ""], rows)


def idle_table(idle: list[dict[str, Any]]) -> str:
    """A core with next to nothing to do, beside its budgets."""
    rows = []
    for one in idle:
        met = one["cpu_percent"] <= IDLE_CPU_PERCENT and one["pss_mb"] <= IDLE_PSS_MB
        memory = f"{one['pss_mb']:.0f} ({one['private_mb']:.0f})"
        workers = f"{one['workers_pss_mb']:.0f}" if one["workers_pss_mb"] else ""
        rows.append([one["title"], f"{one['cpu_percent']:.2f}", memory, workers, "met" if met else "**missed**"])
    budget = f"≤ {IDLE_CPU_PERCENT:g} %, ≤ {IDLE_PSS_MB:g} MB"
    head = [
        "`mli core start`",
        "processor, % of one core",
        "core's PSS (its own pages alone), MB",
        "worker's PSS, MB",
        budget,
    ]
    return "### Idle core\n\n" + _table(head, rows)


def fetch_table(fetch: dict[str, Any]) -> str:
    """Each row is one step beside what it is compared with, pair by pair."""
    titles = {
        "download": "download from S3, with digest; a bare download",
        "stored": "install, members stored; a plain unpack and fsync",
        "deflated": "install, members deflated; a plain unpack and fsync",
    }
    rows = []
    for name, title in titles.items():
        rounds = fetch[name]
        pairs = [(one["plain"]["seconds"], one["mli"]["seconds"]) for one in rounds]
        # As the budgets are said: speeds of the downloads, times of the installations.
        compared = [theirs / ours if name == "download" else ours / theirs for theirs, ours in pairs]
        middle = statistics.median(compared)
        met = middle >= 0.9 if name == "download" else middle <= 1.2
        cells = [
            spread((ours for _, ours in pairs), 2),
            spread((theirs for theirs, _ in pairs), 2),
            f"**{spread(compared, 2)}**",
            "≥ 0.9" if name == "download" else "≤ 1.2",
            "met" if met else "**missed**",
            f"{max(one['mli']['extra_mb'] for one in rounds):.0f}",
        ]
        rows.append([title, *cells])
    head = ["median (min to max)", "mli, s", "the other, s", "ratio", "budget", "", "mli's extra memory, MB"]
    return f"### An archive of {fetch['megabytes']} MB\n\n" + _table(head, rows)
