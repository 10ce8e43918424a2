"""Deployments whose models do not come, or come slowly: the old one serves on, nothing stays stuck, and downloads go
on where they stopped."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.bad_models import packed_archive
from tests.fixtures.color_model import LABELS, numbered_images
from tests.fixtures.core_process import (
    HEALTH,
    CoreProcess,
    WitnessedBroker,
    check_unbroken,
    sha256_of,
    without_repeats,
)
from tests.fixtures.hostile_http import HostileServer, Talk

from mli.core.envelope import seal_cancel

OTHER_LABELS = ("crimson", "lime", "navy")
PADDING_BYTES = 300_000
MOST_BYTES = 2_000_000


class Store:
    """A store that does with each archive what a test says, and otherwise gives it as a good one does."""

    def __init__(self) -> None:
        self.archives: dict[str, bytes] = {}
        self.behaviours: dict[str, Callable[[Talk, bytes], None]] = {}
        self.asked: dict[str, list[Talk]] = {}
        self.server = HostileServer(self._answer)

    def put(self, name: str, data: bytes) -> None:
        self.archives[name] = data

    def _answer(self, talk: Talk) -> None:
        name = talk.target.rpartition("/")[2]
        self.asked.setdefault(name, []).append(talk)
        data = self.archives.get(name, b"")
        self.behaviours.get(name, give)(talk, data)


def give(talk: Talk, data: bytes) -> None:
    talk.part(data, etag=f'"{len(data)}"')


def give_half_and_hang(talk: Talk, data: bytes) -> None:
    talk.answer(200, data[: len(data) // 2], content_length=len(data), etag=f'"{len(data)}"')
    talk.hang()


class Device:
    """A core whose store is one of those, and that runs a good deployment."""

    def __init__(self, core: CoreProcess, store: Store) -> None:
        self.core = core
        self.store = store
        folder = core.folder
        numbered_images(folder / "images", 9)
        self.good = packed_archive(folder, "good.zip", LABELS)
        self.labels = {sha256_of(self.good): LABELS}
        self._made = 0

    def deployment(self, uri: str, sha256: str | None, **changes: Any) -> dict[str, Any]:
        source = {"uri": str(self.core.folder / "images"), "interval": "50ms"}
        publish = {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True}
        model = {"uri": uri} if sha256 is None else {"uri": uri, "sha256": sha256}
        pipeline = {"source": source, "publish": publish, **changes}
        return {"models": {"color": model}, "pipelines": {"main": pipeline}}

    def deploy_good(self) -> None:
        """Another good one each time, from this machine's disk."""
        self._made += 1
        model = self.deployment(str(self.good), sha256_of(self.good), threads=self._made)
        self.core.deploy_well(model)

    def put(self, name: str) -> Path:
        """A new archive in the store; its path on this machine."""
        path = packed_archive(self.core.folder, name, OTHER_LABELS, padding_bytes=PADDING_BYTES)
        self.labels[sha256_of(path)] = OTHER_LABELS
        self.store.put(name, path.read_bytes())
        return path

    def far_deployment(self, path: Path, behaviour: Callable[[Talk, bytes], None]) -> dict[str, Any]:
        """Of an archive in the store."""
        self.store.behaviours[path.name] = behaviour
        return self.deployment(f"s3://bucket/{path.name}", sha256_of(path))

    def wait_for_progress(self, revision: int) -> dict[str, Any]:
        """A status that says how much is here."""

        def some() -> list[dict[str, Any]]:
            return [item for item in self.core.reports(revision) if (item["progress"] or {}).get("bytes")]

        self.core.wait(some, "progress of the download")
        return some()[-1]

    def check(self) -> None:
        """What ran before the deployment runs, and each frame has its prediction."""
        self.core.wait_for_frames(3)
        check_unbroken(without_repeats(self.core.seen()), self.labels)


@contextmanager
def running_device(broker: WitnessedBroker, folder: Path, name: str, **sections: Any) -> Iterator[Device]:
    """It runs a good deployment; its store stalls after a second."""
    store = Store()
    settings = {
        "endpoint": f"http://localhost:{store.server.port}",
        "access_key_id": "key",
        "secret_access_key": "secret",
        "stall_timeout": "1s",
        "max_size": f"{MOST_BYTES}B",
    }
    with broker.core(folder, f"downloads-{name}", store=settings, **sections) as core:
        core.start()
        device = Device(core, store)
        device.deploy_good()
        yield device
    store.server.stop()


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, witnessed_broker: WitnessedBroker) -> Iterator[Device]:
    """One for all tests that do not need their own."""
    with running_device(witnessed_broker, tmp_path_factory.mktemp("downloads"), "shared") as device:
        yield device
        device.core.stop()


