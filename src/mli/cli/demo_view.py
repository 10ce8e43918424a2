"""The demo in a terminal: what the camera drew, what the model saw, and how fast it was delivered."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mli.cli.running import Running

if TYPE_CHECKING:
    from mli.cli.interrupts import Interrupted
    from mli.config.files import RunSettings
    from mli.core.core import CoreStatus
    from mli.delivery.actions import ActionOutcome
    from mli.types import Record

_ROWS = 10
_RATE_OVER = 200


class DemoView(Running):
    """Keeps the last frames and draws them; ``on_record`` and ``on_action`` come from the core's threads."""

    wake_s = 0.1

    def __init__(self, settings: RunSettings, watch_command: str, console: Console | None = None) -> None:
        super().__init__(settings, as_json=False, person=True)
        self._watch_command = watch_command
        self._lock = threading.Lock()
        self._rows: deque[Record] = deque(maxlen=_ROWS)
        self._times: deque[float] = deque(maxlen=_RATE_OVER)
        self._actions: Counter[str] = Counter()
        self._last_action: ActionOutcome | None = None
        self.last_picture: RenderableType = ""
        self._live = Live(console=console, auto_refresh=False)

    def started(self) -> None:
        """Begin to draw."""
        self._live.start()

    def ended(self, interrupted: Interrupted) -> int:
        """Draw the last state, and sum up below it."""
        try:
            assert self.core is not None
            self.core.drain_queue()
            self.on_wake()
        finally:
            self._live.stop()
        return super().ended(interrupted)

    def on_record(self, record: Record) -> None:
        """A frame's predictions are on disk."""
        if record.sequence is not None:
            self._frames += 1
            with self._lock:
                self._rows.append(record)
                self._times.append(time.monotonic())

    def on_action(self, outcome: ActionOutcome) -> None:
        """The diverter moved, or did not."""
        with self._lock:
            self._actions[outcome.state] += 1
            self._last_action = outcome

    def on_wake(self) -> None:
        """Draw."""
        assert self.core is not None
        self.last_picture = self.render(self.core.status())
        self._live.update(self.last_picture, refresh=True)

    def render(self, status: CoreStatus) -> RenderableType:
        """The whole picture."""
        with self._lock:
            rows, times = list(self._rows), list(self._times)
            counts, last = dict(self._actions), self._last_action
        watch = Text.assemble(
            "watch them with any MQTT client:  ",
            (self._watch_command, "bold cyan"),
        )
        return Group(
            Panel(_frames(rows), title="mli demo: a simulated camera over a recycling belt", title_align="left"),
            _figures(status, times),
            _rule(status, counts, last),
            watch,
        )


def _frames(rows: list[Record]) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    for name, options in (
        ("frame", {"justify": "right", "width": 6}),
        ("the camera drew", {"width": 16}),
        ("", {"width": 1}),
        ("the model saw", {"width": 16}),
        ("confidence", {"width": 28}),
        ("latency", {"justify": "right", "width": 9}),
    ):
        table.add_column(name, header_style="dim", no_wrap=True, **options)
    for record in rows:
        seen = record.predictions[0] if record.predictions else None
        right = seen is not None and seen.label == record.truth
        confidence = 0.0 if seen is None else seen.confidence
        table.add_row(
            str(record.sequence),
            record.truth or "",
            Text("✓" if right else "✗", style="green" if right else "bold red"),
            Text("nothing" if seen is None else seen.label, style="" if right else "red"),
            Text("█" * round(confidence * 20), style="green" if right else "red").append(f" {confidence:.1%}"),
            f"{record.latency_ms:.1f} ms",
        )
    return table


def _figures(status: CoreStatus, times: list[float]) -> Text:
    counters = status.pipelines[0].counters
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0
    part = counters.right / counters.judged if counters.judged else 0.0
    drain = status.drain
    line = Text.assemble(
        (f"{rate:.1f}", "bold"),
        " frames/s   ",
        (f"{counters.right} of {counters.judged}", "bold"),
        f" right ({part:.1%})   ",
        (f"{drain.delivered}", "bold"),
        " delivered",
    )
    if drain.latency_p50_ms is not None:
        line.append(f", frame to broker's receipt {drain.latency_p50_ms:.1f} ms (p99 {drain.latency_p99_ms:.1f} ms)")
    return line


def _rule(status: CoreStatus, counts: dict[str, int], last: ActionOutcome | None) -> Text:
    line = Text("rule: plastic bottle → divert  ")
    for rule, fired in status.rules_fired.items():
        line.append(f"fired {fired} times", "bold magenta")
        line.append(f", command ran {counts.get('ran', 0)}")
        if others := sum(count for state, count in counts.items() if state != "ran"):
            line.append(f", {others} late or failed", "red")
        if last is not None and last.firing.rule == rule:
            line.append(f", last {last.age_s * 1000:.0f} ms after its frame")
    for reason in status.rules_why_not.values():
        line.append(f"  (last frame: no, {reason})", "dim")
    return line
