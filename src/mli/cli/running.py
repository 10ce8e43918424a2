"""What a running core shows on this terminal, and how its end becomes an exit code."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mli.core.core import Core
from mli.core.log_format import TextFormatter
from mli.delivery.sinks.stdout import StdoutSink, await_room

if TYPE_CHECKING:
    from mli.cli.interrupts import Interrupted
    from mli.config.files import RunSettings
    from mli.config.settings import DeploymentSettings, PipelineSettings
    from mli.delivery.actions import ActionOutcome
    from mli.delivery.sinks.sink import Sink
    from mli.types import Message, Record

SIGINT_CODE = 130


class Running:
    """One run in a terminal or a script: predictions on standard output, everything else on standard error.

    Args:
        person: a person looks at standard output.
    """

    wake_s = 1.0

    def __init__(self, settings: RunSettings, *, as_json: bool, person: bool) -> None:
        self.settings = settings
        self._as_json = as_json
        self._person = person
        self._several = len(settings.deployment.pipelines) > 1
        self._frames = 0
        self._skipped = 0
        self.core: Core | None = None
        self._makers: dict[str, Any] = {}
        warnings = logging.StreamHandler()
        warnings.setLevel(logging.WARNING)
        warnings.setFormatter(TextFormatter(lambda _: "mli: ", tracebacks=False))
        logging.getLogger("mli").addHandler(warnings)

    def make_core(self, install_progress: Callable[[int, int], None], *, from_start: bool) -> Core:
        """The core for these settings; enter it, and start it."""
        self.core = Core(
            self.settings.device,
            self._deployment(),
            self._make_sink,
            listener=self,
            install_progress=install_progress,
            on_note=self._note_over_bar,
            from_start=from_start,
        )
        return self.core

    def _note_over_bar(self, text: str) -> None:
        """A note while the bar of the installation may stand on the line."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        self.note(text)

    def _deployment(self) -> DeploymentSettings:
        """Without a broker, a person or a program gets everything there is to know of a frame."""
        deployment = self.settings.deployment
        if self.settings.device.mqtt is not None or not (self._as_json or self._person):
            return deployment
        pipelines = tuple(
            replace(item, publish=replace(item.publish, payload="full")) for item in deployment.pipelines
        )
        return replace(deployment, pipelines=pipelines)

    def _make_sink(self) -> Sink:
        mqtt = self.settings.device.mqtt
        if mqtt is None:
            return StdoutSink(render=self._render_for_person if self._person else None)
        from mli.delivery.sinks.mqtt import MqttSink

        return MqttSink(mqtt)

    # --- while it runs -------------------------------------------------------------------------------------

    def started(self) -> None:
        """Say what is running, in one line."""
        assert self.core is not None
        mqtt = self.settings.device.mqtt
        goal = "standard output" if mqtt is None else f"{mqtt.host}:{mqtt.port}"
        for pipeline in self.settings.deployment.pipelines:
            model = self.core.models[pipeline.model]
            topic = "" if mqtt is None else f", topic {pipeline.publish.topic}"
            self.note(f"{model.name} {model.version}: {_source_text(pipeline)} → {goal}{topic}")
            if model.input is None and pipeline.preprocess.mean is None and pipeline.preprocess.scale is None:
                self.note(
                    f"{model.name} has no manifest: pixels go in as 0-255. "
                    "A model that was trained on scaled ones needs `mli model pack … --mean … --scale …`"
                )
        if self.core.queued_at_start:
            self.note(f"{counted(self.core.queued_at_start, 'message')} of an earlier run are queued and go first")

    def on_wake(self) -> None:
        """Called now and then, every ``wake_s`` at least."""

    def on_record(self, record: Record) -> None:
        """Show a record that is on disk."""
        for skipped in record.skipped:
            self._skipped += 1
            self.note(f"skipped {skipped.reason}")
        for outcome in record.outcomes:
            if outcome.fired:
                self.note(f"rule {outcome.rule} fired: {outcome.reason} in {record.image_name}")
        if record.sequence is None:
            return
        self._frames += 1
        if self.settings.device.mqtt is None:
            return
        if self._as_json:
            self.write(json.dumps(self.full_object(record)))
        elif self._person:
            seen = [(item.label, item.confidence) for item in record.predictions]
            self.write(_line(record.pipeline if self._several else "", record.image_name, seen))

    def on_action(self, outcome: ActionOutcome) -> None:
        """Say what became of a command; its failures are logged by the runner itself."""
        if outcome.state == "ran":
            self.note(f"command {outcome.firing.command} ran in {outcome.duration_s * 1000:.0f} ms")

    def full_object(self, record: Record) -> dict[str, Any]:
        """The full payload of a record, whatever payload was published, with what a camera or a rule knows."""
        from mli.pipeline.messages import MessageMaker

        maker = self._makers.get(record.pipeline)
        if maker is None:
            assert self.core is not None
            status = next(item for item in self.core.status().pipelines if item.name == record.pipeline)
            settings = next(item for item in self.settings.deployment.pipelines if item.name == record.pipeline)
            epoch = record.messages[0].id.split("-", 1)[0]
            model = self.core.models[settings.model]
            maker = self._makers[record.pipeline] = MessageMaker(settings, model, status.backend or "", epoch)
        sequence, captured_at = record.sequence or 0, record.messages[0].captured_at
        body: dict[str, Any] = maker.full_object(
            sequence, captured_at, record.image_name, record.predictions, record.latency_ms
        )
        if record.truth is not None:
            body["truth"] = record.truth
        if record.outcomes:
            body["rules"] = [
                {"rule": item.rule, "fired": item.fired, "reason": item.reason} for item in record.outcomes
            ]
        return body

    def _render_for_person(self, message: Message) -> str:
        body = json.loads(message.payload)
        if "predictions" not in body:
            return f"{message.topic}  {message.payload.decode()}"
        seen = [(item["label"], item["confidence"]) for item in body["predictions"]]
        return _line(body["pipeline"] if self._several else "", body["image_name"], seen)

    # --- the end -------------------------------------------------------------------------------------------

    def ended(self, interrupted: Interrupted) -> int:
        """Deliver what is left, sum up, and give the exit code."""
        core = self.core
        assert core is not None
        delivered_all = core.drain_queue()
        signal_name = interrupted.signal
        errors = core.errors()
        status = core.status()
        drain = status.drain
        done = "printed" if self.settings.device.mqtt is None else "delivered"
        summary = f"{counted(self._frames, 'frame')}, {counted(drain.delivered, 'message')} {done}"
        if drain.latency_p50_ms is not None:
            summary += f", {drain.latency_p50_ms:.1f} ms from frame to delivery (p99 {drain.latency_p99_ms:.1f} ms)"
        if self._skipped:
            summary += f", {counted(self._skipped, 'image')} skipped"
        self.note(summary)
        if not delivered_all:
            cause = drain.sink.last_error or drain.last_refusal
            reason = f": {cause}" if cause else ""
            self.note(
                f"{counted(status.spool.queued, 'message')} still queued in {self.settings.device.root}{reason}; "
                "the next run with the same root delivers them"
            )
        dead = status.spool.dead - core.dead_at_start
        if dead:
            self.note(f"{counted(dead, 'message')} refused by the broker for good, kept as dead letters")
        if signal_name == "SIGINT":
            return SIGINT_CODE
        if dead or errors or (self._skipped and not self._frames):
            return 1
        return 0 if delivered_all or signal_name else 1

    def note(self, text: str) -> None:
        """One line for a person, on standard error, whole even where several threads tell something."""
        with contextlib.suppress(OSError):  # nobody reads it any more; the work goes on
            sys.stderr.write(f"mli: {text}\n")
            sys.stderr.flush()

    def write(self, line: str) -> None:
        """One line of output; nobody to read it ends the run."""
        assert self.core is not None
        if not await_room(sys.stdout, self.core.stopping):
            return
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self.core.request_stop()


def _line(pipeline: str, image_name: str, seen: list[tuple[str, float]]) -> str:
    found = " · ".join(f"{label} {confidence:.1%}" for label, confidence in seen) or "nothing"
    return f"{pipeline + '  ' if pipeline else ''}{image_name:<28}  {found}"


def counted(number: int, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _source_text(pipeline: PipelineSettings) -> str:
    source = pipeline.source
    pace = "as fast as possible" if source.interval_s == 0 else f"every {source.interval_s:g} s"
    return f"{'simulated camera' if source.kind == 'demo' else source.uri}, {pace}{', once' if source.once else ''}"