@pytest.fixture(scope="module", autouse=True)
def unreachable(
    tmp_path_factory: pytest.TempPathFactory, witnessed_broker: WitnessedBroker
) -> Iterator[Future[None]]:
    """A device that waits for its deadline while the other tests run."""

    def live() -> None:
        folder = tmp_path_factory.mktemp("unreachable")
        health = {**HEALTH, "deadline": "20s"}  # its good deployments must be active by then, too
        with running_device(witnessed_broker, folder, "unreachable", health=health) as device:
            live_without_a_store(device)

    with ThreadPoolExecutor() as pool:
        yield pool.submit(live)


def text_of(document: dict[str, Any]) -> str:
    return "\n".join(str(item) for item in document["error"].values() if item)


def test_a_newer_deployment_and_a_cancellation_end_a_download(device: Device) -> None:
    core, serving, worker = device.core, device.core.status()["revision"], device.core.worker()
    path = device.put("superseded.zip")
    slow = core.send(device.far_deployment(path, give_half_and_hang))
    progress = device.wait_for_progress(slow)["progress"]
    assert progress["model"] == "color"
    assert 0 < progress["bytes"] < progress["total"] == path.stat().st_size
    assert (core.status()["revision"], core.worker()) == (serving, worker)
    device.deploy_good()
    assert set(core.states(slow)) <= {"received", "downloading", "superseded"}

    slow = core.send(device.far_deployment(device.put("cancelled.zip"), give_half_and_hang))
    device.wait_for_progress(slow)
    serving, worker = core.status()["revision"], core.worker()
    core.revision += 1
    core.publish(seal_cancel(thing=core.thing, revision=core.revision, expires_at=9e9, key=None))
    assert core.outcome(slow)["state"] == "cancelled"
    assert (core.status()["revision"], core.worker()) == (serving, worker)
    device.check()
    device.deploy_good()
    core.wait(lambda: not list((core.root / "downloads").glob("*")), "the removal of what is not wanted")
    device.check()


def test_a_cleared_topic_leaves_what_runs(device: Device) -> None:
    core, worker = device.core, device.core.worker()
    core.publish(b"")
    core.wait(lambda: "no deployment is wanted" in core.log(), "the empty message")
    device.check()
    assert core.worker() == worker


def test_a_store_that_stalls_and_fails_is_told_and_the_download_goes_on(device: Device) -> None:
    """Half of it, a stall, an error of the server, and then the rest: not once more from the beginning."""
    core, store = device.core, device.store
    path, may_go_on = device.put("stalling.zip"), threading.Event()

    def behave(talk: Talk, data: bytes) -> None:
        if "range" not in talk.headers:
            give_half_and_hang(talk, data)
        elif not may_go_on.is_set():
            talk.answer(503, b"busy")
        else:
            give(talk, data)

    revision = core.send(device.far_deployment(path, behave))

    def busy() -> list[dict[str, Any]]:
        return [item for item in core.reports(revision) if "503" in ((item["error"] or {}).get("got") or "")]

    core.wait(busy, "the trouble in the status")
    document = busy()[-1]
    assert document["state"] == "downloading"
    assert document["error"]["remedy"]
    assert document["progress"]["bytes"] == path.stat().st_size // 2
    assert document["serving"]["revision"] < revision
    may_go_on.set()
    assert core.outcome(revision)["state"] == "healthy"
    assert store.asked[path.name][-1].headers["range"] == f"bytes={path.stat().st_size // 2}-"
    core.wait_for_frames(3, model=sha256_of(path))
    device.check()


def test_the_devices_own_file_is_applied_by_the_next_core_where_the_first_one_ended_before(device: Device) -> None:
    """A power cut while its model is on its way: nobody is there to change the file, or to send it once more."""
    core, path = device.core, device.put("own-file.zip")
    file = core.root / "deployment.yaml"
    file.write_text(json.dumps(device.far_deployment(path, give_half_and_hang)))
    core.stop()
    core.start()
    core.wait(lambda: device.store.asked.get(path.name), "its download")
    core.kill()
    device.store.behaviours[path.name] = give
    core.start()
    core.wait_for_frames(2, model=sha256_of(path))
    core.wait(lambda: core.reports()[-1]["state"] == "healthy", "its end")
    core.restart()
    core.wait_for_frames(2, model=sha256_of(path))
    assert core.log().count("from deployment.yaml: received") == 2, "one that has come to its end is not begun again"
    file.unlink()
    device.check()


