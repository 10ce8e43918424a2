"""A device whose disk is full: what runs goes on, deployments wait or say why, and all is well once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.bad_models import packed_archive
from tests.fixtures.color_model import LABELS, numbered_images
from tests.fixtures.core_process import CoreProcess, WitnessedBroker, check_unbroken, sha256_of, without_repeats
from tests.fixtures.stories import Lived, Story, lived_at_once, name_of

OTHER_LABELS = ("crimson", "lime", "navy")
DISK = "80m"
SUDO = () if os.geteuid() == 0 else ("sudo", "-n")


class Device:
    """Its root is a file system of its own."""

    def __init__(self, core: CoreProcess) -> None:
        self.core = core
        self.images = numbered_images(core.folder / "images", 9)
        self.good = packed_archive(core.folder, "good.zip", LABELS)
        self.other = packed_archive(core.folder, "other.zip", OTHER_LABELS)
        self._filling = core.root / "filling"

    def deployment(self, archive: Path, **changes: Any) -> dict[str, Any]:
        pipeline = {
            "source": {"uri": str(self.core.folder / "images"), "interval": "50ms"},
            "publish": {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True},
            **changes,
        }
        models = {"color": {"uri": str(archive), "sha256": sha256_of(archive)}}
        return {"models": models, "pipelines": {"main": pipeline}}

    def fill(self, free_bytes: int = 0) -> None:
        """Leave so much."""
        with self._filling.open("wb", buffering=0) as file:
            try:
                while (free := free_of(self.core.root)) > free_bytes:
                    file.write(bytes(min(1_000_000, max(1, free - free_bytes))))
            except OSError:
                assert not free_bytes  # it is full

    def make_room(self) -> None:
        self._filling.unlink()

    def check(self) -> None:
        self.core.wait_for_frames(3)
        labels = {sha256_of(self.good): LABELS, sha256_of(self.other): OTHER_LABELS}
        check_unbroken(without_repeats(self.core.seen()), labels, self.images)


def free_of(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """The root as a file system of its own."""
    (folder / "root").mkdir()
    options = f"size={DISK},mode=0700,uid={os.geteuid()}"
    subprocess.run([*SUDO, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder / "root")], check=True)
    try:
        yield
    finally:
        subprocess.run([*SUDO, "umount", str(folder / "root")], check=True)


def a_model_waits_for_room_and_comes_by_itself_then(device: Device) -> None:
    core, worker = device.core, device.core.worker()
    device.fill(20_000_000)
    revision = core.send(device.deployment(device.other))
    core.wait(lambda: [item for item in core.reports(revision) if item["error"]], "the trouble in the status")
    document = core.reports()[-1]
    assert (document["state"], document["serving"]["revision"]) == ("downloading", revision - 1)
    assert "no room on the disk for the new model beside the old one" in document["error"]["what"]
    assert "free some space" in document["error"]["remedy"]
    assert core.worker() == worker
    device.check()
    device.make_room()
    assert core.outcome(revision)["state"] == "healthy"
    device.check()


def a_disk_without_a_single_byte_left(device: Device) -> None:
    """What runs goes on or waits; what is wanted cannot be noted, and that is told. Nothing is lost in the end."""
    core = device.core
    device.fill()
    document = core.deploy(device.deployment(device.good, top=2))
    assert document["state"] == "failed"
    assert "cannot be written" in document["error"]["what"]
    assert "space" in document["error"]["remedy"]
    assert core.status()["revision"] == 1
    device.make_room()
    device.check()
    core.deploy_well(device.deployment(device.other))
    device.check()


def a_core_starts_on_a_full_disk(device: Device) -> None:
    core = device.core
    core.kill()
    device.fill()
    core.start()
    device.make_room()
    device.check()
    core.deploy_well(device.deployment(device.other))
    device.check()


STORIES: list[Story] = [
    a_model_waits_for_room_and_comes_by_itself_then,
    a_disk_without_a_single_byte_left,
    a_core_starts_on_a_full_disk,
]


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory, witnessed_broker: WitnessedBroker, request: pytest.FixtureRequest
) -> Iterator[Lived]:
    """Each with a device of its own, which runs a good deployment."""

    def live(story: Story) -> None:
        folder = tmp_path_factory.mktemp("disk")
        with small_disk(folder), witnessed_broker.core(folder, f"{folder.name}-{story.__name__[:20]}") as core:
            core.start()
            device = Device(core)
            core.deploy_well(device.deployment(device.good))
            story(device)

    with lived_at_once(STORIES, live, request) as lived:
        yield lived


@pytest.mark.parametrize("story", STORIES, ids=name_of)
def test_a_full_disk(lived: Lived, story: Story) -> None:
    lived(story)
