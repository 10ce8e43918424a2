"""Signed deployments on a running core: what nobody trusted has signed, or somebody sends again, changes nothing."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.fixtures.bad_models import not_numbers, packed_archive
from tests.fixtures.color_model import LABELS, color_archive, numbered_images
from tests.fixtures.core_process import CoreProcess, WitnessedBroker, check_unbroken, sha256_of
from tests.fixtures.device_files import public_pem

from mli.core.envelope import key_id_of, seal, seal_cancel

OWNER, SUCCESSOR, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)) for number in (1, 2, 3))
OTHER_LABELS = ("crimson", "lime", "navy")
LATER = 9e9
LASTING_S = 3.0


@dataclass
class Device:
    """A core that trusts ``OWNER``, with a deployment that was signed."""

    core: CoreProcess
    good: Path
    other: Path

    def deployment(self, archive: Path | None = None, **more: Any) -> dict[str, Any]:
        archive = archive or self.good
        pipeline = {
            "source": {"uri": str(self.core.folder / "images"), "interval": "50ms"},
            "publish": {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True},
        }
        models = {"color": {"uri": str(archive), "sha256": sha256_of(archive)}}
        return {"models": models, "pipelines": {"main": pipeline}, **more}

    def check(self) -> None:
        """The predictions of all the time."""
        self.core.wait_for_frames(3)
        labels = {sha256_of(self.good): LABELS, sha256_of(self.other): OTHER_LABELS}
        check_unbroken(self.core.seen(), labels)

    def refused(self, payload: bytes) -> dict[str, Any]:
        """The answer to a message, which changed nothing."""
        core, before, worker = self.core, self.core.status(), self.core.worker()
        told = len(core.reports())
        core.publish(payload)
        core.wait(lambda: [item for item in core.reports()[told:] if item["state"] == "refused"], "the refusal")
        document = core.reports()[-1]
        assert document["error"]["remedy"], document
        assert document["serving"] == {"revision": before["revision"], "identity": before["identity"]}
        core.wait_for_frames(2)
        assert core.worker() == worker
        return document


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, witnessed_broker: WitnessedBroker) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("signed")
    numbered_images(folder / "images", 9)
    with witnessed_broker.core(folder, "signed", trust=[public_pem(OWNER).decode()]) as core:
        good, other = packed_archive(folder, "good.zip"), packed_archive(folder, "other.zip", OTHER_LABELS)
        device = Device(core, good, other)
        core.start()
        core.deploy_well(device.deployment(), key=OWNER)
        yield device
        core.stop()


def sealed(device: Device, key: Ed25519PrivateKey = OWNER, **changes: Any) -> dict[str, Any]:
    """A good signed message that would change what runs."""
    revision = changes.pop("revision", device.core.revision + 1)
    body = json.dumps(device.deployment(device.other)).encode()
    body = json.dumps({**json.loads(body), "revision": revision}).encode()
    fields = {"thing": device.core.thing, "revision": revision, "expires_at": LATER, "key": key, **changes}
    message: dict[str, Any] = json.loads(seal(body, **fields))
    return message


def as_bytes(message: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(message | changes).encode()


def test_what_is_not_signed_is_refused(device: Device) -> None:
    body = json.dumps({**device.deployment(device.other), "revision": device.core.revision + 1})
    document = device.refused(body.encode())
    assert "not signed" in document["error"]["what"]
    assert key_id_of(OWNER.public_key()) in document["error"]["expected"]


def test_a_strangers_signature_is_refused(device: Device) -> None:
    document = device.refused(as_bytes(sealed(device, STRANGER)))
    assert "a key that this device does not trust" in document["error"]["what"]
    assert key_id_of(STRANGER.public_key()) in document["error"]["got"]


@pytest.mark.parametrize("field", ["payload", "revision", "expires", "key", "signature"])
def test_a_changed_message_is_refused(device: Device, field: str) -> None:
    message = sealed(device)
    payload = base64.b64decode(message["payload"]).replace(b"50ms", b"51ms")
    changed = {
        "payload": base64.b64encode(payload).decode(),
        "revision": message["revision"] + 1,
        "expires": "2099-01-01T00:00:00Z",
        "key": key_id_of(OWNER.public_key()),
        "signature": base64.b64encode(bytes(64)).decode(),
    }[field]
    if field == "key":  # a stranger says that he is the owner
        message = sealed(device, STRANGER)
    document = device.refused(as_bytes(message, **{field: changed}))
    assert "signature is wrong" in document["error"]["what"]


def test_another_things_message_is_refused(device: Device) -> None:
    document = device.refused(as_bytes(sealed(device, thing="somebody-else")))
    assert "for another thing" in document["error"]["what"]


def test_an_expired_message_is_refused(device: Device) -> None:
    document = device.refused(as_bytes(sealed(device, expires_at=1e9)))
    assert "expired" in document["error"]["what"]
    assert "clock" in document["error"]["remedy"]


def test_a_replayed_message_is_refused(device: Device) -> None:
    """Both signed, both good in their time."""
    core = device.core
    first = as_bytes(sealed(device))
    core.revision += 1
    core.publish(first)
    assert core.outcome(core.revision)["state"] == "healthy"
    core.deploy_well(device.deployment(), key=OWNER)
    document = device.refused(first)
    assert "older than one that this device has seen" in document["error"]["what"]
    again = seal_cancel(thing=core.thing, revision=core.revision - 1, expires_at=LATER, key=OWNER)
    assert "older than one" in device.refused(again)["error"]["what"]
    device.check()


def test_an_old_message_stays_refused_when_the_history_is_lost(device: Device) -> None:
    core = device.core
    old = as_bytes(sealed(device, revision=core.revision))
    core.stop()
    for path in (core.root / "deployments" / "history").iterdir():
        path.unlink()
    (core.root / "deployments" / "pointer.json").unlink()
    core.start()
    told = len(core.reports())
    core.publish(old)

    def refusals() -> list[dict[str, Any]]:
        """It also tells what it lost; that may come before or after."""
        return [item for item in core.reports()[told:] if item["state"] == "refused"]

    core.wait(refusals, "the answer")
    document = refusals()[-1]
    assert document["error"]["expected"] == f"a revision above {core.revision}"
    core.deploy_well(device.deployment(), key=OWNER)
    device.check()


def test_an_unsigned_cancellation_is_refused(device: Device) -> None:
    core = device.core
    message = seal_cancel(thing=core.thing, revision=core.revision + 1, expires_at=LATER, key=None)
    assert "not signed" in device.refused(message)["error"]["what"]


def test_what_expired_since_it_was_taken_is_not_refused_when_the_broker_sends_it_again(
    device: Device, witnessed_broker: WitnessedBroker
) -> None:
    core = device.core
    expires_at = time.time() + LASTING_S
    core.deploy_well(device.deployment(), key=OWNER, expires_in_s=LASTING_S)
    worker, documents = core.worker(), len(core.reports())
    core.wait(lambda: time.time() > expires_at, "its expiry")
    known = core.log().count("is known: healthy")
    witnessed_broker.kick(core.thing)
    core.wait(lambda: core.log().count("is known: healthy") > known, "the message that came once more")
    device.check()
    assert {item["state"] for item in core.reports()[documents:]} <= {"healthy"}
    assert core.worker() == worker


def test_keys_are_rotated_by_a_signed_deployment_that_proved_good(
    device: Device, witnessed_broker: WitnessedBroker
) -> None:
    """Then the old key is worth nothing, also after a restart, until the device's owner says otherwise."""
    core = device.core
    successor = [public_pem(SUCCESSOR).decode()]
    bad = color_archive(core.folder, "bad.zip", model=not_numbers)
    assert core.deploy(device.deployment(bad, trust=successor), key=OWNER)["state"] == "refused"
    core.deploy_well(device.deployment(), key=OWNER)
    core.deploy_well(device.deployment(trust=successor), key=OWNER)
    known = core.log().count("is known: healthy")
    witnessed_broker.kick(core.thing)
    core.wait(lambda: core.log().count("is known: healthy") > known, "the message that came once more")
    assert core.reports()[-1]["state"] == "healthy", "the old key's last message is known, not refused"
    assert "a key that this device does not trust" in device.refused(as_bytes(sealed(device)))["error"]["what"]
    core.restart()
    core.wait_for_frames(1)
    assert "a key that this device does not trust" in device.refused(as_bytes(sealed(device)))["error"]["what"]
    core.deploy_well(device.deployment(device.other), key=SUCCESSOR)
    device.check()
    core.stop()
    core.configure(trust=[public_pem(STRANGER).decode()])
    core.start()
    core.deploy_well(device.deployment(), key=STRANGER)
    device.check()
