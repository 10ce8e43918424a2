"""Who cancels hears of it, and what the watcher changes meanwhile holds."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mli.core.deployer import Deployer
from mli.core.deployment_store import DeploymentStore, Pointer, Quarantined
from mli.core.status import DeploymentStatus
from mli.core.wanted import Reporter


class Quarantine:
    """A store in which every deployment was taken back before."""

    def quarantined(self, _identity: str) -> Any:
        return SimpleNamespace(revision=None, reason="it ended 3 times")


class Canceller:
    """Stands for the watcher: whoever reads what it tells cancels at once."""

    def __init__(self) -> None:
        self.deployer: Deployer | None = None
        self.under_way: list[bool] = []
        self.told = threading.Event()
        self.changing = threading.RLock()

    def ended(self, _wanted: object, state: str, _error: object) -> None:
        assert self.deployer is not None
        assert state == "refused"
        self.under_way.append(self.deployer.cancel(2))
        self.told.set()

    def clear_away(self) -> None:
        """Nothing to do."""


def test_what_has_been_told_to_be_at_its_end_is_not_under_way_any_more() -> None:
    watcher, reporter = Canceller(), SimpleNamespace(last=None, tell=lambda *_, **__: None, follow=lambda *_: None)
    parts: list[Any] = [None, Quarantine(), None, None, None, watcher, reporter]
    deployer = watcher.deployer = Deployer(*parts)
    wanted = SimpleNamespace(identity="a" * 64, revision=1, origin="remote", listener=None, judged=None)
    deployer.start()
    deployer.apply(cast(Any, wanted))
    assert watcher.told.wait(30)
    deployer.stop()
    assert watcher.under_way == [False], "nobody would tell it that anything was cancelled"


GOOD, BAD = "a" * 64, "b" * 64


class TakingBack(DeploymentStore):
    """The watcher takes the current deployment back as soon as somebody else has read the pointer, where it may."""

    def __init__(self, folder: Path, changing: threading.RLock) -> None:
        super().__init__(folder)
        self.point(Pointer(BAD, GOOD, revision=2))
        self._changing = changing
        self.takes_back = threading.Thread(target=self._take_back)

    def pointer(self) -> Pointer:
        found = super().pointer()
        self.takes_back.start()
        self.takes_back.join(0.2)  # in vain where it must wait: that is what is wanted
        return found

    def _take_back(self) -> None:
        with self._changing:
            self.quarantine(Quarantined(BAD, 0.0, 2, "it ended 3 times"))
            self.point(Pointer(GOOD, good=True))


def test_what_is_sent_again_while_it_is_taken_back_does_not_come_back(tmp_path: Path) -> None:
    changing = threading.RLock()
    store = TakingBack(tmp_path, changing)
    watcher = SimpleNamespace(changing=changing, renumber=lambda _: None, ended=lambda *_: None)
    serving = SimpleNamespace(current=object())
    parts: list[Any] = [None, store, None, None, serving, watcher, None]
    wanted: Any = SimpleNamespace(identity=BAD, revision=3, judged=None)
    assert Deployer(*parts)._runs_already(wanted)
    store.takes_back.join()
    assert DeploymentStore(tmp_path).pointer().current == GOOD


@pytest.mark.parametrize(("revision", "told"), [(2, "rolled_back"), (3, "refused")])
def test_a_core_that_ended_before_it_said_that_one_was_taken_back_says_so_when_it_comes_again(
    tmp_path: Path, revision: int, told: str
) -> None:
    store = DeploymentStore(tmp_path)
    store.quarantine(Quarantined(BAD, 0.0, 2, "it ended 3 times"))
    ended: list[str] = []
    watcher = SimpleNamespace(
        changing=threading.RLock(), ended=lambda _, state, __: ended.append(state), clear_away=lambda: None
    )
    reporter = SimpleNamespace(last=None, tell=lambda *_, **__: None)
    parts: list[Any] = [None, store, None, None, None, watcher, reporter]
    wanted: Any = SimpleNamespace(identity=BAD, revision=revision, origin="remote", listener=None, judged=None)
    Deployer(*parts)._apply(wanted)
    assert ended == [told]


def test_what_became_of_another_while_one_was_judged_is_what_is_told_in_the_end() -> None:
    told: list[DeploymentStatus] = []
    reporter = Reporter("line-1", told.append)
    reporter.tell("activating", revision=1, identity=GOOD)
    reporter.set_aside(BAD)
    reporter.tell("canary", revision=2, identity=BAD)
    reporter.tell("healthy", revision=1, identity=GOOD)
    reporter.tell("canary", revision=2, identity=BAD)
    reporter.tell_others()
    assert [(status.state, status.identity) for status in told[-2:]] == [("canary", BAD), ("healthy", GOOD)]
    assert reporter.last == told[-1]
    count = len(told)
    reporter.tell_others()
    assert len(told) == count, "it stands there already"


def test_a_refusal_in_between_does_not_bring_an_old_state_back() -> None:
    told: list[DeploymentStatus] = []
    reporter = Reporter("line-1", told.append)
    before = reporter.tell("activating", revision=1, identity=GOOD)
    refusal = reporter.tell("refused", revision=None, identity=None)
    reporter.tell("healthy", revision=1, identity=GOOD)
    reporter.tell_again(before, refusal)
    assert [status.state for status in told] == ["activating", "refused", "healthy"]
