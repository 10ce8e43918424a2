"""Deployments that are a component's configuration: it may go back, and what is proposed is judged."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.fixtures.brokers import wait_until

from mli.config.settings import DeviceSettings, SpoolSettings, TrustAnchor
from mli.core.deployment_store import DeploymentStore, Highest, Pointer
from mli.core.envelope import key_id_of, seal
from mli.core.intake import Intake
from mli.core.status import DeploymentState, DeploymentStatus
from mli.core.wanted import Reporter, Wanted
from mli.errors import MliError, UsageError

NOW = 1_795_000_000.0
KEY = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))


@dataclass
class Applied:
    """Who is handed deployments here only writes them down."""

    wanted: list[Wanted] = field(default_factory=list)
    under_way: set[str] = field(default_factory=set)

    def apply(self, wanted: Wanted) -> None:
        self.wanted.append(wanted)

    def cancel(self, _revision: int) -> bool:
        return False

    def is_under_way(self, identity: str) -> bool:
        return identity in self.under_way


class Rig:
    """An intake over a real store."""

    def __init__(self, folder: Path, *trust: TrustAnchor) -> None:
        self.store = DeploymentStore(folder)
        self.applied = Applied()
        self.told: list[DeploymentStatus] = []
        self.device = DeviceSettings("thing", str(folder), trust=trust)
        reporter = Reporter("thing", self.told.append, lambda: NOW)
        self.intake = Intake(self.device, self.store, reporter, self.applied, lambda: NOW, origin="component")

    def take(self, configuration: bytes) -> None:
        self.intake.take(configuration, retained=True)

    def identities(self) -> list[str]:
        """Of what was handed on."""
        return [wanted.identity for wanted in self.applied.wanted]

    def finish(self, state: DeploymentState) -> None:
        """The last one has come to its end."""
        self.store.raise_to(replace(self.store.highest(), state=state))

    def judge(self, configuration: bytes) -> list[MliError | None]:
        judged: list[MliError | None] = []
        self.intake.judge(configuration, judged.append)
        return judged


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def deployment(letter: str, revision: int | None = None, **changes: Any) -> bytes:
    body: dict[str, Any] = {
        "models": {"main": {"uri": f"s3://bucket/{letter}.zip", "sha256": letter * 64}},
        "pipelines": {"main": {"source": {"kind": "demo"}}},
        **changes,
    }
    return json.dumps(body if revision is None else {**body, "revision": revision}).encode()


def test_a_revision_may_be_lower_or_missing(rig: Rig) -> None:
    for text in (deployment("a", 5), deployment("b", 3), deployment("c"), deployment("a", 5)):
        rig.take(text)
    assert [wanted.revision for wanted in rig.applied.wanted] == [5, 3, None, 5]
    assert {wanted.origin for wanted in rig.applied.wanted} == {"component"}
    first, *_, last = rig.identities()
    assert first == last
    assert rig.told == []
    rig.take(deployment("c"))
    assert rig.store.highest() == Highest(-1, rig.identities()[2], "received", None, rig.store.highest().message)
    assert rig.store.highest().told_revision is None


@pytest.mark.parametrize("state", ["healthy", "rolled_back"])
def test_what_came_to_its_end_is_told_and_not_done_again(rig: Rig, state: DeploymentState) -> None:
    rig.take(deployment("a"))
    rig.finish(state)
    rig.take(deployment("a"))
    assert len(rig.applied.wanted) == 1
    assert [(status.state, status.revision) for status in rig.told] == [(state, None)]


@pytest.mark.parametrize("state", ["received", "refused", "failed", "superseded", "cancelled"])
def test_what_did_not_is_done_at_the_next_start(rig: Rig, state: DeploymentState) -> None:
    rig.take(deployment("a"))
    rig.finish(state)
    rig.take(deployment("a"))
    assert len(rig.applied.wanted) == 2
    rig.applied.under_way = set(rig.identities())
    rig.take(deployment("a"))
    assert len(rig.applied.wanted) == 2, "it is under way"


def test_none_wanted_leaves_what_runs(rig: Rig) -> None:
    rig.take(deployment("a"))
    rig.take(b"")
    assert len(rig.applied.wanted) == 1
    assert rig.told == []


def test_a_proposal_is_handed_on_to_be_judged_and_nothing_is_noted(rig: Rig) -> None:
    rig.take(deployment("a"))
    before = rig.store.highest()
    assert rig.judge(deployment("b")) == []
    wanted = rig.applied.wanted[-1]
    assert wanted.judged is not None
    assert rig.store.highest() == before
    assert rig.applied.wanted[0].judged is None


def test_a_proposal_that_is_what_runs_or_nothing_is_accepted_at_once(rig: Rig) -> None:
    rig.take(deployment("a"))
    rig.store.point(Pointer(rig.identities()[0], good=True))
    assert rig.judge(deployment("a")) == [None]
    assert rig.judge(b"") == [None]
    assert len(rig.applied.wanted) == 1


def test_a_proposal_with_a_mistake_is_refused_and_told(rig: Rig) -> None:
    (error,) = rig.judge(deployment("a", modells={}))
    assert "the component's configuration" in str(error)
    assert "did you mean 'model'?" in str(error)
    (status,) = rig.told
    assert (status.state, status.identity) == ("refused", None)
    assert rig.applied.wanted == []


def test_what_was_left_for_a_proposal_is_taken_up_again_and_nothing_else(rig: Rig) -> None:
    rig.intake.start()
    rig.take(deployment("a"))
    rig.finish("healthy")
    rig.intake.resume(deployment("a"))
    rig.finish("superseded")
    rig.intake.resume(deployment("a"))
    wait_until(lambda: len(rig.applied.wanted) == 2, "the deployment that was left")
    rig.intake.stop()
    assert rig.told == []


def test_only_the_form_is_checked_for_a_device_with_other_settings(rig: Rig) -> None:
    other = replace(rig.device, spool=SpoolSettings(max_bytes=1), min_isolation="container")
    rig.intake.check(deployment("a"), other)
    with pytest.raises(UsageError):
        rig.intake.check(deployment("a", x=1), other)
    assert rig.applied.wanted == []


def test_where_keys_are_trusted_only_what_they_signed_is_taken_also_an_older_one(tmp_path: Path) -> None:
    public = KEY.public_key()
    rig = Rig(tmp_path, TrustAnchor(key_id_of(public), public.public_bytes_raw().hex()))
    (error,) = rig.judge(deployment("a"))
    assert "not signed" in str(error)
    for revision in (4, 2):
        text = deployment("ab"[revision // 4], revision)
        rig.take(seal(text, thing="thing", revision=revision, expires_at=NOW + 60, key=KEY))
    assert [wanted.signed_by for wanted in rig.applied.wanted] == [key_id_of(public)] * 2
