"""What a start does with a deployment that was not good yet and cannot be run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mli.core.booting import Boot
from mli.core.deployment_store import DeploymentRecord, DeploymentStore, Pointer
from mli.core.wanted import Reporter
from mli.errors import MliError, ModelRefused, RetryError

NEW, BEFORE = "b" * 64, "a" * 64


class Rig:
    """A start over real records, whose loader fails; who is asked for what is written down."""

    def __init__(self, folder: Path, error: MliError) -> None:
        self.asked: list[str] = []
        self.error = error
        store = DeploymentStore(folder)
        for identity in (BEFORE, NEW):
            store.keep(DeploymentRecord(identity, 1, "remote", "", "/", "deployment.yaml", 0.0))
        store.point(Pointer(NEW, BEFORE, revision=2))
        loader: Any = SimpleNamespace(load=self.load, wanted_again=lambda record, _: record.identity)
        watcher: Any = SimpleNamespace(
            take_back_at_boot=lambda *_: self.asked.append("quarantine"),
            go_back=lambda pointer: self.asked.append(f"go back to {pointer.previous}"),
        )
        deployer: Any = SimpleNamespace(apply=lambda identity: self.asked.append(f"apply {identity}"))
        reporter = Reporter("line-1", lambda _: None)
        serving: Any = SimpleNamespace(start=None)
        self.boot = Boot(
            store, loader, serving, watcher, deployer, reporter, folder / "none.yaml", cancelled=lambda: False
        )

    def load(self, *_: object) -> None:
        raise self.error


def test_one_that_cannot_run_is_taken_back(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ModelRefused("the model cannot be imported"))
    rig.boot.run()
    assert rig.asked == ["quarantine"]


def test_one_that_this_device_cannot_run_now_is_not_to_blame(tmp_path: Path) -> None:
    """A full disk at a start must not put it in quarantine, where nobody gets it out of from afar."""
    rig = Rig(tmp_path, RetryError("there is no room on the disk for what is made of the model"))
    rig.boot.run()
    assert rig.asked == [f"go back to {BEFORE}", f"apply {NEW}"]
