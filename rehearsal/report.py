"""What came of the ways, as the part of docs/rehearsal.md that says it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from benchmarks.machine import machine_as_it_is
from conformance.marked_page import write_between
from tests.fixtures.brokers import ROOT

PAGE = ROOT / "docs" / "rehearsal.md"


@dataclass(frozen=True, slots=True)
class Walked:
    """One way.

    Attributes:
        commands: lines that were run.
        problem: empty where none was.
        asked: connections to each service.
        denied: what IoT Core did not allow.
    """

    name: str
    commands: int
    seconds: float
    problem: str
    asked: Mapping[str, int]
    denied: Sequence[str]

    def connections(self) -> str:
        return ", ".join(f"{service} {number}" for service, number in self.asked.items())


def text_of(walked: Sequence[Walked]) -> str:
    """As Markdown."""
    machine = machine_as_it_is()
    rows = [
        f"| `{one.name}` | {one.commands} | {one.seconds:.0f} | {one.problem or 'all worked'} | {one.connections()} |"
        for one in walked
    ]
    return "\n".join(
        [
            f"{date.today().isoformat()}, {machine['cores']} cores of {machine['cpu']}, {machine['system']}, Linux "
            f"{platform.release()}, Python {machine['python']}:",
            "",
            "| way | commands | s | | connections |",
            "|---|---:|---:|---|---|",
            *rows,
        ]
    )


def write(walked: Sequence[Walked]) -> None:
    """Put it between its markers."""
    write_between(PAGE, "<!-- rehearsal: begin -->", "<!-- rehearsal: end -->", text_of(walked))
