"""What a person sees of a deployment's way to things."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from mli.cli.deploy_view import LinesView, LiveView, ended_text, make_view, progress_text, step_text
from mli.core.sending.device_report import read_deployment_report
from mli.core.sending.rollout import Change
from mli.core.status import Problem

UNREACHABLE = Problem(
    "The store cannot be reached.", where="s3://bucket", got="no route", remedy="Check the network."
)


def change(thing: str, state: str, *, ended: bool = False, error: Problem | None = None, **document: Any) -> Change:
    report = read_deployment_report(json.dumps({"state": state, **document}).encode())
    return Change(thing, state, 12.34, ended, report, error)


def test_an_end_says_why_and_what_to_do() -> None:
    assert ended_text(change("a", "healthy", ended=True), 4) == "a     healthy after 12.3 s"
    assert ended_text(change("a", "failed", ended=True, error=UNREACHABLE), 1).splitlines() == [
        "a  failed after 12.3 s",
        "  The store cannot be reached.",
        "    where:    s3://bucket",
        "    found:    no route",
        "    to fix:   Check the network.",
    ]


def test_a_digest_that_a_thing_pinned_is_told() -> None:
    models = {"main": {"sha256": "ab" * 32, "pinned": True}, "other": {"sha256": "cd" * 32, "pinned": False}}
    text = ended_text(change("a", "healthy", ended=True, models=models), 1)
    assert text.splitlines()[1:] == [f"  main: pinned to sha256 {'ab' * 32}"]


def test_a_step_says_what_delays_it() -> None:
    assert step_text(change("a", "canary")) == "canary"
    assert step_text(change("a", "downloading", error=UNREACHABLE)) == (
        "downloading (The store cannot be reached: no route)"
    )


def test_a_thing_cannot_write_on_the_terminal() -> None:
    hostile = Problem("\x1b[2Jcleared", remedy="\x1b]0;title\x07")
    shown = ended_text(change("a", "failed\x1b[1A", ended=True, error=hostile), 1)
    assert "\x1b" not in shown + step_text(change("a", "x\x1b[1A", error=hostile))


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        ({"model": "main", "bytes": 5_000_000, "total": 10_000_000}, "50% of 10.0 MB"),
        ({"model": "main", "bytes": 5_000_000, "total": None}, "main  5.0 MB"),
        ({"model": "main", "bytes": 9, "total": 3}, "100%"),
        (None, ""),
    ],
)
def test_progress_is_drawn(progress: object, words: str) -> None:
    assert words in progress_text(change("a", "downloading", progress=progress))


def test_many_things_are_shown_by_how_they_ended(capsys: pytest.CaptureFixture[str]) -> None:
    things = [f"line-{number}" for number in range(11)]
    view = make_view(things, "healthy", as_json=False, steps=True)
    assert isinstance(view, LinesView)
    with view:
        for thing in things:
            view.change(change(thing, "received"))
            view.change(change(thing, "healthy", ended=True))
    output, errors = capsys.readouterr()
    assert len(output.splitlines()) == 11
    assert errors == ""


def test_a_terminal_shows_what_is_under_way_and_keeps_what_ended() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    things = [f"line-{number}" for number in range(20)]
    with LiveView(things, "healthy", console) as view:
        view.change(change("line-0", "healthy", ended=True))
        view.change(change("line-19", "downloading", progress={"model": "main", "bytes": 1, "total": 2}))
        view.idle()
        console.print(view.table())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "line-0   healthy after" in shown
    assert "downloading" in shown
    assert "50% of" in shown
    assert "… and 7 more" in shown
    assert "18 waiting, 1 healthy, 1 downloading" in shown
