"""Who cancels hears of it: from the deployment that is left, or at once where there is none."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

from mli.core.deployer import Deployer


class Quarantine:
    """A store in which every deployment was taken back before."""

    def quarantined(self, _identity: str) -> Any:
        return SimpleNamespace(reason="it ended 3 times")


class Canceller:
    """Stands for the watcher: whoever reads what it tells cancels at once."""

    def __init__(self) -> None:
        self.deployer: Deployer | None = None
        self.under_way: list[bool] = []
        self.told = threading.Event()

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