def test_a_download_goes_on_after_the_core_was_killed(device: Device) -> None:
    core, path = device.core, device.put("killed.zip")

    def behave(talk: Talk, data: bytes) -> None:
        give_half_and_hang(talk, data) if "range" not in talk.headers else give(talk, data)

    revision = core.send(device.far_deployment(path, behave))
    core.wait(lambda: partial_bytes(core) == path.stat().st_size // 2, "half of the archive")
    core.kill()
    core.start()
    assert core.outcome(revision)["state"] == "healthy"
    assert device.store.asked[path.name][-1].headers["range"] == f"bytes={path.stat().st_size // 2}-"
    device.check()


def partial_bytes(core: CoreProcess) -> int:
    """Of the largest file of all downloads; 0 also where one goes away at this moment."""
    files = (core.root / "downloads").rglob("*")
    try:
        return max((item.stat().st_size for item in files if item.is_file()), default=0)
    except FileNotFoundError:
        return 0


def live_without_a_store(device: Device) -> None:
    """And the next deployment is not kept waiting."""
    core, worker = device.core, device.core.worker()
    deployment = device.far_deployment(device.put("unreachable.zip"), give)
    device.store.server.stop()
    document = core.deploy(deployment)
    assert document["state"] == "failed"
    told = [item["error"] for item in core.reports(document["revision"]) if item["state"] == "downloading"]
    assert any(told), "the trouble is told while it is tried again"
    for pattern in ("not active by its deadline", "at most 20 s", f"localhost:{device.store.server.port}"):
        assert re.search(pattern, text_of(document)), text_of(document)
    assert document["error"]["remedy"]
    assert document["serving"]["revision"] < document["revision"]
    assert core.worker() == worker
    device.check()
    device.deploy_good()
    device.check()


def test_a_region_that_the_store_does_not_name_is_told_with_the_fix(device: Device) -> None:
    body = b"<Error><Code>PermanentRedirect</Code><Message>must be addressed elsewhere</Message></Error>"
    deployment = device.far_deployment(device.put("region.zip"), lambda talk, _: talk.answer(301, body))
    deployment["models"]["color"]["region"] = "us-west-2"
    document = device.core.deploy(deployment)
    assert document["state"] == "failed"
    assert "another region than us-west-2" in document["error"]["what"]
    assert "region" in document["error"]["remedy"]
    device.check()


def test_an_endless_archive_is_refused_while_it_comes(device: Device) -> None:
    def endless(talk: Talk, _: bytes) -> None:
        talk.answer(200, content_length=None)
        while not talk.ended.is_set():
            talk.send(b"x" * 65_536)

    document = device.core.deploy(device.far_deployment(device.put("endless.zip"), endless))
    assert document["state"] == "refused"
    assert f"at most {MOST_BYTES} bytes" in text_of(document)
    assert document["error"]["remedy"]
    device.check()


def test_a_digest_that_nobody_gave_is_the_one_that_came_first(device: Device) -> None:
    """``ModelS3Uri`` alone: pinned and reported, so that another archive at the same address cannot slip in."""
    core, path = device.core, device.put("pinned.zip")
    digest = sha256_of(path)
    pinned = device.deployment("s3://bucket/pinned.zip", None)
    document = core.deploy_well(pinned)
    assert document["models"] == {"color": {"sha256": digest, "pinned": True}}
    told = rf"names no sha256 of s3://bucket/pinned\.zip.*; from now on it is {digest}"
    assert re.search(told, core.log())
    core.wait_for_frames(3, model=digest)

    device.store.put("pinned.zip", device.put("changed.zip").read_bytes())
    for _ in range(2):  # so that the pinned one is neither current nor previous
        device.deploy_good()
    core.wait(lambda: not (core.root / "models" / digest).exists(), "its removal")
    document = core.deploy(pinned)
    assert document["state"] == "refused", document
    assert f"sha256 {digest}" in text_of(document)
    assert document["error"]["remedy"]
    device.check()


def flip_a_byte(root: Path, digest: str) -> None:
    """In the model's file, as a worn flash memory does."""
    path = root / "models" / digest / "files" / "color.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def test_after_a_bit_flipped_at_rest_the_previous_model_serves_until_the_current_one_is_here_anew(
    device: Device,
) -> None:
    core, path = device.core, device.put("flipped.zip")
    device.deploy_good()
    previous = sha256_of(device.good)
    wanted = core.deploy_well(device.far_deployment(path, give))
    core.wait_for_frames(3, model=sha256_of(path))
    core.stop()
    flip_a_byte(core.root, sha256_of(path))
    device.store.behaviours[path.name] = give_half_and_hang
    told = len(core.reports())
    core.start()
    core.wait_for_frames(3, model=previous)
    damaged = next(item for item in core.reports()[told:] if item["error"])
    assert "An installed model is not what was installed" in text_of(damaged)
    assert damaged["error"]["remedy"]
    assert core.status()["revision"] < wanted["revision"]
    device.store.behaviours[path.name] = give
    core.wait_for_frames(3, model=sha256_of(path))
    core.wait(lambda: core.reports()[-1]["state"] == "healthy", "the end of it")
    assert core.reports()[-1]["serving"] == wanted["serving"]
    device.check()

    core.kill()
    flip_a_byte(core.root, sha256_of(path))
    flip_a_byte(core.root, previous)
    core.start()
    core.wait_for_frames(3, model=sha256_of(path))
    core.wait(lambda: core.status()["health"] == "healthy", "health, with both of them damaged")
    device.check()


def test_a_store_that_cannot_be_reached_fails_the_deployment_at_its_deadline(unreachable: Future[None]) -> None:
    unreachable.result()
