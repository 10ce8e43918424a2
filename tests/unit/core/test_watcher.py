"""What the watcher tells, without a core around it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mli.core.deployment_store import DeploymentRecord, DeploymentStore, Pointer
from mli.core.status import DeploymentStatus, ModelState
from mli.core.wanted import Reporter
from mli.core.watcher import Watcher
from mli.errors import ArchiveRefused, StopError
from mli.models.repository import Repository


def make_watcher(folder: Path, reporter: Reporter) -> Watcher:
    nothing: Any = None
    return Watcher(nothing, nothing, DeploymentStore(folder), nothing, nothing, nothing, reporter, nothing)


def test_who_sent_one_that_never_began_hears_that_a_newer_one_took_its_place(tmp_path: Path) -> None:
    """Of the one that is being applied everybody hears; who waits for the other must not wait for ever."""
    published: list[DeploymentStatus] = []
    heard: list[DeploymentStatus] = []
    reporter = Reporter("line-1", published.append)
    reporter.tell("downloading", revision=1, identity="first")
    reporter.follow("second", heard.append)
    second: Any = SimpleNamespace(identity="second", revision=None, origin="file")
    make_watcher(tmp_path, reporter).ended(second, "superseded")
    assert [status.state for status in heard] == ["superseded"]
    assert [status.identity for status in published] == ["first"]
    assert reporter.last is published[0]


GOOD, BAD = "a" * 64, "b" * 64
DIGESTS = {GOOD: "1" * 64, BAD: "2" * 64}
BEFORE = "3" * 64


class Rig:
    """A watcher over real records and a repository; nothing runs but what ``serving`` says."""

    def __init__(self, folder: Path) -> None:
        self.told: list[DeploymentStatus] = []
        self.store = DeploymentStore(folder / "deployments")
        self.repository = Repository(folder)
        for digest in (*DIGESTS.values(), BEFORE):
            (folder / "models" / digest).mkdir()
        for identity, digest in DIGESTS.items():
            self.store.keep(self.record(identity, digest))
        self.store.point(Pointer(BAD, GOOD, revision=2))
        serving: Any = SimpleNamespace(current=None)
        self.serving = serving
        root: Any = SimpleNamespace(cache=folder / "cache")
        bringer: Any = SimpleNamespace(forget_downloads=lambda: None)
        device: Any = SimpleNamespace(health=None)
        reporter = Reporter("line-1", self.told.append)
        self.watcher = Watcher(device, root, self.store, self.repository, bringer, serving, reporter, self.load)

    def record(self, identity: str, digest: str) -> DeploymentRecord:
        models = {"main": ModelState(digest)}
        return DeploymentRecord(identity, 1, "remote", "", "/", "deployment.yaml", 0.0, models=models)

    def load(self, _record: DeploymentRecord) -> Any:
        raise ArchiveRefused("An installed model is not what was installed.", where="/models/1", got="gone")

    def models(self) -> set[str]:
        return {path.name for path in self.repository.folder.iterdir() if len(path.name) == 64}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_what_no_deployment_needs_is_cleared_away(rig: Rig) -> None:
    rig.watcher.clear_away()
    assert rig.models() == set(DIGESTS.values())


@pytest.mark.parametrize("damaged", [f"history/{BAD}.json", f"history/{GOOD}.json"])
def test_with_a_record_that_cannot_be_read_no_model_is_cleared_away(rig: Rig, damaged: str) -> None:
    (rig.store.folder / damaged).write_bytes(b"\0")
    rig.watcher.clear_away()
    assert rig.models() == {*DIGESTS.values(), BEFORE}


def test_the_model_that_runs_is_not_cleared_away_whatever_the_pointer_says(rig: Rig) -> None:
    rig.serving.current = SimpleNamespace(models={"main": SimpleNamespace(sha256=DIGESTS[BAD])})
    (rig.store.folder / "pointer.json").write_bytes(b"\0")
    rig.watcher.clear_away()
    assert DIGESTS[BAD] in rig.models()


def test_where_the_one_before_it_is_gone_too_that_is_told(rig: Rig) -> None:
    """And not tried again every few seconds, each time with all bytes of its models."""
    bad = StopError("workers of the new deployment ended 3 times", got="SIGSEGV")
    rig.watcher.take_back_at_boot(rig.record(BAD, DIGESTS[BAD]), rig.store.pointer(), bad)
    (last,) = rig.told
    assert (last.state, last.identity) == ("failed", BAD)
    assert last.error is not None
    assert "ended 3 times; and the deployment before it cannot run" in last.error.what
    assert "not what was installed" in str(last.error.got)
    assert rig.store.quarantined(BAD) is not None
    assert rig.store.pointer().current == BAD
