"""What came of the sections, as the parts of docs/soak.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance.marked_page import write_between

PAGE = Path(__file__).resolve().parents[1] / "docs" / "soak.md"
FACTS = {
    "calls": "calls of the core's threads that came in each of three deployments",
    "threads": "threads that make them",
    "calls_sometimes": "more calls that came in some deployments: what a core does now and then",
    "not_reached": "calls that did not come that time",
    "calls_of_born_threads": "more calls, of threads that are born in a deployment",
    "by_name": "by name",
    "predictions": "predictions, each once, in order, of the model that it names",
    "sent_again": "predictions that the broker was sent twice",
    "deployments": "deployments meanwhile",
    "acknowledged": "messages that the broker had acknowledged in the end",
    "gap_ms": "ms from the last prediction of the old model to the first of the new one",
    "other_gap_ms": "ms from one prediction to the next otherwise",
    "ends": "cores that ended",
}
USES = {
    "pss_mb": "memory of the core (PSS), MB",
    "private_mb": "memory of its own, written to, MB",
    "open_files": "open files",
    "threads": "threads",
    "processes": "processes below it",
    "control_groups": "control groups",
    "spool_mb": "spool on disk, MB",
    "files": "files in the root",
}


def write(name: str, found: dict[str, Any]) -> None:
    """Put a section's results between its markers of the page."""
    write_between(PAGE, f"<!-- {name}: begin -->", f"<!-- {name}: end -->", text_of(found))


def text_of(found: dict[str, Any]) -> str:
    """One section as Markdown."""
    machine, facts = found["machine"], dict(found["facts"])
    short = "a short run, " if found["quick"] else ""
    priority = ", with real-time priority (`chrt -r 1`)" if machine.get("real_time") else ""
    parts = [
        f"Measured {machine['date']}, seed {found['seed']}, {short}{found['rounds']} rounds in {found['seconds']:,} s"
        f" on {machine['cores']} cores of {machine['cpu']}, {machine['system']}, Linux {machine['kernel']}, "
        f"Python {machine['python']}; load before: {machine['load']}{priority}. "
        + ("**Nothing failed.**" if not found["failures"] else f"**{len(found['failures'])} rounds failed.**")
    ]
    if found["outcomes"]:
        rows = sorted(found["outcomes"].items(), key=lambda item: (-item[1], item[0]))
        parts.append(table(["what came of it", "rounds"], [[name, f"{number:,}"] for name, number in rows]))
    use = facts.pop("use", None)
    measured = {key: facts.pop(key) for key in list(facts) if isinstance(facts[key], dict) and key not in FACTS}
    if facts:
        parts.append("\n".join(f"- {FACTS[name]}: {_value(value)}" for name, value in facts.items()))
    if use is not None:
        rows_of_use = [[USES[key], *(f"{value:g}" for value in row.values())] for key, row in use.items()]
        parts.append(table(["median", "swaps 20 to 40", "last 20 swaps", "most"], rows_of_use))
    if measured:
        parts.append(_measured(measured))
    parts += [f"- failed: {failure}" for failure in found["failures"]]
    return "\n\n".join(parts)


def _measured(measured: dict[str, dict[str, Any]]) -> str:
    columns = list(next(iter(measured.values())))
    rows = [[name, *(_cell(row[column]) for column in columns)] for name, row in measured.items()]
    return table(["", *(column.replace("_", " ") for column in columns)], rows)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return " / ".join(f"{one:g}" for one in value.values())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:g}" for name, number in value.items())
    if isinstance(value, list):
        return "".join(f"\n  - {item.splitlines()[0]}" for item in value)
    return f"{value:,}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """As Markdown; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
