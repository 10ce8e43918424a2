"""The work loop: order, bounds, heartbeats, backpressure and the end, with estimators that the test holds."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.brokers import wait_until
from tests.unit.pipeline.encoded_images import encode

from mli.config.settings import PipelineSettings, PublishSettings, RuleSettings, SourceSettings
from mli.errors import ImageRefused, ModelRefused
from mli.pipeline import loop as loop_module
from mli.pipeline.estimators.estimator import Estimator
from mli.pipeline.loop import FrameProcessor, PipelineLoop
from mli.pipeline.sources.images import ImagesSource
from mli.pipeline.sources.source import Capture, Reading, Source
from mli.types import Caution, Counters, ModelSpec, OutputSpec, Record, ResumeState, TensorInfo

LABELS = tuple(f"class {number}" for number in range(256))
OUTPUTS = (OutputSpec("p", "probabilities"),)
MODEL = ModelSpec("tiny", "1", "ab" * 32, "onnx", "classification", "/", "m.onnx", LABELS, outputs=OUTPUTS)
SETTINGS = PipelineSettings(
    "belt", "sorter", SourceSettings("images", interval_s=0.0), "main", PublishSettings("t"), top=1
)
FRESH = ResumeState("k3x9")
NONE = Caution()


class GreyEstimator:
    """Predicts the class of a frame's grey value; the test may hold single frames, or all of them."""

    backend = "grey 1"
    inputs: tuple[TensorInfo, ...] = (TensorInfo("data", (1, 3, 2, 2), "float32"),)
    outputs: tuple[TensorInfo, ...] = (TensorInfo("p", (1, 256), "float32"),)

    def __init__(self, capacity: int = 2) -> None:
        self.capacity = capacity
        self.running = 0
        self.most = 0
        self._changed = threading.Condition()
        self._held: set[int] = set()

    def hold(self, *greys: int) -> None:
        self._held.update(greys)

    def release(self, *greys: int) -> None:
        with self._changed:
            self._held.difference_update(greys or list(self._held))
            self._changed.notify_all()

    def runs(self, count: int) -> bool:
        return self.running == count

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        grey = int(arrays["data"].flat[0])
        with self._changed:
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
            self._changed.wait_for(lambda: grey not in self._held)
            self.running -= 1
        return {"p": np.eye(256, dtype=np.float32)[grey : grey + 1]}

    def close(self) -> None:
        """Nothing to free."""


class GreySource:
    """Frames of grey 0, 1, 2 … that are numbered; None is an image that is refused."""

    def __init__(self, greys: Iterator[int | None] | list[int | None], *, finite: bool = True) -> None:
        self.finite = finite
        self.handed_out = 0
        self._greys = iter(greys)

    def read(self) -> Capture | Reading:
        try:
            grey = next(self._greys)
        except StopIteration:
            return Reading.END if self.finite else Reading.NOTHING_YET
        number = self.handed_out
        self.handed_out += 1

        def decode() -> NDArray[np.uint8]:
            if grey is None:
                raise ImageRefused(f"{number}.png: damaged")
            return np.full((2, 2, 3), grey, np.uint8)

        return Capture(f"{number}.png", 1000.0 + number, f"after {number}", decode, truth=f"class {number}")

    def close(self) -> None:
        """Nothing to let go of."""


class ListOutlet:
    """Keeps what it gets; ``room`` is how many records it takes."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.records: list[Record] = []
        self.beats: list[float] = []
        self.tried: list[str] = []
        self.overfull = False

    def has_room(self) -> bool:
        return len(self.records) < self.room

    def send(self, record: Record) -> None:
        self.overfull = self.overfull or not self.has_room()
        self.records.append(record)

    def trying(self, position: str) -> None:
        self.tried.append(position)

    def heartbeat(self, oldest_frame_s: float) -> None:
        self.beats.append(oldest_frame_s)

    def has_got(self, count: int) -> bool:
        return len(self.records) >= count

    def names(self) -> list[str]:
        return [record.image_name for record in self.records if record.sequence is not None]


def make(
    source: Source,
    outlet: ListOutlet,
    estimator: Estimator | None = None,
    settings: PipelineSettings = SETTINGS,
    resume: ResumeState = FRESH,
    caution: Caution = NONE,
) -> PipelineLoop:
    processor = FrameProcessor(settings, MODEL, estimator or GreyEstimator())
    return PipelineLoop(settings, MODEL, processor, source, resume, outlet, caution)


@contextmanager
def running(loop: PipelineLoop, estimator: GreyEstimator | None = None) -> Iterator[Callable[[], bool]]:
    """Run a loop in a thread; the value returns its result once it has one. A test that fails leaves nothing held."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(loop.run)
        try:
            yield lambda: result.result(60)
        finally:
            loop.stop()
            if estimator is not None:
                estimator.release()


