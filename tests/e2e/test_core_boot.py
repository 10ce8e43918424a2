"""What a core does at its start: what ran before runs at once, and nothing that was dealt with is done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.bad_models import packed_archive
from tests.fixtures.brokers import RecordingBrokerProcess
from tests.fixtures.color_model import LABELS, color_archive, large_model, numbered_images
from tests.fixtures.core_process import (
    HEALTH,
    CoreProcess,
    Recorder,
    WitnessedBroker,
    check_unbroken,
    sha256_of,
    without_repeats,
)
from tests.fixtures.mli_process import sandboxes_of
from tests.fixtures.stories import Lived, Story, lived_at_once, name_of

OTHER_LABELS = ("crimson", "lime", "navy")
IMAGES = 9
LONG = {**HEALTH, "healthy_after": "120s", "watch": "240s"}
"""A deployment stays on trial."""


class Device:
    """A core that is not started yet, its images, and two good archives."""

    def __init__(self, core: CoreProcess, witnessed: WitnessedBroker) -> None:
        self.core = core
        self.witnessed = witnessed
        self.folder = core.folder
        self.images = numbered_images(self.folder / "images", IMAGES)
        (self.folder / "empty").mkdir()
        archives = {"good.zip": LABELS, "other.zip": OTHER_LABELS}
        for name, labels in archives.items():
            packed_archive(self.folder, name, labels)
        self.good, self.other = (sha256_of(self.folder / name) for name in archives)
        self.labels = {self.good: LABELS, self.other: OTHER_LABELS}

    def deployment(self, name: str, source: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        archive = self.folder / f"{name}.zip"
        pipeline = {
            "source": source or {"uri": str(self.folder / "images"), "interval": "50ms"},
            "publish": {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True},
            **changes,
        }
        models = {"color": {"uri": str(archive), "sha256": sha256_of(archive)}}
        return {"models": models, "pipelines": {"main": pipeline}}

    def check(self) -> None:
        check_unbroken(without_repeats(self.core.seen()), self.labels, self.images)

    def pipeline_is(self, state: str, restarts: int) -> bool:
        (pipeline,) = self.core.status()["pipelines"]
        return (pipeline["state"], pipeline["restarts"]) == (state, restarts)

    def says_again(self, line: str, told: int) -> bool:
        return self.core.log().count(line) > told

    def pointer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.core.root / "deployments" / "pointer.json").read_bytes())
        return found


def without_a_network_the_last_good_one_starts_at_once_and_nothing_is_lost(device: Device) -> None:
    """Neither the broker nor the archive is there any more, and nothing is proved a second time."""
    broker = RecordingBrokerProcess(device.folder)
    broker.start()
    core = CoreProcess(device.folder, broker.port, Recorder(broker), "offline")
    device.core = core
    try:
        core.start()
        assert core.deploy_here(device.deployment("good"))["state"] == "healthy"
        core.wait_for_frames(3)
        broker.kill()
        (device.folder / "good.zip").unlink()
        core.kill()
        trials, frames = core.log().count("the trial of"), len(core.seen())
        core.start(connected=False)
        core.wait(lambda: core.status()["health"] == "healthy", "health without a broker")
        core.wait(lambda: core.status()["spool"]["queued"] >= 5, "frames without a broker")
        assert not core.status()["broker"]["connected"]
        assert core.log().count("the trial of") == trials
        broker.start()
        core.wait(lambda: core.status()["spool"]["queued"] <= 1, "the delivery of what waited")
        device.check()
        assert len(core.seen()) >= frames + 5
        core.stop()
    finally:
        core.end()
        broker.kill()


def what_was_dealt_with_is_not_done_again_at_a_reconnect_or_a_restart(device: Device) -> None:
    core = device.core
    core.start()
    core.deploy_well(device.deployment("good"))
    worker, reports = core.worker(), len(core.reports())
    device.witnessed.kick(core.thing)
    core.wait(lambda: "revision 1 is known: healthy" in core.log(), "the message that came once more")
    core.wait_for_frames(2)
    assert core.worker() == worker
    assert {item["state"] for item in core.reports()[reports:]} <= {"healthy"}
    said = len(core.summaries())
    core.kill()
    core.wait(lambda: [item for item in core.summaries()[said:] if item["state"] == "offline"], "the last will")
    core.start()
    core.wait(lambda: core.log().count("revision 1 is known: healthy") == 2, "the message after the restart")
    core.wait_for_frames(2)
    assert core.log().count("from the network: received") == 1
    core.publish(json.dumps({**device.deployment("good"), "revision": 1}).encode())
    core.wait(lambda: core.log().count("revision 1 is known: healthy") == 3, "the message that was sent again")
    device.check()


def what_is_on_trial_is_taken_back_over_restarts_too(device: Device) -> None:
    """Always to the last one that proved good. Three ways: a bad one after one on trial, crashes before and after a
    restart of the core, and a core that is started again and again."""
    core = device.core
    core.start()
    before = core.deploy_well(device.deployment("good"))
    core.stop()
    core.configure(health=LONG)
    core.start()

    core.send(device.deployment("other"))
    core.wait_for_frames(2, model=device.other)
    blind = device.deployment("other", {"uri": str(device.folder / "empty"), "once": True})
    document = core.wait_for_state(core.send(blind), "rolled_back")
    assert document["serving"] == before["serving"]
    core.wait_for_frames(2, model=device.good)

    revision = core.send(device.deployment("other", top=2))
    core.wait_for_frames(2, model=device.other)
    core.worker().kill()
    core.wait(partial(device.pipeline_is, "running", 1), "the next worker")
    core.worker().kill()
    core.wait(lambda: device.pointer()["crashes"] == 2, "the record of two crashes")
    core.kill()
    core.start()
    core.wait(partial(device.pipeline_is, "running", 0), "the worker after the restart")
    core.worker().kill()
    document = core.wait_for_state(revision, "rolled_back")
    assert "ended 3 times" in document["error"]["what"]
    assert document["serving"] == before["serving"]
    core.wait_for_frames(2, model=device.good)

    bad = device.deployment("other", top=3)
    revision = core.send(bad)
    core.wait_for_frames(1, model=device.other)
    for _ in range(4):
        core.kill()
        core.start()
    document = core.wait_for_state(revision, "rolled_back")
    assert "the core ended again and again" in document["error"]["what"]
    assert document["serving"] == before["serving"]
    core.wait_for_frames(2, model=device.good)
    assert core.deploy(bad)["state"] == "refused"
    check_unbroken(without_repeats(core.seen()), device.labels)


def the_devices_own_file_counts_when_it_has_changed(device: Device) -> None:
    core = device.core
    file = core.root / "deployment.yaml"
    file.write_text("models: [")
    core.start()
    core.wait(lambda: [item for item in core.reports() if item["state"] == "refused"], "its refusal")
    assert core.status()["health"] == "idle"
    file.write_text(json.dumps(device.deployment("good")))
    core.restart()
    core.wait_for_frames(2, model=device.good)
    core.deploy_well(device.deployment("other"))
    core.restart()
    core.wait_for_frames(2, model=device.other)
    assert core.log().count("from deployment.yaml: received") == 1, "what came later over the network stays"
    file.write_text(json.dumps({**device.deployment("good", top=2), "revision": 1}))
    core.restart()
    core.wait_for_frames(2, model=device.good)
    device.check()


def told_to_end_while_it_starts_it_ends_in_order(device: Device) -> None:
    """Whatever it is doing: also while it makes a model's copy for this processor anew."""
    core = device.core
    core.start()
    core.deploy_well(device.deployment("good"))
    core.stop()
    for line in ("mli 0.1.0, root", ", revision 1, runs", "Connected to", "Subscribed to"):
        told = core.log().count(line)
        core.launch()
        core.wait(partial(device.says_again, line, told), line)
        core.stop()

    color_archive(device.folder, "large.zip", model=large_model)
    device.labels[sha256_of(device.folder / "large.zip")] = LABELS
    core.start()
    core.deploy_well(device.deployment("large"))
    core.stop()
    shutil.rmtree(core.root / "cache")
    core.launch()
    core.wait(lambda: sandboxes_of(core.pid), "the sandbox")
    for sandbox in sandboxes_of(core.pid):
        sandbox.suspend()
    core.stop()
    assert "told to end while it starts" in core.log()
    core.start()
    core.wait_for_frames(2, model=sha256_of(device.folder / "large.zip"))
    device.check()


