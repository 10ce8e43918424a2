"""What an installation does, step by step: each change is said before it is made, and nothing is made twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from mli.errors import MliError

State = Literal["done", "unchanged", "planned", "impossible"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not yet as it should be.

    Attributes:
        text: what ``make`` does, as an order: "make the user mli".
    """

    text: str
    make: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One part of an installation.

    Attributes:
        name: one word or two.
        changes: what is still to do; asked after the steps before it were done. Raises what makes it impossible.
        fine: said where there is nothing to do.
    """

    name: str
    changes: Callable[[], Iterable[Change]]
    fine: str


@dataclass(frozen=True, slots=True)
class StepReport:
    """What became of a step.

    Attributes:
        texts: one for each change; where there was none, what is fine already.
        error: what makes it impossible; only in a dry run, which goes on to show the rest.
    """

    name: str
    state: State
    texts: tuple[str, ...]
    error: MliError | None = None


def run_steps(steps: Iterable[Step], *, dry_run: bool, told: Callable[[StepReport], None]) -> tuple[StepReport, ...]:
    """Take the steps in their order, each told as soon as it is done; with ``dry_run`` nothing is changed.

    Raises:
        MliError: of the step that failed; those before it are done. Not in a dry run.
    """
    reports = []
    for step in steps:
        try:
            report = _run(step, dry_run)
        except MliError as error:
            if not dry_run:
                raise
            report = StepReport(step.name, "impossible", (error.what,), error)
        told(report)
        reports.append(report)
    return tuple(reports)


def _run(step: Step, dry_run: bool) -> StepReport:
    changes = tuple(step.changes())
    if not changes:
        return StepReport(step.name, "unchanged", (step.fine,))
    if not dry_run:
        for change in changes:
            change.make()
    return StepReport(step.name, "planned" if dry_run else "done", tuple(change.text for change in changes))