@pytest.fixture
def quick_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "HEARTBEAT_S", 0.01)


def test_every_frame_in_order_to_the_last_position() -> None:
    outlet = ListOutlet()
    assert make(GreySource([*range(20)]), outlet).run()
    assert [record.number for record in outlet.records] == list(range(1, 21))
    assert [record.sequence for record in outlet.records] == [*range(1, 21)]
    assert [record.position for record in outlet.records] == [f"after {n}" for n in range(20)]
    assert [record.predictions[0].label for record in outlet.records] == [f"class {n}" for n in range(20)]
    assert outlet.records[-1].counters == Counters(frames=20, judged=20, right=20)
    assert {record.finite for record in outlet.records} == {True}


def test_results_are_in_frame_order_though_frames_take_random_time() -> None:
    estimator, outlet = GreyEstimator(capacity=4), ListOutlet()
    greys = np.random.default_rng(3).permutation(200).tolist()
    estimator.hold(*greys)
    with running(make(GreySource(greys), outlet, estimator), estimator) as result:
        # The last one under way is let go first: whoever emitted by completion would be out of order.
        for at in range(0, 200, 4):
            wait_until(partial(estimator.runs, 4), "the frames under way")
            for grey in reversed(greys[at : at + 4]):
                estimator.release(grey)
        assert result()
    assert outlet.names() == [f"{number}.png" for number in range(200)]
    assert [record.predictions[0].class_id for record in outlet.records] == greys


@pytest.mark.usefixtures("quick_heart")
@pytest.mark.parametrize("capacity", [1, 3])
def test_no_more_frames_under_way_than_bounded(capacity: int) -> None:
    estimator, outlet = GreyEstimator(capacity), ListOutlet()
    estimator.hold(0)
    source = GreySource(itertools.chain([0], itertools.repeat(1, 100)))
    with running(make(source, outlet, estimator), estimator) as result:
        wait_until(lambda: source.handed_out == capacity + 2, "all that may be under way")
        # The others are done; whatever could go on would have gone on by the next heartbeat.
        beats = len(outlet.beats)
        wait_until(lambda: len(outlet.beats) > beats, "a heartbeat")
        assert source.handed_out == capacity + 2
        assert outlet.records == []
        estimator.release()
        assert result()
    assert estimator.most <= capacity
    assert len(outlet.names()) == 101


def test_next_frames_are_decoded_while_one_is_inferred() -> None:
    estimator, outlet, decoded = GreyEstimator(capacity=1), ListOutlet(), threading.Event()
    estimator.hold(0)
    source = GreySource([0, 1])
    read = source.read

    def read_and_tell() -> Capture | Reading:
        capture = read()
        if not isinstance(capture, Capture) or capture.image_name != "1.png":
            return capture

        def decode() -> NDArray[np.uint8]:
            decoded.set()
            return capture.decode()

        return replace(capture, decode=decode)

    source.read = read_and_tell  # type: ignore[method-assign]
    with running(make(source, outlet, estimator), estimator) as result:
        wait_until(lambda: estimator.running == 1, "the first inference")
        wait_until(decoded.is_set, "the decoding of the second")
        assert outlet.records == []
        estimator.release()
        assert result()


