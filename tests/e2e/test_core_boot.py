"""What a core does at its start: what ran before runs at once, and nothing that was dealt with is done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.bad_models import packed_archive
from tests.fixtures.brokers import RecordingBrokerProcess
from tests.fixtures.color_model import LABELS, numbered_images
from tests.fixtures.core_process import (
    HEALTH,
    CoreProcess,
    Recorder,
    WitnessedBroker,
    check_unbroken,
    sha256_of,
    without_repeats,
)

OTHER_LABELS = ("crimson", "lime", "navy")
IMAGES = 9
LONG = {**HEALTH, "healthy_after": "120s", "watch": "240s"}
"""A deployment stays on trial."""


class Files:
    """Images and two good archives of a device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = numbered_images(folder / "images", IMAGES)
        self.good = packed_archive(folder, "good.zip", LABELS)
        self.other = packed_archive(folder, "other.zip", OTHER_LABELS)
        self.labels = {sha256_of(self.good): LABELS, sha256_of(self.other): OTHER_LABELS}

    def deployment(self, archive: Path, **more: Any) -> dict[str, Any]:
        pipeline = {
            "source": {"uri": str(self.folder / "images"), "interval": "50ms"},
            "publish": {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True},
        }
        models = {"color": {"uri": str(archive), "sha256": sha256_of(archive)}}
        return {"models": models, "pipelines": {"main": pipeline}, **more}

    def check(self, core: CoreProcess) -> None:
        check_unbroken(without_repeats(core.seen()), self.labels, self.images)


MakeCore = Callable[..., tuple[CoreProcess, Files]]


@pytest.fixture
def make_core(tmp_path: Path, witnessed_broker: WitnessedBroker) -> Iterator[MakeCore]:
    """Makes a core at the shared broker; not started."""
    made: list[CoreProcess] = []

    def make(thing: str, **sections: Any) -> tuple[CoreProcess, Files]:
        made.append(witnessed_broker.make_core(tmp_path, thing, **sections))
        return made[-1], Files(tmp_path)

    yield make
    for core in made:
        core.end()


def test_without_a_network_the_last_good_one_starts_at_once_and_nothing_is_lost(
    tmp_path: Path, recording_broker: RecordingBrokerProcess
) -> None:
    """Neither the broker nor the archive is there any more, and nothing is proved a second time."""
    recording_broker.start()
    files = Files(tmp_path)
    core = CoreProcess(tmp_path, recording_broker.port, Recorder(recording_broker), "offline")
    try:
        core.start()
        assert core.deploy_here(files.deployment(files.good))["state"] == "healthy"
        core.wait_for_frames(3)
        recording_broker.kill()
        files.good.unlink()
        core.kill()
        trials = core.log().count("the trial of")
        core.start(connected=False)
        frames = len(core.seen())
        core.wait(lambda: core.status()["spool"]["queued"] >= 5, "frames without a broker")
        status = core.status()
        assert status["health"] == "healthy"
        assert not status["broker"]["connected"]
        assert core.log().count("the trial of") == trials
        recording_broker.start()
        core.wait(lambda: core.status()["spool"]["queued"] <= 1, "the delivery of what waited")
        files.check(core)
        assert len(core.seen()) >= frames + 5
        core.stop()
    finally:
        core.end()


def test_what_was_dealt_with_is_not_done_again_at_a_reconnect_or_a_restart(
    make_core: MakeCore, witnessed_broker: WitnessedBroker
) -> None:
    core, files = make_core("again")
    core.start()
    core.deploy_well(files.deployment(files.good))
    worker, reports = core.worker(), len(core.reports())
    witnessed_broker.kick(core.thing)
    core.wait(lambda: "revision 1 is known: healthy" in core.log(), "the message that came once more")
    core.wait_for_frames(2)
    assert core.worker() == worker
    assert {item["state"] for item in core.reports()[reports:]} <= {"healthy"}
    offline = len(core.summaries())
    core.kill()
    core.wait(lambda: [item for item in core.summaries()[offline:] if item["state"] == "offline"], "the last will")
    core.start()
    core.wait(lambda: core.log().count("revision 1 is known: healthy") == 2, "the message after the restart")
    core.wait_for_frames(2)
    assert core.log().count("from the network: received") == 1
    core.publish(core_message(files.deployment(files.good), 1))
    core.wait(lambda: core.log().count("revision 1 is known: healthy") == 3, "the message that was sent again")
    files.check(core)


def core_message(deployment: dict[str, Any], revision: int) -> bytes:
    return json.dumps({**deployment, "revision": revision}).encode()


def test_a_deployment_that_never_gets_healthy_is_taken_back_after_three_starts(make_core: MakeCore) -> None:
    """A core that ends again and again, for whatever reason, does so with the old deployment in the end."""
    core, files = make_core("boots")
    core.start()
    before = core.deploy_well(files.deployment(files.good))
    core.stop()
    core.configure(health=LONG)
    core.start()
    bad = files.deployment(files.other)
    revision = core.send(bad)
    core.wait_for_frames(2, model=sha256_of(files.other))
    for _ in range(3):
        core.kill()
        core.start()
        core.wait_for_frames(1, model=sha256_of(files.other))
    core.kill()
    core.start()
    document = core.wait_for_state(revision, "rolled_back")
    assert "the core ended again and again" in document["error"]["what"]
    assert document["serving"] == before["serving"]
    core.wait_for_frames(2, model=sha256_of(files.good))
    assert core.deploy(bad)["state"] == "refused"
    files.check(core)


