"""The switch from one model to another under a running source: no frame is lost, none is done twice, and each has its
own model's name on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from tests.fixtures.bad_models import Model, slow, slow_by
from tests.fixtures.color_model import color_archive, color_model, numbered_images
from tests.fixtures.core_process import CoreProcess, Seen, WitnessedBroker, check_unbroken, models_of, sha256_of
from tests.fixtures.stories import Lived, Story, lived_at_once, name_of

log = logging.getLogger(__name__)

OLD, NEW = ("red", "green", "blue"), ("crimson", "lime", "navy")
SLOW_ROUNDS = 15_000
OLD_NEW = {"old.zip": OLD, "new.zip": NEW}


class Device:
    """A core that was just started, and the archives of an old and a new model."""

    def __init__(self, core: CoreProcess, model: Model) -> None:
        self.core = core
        self.folder = core.folder
        self.archives = {
            name: color_archive(core.folder, name, labels=labels, model=model) for name, labels in OLD_NEW.items()
        }
        self.labels = {sha256_of(path): OLD_NEW[name] for name, path in self.archives.items()}

    def deployment(self, name: str, source: dict[str, Any], **changes: Any) -> dict[str, Any]:
        archive = self.archives[name]
        publish = {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True}
        pipeline = {"source": source, "publish": publish, **changes}
        models = {"color": {"uri": str(archive), "sha256": sha256_of(archive)}}
        return {"models": models, "pipelines": {"main": pipeline}}

    def digest(self, name: str) -> str:
        return sha256_of(self.archives[name])


def tell_gaps(name: str, seen: Sequence[Seen]) -> None:
    """From the last message of one model to the first one of the next, as the broker had them."""
    gaps = [1000 * (after.at - before.at) for before, after in pairwise(seen) if before.model != after.model]
    usual = sorted(1000 * (after.at - before.at) for before, after in pairwise(seen))
    log.info("%s: gaps %s ms, otherwise at most %.0f ms", name, [round(gap) for gap in gaps], usual[-len(gaps) - 1])


def a_source_that_loops(device: Device) -> None:
    core, images = device.core, numbered_images(device.folder / "images", 9)
    source = {"uri": str(device.folder / "images"), "interval": "100ms"}
    for name in ("old.zip", "new.zip", "old.zip", "new.zip"):
        core.deploy_well(device.deployment(name, source))
        core.wait_for_frames(5, model=device.digest(name))
    core.stop()
    check_unbroken(core.seen(), device.labels, images)
    assert models_of(core.seen()) == [device.digest(name) for name in ("old.zip", "new.zip", "old.zip", "new.zip")]
    tell_gaps("one frame each 100 ms", core.seen())


def a_sweep_as_fast_as_it_goes(device: Device) -> None:
    """Several frames are under way when the old worker is told to go."""
    core, images = device.core, numbered_images(device.folder / "images", 300)
    source = {"uri": str(device.folder / "images"), "interval": 0, "once": True}
    core.send(device.deployment("old.zip", source))
    core.wait_for_frames(20)
    core.deploy_well(device.deployment("new.zip", source))
    core.wait(lambda: len(core.seen()) == len(images), "the end of the sweep", deadline_s=60)
    core.wait(lambda: core.status()["pipelines"][0]["state"] == "finished", "the end of the pipeline")
    check_unbroken(core.seen(), device.labels, images)
    assert models_of(core.seen()) == [device.digest("old.zip"), device.digest("new.zip")]
    tell_gaps("as fast as it goes", core.seen())


def a_deployment_for_other_images_begins_with_their_first_one(device: Device) -> None:
    core = device.core
    first = numbered_images(device.folder / "first", 9)
    second = [f"other-{name}" for name in numbered_images(device.folder / "second", 4)]
    for name in second:
        (device.folder / "second" / name.removeprefix("other-")).rename(device.folder / "second" / name)
    for folder in ("first", "second"):
        source = {"uri": str(device.folder / folder), "interval": "50ms"}
        core.deploy_well(device.deployment("old.zip", source))
        core.wait_for_frames(6)
    core.stop()
    check_unbroken(core.seen(), device.labels)
    shown = [item.image for item in core.seen()]
    begun = shown.index(second[0])
    assert shown[:begun] == [first[index % len(first)] for index in range(begun)]
    assert shown[begun:] == [second[index % len(second)] for index in range(len(shown) - begun)]


def a_new_worker_that_is_killed_before_it_is_warm_leaves_the_old_one(device: Device) -> None:
    core, images = device.core, numbered_images(device.folder / "images", 9)
    source = {"uri": str(device.folder / "images"), "interval": "50ms"}
    core.deploy_well(device.deployment("old.zip", source))
    old = core.worker()
    device.archives["slow.zip"] = color_archive(core.folder, "slow.zip", labels=NEW, model=slow)  # to warm up, too
    revision = core.send(device.deployment("slow.zip", source))
    core.wait_for_state(revision, "activating")
    core.wait(lambda: len(core.workers()) == 2, "the worker that stands by")
    (new,) = (worker for worker in core.workers() if worker != old)
    new.kill()
    document = core.outcome(revision)
    assert document["state"] == "failed", document
    assert "the old ones go on" in document["error"]["what"]
    assert document["error"]["got"]
    assert document["error"]["remedy"]
    assert core.worker() == old
    core.deploy_well(device.deployment("new.zip", source))
    core.wait_for_frames(3, model=device.digest("new.zip"))
    core.stop()
    check_unbroken(core.seen(), device.labels, images)


def a_burst_of_deployments_ends_with_the_last_one(device: Device) -> None:
    """They come faster than any can be applied; all but the last may be left at any point."""
    core, images = device.core, numbered_images(device.folder / "images", 9)
    source = {"uri": str(device.folder / "images"), "interval": "50ms"}
    core.deploy_well(device.deployment("old.zip", source))
    for round_ in range(4):
        for name in ("new.zip", "old.zip"):
            revision = core.send(device.deployment(name, source, top=1 + round_ % 2))
            core.wait(partial(core.reports, revision), "its first state")
    last = core.send(device.deployment("new.zip", source, top=3))
    assert core.outcome(last)["state"] == "healthy"
    core.wait_for_frames(3, model=device.digest("new.zip"))
    assert core.status()["revision"] == last
    core.wait(lambda: len(core.workers()) == 1, "the end of all others")
    core.stop()
    check_unbroken(core.seen(), device.labels, images)


def only_settings_change(device: Device) -> None:
    """Of the same model, under the same source: the next frame is the next one."""
    core, images = device.core, numbered_images(device.folder / "images", 9)
    source = {"uri": str(device.folder / "images"), "interval": "50ms"}
    core.deploy_well(device.deployment("old.zip", source))
    core.wait_for_frames(3)
    worker = core.worker()
    core.deploy_well(device.deployment("old.zip", source, top=2))
    core.wait_for_frames(3)
    assert core.worker() != worker
    worker = core.worker()
    core.deploy_well({**device.deployment("old.zip", source, top=2), "thing": core.thing})
    core.wait_for_frames(3)
    assert core.worker() == worker, "nothing of the pipeline has changed"
    core.stop()
    check_unbroken(core.seen(), device.labels, images)


SWEEP = a_sweep_as_fast_as_it_goes
STORIES: list[Story] = [
    SWEEP,
    a_source_that_loops,
    a_burst_of_deployments_ends_with_the_last_one,
    a_new_worker_that_is_killed_before_it_is_warm_leaves_the_old_one,
    a_deployment_for_other_images_begins_with_their_first_one,
    only_settings_change,
]


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory, witnessed_broker: WitnessedBroker, request: pytest.FixtureRequest
) -> Iterator[Lived]:
    """Each with a device of its own."""

    def live(story: Story) -> None:
        folder = tmp_path_factory.mktemp("switch")
        with witnessed_broker.core(folder, f"{folder.name}-{story.__name__[:20]}") as core:
            core.start()
            story(Device(core, slow_by(SLOW_ROUNDS) if story is SWEEP else color_model))

    with lived_at_once(STORIES, live, request) as lived:
        yield lived


@pytest.mark.parametrize("story", STORIES, ids=name_of)
def test_a_switch(lived: Lived, story: Story) -> None:
    lived(story)
