"""The broker hands out its retained message at each connect: what was taken is not refused, and not done, again."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mli.config.settings import AllowSettings, DeviceSettings, TrustAnchor
from mli.core.deployment_store import DeploymentStore, Highest
from mli.core.envelope import key_id_of, seal, seal_cancel
from mli.core.intake import Intake
from mli.core.status import DeploymentStatus
from mli.core.wanted import Reporter, Wanted

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOW = 1_795_000_000.0
DAY = 86_400.0
THING = "line-1"


class Applied:
    """What reached the deployer."""

    def __init__(self) -> None:
        self.wanted: list[Wanted] = []
        self.cancelled: list[int] = []
        self.under_way = False

    def apply(self, wanted: Wanted) -> None:
        self.wanted.append(wanted)

    def cancel(self, revision: int) -> bool:
        self.cancelled.append(revision)
        return self.under_way

    def is_under_way(self, identity: str) -> bool:
        return self.under_way and identity in [wanted.identity for wanted in self.wanted]


class Device:
    """An intake with a real store and a clock of its own."""

    def __init__(self, root: Path, *, signed: bool = True) -> None:
        public = KEY.public_key()
        trust = (TrustAnchor(key_id_of(public), public.public_bytes_raw().hex()),) if signed else ()
        self.now = NOW
        self.told: list[DeploymentStatus] = []
        self.applied = Applied()
        self.store = DeploymentStore(root / "deployments")
        settings = DeviceSettings(THING, str(root), allow=AllowSettings(paths=(str(root),)), trust=trust)
        reporter = Reporter(THING, self.told.append, lambda: self.now)
        self.intake = Intake(settings, self.store, reporter, self.applied, lambda: self.now)

    def end(self, state: str) -> None:
        """What is applied comes to an end."""
        wanted = self.applied.wanted[-1]
        assert wanted.revision is not None
        self.store.raise_to(Highest(wanted.revision, wanted.identity, state))  # type: ignore[arg-type]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def deployment(revision: int, *, source: str = "demo") -> bytes:
    text = f"revision: {revision}\nmodel: s3://bucket/model.zip\nsource: {source}\n"
    return seal(text.encode(), thing=THING, revision=revision, expires_at=NOW + DAY, key=KEY)


def test_a_healthy_deployment_stays_so_when_it_comes_again_after_it_expired(device: Device) -> None:
    device.intake.take(deployment(7), retained=False)
    device.end("healthy")
    device.now = NOW + 8 * DAY
    device.intake.take(deployment(7), retained=True)
    assert [status.state for status in device.told] == ["healthy"]
    assert len(device.applied.wanted) == 1


def test_an_interrupted_deployment_goes_on_although_it_expired_meanwhile(device: Device) -> None:
    device.intake.take(deployment(7), retained=False)
    device.now = NOW + 8 * DAY
    device.intake.take(deployment(7), retained=True)
    assert [wanted.revision for wanted in device.applied.wanted] == [7, 7]


def test_a_new_deployment_that_expired_and_an_old_one_are_refused(device: Device) -> None:
    device.intake.take(deployment(7), retained=False)
    device.intake.take(deployment(6), retained=True)
    device.now = NOW + 8 * DAY
    device.intake.take(deployment(8), retained=True)
    older, expired = device.told
    assert older.state == expired.state == "refused"
    assert older.error is not None
    assert "older" in older.error.what
    assert expired.error is not None
    assert "expired" in expired.error.what
    assert len(device.applied.wanted) == 1


def test_a_cancellation_is_answered_also_where_nothing_was_under_way(device: Device) -> None:
    cancel = seal_cancel(thing=THING, revision=8, expires_at=NOW + DAY, key=KEY)
    device.intake.take(cancel, retained=False)
    device.intake.take(cancel, retained=True)
    assert [(status.state, status.revision) for status in device.told] == [("cancelled", 8)]
    device.intake.take(cancel, retained=False)
    assert len(device.told) == 2
    assert device.applied.cancelled == [8]


def test_what_was_cancelled_does_not_come_back(device: Device) -> None:
    device.intake.take(deployment(7), retained=False)
    device.applied.under_way = True
    device.intake.take(seal_cancel(thing=THING, revision=8, expires_at=NOW + DAY, key=KEY), retained=False)
    assert device.told == [], "the deployer tells it"
    device.intake.take(deployment(7), retained=True)
    assert [status.state for status in device.told] == ["refused"]
    assert len(device.applied.wanted) == 1
