"""Deployments that pass every check and fail at work: each is taken back within a minute, with cause and remedy, and
stays out, while every frame has one prediction of the model that it is said to be of."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.bad_models import Model, crashing_on_white, hanging_on_white, hoarding_on_white
from tests.fixtures.color_model import color_archive, color_model, numbered_images, white_image
from tests.fixtures.core_process import (
    CoreProcess,
    WitnessedBroker,
    check_unbroken,
    models_of,
    sha256_of,
    without_repeats,
)

log = logging.getLogger(__name__)

OLD, NEW = ("red", "green", "blue"), ("crimson", "lime", "navy")
COLOURED = 5
"""Images before the white ones: the trial looks at four."""
BACK_WITHIN_S = 60.0
CRASHES = 3


@dataclass(frozen=True, slots=True)
class Failing:
    """A deployment that is taken back.

    Attributes:
        act: what happens to it from outside once it works.
        told: patterns that the error in the status must have.
    """

    name: str
    told: tuple[str, ...]
    model: Model = color_model
    act: Callable[[CoreProcess], None] = lambda _: None
    changes: tuple[tuple[str, Any], ...] = ()


def kill_three_times(core: CoreProcess) -> None:
    """By SIGKILL, each time a new worker that works, and only once the deployment was told to be healthy."""
    core.wait_for_state(core.revision, "healthy")
    for restarts in range(CRASHES):
        core.wait(partial(works, core, restarts), "the next worker")
        core.worker().kill()


def works(core: CoreProcess, restarts: int) -> bool:
    """Whether the pipeline runs, after so many restarts."""
    (pipeline,) = core.status()["pipelines"]
    return (pipeline["state"], pipeline["restarts"]) == ("running", restarts)


def silence(core: CoreProcess) -> None:
    """SIGSTOP: it holds its socket and says nothing any more."""
    core.wait_for_state(core.revision, "healthy")
    core.worker().suspend()


FAILING = [
    Failing("crashing", ("ended 3 times.*main", "SIGFPE"), crashing_on_white),
    Failing(
        "hanging",
        ("ended 3 times", "a frame took too long", "frame_timeout"),
        hanging_on_white,
        changes=(("limits", {"frame_timeout": "1s"}),),
    ),
    Failing(
        "hoarding",
        ("ended 3 times", "more memory than its pipeline allows", r"limits: \{memory: \d+MB\}"),
        hoarding_on_white,
        changes=(("limits", {"memory": "200MB"}),),
    ),
    Failing("killed", ("ended 3 times", "SIGKILL"), act=kill_three_times),
    Failing(
        "silent",
        ("work loop is silent", "limit 6 s"),
        act=silence,
        changes=(("limits", {"frame_timeout": "6s"}),),
    ),
    Failing("blind", ("no image",), changes=(("source", {"uri": "empty", "once": True}),)),
]


class Story:
    """A device with a good deployment, then one that fails; it is lived through when this is made."""

    def __init__(self, core: CoreProcess, failing: Failing) -> None:
        folder = core.folder
        self.core = core
        self.old = color_archive(folder, "old.zip", labels=OLD)
        self.new = color_archive(folder, "new.zip", labels=NEW, model=failing.model)
        self.labels = {sha256_of(self.old): OLD, sha256_of(self.new): NEW}
        numbered_images(folder / "images", 9)
        numbered_images(folder / "other-images", COLOURED)
        for index in range(COLOURED, COLOURED + 9):
            white_image(folder / "other-images" / f"frame-{index}.png")
        (folder / "empty").mkdir()
        core.start()
        self.before = core.deploy_well(self.deployment(self.old, "images"))
        core.wait_for_frames(3)
        self.failing = self.deployment(self.new, "other-images", dict(failing.changes))
        self.revision = core.send(self.failing)
        failing.act(core)
        failed_at = time.monotonic()
        self.document = core.wait_for_state(self.revision, "rolled_back", deadline_s=BACK_WITHIN_S)
        self.took_s = time.monotonic() - failed_at

    def deployment(self, archive: Path, images: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
        folder = self.core.folder
        source = {"uri": images, "interval": "50ms", **(changes or {}).pop("source", {})}
        pipeline = {
            "source": {**source, "uri": str(folder / source["uri"])},
            "publish": {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True},
            **(changes or {}),
        }
        return {
            "models": {"color": {"uri": str(archive), "sha256": sha256_of(archive)}},
            "pipelines": {"main": pipeline},
        }


@pytest.fixture(scope="module")
def stories(
    tmp_path_factory: pytest.TempPathFactory, witnessed_broker: WitnessedBroker
) -> Iterator[Callable[[str], Story]]:
    """All of them at once, on a device each: most of their time they wait for the next worker."""
    made: list[CoreProcess] = []

    def live(failing: Failing) -> Story:
        core = witnessed_broker.make_core(tmp_path_factory.mktemp(failing.name), f"taken-back-{failing.name}")
        made.append(core)
        return Story(core, failing)

    with ThreadPoolExecutor(len(FAILING)) as pool:
        futures = {failing.name: pool.submit(live, failing) for failing in FAILING}
    try:
        yield lambda name: futures[name].result()
    finally:
        for core in made:
            core.end()


@pytest.mark.parametrize("failing", FAILING, ids=lambda failing: failing.name)
def test_it_is_taken_back_and_told(stories: Callable[[str], Story], failing: Failing) -> None:
    story = stories(failing.name)
    core, document = story.core, story.document
    text = "\n".join(str(item) for item in document["error"].values() if item)
    for pattern in failing.told:
        assert re.search(pattern, text, re.DOTALL), text
    assert document["error"]["remedy"], text
    assert document["serving"] == story.before["serving"]
    core.wait_for_frames(3, model=sha256_of(story.old))
    check_unbroken(core.seen(), story.labels)
    assert models_of(core.seen())[0] == models_of(core.seen())[-1] == sha256_of(story.old)
    assert len(models_of(core.seen())) <= 3, "the bad one took over once"
    log.info("%s: taken back after %.1f s", failing.name, story.took_s)


@pytest.mark.parametrize("failing", FAILING, ids=lambda failing: failing.name)
def test_it_is_not_tried_again_under_a_higher_revision(stories: Callable[[str], Story], failing: Failing) -> None:
    story = stories(failing.name)
    core, worker = story.core, story.core.worker()
    document = core.deploy(story.failing)
    assert document["state"] == "refused"
    assert document["revision"] > story.revision
    assert "taken back on this device" in document["error"]["what"]
    assert "--again" in document["error"]["remedy"]
    core.wait_for_frames(3, model=sha256_of(story.old))
    assert core.worker() == worker
    check_unbroken(core.seen(), story.labels)


def test_it_stays_out_over_a_restart_and_the_next_good_one_works(stories: Callable[[str], Story]) -> None:
    """Also after kill -9, and also where the broker hands it out again at the connect."""
    story = stories("crashing")
    core = story.core
    core.kill()
    told = len(core.reports())
    core.start()
    core.wait(lambda: len(core.reports()) > told, "the first status")
    core.wait_for_frames(3, model=sha256_of(story.old))
    assert core.status()["revision"] == story.before["revision"]
    document = core.deploy(story.failing)
    assert document["state"] == "refused"
    assert "taken back" in document["error"]["what"]
    good = story.deployment(story.old, "other-images")
    core.deploy_well(good)
    core.wait_for_frames(3)
    check_unbroken(without_repeats(core.seen()), story.labels)


def test_its_devices_owner_can_have_it_tried_again(stories: Callable[[str], Story]) -> None:
    """Whoever killed the worker is found; the deployment was good all the time."""
    story = stories("killed")
    core = story.core
    refused = core.deploy_here(story.failing)
    assert refused["state"] == "refused", refused
    last = core.deploy_here(story.failing, again=True)
    assert last["state"] == "healthy", last
    core.wait_for_frames(3, model=sha256_of(story.new))
    check_unbroken(core.seen(), story.labels)


def test_a_sweep_goes_on_where_a_deployment_that_was_taken_back_broke_in(
    tmp_path: Path, witnessed_broker: WitnessedBroker
) -> None:
    """It read another source; of the first one nothing is left out, and nothing is predicted twice."""
    model = color_archive(tmp_path, "old.zip", labels=OLD)
    names = numbered_images(tmp_path / "images", 60)
    (tmp_path / "empty").mkdir()

    def sweep(folder: str) -> dict[str, Any]:
        source = {"uri": str(tmp_path / folder), "once": True, "interval": "50ms"}
        publish = {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True}
        models = {"color": {"uri": str(model), "sha256": sha256_of(model)}}
        return {"models": models, "pipelines": {"main": {"source": source, "publish": publish}}}

    with witnessed_broker.core(tmp_path, "swept") as core:
        core.start()
        core.deploy_well(sweep("images"))
        core.wait_for_frames(3)
        blind = core.send(sweep("empty"))
        core.wait_for_state(blind, "rolled_back", deadline_s=BACK_WITHIN_S)
        core.wait(lambda: core.status()["pipelines"][0]["state"] == "finished", "the end of the sweep")
        core.wait(lambda: core.status()["spool"]["queued"] == 0, "its acknowledgement")
        core.wait(lambda: len(core.seen()) >= len(names), "the last prediction")
        assert [seen.image for seen in core.seen()] == names
