"""A component's configuration, followed at a nucleus: what is handed on, and how what is proposed is answered."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.fixtures.brokers import DEADLINE_S, free_port, wait_until
from tests.fixtures.greengrass_ipc import Engine, Nucleus

from mli.config.component import read_component_environment
from mli.config.settings import DeviceSettings
from mli.core.component.configuration import first_settings, kept_settings
from mli.core.component.follower import Follower
from mli.core.intake import Intake
from mli.core.root import Root
from mli.errors import MliError, RefusedError, UsageError

Judged = Callable[[MliError | None], None]


class Desk:
    """Who takes deployments here writes them down, and judges as it is told."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.refusals: list[MliError] = []
        self.resumed: list[dict[str, Any]] = []
        self.judge_by: Callable[[dict[str, Any], Judged], None] = lambda _, judged: judged(None)

    def message(self, payload: bytes, *, retained: bool) -> None:
        assert retained is False
        self.messages.append(json.loads(payload or b"{}"))

    def judge(self, payload: bytes, judged: Judged) -> None:
        self.judge_by(json.loads(payload or b"{}"), judged)

    def check(self, _payload: bytes, device: DeviceSettings) -> None:
        if device.spool.max_bytes < 2_000_000:
            raise UsageError("the form is wrong")

    def resume(self, payload: bytes) -> None:
        self.resumed.append(json.loads(payload or b"{}"))

    def refuse(self, error: MliError) -> None:
        self.refusals.append(error)


class Rig:
    """A nucleus and a follower."""

    def __init__(self, folder: Path, engine: Engine, configuration: dict[str, Any]) -> None:
        self.nucleus = Nucleus(folder, free_port(), engine=engine, configuration=configuration)
        self.root = Root(folder)
        self.environment = read_component_environment(self.nucleus.environment())
        self.desk = Desk()
        self.stops = threading.Event()
        self.follower: Follower | None = None

    def begin(self, **options: Any) -> Follower:
        settings, problem = first_settings(self.environment, self.root)
        self.follower = Follower(self.environment, self.root, settings, problem, **options)
        self.follower.start(cast(Intake, self.desk), self.stops.set)
        return self.follower

    def follow(self, **options: Any) -> Follower:
        follower = self.begin(**options)
        wait_until(lambda: self.nucleus.is_followed, "the follower")
        wait_until(lambda: self.nucleus.operations.count("GetConfiguration") >= 2, "its first look")
        return follower

    def close(self) -> None:
        if self.follower is not None:
            self.follower.stop()
        self.nucleus.close()


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(engine: Engine = "classic", configuration: dict[str, Any] | None = None) -> Rig:
        made.append(Rig(tmp_path, engine, configuration or {"deployment": {"model": "a"}}))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.mark.parametrize("engine", ["classic", "lite"])
def test_a_change_is_handed_on_once_when_it_is_whole_and_the_same_again_is_none(
    make_rig: Callable[..., Rig], engine: Engine
) -> None:
    rig = make_rig(engine)
    rig.nucleus.start()
    rig.follow()
    new = {"deployment": {"model": "b"}, "validate_within": "20s", "accessControl": {"x": {}}, "delivery": "nucleus"}
    assert rig.nucleus.deploy(new) == "SUCCEEDED"
    wait_until(lambda: rig.desk.messages, "the deployment")
    looks = rig.nucleus.operations.count("GetConfiguration")
    assert rig.nucleus.deploy(new) == "SUCCEEDED"
    wait_until(lambda: rig.nucleus.operations.count("GetConfiguration") > looks, "another look")
    assert rig.desk.messages == [{"model": "b"}]
    assert looks <= 4, "one at the start, one as it began to follow, and not one for each of four keys"
    assert rig.nucleus.deploy({"deployment": {}}) == "SUCCEEDED"
    wait_until(lambda: rig.desk.messages[-1] == {}, "that none is wanted")
    assert not rig.stops.is_set()


