"""``mli doctor``: what is wrong with this device, and what to do about it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.core.doctor.finding import Finding

_COLORS = {"ok": "green", "warn": "yellow", "fail": "red", "skipped": "bright_black"}
_WORDS = {"ok": "ok", "warn": "warn", "fail": "FAIL", "skipped": "-"}
_NAME_WIDTH = 13
_LEAST_WIDTH = 40
_INDENT = " " * (4 + 2 + _NAME_WIDTH + 2)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    root: Annotated[
        Path | None, typer.Option(help="The device's folder [default: the service's, or yours].", show_default=False)
    ] = None,
) -> None:
    """Find what is wrong with this device, and say what to do; exit 1 where something fails.

    Nothing is changed, and nothing is published.
    """
    from mli.cli.core_root import chosen_root
    from mli.core.doctor.checks import CHECKS
    from mli.core.doctor.examination import examine
    from mli.core.doctor.patient import gather

    if root is not None and not root.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(root),
            expected="the device's folder",
            remedy="leave --root out to look at this machine alone",
        )
    folder = chosen_root(root)
    patient = gather(folder)
    findings = []
    for finding in examine(CHECKS, patient):
        findings.append(finding)
        if not as_json:
            _print(finding)
    counts = {state: sum(item.state == state for item in findings) for state in _WORDS}
    if as_json:
        print(json.dumps(_document(folder, findings), indent=2))
    else:
        summary = ", ".join(
            f"{counts[state]} {word}" for state, word in (("ok", "ok"), ("warn", "to know"), ("fail", "to fix"))
        )
        print(f"\n{folder}: {summary}")
    sys.stdout.flush()
    if counts["fail"]:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    from mli.core.log_format import safe_text

    word = f"{_WORDS[finding.state]:<4}"
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        word = typer.style(word, fg=_COLORS[finding.state], bold=finding.state == "fail")
    first, *more = _wrapped(safe_text(finding.detail))
    print(f"{word}  {finding.name:<{_NAME_WIDTH}}  {first}")
    if finding.remedy is not None:
        more += _wrapped(f"{'to fix' if finding.state == 'fail' else 'hint'}: {safe_text(finding.remedy)}")
    for line in more:
        print(f"{_INDENT}{line}")
    sys.stdout.flush()


def _wrapped(text: str) -> list[str]:
    """The lines of a text, as wide as the terminal; whole where nobody looks."""
    lines = [line.strip() for line in text.split("\n")]
    if not sys.stdout.isatty():
        return lines
    width = max(_LEAST_WIDTH, shutil.get_terminal_size().columns - len(_INDENT) - 1)
    return [part for line in lines for part in textwrap.wrap(line, width) or [""]]


def _document(folder: Path, findings: list[Finding]) -> dict[str, object]:
    from mli import __version__
    from mli.core.log_format import safe_text

    return {
        "schema": "mli.doctor/1",
        "version": __version__,
        "root": str(folder),
        "findings": [
            {
                "name": item.name,
                "state": item.state,
                "detail": safe_text(item.detail),
                "remedy": None if item.remedy is None else safe_text(item.remedy),
            }
            for item in findings
        ],
    }
