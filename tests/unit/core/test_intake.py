"""Messages on ``mli/deployments/<thing>``: which are handed on, which are known, which are refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.fixtures.brokers import wait_until

from mli.config.settings import AllowSettings, DeviceSettings, TrustAnchor
from mli.core.deployment_store import DeploymentStore, Highest
from mli.core.envelope import key_id_of, seal, seal_cancel
from mli.core.intake import LONGEST_STEP, WAITING, Intake
from mli.core.status import DeploymentState, DeploymentStatus, Problem
from mli.core.wanted import Reporter, Wanted

NOW = 1_795_000_000.0
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (1, 2))


def anchor(key: Ed25519PrivateKey) -> TrustAnchor:
    return TrustAnchor(key_id_of(key.public_key()), key.public_key().public_bytes_raw().hex())


@dataclass
class Applied:
    """Who is handed deployments here only writes them down.

    Attributes:
        under_way: identities that are being applied, or on trial.
    """

    wanted: list[Wanted] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    under_way: set[str] = field(default_factory=set)

    def apply(self, wanted: Wanted) -> None:
        self.wanted.append(wanted)

    def cancel(self, revision: int) -> bool:
        self.cancelled.append(revision)
        return bool(self.under_way)

    def is_under_way(self, identity: str) -> bool:
        return identity in self.under_way


class Rig:
    """An intake over a real store; ``told`` has the status documents."""

    def __init__(self, folder: Path, *trust: Ed25519PrivateKey) -> None:
        self.store = DeploymentStore(folder)
        self.applied = Applied()
        self.told: list[DeploymentStatus] = []
        self.now = NOW
        self.device = DeviceSettings(
            "thing", str(folder), trust=tuple(map(anchor, trust)), allow=AllowSettings(paths=(str(folder),))
        )
        self.reporter = Reporter("thing", self.told.append, lambda: NOW)
        self.intake = Intake(self.device, self.store, self.reporter, self.applied, lambda: self.now)

    def take(self, message: bytes, *, retained: bool = True) -> DeploymentState | None:
        """The last state that was told because of it."""
        before = len(self.told)
        self.intake.take(message, retained)
        return self.told[-1].state if len(self.told) > before else None

    def revisions(self) -> list[int | None]:
        """Of what was handed on."""
        return [wanted.revision for wanted in self.applied.wanted]

    def finish(self, state: DeploymentState, error: Problem | None = None) -> None:
        """The last one has come to its end."""
        self.store.raise_to(replace(self.store.highest(), state=state, error=error))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def signed(tmp_path: Path) -> Rig:
    return Rig(tmp_path, KEY)


def deployment(revision: int | None, **changes: Any) -> bytes:
    body = {
        "models": {"main": {"uri": "s3://bucket/model.zip", "sha256": "ab" * 32}},
        "pipelines": {"main": {"source": {"kind": "demo"}}},
        **changes,
    }
    return json.dumps(body if revision is None else {**body, "revision": revision}).encode()


def sealed(revision: int, key: Ed25519PrivateKey = KEY, *, lasts_s: float = 60.0, **changes: Any) -> bytes:
    body = deployment(revision, **changes)
    return seal(body, thing="thing", revision=revision, expires_at=NOW + lasts_s, key=key)


def test_news_is_noted_before_it_is_handed_on(rig: Rig) -> None:
    assert rig.take(deployment(3)) is None
    (wanted,) = rig.applied.wanted
    assert (wanted.revision, wanted.origin, wanted.text) == (3, "remote", deployment(3).decode())
    assert rig.store.highest() == Highest(3, wanted.identity, "received", None, rig.store.highest().message)
    assert rig.take(deployment(5)) is None
    assert rig.revisions() == [3, 5]


@pytest.mark.parametrize("revision", [2, 0])
def test_an_older_one_is_refused(rig: Rig, revision: int) -> None:
    rig.take(deployment(3))
    assert rig.take(deployment(revision)) == "refused"
    error = rig.told[-1].error
    assert error is not None
    assert (error.expected, error.got) == ("a revision above 3", f"revision {revision}")
    assert rig.told[-1].revision == revision
    assert rig.revisions() == [3]


def test_one_message_cannot_use_up_all_revisions(rig: Rig) -> None:
    rig.take(deployment(3))
    assert rig.take(deployment(3 + LONGEST_STEP + 1)) == "refused"
    error = rig.told[-1].error
    assert error is not None
    assert error.remedy == "send it with --revision 4"
    assert rig.store.highest().revision == 3
    assert rig.take(deployment(20261125164959)) is None


def test_another_one_under_the_same_revision_is_refused(rig: Rig) -> None:
    rig.take(deployment(3))
    assert rig.take(deployment(3, pipelines={"other": {"source": {"kind": "demo"}}})) == "refused"
    assert rig.revisions() == [3]


def test_one_that_was_interrupted_goes_on_and_one_under_way_is_left_alone(rig: Rig) -> None:
    rig.take(deployment(3))
    rig.applied.under_way.add(rig.applied.wanted[0].identity)
    assert rig.take(deployment(3)) is None
    assert rig.revisions() == [3]
    rig.applied.under_way.clear()
    rig.take(deployment(3))
    assert rig.revisions() == [3, 3]


@pytest.mark.parametrize("state", ["healthy", "rolled_back", "refused", "failed", "cancelled", "superseded"])
def test_one_that_came_to_its_end_is_told_again_and_not_done_again(rig: Rig, state: DeploymentState) -> None:
    rig.take(deployment(3))
    problem = None if state == "healthy" else Problem("it crashed", remedy="make it better")
    rig.finish(state, problem)
    assert rig.take(deployment(3), retained=True) == state
    assert rig.told[-1].error == problem
    assert (rig.told[-1].revision, rig.told[-1].identity) == (3, rig.applied.wanted[0].identity)
    reformatted = json.dumps(json.loads(deployment(3)), indent=2).encode()
    assert rig.take(reformatted) == state, "the same deployment in other bytes"
    assert rig.revisions() == [3]


def test_what_failed_is_tried_again_when_somebody_publishes_it_once_more(rig: Rig) -> None:
    rig.take(deployment(3))
    rig.finish("failed")
    rig.take(deployment(3), retained=False)
    assert rig.revisions() == [3, 3]
    rig.finish("rolled_back")
    assert rig.take(deployment(3), retained=False) == "rolled_back", "but not what was taken back"


def test_a_refusal_does_not_hide_what_is_under_way(rig: Rig) -> None:
    rig.take(deployment(3))
    rig.reporter.tell("downloading", revision=3, identity="ab")
    rig.take(deployment(4, unknown=1))
    assert [(item.revision, item.state) for item in rig.told[-2:]] == [(4, "refused"), (3, "downloading")]
    rig.reporter.tell("healthy", revision=3, identity="ab")
    rig.take(deployment(5, unknown=1))
    assert (rig.told[-1].revision, rig.told[-1].state) == (5, "refused")


@pytest.mark.parametrize(
    "message",
    [b"\xff\xfe", b"[1, 2]", b"{", deployment(None), b"revision: x\n", b"x" * (1024 * 1024 + 1)],
    ids=["no text", "no settings", "no YAML", "no revision", "no number", "too long"],
)
def test_nonsense_is_refused_and_raises_nothing(rig: Rig, message: bytes) -> None:
    assert rig.take(message) == "refused"
    assert rig.store.highest() == Highest()
    assert not rig.applied.wanted
    rig.take(deployment(1))
    assert rig.revisions() == [1]


def test_an_empty_message_wants_nothing(rig: Rig) -> None:
    rig.take(deployment(3))
    assert rig.take(b"") is None
    assert rig.revisions() == [3]


def test_a_cancellation_is_handed_on_once_and_raises_the_revision(rig: Rig) -> None:
    rig.take(deployment(3))
    rig.applied.under_way.add(rig.applied.wanted[0].identity)
    cancel = seal_cancel(thing="thing", revision=4, expires_at=NOW + 60, key=None)
    assert rig.take(cancel, retained=False) is None, "the deployment's own end is told by whoever ends it"
    assert rig.applied.cancelled == [4]
    assert rig.take(cancel) is None
    assert rig.applied.cancelled == [4]
    assert rig.take(deployment(3)) == "refused"
    assert rig.take(seal_cancel(thing="thing", revision=3, expires_at=NOW + 60, key=None)) == "refused"


def test_a_cancellation_of_nothing_is_answered(rig: Rig) -> None:
    assert rig.take(seal_cancel(thing="thing", revision=4, expires_at=NOW + 60, key=None)) == "cancelled"
    assert rig.told[-1].revision == 4


def test_what_is_not_allowed_here_is_refused_by_name(rig: Rig) -> None:
    rig.take(deployment(1, pipelines={"main": {"source": {"uri": "/etc"}}}))
    error = rig.told[-1].error
    assert error is not None
    assert "/etc lies outside" in error.what
    assert not rig.applied.wanted


def test_signed_ones_are_handed_on_with_their_signer(signed: Rig) -> None:
    signed.take(sealed(3))
    assert [wanted.signed_by for wanted in signed.applied.wanted] == [anchor(KEY).key_id]
    assert signed.take(deployment(4)) == "refused"
    assert signed.take(sealed(4, OTHER)) == "refused"
    assert signed.take(sealed(5, lasts_s=-1)) == "refused"
    assert signed.revisions() == [3]


def test_only_a_signed_one_changes_whom_to_trust(tmp_path: Path) -> None:
    from tests.fixtures.device_files import public_pem

    trust = [public_pem(OTHER).decode()]
    open_to_all = Rig(tmp_path / "open")
    assert open_to_all.take(deployment(3, trust=trust)) == "refused"
    signed = Rig(tmp_path / "signed", KEY)
    signed.take(sealed(3, trust=trust))
    (wanted,) = signed.applied.wanted
    assert wanted.settings.trust == (anchor(OTHER),)
    assert signed.take(sealed(4, OTHER)) == "refused", "not before it has proved good"


def test_the_last_message_is_known_also_when_it_has_expired_or_its_key_is_not_trusted_any_more(signed: Rig) -> None:
    message = sealed(3)
    signed.take(message)
    signed.finish("healthy")
    signed.now = NOW + 3600
    assert signed.take(message) == "healthy"
    signed.store.rotate(signed.device.trust, (anchor(OTHER),))
    assert signed.take(message) == "healthy"
    assert signed.take(sealed(3, lasts_s=7200)) == "refused", "other bytes, of a key that nobody trusts"
    assert signed.revisions() == [3]


def test_with_a_damaged_record_nothing_is_taken(rig: Rig) -> None:
    rig.take(deployment(3))
    (rig.store.folder / "highest.json").write_bytes(b"{")
    assert rig.take(deployment(4)) == "failed"
    error = rig.told[-1].error
    assert error is not None
    assert "damaged" in error.what
    assert rig.told[-1].revision == 4, "or who sent it would wait for an answer that came"
    assert rig.revisions() == [3]


def test_a_flood_of_messages_is_bounded_and_the_newest_is_taken(rig: Rig) -> None:
    for revision in range(1, 4 * WAITING):
        rig.intake.message(deployment(revision), retained=False)
    rig.intake.start()
    wait_until(lambda: rig.revisions()[-1:] == [4 * WAITING - 1], "the newest")
    rig.intake.stop()
    assert len(rig.revisions()) <= WAITING


def test_an_unexpected_failure_is_told_and_the_next_message_is_taken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Wanted) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(rig.applied, "apply", broken)
    rig.intake.start()
    rig.intake.message(deployment(1), retained=False)
    wait_until(lambda: rig.told, "the answer")
    rig.intake.message(deployment(2), retained=False)
    wait_until(lambda: rig.revisions() == [2], "the next one")
    rig.intake.stop()
    assert rig.told[0].state == "failed"
    assert "a mistake of ours" in str(rig.told[0].error)