@pytest.mark.usefixtures("quick_heart")
def test_the_heart_beats_while_a_frame_hangs_and_tells_its_age() -> None:
    estimator, outlet = GreyEstimator(), ListOutlet()
    estimator.hold(0)
    with running(make(GreySource([0, 1, 2, 3]), outlet, estimator), estimator) as result:
        wait_until(lambda: len(outlet.beats) > 20, "heartbeats")
        ages = outlet.beats[-10:]
        assert ages == sorted(ages)
        assert ages[0] < ages[-1]
        assert outlet.records == []
        estimator.release()
        assert result()
    assert len(outlet.names()) == 4


@pytest.mark.usefixtures("quick_heart")
def test_the_heart_beats_without_frames_and_no_frame_is_old() -> None:
    outlet = ListOutlet()
    loop = make(GreySource([], finite=False), outlet)
    with running(loop) as result:
        wait_until(lambda: len(outlet.beats) > 5, "heartbeats")
        loop.stop()
        assert not result()
    assert set(outlet.beats) == {0.0}


@pytest.mark.usefixtures("quick_heart")
def test_without_room_nothing_is_sent_and_the_source_waits_and_the_heart_beats() -> None:
    outlet, source, estimator = ListOutlet(room=3), GreySource([*range(50)]), GreyEstimator(capacity=2)
    loop = make(source, outlet, estimator)
    with running(loop, estimator) as result:
        wait_until(lambda: source.handed_out == 3 + 4, "what may be under way behind three records")
        wait_until(lambda: len(outlet.beats) > 10, "heartbeats")
        assert len(outlet.records) == 3
        assert source.handed_out == 7
        # A frame that waits for room is done; were it told as old, the core would end the worker for it.
        wait_until(lambda: outlet.beats[-1] == 0.0, "a heartbeat without a late frame")
        outlet.room = 1_000_000
        loop.wake()
        assert result()
    assert len(outlet.records) == 50


def test_stop_finishes_what_is_under_way_and_reads_no_more() -> None:
    estimator, outlet = GreyEstimator(capacity=2), ListOutlet()
    estimator.hold(*range(256))
    source = GreySource(itertools.cycle(range(256)))
    loop = make(source, outlet, estimator)
    with running(loop, estimator) as result:
        wait_until(lambda: estimator.running == 2, "frames under way")
        loop.stop()
        estimator.release()
        assert not result()
    assert outlet.names() == [f"{number}.png" for number in range(source.handed_out)]
    assert outlet.records[-1].position == f"after {source.handed_out - 1}"  # and not back at the start


def test_a_refused_image_is_a_record_with_its_position_and_no_sequence() -> None:
    outlet = ListOutlet()
    assert make(GreySource([5, None, None, 6]), outlet).run()
    first, second, third, fourth = outlet.records
    assert [first.sequence, second.sequence, third.sequence, fourth.sequence] == [1, None, None, 2]
    assert (second.position, third.position) == ("after 1", "after 2")
    (skipped,) = second.skipped
    assert (skipped.image_name, skipped.reason, skipped.position) == ("1.png", "1.png: damaged", "after 1")
    assert second.messages == ()
    assert fourth.counters.skipped == 2
    assert fourth.counters.frames == 2


def test_a_finite_source_ends_with_its_last_frame_and_not_an_interval_later() -> None:
    outlet, hourly = ListOutlet(), replace(SETTINGS, source=replace(SETTINGS.source, interval_s=3600.0))
    assert make(GreySource([7]), outlet, settings=hourly).run()
    assert [record.position for record in outlet.records] == ["after 0"]


def test_a_frame_that_was_looked_at_ahead_is_lost_by_no_stop() -> None:
    """Its position is not committed, so that the next run begins with it."""
    outlet, hourly = ListOutlet(), replace(SETTINGS, source=replace(SETTINGS.source, interval_s=3600.0))
    loop = make(GreySource([7, 8]), outlet, settings=hourly)
    with running(loop) as result:
        wait_until(partial(outlet.has_got, 1), "the first frame")
        loop.stop()
        assert not result()
    assert [record.position for record in outlet.records] == ["after 0"]


