"""How a deployment's way to many things is shown: a live table, plain lines, or JSON."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

    from mli.core.sending.rollout import Change

_FEW = 10
"""So many things are shown step by step; of more, only how each ended."""
_ROWS = 12
_BAR_CELLS = 20
_SUMMARY_EVERY_S = 10.0


class View(Protocol):
    """Enter it around the sending."""

    def __enter__(self) -> View: ...
    def __exit__(self, *_: object) -> None: ...
    def change(self, change: Change) -> None:
        """Show news of a thing."""

    def idle(self) -> None:
        """Nothing happened for a moment."""


def make_view(things: Sequence[str], good: str, *, as_json: bool, steps: bool) -> View:
    """The view for this output.

    Args:
        good: the end that is hoped for.
        steps: things are followed, not only sent to.
    """
    if as_json:
        return JsonView()
    if steps and sys.stdout.isatty():
        return LiveView(things, good)
    return LinesView(things, good)


class JsonView:
    """A line of JSON for each change."""

    def __enter__(self) -> JsonView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def change(self, change: Change) -> None:
        """Write it."""
        line = {
            "thing": change.thing,
            "state": change.state,
            "after_s": round(change.after_s, 3),
            "ended": change.ended,
            "error": None if change.error is None else problem_json(change.error),
            "status": None if change.report is None else change.report.document,
        }
        print(json.dumps(line), flush=True)

    def idle(self) -> None:
        """Nothing to write."""


class LinesView:
    """How each thing ended, a line each; what happens meanwhile goes to standard error."""

    def __init__(self, things: Sequence[str], good: str) -> None:
        self._width = max(map(len, things))
        self._few = len(things) <= _FEW
        self._all = len(things)
        self._good = good
        self._states: dict[str, str] = dict.fromkeys(things, "")
        self._steps: dict[str, str] = {}
        self._said_at = time.monotonic()
        self._said = ""

    def __enter__(self) -> LinesView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def change(self, change: Change) -> None:
        """Say how it ended, or of few things what step it took."""
        self._states[change.thing] = change.state
        if change.ended:
            print(ended_text(change, self._width), flush=True)
            return
        step = step_text(change)
        if self._few and step != self._steps.get(change.thing):
            self._steps[change.thing] = step
            print(f"{change.thing:<{self._width}}  {step}", file=sys.stderr, flush=True)

    def idle(self) -> None:
        """Of many things, say now and then how far they are."""
        if self._few or time.monotonic() - self._said_at < _SUMMARY_EVERY_S:
            return
        self._said_at = time.monotonic()
        text = counts_text(self._states.values())
        if text != self._said:
            self._said = text
            print(f"mli: {text}", file=sys.stderr, flush=True)


class LiveView:
    """A table of the things that are under way, on a terminal; those that ended scroll away above it."""

    def __init__(self, things: Sequence[str], good: str, console: Console | None = None) -> None:
        from rich.live import Live

        self._width = max(map(len, things))
        self._good = good
        self._started = time.monotonic()
        self._open: dict[str, Change | None] = dict.fromkeys(things)
        self._states: dict[str, str] = dict.fromkeys(things, "waiting")
        self._live = Live(console=console, get_renderable=self.table, refresh_per_second=5, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def change(self, change: Change) -> None:
        """Move the thing on; one that ended leaves the table."""
        from rich.text import Text

        self._states[change.thing] = change.state
        if not change.ended:
            self._open[change.thing] = change
            return
        self._open.pop(change.thing, None)
        style = "green" if change.state in (self._good, "sent") else "red"
        self._live.console.print(Text(ended_text(change, self._width), style), soft_wrap=True, highlight=False)

    def idle(self) -> None:
        """The table draws itself."""

    def table(self) -> Any:
        """The things that are under way, and how many are in which state."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        under_way = [(thing, change) for thing, change in list(self._open.items()) if change is not None]
        waiting = [(thing, None) for thing, change in list(self._open.items()) if change is None]
        for thing, change in [*under_way, *waiting][:_ROWS]:
            state = "waiting" if change is None else step_text(change)
            table.add_row(Text(thing, "cyan"), Text(state, "bold"), Text(progress_text(change)))
        if len(self._open) > _ROWS:
            table.add_row(Text(f"… and {len(self._open) - _ROWS} more", "dim"))
        seconds = time.monotonic() - self._started
        table.add_row(Text(f"{seconds:4.0f} s", "dim"), Text(counts_text(list(self._states.values())), "dim"))
        return table


def remark(text: str) -> None:
    """Say something about the sending itself, on standard error."""
    print(f"mli: {text}", file=sys.stderr, flush=True)


def ended_text(change: Change, width: int) -> str:
    """How a thing ended, and where it did not end well, why and what to do."""
    from mli.delivery.one_line import one_line

    after = "" if change.state == "sent" else f" after {change.after_s:.1f} s"
    lines = [f"{change.thing:<{width}}  {one_line(change.state)}{after}"]
    if change.report is not None:
        lines += [f"  {one_line(name)}: pinned to sha256 {one_line(sha256)}" for name, sha256 in change.report.pinned]
    if change.error is not None:
        details = problem_json(change.error)
        lines += [f"  {one_line(line, 500)}" for line in (details.pop("what") or "").splitlines()]
        names = {"got": "found", "remedy": "to fix"}
        lines += [
            f"    {names.get(name, name) + ':':10}{one_line(text, 500)}" for name, text in details.items() if text
        ]
    return "\n".join(lines)


def step_text(change: Change) -> str:
    """A state on the way, and what makes it take longer."""
    from mli.delivery.one_line import one_line

    trouble = change.error
    if trouble is None:
        return one_line(change.state)
    said = ": ".join(text for text in (trouble.what.rstrip("."), trouble.got) if text)
    return f"{one_line(change.state)} ({one_line(said)})"


def progress_text(change: Change | None) -> str:
    """How far a download is."""
    from mli.delivery.one_line import one_line

    progress = None if change is None or change.report is None else change.report.progress
    if progress is None:
        return ""
    if not progress.total:
        return f"{one_line(progress.model)}  {progress.bytes / 1e6:,.1f} MB"
    part = min(1.0, max(0.0, progress.bytes / progress.total))
    filled = round(part * _BAR_CELLS)
    bar = "█" * filled + "░" * (_BAR_CELLS - filled)
    return f"{one_line(progress.model)}  {bar} {part:4.0%} of {progress.total / 1e6:,.1f} MB"


def counts_text(states: Any) -> str:
    """How many things are in which state: ``7 healthy, 2 canary, 1 waiting``."""
    counts = Counter(state or "waiting" for state in states)
    return ", ".join(f"{count:,} {state}" for state, count in counts.most_common())


def problem_json(problem: Any) -> dict[str, str | None]:
    """The fields of a problem."""
    return {name: getattr(problem, name) for name in ("what", "where", "expected", "got", "remedy")}