def with_a_lost_record_the_one_before_serves_until_the_broker_was_asked(device: Device) -> None:
    core = device.core
    folder = core.root / "deployments"
    core.start()
    core.deploy_well(device.deployment("other"))
    core.deploy_well(device.deployment("good"))
    core.wait_for_frames(2)
    for damaged in (folder / "history" / f"{device.pointer()['current']}.json", folder / "pointer.json"):
        core.kill()
        damaged.write_bytes(bytes(50))
        told, seen = len(core.reports()), len(core.seen())
        core.start()
        core.wait_for_frames(2, model=device.good)
        core.wait(lambda: core.status()["health"] == "healthy", "health")
        errors = [item["error"] for item in core.reports()[told:] if item["error"]]
        assert all("damaged or gone" in error["what"] and error["remedy"] for error in errors)
        if damaged.name == "pointer.json":
            assert {item.model for item in core.seen()[seen:]} == {device.good}
    device.check()


def with_the_highest_revision_lost_nothing_new_is_taken_and_the_current_one_serves(device: Device) -> None:
    """Otherwise an old message could come in again."""
    core = device.core
    core.start()
    core.deploy_well(device.deployment("other"))
    core.deploy_well(device.deployment("good"))
    core.kill()
    (core.root / "deployments" / "highest.json").write_bytes(b"{")
    core.start()
    core.wait_for_frames(2, model=device.good)
    told = len(core.reports())
    core.send(device.deployment("other"))
    core.wait(lambda: [item for item in core.reports()[told:] if item["error"]], "the answer")
    error = core.reports()[-1]["error"]
    assert "damaged" in error["what"]
    assert "remove the file" in error["remedy"]
    core.wait_for_frames(2, model=device.good)
    device.check()


STORIES: list[Story] = [
    what_is_on_trial_is_taken_back_over_restarts_too,
    without_a_network_the_last_good_one_starts_at_once_and_nothing_is_lost,
    what_was_dealt_with_is_not_done_again_at_a_reconnect_or_a_restart,
    the_devices_own_file_counts_when_it_has_changed,
    told_to_end_while_it_starts_it_ends_in_order,
    with_a_lost_record_the_one_before_serves_until_the_broker_was_asked,
    with_the_highest_revision_lost_nothing_new_is_taken_and_the_current_one_serves,
]


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory, witnessed_broker: WitnessedBroker, request: pytest.FixtureRequest
) -> Iterator[Lived]:
    """Each with a device of its own."""

    def live(story: Story) -> None:
        folder: Path = tmp_path_factory.mktemp("boot")
        with witnessed_broker.core(folder, f"{folder.name}-{story.__name__[:20]}") as core:
            story(Device(core, witnessed_broker))

    with lived_at_once(STORIES, live, request) as lived:
        yield lived


@pytest.mark.parametrize("story", STORIES, ids=name_of)
def test_at_a_start(lived: Lived, story: Story) -> None:
    lived(story)
