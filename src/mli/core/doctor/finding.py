"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mli.errors import MliError

if TYPE_CHECKING:
    from mli.core.doctor.patient import Patient

State = Literal["ok", "warn", "fail", "skipped"]
"""``warn``: it works, but somebody should know; ``skipped``: nothing to check, or what it needs has failed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check found.

    Attributes:
        detail: what is so, and why that is good or bad.
        remedy: what to do; None where nothing needs to be done.
    """

    state: State
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong.

    Attributes:
        name: in the table; other checks name it in ``needs``.
        run: looks at it. An ``MliError`` is a failure, with its cause and remedy.
        needs: checks without which this one tells nothing: it is skipped where one of them failed, or was skipped for
            want of what it needs itself.
        limit_s: it is given up after so long.
    """

    name: str
    run: Callable[[Patient], Verdict]
    needs: tuple[str, ...] = ()
    limit_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    name: str
    state: State
    detail: str
    remedy: str | None = None


def ok(detail: str) -> Verdict:
    """Nothing is wrong."""
    return Verdict("ok", detail)


def warn(detail: str, remedy: str) -> Verdict:
    """It works, but somebody should know."""
    return Verdict("warn", detail, remedy)


def fail(detail: str, remedy: str) -> Verdict:
    """It does not work."""
    return Verdict("fail", detail, remedy)


def skipped(detail: str) -> Verdict:
    """There is nothing to check."""
    return Verdict("skipped", detail)


def of_error(error: MliError, remedy: str) -> Verdict:
    """An error as a failure.

    Args:
        remedy: where the error names none.
    """
    parts = [error.what]
    parts += [f"{name}: {text}" for name, text in (("expected", error.expected), ("found", error.got)) if text]
    where = f"{error.where}: " if error.where else ""
    return fail(where + "; ".join(parts), error.remedy or remedy)