def test_a_resumed_pipeline_goes_on_counting() -> None:
    outlet = ListOutlet()
    resume = ResumeState("k3x9", 41, "after 7", Counters(frames=40, skipped=2, dropped=3, judged=5, right=4))
    make(GreySource([9]), outlet, resume=resume).run()
    record = outlet.records[0]
    assert (record.number, record.sequence) == (1, 41)
    assert record.messages[0].id == "k3x9-belt-41"
    assert record.counters == Counters(frames=41, skipped=2, dropped=3, judged=6, right=4)


def test_after_a_death_the_frames_that_may_have_caused_it_are_tried_alone_and_told_before() -> None:
    estimator, outlet, source = GreyEstimator(capacity=2), ListOutlet(), GreySource([*range(10)])
    estimator.hold(*range(10))
    with running(make(source, outlet, estimator, caution=Caution(one_by_one=True)), estimator) as result:
        for number in range(4):
            wait_until(partial(estimator.runs, 1), "one frame")
            assert outlet.tried == [f"after {before}" for before in range(number + 1)]
            assert source.handed_out == number + 1
            estimator.release(number)
            wait_until(partial(outlet.has_got, number + 1), "its record")
        wait_until(partial(estimator.runs, 2), "two frames at a time again")
        estimator.release()
        assert result()
    assert len(outlet.tried) == 4
    assert outlet.names() == [f"{number}.png" for number in range(10)]


def test_a_frame_that_ended_a_worker_is_skipped_and_told() -> None:
    outlet = ListOutlet()
    assert make(GreySource([1, 2, 3]), outlet, caution=Caution(avoid=("after 1",))).run()
    assert outlet.names() == ["0.png", "2.png"]
    (skipped,) = outlet.records[1].skipped
    assert skipped.reason.startswith("1.png: it ended the worker")
    assert outlet.records[-1].counters.skipped == 1


def test_latency_counts_from_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    outlet = ListOutlet()
    monkeypatch.setattr(time, "time", lambda: 1000.25)
    make(GreySource([0]), outlet).run()
    assert outlet.records[0].latency_ms == pytest.approx(250)
    assert outlet.records[0].messages[0].captured_at == 1000.0


RULE = RuleSettings("divert", ("class 7",), topic="mli/actions/sorter", command="arm", max_age_s=0.5)


def test_a_rule_that_fires_sends_its_message_and_asks_for_its_command() -> None:
    outlet = ListOutlet()
    make(GreySource([6, 7]), outlet, settings=replace(SETTINGS, rules=(RULE,))).run()
    quiet, fired = outlet.records
    assert [(item.fired, item.reason) for item in quiet.outcomes] == [(False, "saw class 6")]
    assert quiet.firings == ()
    assert [message.topic for message in fired.messages] == ["t", "mli/actions/sorter"]
    assert fired.messages[1].id == "k3x9-belt-2-divert"
    (firing,) = fired.firings
    assert (firing.rule, firing.command, firing.captured_at, firing.max_age_s) == ("divert", "arm", 1001.0, 0.5)
    assert (firing.label, firing.confidence, firing.image_name) == ("class 7", 1.0, "1.png")


def test_a_model_that_fails_on_a_frame_ends_the_loop_with_its_cause() -> None:
    class Broken(GreyEstimator):
        def infer(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            if arrays["data"].flat[0] == 2:
                return {"p": np.full((1, 256), np.nan, np.float32)}
            return super().infer(arrays)

    outlet = ListOutlet()
    with pytest.raises(ModelRefused, match="NaN"):
        make(GreySource([0, 1, 2, 3]), outlet, Broken()).run()
    assert outlet.names() == ["0.png", "1.png"]


def test_images_on_disk_all_the_way(tmp_path: Path) -> None:
    for grey in (10, 200, 30):
        (tmp_path / f"{grey}.png").write_bytes(encode(np.full((7, 5, 3), grey, np.uint8)))
    (tmp_path / "50.png").write_bytes(b"no image")
    source = ImagesSource(SourceSettings("images", str(tmp_path), once=True), None)
    outlet = ListOutlet()
    assert make(source, outlet).run()
    told = [record.predictions[0].class_id if record.predictions else None for record in outlet.records]
    assert told == [10, 30, None, 200]
    assert outlet.records[2].skipped[0].reason.startswith("50.png: not an image")
