"""A record that reaches the disk late, when its worker is gone and perhaps the next one starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from mli.config.settings import PipelineSettings, PublishSettings, SourceSettings
from mli.core.supervisor import PipelineSupervisor
from mli.core.wire import Ack
from mli.core.worker_process import WorkerProcess
from mli.errors import StopError
from mli.types import Counters, ModelSpec, Record, ResumeState

SETTINGS = PipelineSettings("main", "thing", SourceSettings("images"), "m", PublishSettings("predictions"))
MODEL = ModelSpec("color", "1", "ab" * 32, "onnx", "classification", "/models", "m.onnx", ("red",))
RECORD = Record(1, "main", 1, "a.png", True, Counters(frames=1))


class SlowDisk:
    """Keeps the callbacks until a test calls them."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, record: Record, committed: Callable[[Record], None]) -> None:
        self.waiting.append(lambda: committed(record))

    def resume(self, _pipeline: str, _source_key: str) -> ResumeState:
        raise AssertionError("no worker starts here")


class Worker:
    """A process, its wire, and what was sent on it."""

    def __init__(self) -> None:
        self.wire = self
        self.sent: list[object] = []
        self.resident_bytes, self.oldest_frame_s = 0, 0.0

    def send(self, message: object) -> None:
        self.sent.append(message)


def failed_with_a_record_on_its_way(disk: SlowDisk) -> tuple[PipelineSupervisor, Worker]:
    worker = Worker()
    supervisor = PipelineSupervisor(SETTINGS, MODEL, disk, "key", lambda _: None, lambda: None)
    supervisor._epoch = "cafe0123"
    supervisor._worker = cast(WorkerProcess, worker)
    supervisor._take(RECORD)
    supervisor._worker, supervisor.error = None, StopError("the worker died")
    supervisor._set("waiting", error=str(supervisor.error), restarts=1)
    return supervisor, worker


def test_it_does_not_take_back_why_its_worker_ended() -> None:
    disk = SlowDisk()
    supervisor, _ = failed_with_a_record_on_its_way(disk)
    disk.waiting.pop()()
    assert "the worker died" in str(supervisor.error)
    assert "the worker died" in str(supervisor.status().error)
    assert supervisor.status().counters == RECORD.counters


def test_it_is_not_acknowledged_to_the_next_worker_which_waits_for_its_start() -> None:
    disk, following = SlowDisk(), Worker()
    supervisor, worker = failed_with_a_record_on_its_way(disk)
    supervisor._worker = cast(Any, following)
    disk.waiting.pop()()
    assert following.sent == []
    assert worker.sent == [Ack(1)]
    assert supervisor.status().error


def test_a_record_of_the_worker_that_lives_is_its_recovery() -> None:
    disk, following = SlowDisk(), Worker()
    supervisor, _ = failed_with_a_record_on_its_way(disk)
    supervisor._worker = cast(Any, following)
    supervisor._take(RECORD)
    disk.waiting.pop()()
    assert following.sent == [Ack(1)]
    assert (supervisor.error, supervisor.status().error) == (None, None)