def test_a_proposal_is_answered_as_it_is_judged(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    rig.nucleus.start()
    rig.follow()
    rig.desk.judge_by = lambda _, judged: judged(
        RefusedError("it is no good", got="nothing", remedy="make a better one")
    )
    assert rig.nucleus.deploy({"deployment": {"model": "b"}}) == (
        "FAILED_NO_STATE_CHANGE: it is no good; nothing; make a better one"
    )
    wait_until(lambda: rig.desk.resumed == [{"model": "a"}], "what was under way before")
    rig.desk.judge_by = lambda *_: None
    proposal = {"deployment": {"model": "c"}, "validate_within": "100ms"}
    assert rig.nucleus.deploy(proposal) == "SUCCEEDED", "no answer would be a rejection"
    wait_until(lambda: rig.desk.messages == [{"model": "c"}], "the deployment")
    assert rig.nucleus.deploy({"deployment": {"model": "d"}, "deliverie": "mqtt"}) == (
        "FAILED_NO_STATE_CHANGE: the component's configuration: 1 error the component's configuration: deliverie: "
        "unknown key; did you mean 'delivery'?"
    )
    rig.desk.judge_by = lambda *_: pytest.fail("of another device only the form is looked at")
    small = {"deployment": {"model": "e"}, "device": {"spool": {"max_size": "1MB"}}}
    assert rig.nucleus.deploy(small) == "FAILED_NO_STATE_CHANGE: the form is wrong"
    unreadable = {
        "deployment": {"model": "e"},
        "delivery": "mqtt",
        "device": {"mqtt": {"host": "h", "tls": {"ca": "no"}}},
    }
    assert "delivery: mqtt is not possible here" in rig.nucleus.deploy(unreadable)
    assert not rig.stops.is_set()
    other = {"deployment": {"model": "e"}, "device": {"spool": {"max_size": "3MB"}}}
    assert rig.nucleus.deploy(other) == "SUCCEEDED"
    assert rig.stops.wait(DEADLINE_S), "the core starts anew"
    assert rig.follower is not None
    assert rig.follower.wants_another
    assert rig.desk.refusals == []


def test_a_bad_configuration_on_lite_is_told_once_and_the_last_good_one_counts_at_the_next_start(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig("lite", {"deployment": {"model": "a"}, "device": {"spool": {"max_size": "7MB"}}})
    rig.nucleus.start()
    follower = rig.follow()
    bad = {"deployment": {"model": "b"}, "device": {"spool": {"max_size": "many"}}}
    rig.nucleus.deploy(bad)
    wait_until(lambda: rig.desk.refusals, "the refusal")
    assert "device.spool.max_size" in str(rig.desk.refusals[0])
    assert follower.problem is rig.desk.refusals[0]
    settings, problem = first_settings(rig.environment, rig.root)
    assert settings.device.spool.max_bytes == 7 * 1024**2
    assert str(problem) == str(rig.desk.refusals[0])
    rig.nucleus.deploy({"deployment": {"model": "a"}, "device": {"spool": {"max_size": "7MB"}}})
    wait_until(lambda: rig.desk.messages == [{"model": "a"}], "the deployment, though it is the one of before")
    assert follower.problem is None
    assert len(rig.desk.refusals) == 1


def test_a_start_without_the_nucleus_goes_on_with_what_was_and_hears_of_the_rest_later(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig()
    follower = rig.begin()
    assert "cannot be reached" in str(follower.problem)
    assert kept_settings(rig.root) is None
    rig.nucleus.start()
    wait_until(lambda: rig.desk.messages == [{"model": "a"}], "the deployment")
    assert follower.problem is None
    assert rig.desk.refusals == []
    kept = kept_settings(rig.root)
    assert kept is not None
    assert (kept.device.thing, json.loads(kept.deployment)) == ("thing", {"model": "a"})
    assert (rig.root.configuration.stat().st_mode & 0o777) == 0o600
    rig.root.configuration.write_text("{")
    rig.nucleus.stop()
    settings, problem = first_settings(rig.environment, rig.root)
    assert (settings.deployment, settings.device.thing) == (b"", "thing")
    assert "cannot be reached" in str(problem)


def test_a_nucleus_that_knows_this_process_no_more_is_to_start_it_anew(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig("lite")
    rig.nucleus.start()
    follower = rig.follow(unknown_s=0.2)
    rig.nucleus.stop()
    rig.nucleus.token = "of another life"
    rig.nucleus.start()
    assert rig.stops.wait(DEADLINE_S)
    assert "does not know this component" in str(follower.failure)
    assert not follower.wants_another
