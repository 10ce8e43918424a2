"""The work loop of a pipeline: many frames under way, their results in frame order, a heartbeat from here."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mli.errors import ImageRefused
from mli.pipeline.decoders.decoder import make_decoder
from mli.pipeline.messages import MessageMaker
from mli.pipeline.model_io import resolve
from mli.pipeline.pace import Pace
from mli.pipeline.preprocess import Preprocessor
from mli.pipeline.rules import RuleEngine
from mli.pipeline.sources.source import Capture, Reading, Source
from mli.types import Caution, Firing, Record, SkippedFrame

if TYPE_CHECKING:
    from mli.config.settings import PipelineSettings
    from mli.pipeline.estimators.estimator import Estimator
    from mli.types import Image, ModelSpec, Prediction, ResumeState

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0


class Outlet(Protocol):
    """Where records go; bounded, so that a slow spool slows the source."""

    def has_room(self) -> bool:
        """Whether one more record may be sent now."""
        ...

    def send(self, record: Record) -> None:
        """Hand a record over; returns at once."""
        ...

    def trying(self, position: str) -> None:
        """Tell which frame is begun, alone; only while there is reason for caution."""
        ...

    def heartbeat(self, oldest_frame_s: float) -> None:
        """Tell that the loop is alive, and for how long its oldest frame has been under way (0: none)."""
        ...


class FrameProcessor:
    """One frame from its capture to its predictions; thread-safe, called by several pool threads.

    Raises:
        ModelRefused: model, labels, manifest and deployment do not fit each other.
    """

    def __init__(self, settings: PipelineSettings, model: ModelSpec, estimator: Estimator) -> None:
        self.io = resolve(model, estimator, settings.preprocess)
        self.estimator = estimator
        self._preprocess = Preprocessor(self.io.input)
        self._decode = make_decoder(model, self.io, top=settings.top, min_confidence=settings.min_confidence)
        # Decoding and preprocessing of the next frames overlap inference, which is limited to what the backend takes.
        self._slots = threading.Semaphore(estimator.capacity)

    def __call__(self, image: Image) -> tuple[Prediction, ...]:
        """Predictions of an image, uint8 (height, width, 3), BGR."""
        tensor, placement = self._preprocess(image)
        with self._slots:
            outputs = self.estimator.infer({self.io.input.name: tensor})
        return self._decode(outputs, placement)


@dataclass(frozen=True, slots=True)
class _Underway:
    capture: Capture
    started_at: float
    result: Future[tuple[Prediction, ...]]


class PipelineLoop:
    """Runs a pipeline from its source to its outlet in the calling thread, with a pool for the frames."""

    def __init__(
        self,
        settings: PipelineSettings,
        model: ModelSpec,
        processor: FrameProcessor,
        source: Source,
        resume: ResumeState,
        outlet: Outlet,
        caution: Caution = Caution(),
    ) -> None:
        self._settings = settings
        estimator = processor.estimator
        self._processor = processor
        self._rules = RuleEngine(settings.rules, model.labels)
        self._messages = MessageMaker(settings, model, estimator.backend, resume.epoch)
        self._source = source
        self._outlet = outlet
        self._sequence = resume.next_sequence
        self._position = resume.position
        self._counters = resume.counters
        self._number = 0
        self._wake = threading.Event()
        self._stopping = False
        self._ended = False
        # One more than infers where that is one, to decode beside it; more would only take the cores from each other.
        self._threads = max(2, estimator.capacity)
        self._most_underway = estimator.capacity + 2
        self._avoid = frozenset(caution.avoid)
        # As many as may have been under way when the last worker died: the guilty one is among them.
        self._careful = self._most_underway if caution.one_by_one else 0
        self._alone = False
        self._ahead: Capture | None = None
        self._underway: deque[_Underway] = deque()
        self._pace = Pace(settings.source.interval_s, time.monotonic())
        self._next_heartbeat_at = time.monotonic()

    def wake(self) -> None:
        """Look again: there is room in the outlet, or something else has changed. Any thread."""
        self._wake.set()

    def stop(self) -> None:
        """Read no more; the frames under way are finished. Any thread."""
        self._stopping = True
        self._wake.set()

    def run(self) -> bool:
        """Work until the source ends or ``stop``.

        Returns:
            Whether the source came to its end.

        Raises:
            MliError: a frame failed for another reason than its own image.
        """
        with ThreadPoolExecutor(self._threads, thread_name_prefix="frame") as pool:
            try:
                while not self._finished():
                    self._wake.clear()
                    self._emit()
                    self._read(pool)
                    self._beat()
                    if not self._finished():
                        self._wake.wait(self._idle_s())
            finally:
                for underway in self._underway:
                    underway.result.cancel()
        return self._ended and not self._stopping

    def _finished(self) -> bool:
        return (self._ended or self._stopping) and not self._underway

    def _read(self, pool: ThreadPoolExecutor) -> None:
        while self._may_read():
            now = time.monotonic()
            if self._pace.wait_s(now) > 0:
                return
            capture = self._next_capture()
            if capture is Reading.END:
                self._ended = True
                return
            if isinstance(capture, Reading):
                self._pace.nothing_yet(now)
                return
            self._pace.taken(now)
            self._look_ahead(now)
            if self._careful:
                self._careful -= 1
                self._alone = True
                self._outlet.trying(capture.position)
            result = pool.submit(self._process, capture)
            self._underway.append(_Underway(capture, now, result))
            result.add_done_callback(self._wake_if_oldest)

    def _next_capture(self) -> Capture | Reading:
        ahead, self._ahead = self._ahead, None
        return self._source.read() if ahead is None else replace(ahead, captured_at=time.time())

    def _look_ahead(self, now: float) -> None:
        """A finite source that has no more ends now, and not an interval later."""
        if self._source.finite and self._pace.wait_s(now) > 0:
            ahead = self._source.read()
            self._ended = ahead is Reading.END
            self._ahead = ahead if isinstance(ahead, Capture) else None

    def _wake_if_oldest(self, result: Future[tuple[Prediction, ...]]) -> None:
        """Only the oldest frame lets the loop go on; the others leave with it."""
        with contextlib.suppress(IndexError):  # the loop was faster
            if self._underway[0].result is not result:
                return
        self._wake.set()

    def _may_read(self) -> bool:
        most = 1 if self._careful or self._alone else self._most_underway
        return not (self._ended or self._stopping) and len(self._underway) < most

    def _process(self, capture: Capture) -> tuple[Prediction, ...]:
        if capture.position in self._avoid:
            raise ImageRefused(f"{capture.image_name}: it ended the worker when it alone was worked on")
        return self._processor(capture.decode())

    def _emit(self) -> None:
        while self._underway and self._underway[0].result.done() and self._outlet.has_room():
            underway = self._underway.popleft()
            self._alone = False
            capture = underway.capture
            self._position = capture.position
            try:
                predictions = underway.result.result()
            except ImageRefused as refusal:
                self._counters = replace(self._counters, skipped=self._counters.skipped + 1)
                skipped = SkippedFrame(capture.image_name, str(refusal), capture.position)
                self._send_position(capture.position, (skipped,))
            else:
                self._send_result(capture, predictions)
            # One step may take long; the next ones must not keep the heart from beating.
            self._beat()

    def _send_result(self, capture: Capture, predictions: tuple[Prediction, ...]) -> None:
        sequence, self._sequence = self._sequence, self._sequence + 1
        self._count(capture, predictions)
        latency_ms = max(0.0, time.time() - capture.captured_at) * 1000
        named = (sequence, capture.captured_at, capture.image_name)
        messages = [self._messages.prediction(*named, predictions, latency_ms)]
        verdicts = self._rules.evaluate(predictions, capture.captured_at)
        firings = []
        for verdict in verdicts:
            if verdict.outcome.fired and verdict.prediction is not None:
                rule = verdict.settings
                if rule.topic is not None:
                    messages.append(self._messages.firing(rule, *named, verdict.prediction))
                if rule.command is not None:
                    firings.append(
                        Firing(
                            rule=rule.name,
                            command=rule.command,
                            captured_at=capture.captured_at,
                            max_age_s=rule.max_age_s,
                            label=verdict.prediction.label,
                            confidence=verdict.prediction.confidence,
                            image_name=capture.image_name,
                        )
                    )
        self._number += 1
        self._outlet.send(
            Record(
                number=self._number,
                pipeline=self._settings.name,
                sequence=sequence,
                position=self._position,
                finite=self._source.finite,
                counters=self._counters,
                messages=tuple(messages),
                firings=tuple(firings),
                outcomes=tuple(verdict.outcome for verdict in verdicts),
                image_name=capture.image_name,
                truth=capture.truth,
                predictions=predictions,
                latency_ms=latency_ms,
            )
        )

    def _count(self, capture: Capture, predictions: tuple[Prediction, ...]) -> None:
        known = capture.truth is not None
        right = known and bool(predictions) and predictions[0].label == capture.truth
        self._counters = replace(
            self._counters,
            frames=self._counters.frames + 1,
            judged=self._counters.judged + known,
            right=self._counters.right + right,
        )

    def _send_position(self, position: str, skipped: tuple[SkippedFrame, ...]) -> None:
        """Send a record that moves the position only."""
        self._number += 1
        self._outlet.send(
            Record(
                number=self._number,
                pipeline=self._settings.name,
                sequence=None,
                position=position,
                finite=self._source.finite,
                counters=self._counters,
                skipped=skipped,
            )
        )

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._next_heartbeat_at:
            self._next_heartbeat_at = now + HEARTBEAT_S
            self._outlet.heartbeat(self._oldest_frame_s(now))

    def _oldest_frame_s(self, now: float) -> float:
        """Age of the oldest frame that still is worked on; one that waits for room in the outlet is not late."""
        return max((now - item.started_at for item in self._underway if not item.result.done()), default=0.0)

    def _idle_s(self) -> float:
        now = time.monotonic()
        idle_s = max(0.0, self._next_heartbeat_at - now)
        if self._may_read():
            idle_s = min(idle_s, self._pace.wait_s(now))
        return idle_s
