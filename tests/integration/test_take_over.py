"""Pipelines that stand by and take over from each other: real workers, a real spool."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.fixtures.brokers import wait_until
from tests.fixtures.color_model import color_archive, numbered_images

from mli.config.settings import DeviceSettings, PipelineSettings, PublishSettings, SourceSettings
from mli.core.isolation.isolator import Isolator
from mli.core.outbound import Outbound
from mli.core.pipeline_set import PipelineSet, Planned
from mli.core.root import Root
from mli.core.supervisor import PipelineSupervisor
from mli.core.worker_process import Death
from mli.delivery.sinks.stdout import StdoutSink
from mli.models.repository import Repository
from mli.types import Record


@dataclass
class Rig:
    """What a core has of it."""

    pipelines: PipelineSet
    planned: Planned
    records: list[Record] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)

    def standby(self) -> tuple[PipelineSupervisor, int]:
        """One that is warm, and its worker's process id."""
        standby = self.pipelines.stand_by(self.planned)
        wait_until(lambda: standby.status().state == "standby", "a warm worker")
        pid = standby.status().pid
        assert pid is not None
        return standby, pid

    def wait_for_frames(self, count: int = 3) -> None:
        wanted = len(self.records) + count
        wait_until(lambda: len(self.records) >= wanted, f"{count} more frames")

    def state(self) -> str:
        (status,) = self.pipelines.statuses()
        return status.state


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    root = Root(tmp_path / "root")
    root.path.mkdir()
    numbered_images(tmp_path / "images", 9)
    source = SourceSettings("images", str(tmp_path / "images"), interval_s=0.05)
    settings = PipelineSettings("main", "thing", source, "color", PublishSettings("predictions"))
    model = Repository(root.path).install(color_archive(tmp_path))
    records: list[Record] = []
    deaths: list[Death] = []
    device = DeviceSettings("thing", str(root.path))
    sink = StdoutSink(io.StringIO())
    isolator = Isolator()
    with Outbound(device, root, sink, on_failure=lambda _: None, on_action=lambda _: None) as outbound:
        pipelines = PipelineSet(
            outbound,
            root,
            on_record=records.append,
            on_change=lambda: None,
            on_death=lambda _, death: deaths.append(death),
            forever=True,
            isolator=isolator,
        )
        yield Rig(pipelines, Planned(settings, model), records, deaths)
        pipelines.stop()
    isolator.close()


def test_the_next_worker_goes_on_with_the_next_frame(rig: Rig) -> None:
    rig.pipelines.start(rig.planned)
    rig.wait_for_frames()
    standby, pid = rig.standby()
    rig.pipelines.take_over(standby)
    rig.wait_for_frames()
    assert rig.pipelines.statuses()[0].pid == pid
    assert [item.sequence for item in rig.records] == list(range(1, len(rig.records) + 1))
    names = [f"frame-{index % 9}.png" for index in range(len(rig.records))]
    assert [item.image_name for item in rig.records] == names
    assert not rig.deaths


def test_one_that_died_since_it_was_warm_is_started_anew(rig: Rig) -> None:
    """Another pipeline's old worker may take its time to stop, and memory may run out meanwhile."""
    rig.pipelines.start(rig.planned)
    rig.wait_for_frames()
    standby, pid = rig.standby()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not standby.is_alive(), "the end of its supervisor")
    rig.pipelines.take_over(standby)
    rig.wait_for_frames()
    assert rig.state() == "running"
    assert [item.sequence for item in rig.records] == list(range(1, len(rig.records) + 1))


def test_one_that_dies_as_it_takes_over_is_replaced(rig: Rig) -> None:
    standby, pid = rig.standby()
    os.kill(pid, signal.SIGSTOP)  # it dies for sure after it was let go, and before it hears of it
    rig.pipelines.take_over(standby)
    os.kill(pid, signal.SIGKILL)
    rig.wait_for_frames()
    assert rig.state() == "running"
    (death,) = rig.deaths
    assert "SIGKILL" in str(death.error)


def test_one_that_stands_by_and_is_not_wanted_after_all_leaves_no_worker(rig: Rig) -> None:
    standby, pid = rig.standby()
    standby.stop()
    standby.join(10)
    assert not standby.is_alive()
    assert not Path(f"/proc/{pid}").exists()
    assert not rig.records