def test_crashes_before_a_restart_of_the_core_count(make_core: MakeCore) -> None:
    core, files = make_core("crashes")
    core.start()
    core.deploy_well(files.deployment(files.good))
    core.stop()
    core.configure(health=LONG)
    core.start()
    revision = core.send(files.deployment(files.other))
    core.wait_for_frames(2, model=sha256_of(files.other))
    core.worker().kill()
    core.wait(partial(restarts, core, 1), "the next worker")
    core.worker().kill()
    core.wait(lambda: pointer(core)["crashes"] == 2, "the record of two crashes")
    core.kill()
    core.start()
    core.wait(partial(restarts, core, 0), "the worker after the restart")
    core.worker().kill()
    document = core.wait_for_state(revision, "rolled_back")
    assert "ended 3 times" in document["error"]["what"]
    core.wait_for_frames(2, model=sha256_of(files.good))
    files.check(core)


def test_a_good_one_is_still_watched_after_a_restart(make_core: MakeCore) -> None:
    core, files = make_core("watched")
    core.configure(health={**HEALTH, "watch": "240s"})
    core.start()
    before = core.deploy_well(files.deployment(files.good))
    revision = core.send(files.deployment(files.other))
    core.wait_for_state(revision, "healthy")
    core.stop()
    core.start()
    for count in range(3):
        core.wait(partial(restarts, core, count), "the next worker")
        core.worker().kill()
    document = core.wait_for_state(revision, "rolled_back")
    assert document["serving"] == before["serving"]


def test_a_bad_one_after_one_on_trial_brings_the_last_good_one_back(make_core: MakeCore) -> None:
    """And not the one in between, of which nobody knows yet whether it is good."""
    core, files = make_core("on-trial")
    core.start()
    before = core.deploy_well(files.deployment(files.good))
    core.stop()
    core.configure(health=LONG)
    core.start()
    core.send(files.deployment(files.other))
    core.wait_for_frames(2, model=sha256_of(files.other))
    blind = files.deployment(files.other)
    (core.folder / "empty").mkdir()
    blind["pipelines"]["main"]["source"] = {"uri": str(core.folder / "empty"), "once": True}
    document = core.wait_for_state(core.send(blind), "rolled_back")
    assert document["serving"] == before["serving"]
    core.wait_for_frames(2, model=sha256_of(files.good))
    check_unbroken(without_repeats(core.seen()), files.labels)


def restarts(core: CoreProcess, count: int) -> bool:
    """Whether the pipeline runs, after so many restarts."""
    (pipeline,) = core.status()["pipelines"]
    return (pipeline["state"], pipeline["restarts"]) == ("running", count)


def pointer(core: CoreProcess) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((core.root / "deployments" / "pointer.json").read_bytes())
    return found


def test_the_devices_own_file_counts_when_it_has_changed(make_core: MakeCore) -> None:
    core, files = make_core("own-file")
    file = core.root / "deployment.yaml"
    file.write_text(json.dumps(files.deployment(files.good)))
    core.start()
    core.wait_for_frames(2, model=sha256_of(files.good))
    core.deploy_well(files.deployment(files.other))
    core.restart()
    core.wait_for_frames(2, model=sha256_of(files.other))
    file.write_text("models: [")
    told = len(core.reports())
    core.restart()
    core.wait(lambda: [item for item in core.reports()[told:] if item["state"] == "refused"], "its refusal")
    core.wait_for_frames(2, model=sha256_of(files.other))
    file.write_text(json.dumps(files.deployment(files.good, revision=1)))
    core.restart()
    core.wait_for_frames(2, model=sha256_of(files.good))
    core.wait(lambda: core.status()["deployment"]["state"] == "healthy", "its end")
    core.restart()
    core.wait_for_frames(2, model=sha256_of(files.good))
    files.check(core)


@pytest.mark.parametrize("lost", ["pointer.json", "history", "the newest of it"])
def test_with_a_lost_record_the_broker_is_asked_what_is_wanted(make_core: MakeCore, lost: str) -> None:
    core, files = make_core(f"lost-{lost[:7]}".replace(" ", "-"))
    core.start()
    core.deploy_well(files.deployment(files.other))
    core.deploy_well(files.deployment(files.good))
    core.wait_for_frames(2)
    core.kill()
    folder = core.root / "deployments"
    damaged = {
        "pointer.json": [folder / "pointer.json"],
        "history": list((folder / "history").iterdir()),
        "the newest of it": [folder / "history" / f"{pointer(core)['current']}.json"],
    }[lost]
    for path in damaged:
        path.write_bytes(b"\0" * 50)
    core.start()
    core.wait_for_frames(2, model=sha256_of(files.good))
    core.wait(lambda: core.status()["health"] == "healthy", "health")
    files.check(core)


def test_with_the_highest_revision_lost_nothing_new_is_taken_and_the_old_one_serves(make_core: MakeCore) -> None:
    """Otherwise an old message could come in again."""
    core, files = make_core("lost-highest")
    core.start()
    core.deploy_well(files.deployment(files.other))
    core.deploy_well(files.deployment(files.good))
    core.kill()
    (core.root / "deployments" / "highest.json").write_bytes(b"{")
    core.start()
    core.wait_for_frames(2, model=sha256_of(files.good))
    told = len(core.reports())
    core.send(files.deployment(files.other))
    core.wait(lambda: [item for item in core.reports()[told:] if item["error"]], "the answer")
    error = core.reports()[-1]["error"]
    assert "damaged" in error["what"]
    assert "remove the file" in error["remedy"]
    core.wait_for_frames(2, model=sha256_of(files.good))
    files.check(core)
