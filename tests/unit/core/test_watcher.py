"""What the watcher tells, without a core around it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mli.core.deployment_store import DeploymentStore
from mli.core.status import DeploymentStatus
from mli.core.wanted import Reporter
from mli.core.watcher import Watcher


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
