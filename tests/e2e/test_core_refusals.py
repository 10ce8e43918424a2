"""Bad deployments, one after another on one running core: each is refused with cause and remedy, and the old one goes
on with its worker, without a lost or wrongly attributed prediction; then the next good one works."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.contract.tiny_models import write_tflite_means
from tests.fixtures.bad_models import (
    Model,
    crashing_at_load,
    endless_at_load,
    hoarding,
    not_numbers,
    packed_archive,
    slow,
    wrong_golden_archive,
)
from tests.fixtures.color_model import color_archive, color_model, numbered_images
from tests.fixtures.core_process import CoreProcess, WitnessedBroker, check_unbroken, sha256_of
from tests.fixtures.device_root import root_without
from tests.fixtures.swift_server import ACCESS_KEY, SECRET_KEY, SwiftServer

from mli.core.envelope import seal_cancel
from mli.core.topics import deployment_topic

LABELS = {"a.zip": ("red", "green", "blue"), "b.zip": ("crimson", "lime", "navy")}
IMAGES = 9
GUEST = {"access_key_id": "test:guest", "secret_access_key": "guest-secret"}


class Device:
    """The core of this module, and the files that its deployments name."""

    def __init__(self, core: CoreProcess, swift: SwiftServer) -> None:
        self.core = core
        self.swift = swift
        self.folder = core.folder
        self.images = numbered_images(self.folder / "images", IMAGES)
        self.good = {name: packed_archive(self.folder, name, labels) for name, labels in LABELS.items()}
        self.labels = {sha256_of(path): LABELS[name] for name, path in self.good.items()}
        self._next = 0

    def deployment(self, archive: Path | str, sha256: str | None = None, **changes: Any) -> dict[str, Any]:
        """One pipeline over the images."""
        if isinstance(archive, Path):
            sha256 = sha256 or sha256_of(archive)
        pipeline = {
            "source": {"uri": str(self.folder / "images"), "interval": "50ms"},
            "publish": {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True},
            **changes,
        }
        return {"models": {"color": {"uri": str(archive), "sha256": sha256}}, "pipelines": {"main": pipeline}}

    def deploy_good(self) -> str:
        """The other one of the two good ones; its digest."""
        self._next = 1 - self._next
        archive = list(self.good.values())[self._next]
        self.core.deploy_well(self.deployment(archive))
        return sha256_of(archive)

    def archive(self, model: Model, labels: tuple[str, ...] = LABELS["a.zip"]) -> Path:
        """A bad model's."""
        return color_archive(self.folder, f"{model.__name__}-{len(labels)}.zip", labels=labels, model=model)

    def put(self, path: Path) -> str:
        """Into the bucket; its address."""
        return self.swift.put(path.name, path.read_bytes())


@pytest.fixture(scope="module")
def device(
    tmp_path_factory: pytest.TempPathFactory, witnessed_broker: WitnessedBroker, swift: SwiftServer
) -> Iterator[Device]:
    """Its Python has no LiteRT."""
    folder = tmp_path_factory.mktemp("refusals")
    store = {"endpoint": swift.endpoint, "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
    with witnessed_broker.core(folder, "refusals", store=store, commands={"horn": {"argv": ["/bin/true"]}}) as core:
        core.start(environ=root_without(folder, "ai_edge_litert"))
        device = Device(core, swift)
        device.deploy_good()
        yield device
        core.stop()


Make = Callable[[Device], Mapping[str, Any] | str]


@dataclass(frozen=True, slots=True)
class Bad:
    """A bad deployment.

    Attributes:
        told: patterns that the error in the status must have.
        remedied: what is told says already what to do (an error of a file names line, key and what is expected).
    """

    name: str
    make: Make
    told: tuple[str, ...]
    state: str = "refused"
    remedied: bool = False


def of_file(name: str, make: Make, *told: str) -> Bad:
    return Bad(name, make, told, remedied=True)


def of_model(name: str, make: Make, *told: str, state: str = "refused") -> Bad:
    return Bad(name, make, told, state)


def rule(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "r", "when": {"label": "red"}, "then": {"publish": "alarms"}, **changes}]


FILES = [
    of_file(
        "an unknown key",
        lambda d: d.deployment(d.good["a.zip"], intervall="1s"),
        r"intervall.*did you mean.*interval",
    ),
    of_file("a wrong unit", lambda d: d.deployment(d.good["a.zip"], limits={"memory": "5 bananas"}), "bananas"),
    of_file(
        "a command that the device does not have",
        lambda d: d.deployment(d.good["a.zip"], rules=rule(then={"command": "hornn"})),
        r"the device allows no command 'hornn' \(commands: horn\)",
        "did you mean 'horn'",
    ),
    of_file(
        "images that the device does not show",
        lambda d: d.deployment(d.good["a.zip"], source="/etc"),
        "/etc lies outside of the folders",
        "allow.paths",
    ),
    of_file(
        "images by a way out of the allowed folder",
        lambda d: d.deployment(d.good["a.zip"], source=f"{d.folder}/images/../../../../etc"),
        "lies outside of the folders",
    ),
    of_file(
        "an archive where the device does not look",
        lambda d: d.deployment("/etc/passwd", "0" * 64),
        "/etc/passwd lies outside of the folders",
    ),
    of_file(
        "a host that the device does not ask",
        lambda d: d.deployment("https://evil.example/m.zip", "0" * 64),
        "takes no archives from 'evil.example'",
        "allow.hosts",
    ),
    of_file(
        "predictions on the topic of deployments",
        lambda d: d.deployment(d.good["a.zip"], publish={"topic": deployment_topic("{thing}")}),
        "topics by which devices are run",
    ),
    of_file(
        "another thing's",
        lambda d: {**d.deployment(d.good["a.zip"]), "thing": "somebody-else"},
        "this deployment is for somebody-else",
    ),
    of_file("no YAML", lambda _: "revision: 5\nmodels: [", "not valid YAML"),
    of_file("no revision", lambda d: json.dumps(d.deployment(d.good["a.zip"])), "revision.*missing"),
    of_file(
        "trust that nobody signed",
        lambda d: {**d.deployment(d.good["a.zip"]), "trust": [PUBLIC_KEY]},
        "not signed cannot change whom this device trusts",
    ),
]

ARCHIVES = [
    of_model("a wrong digest", lambda d: d.deployment(d.good["a.zip"], "0" * 64), f"sha256 {'0' * 64}"),
    of_model(
        "a wrong digest in the bucket",
        lambda d: d.deployment(d.put(d.good["a.zip"]), "1" * 64),
        f"sha256 {'1' * 64}",
    ),
    of_model(
        "an archive that is none",
        lambda d: d.deployment(_junk(d.folder / "junk.zip")),
        "zip",
    ),
    of_model(
        "an archive that climbs out",
        lambda d: d.deployment(_climbing(d.folder / "climbing.zip")),
        r"\.\./",
    ),
    of_model("no such object", lambda d: d.deployment("s3://models/nothing.zip", "2" * 64), "nothing.zip"),
    of_model("no such bucket", lambda d: d.deployment("s3://no-such-bucket/m.zip", "2" * 64), "no-such-bucket"),
]

MODELS = [
    of_model(
        "wrong golden samples",
        lambda d: d.deployment(wrong_golden_archive(d.folder)),
        "does not give what its golden sample",
        "red 0.98",
        "green",
    ),
    of_model(
        "no numbers",
        lambda d: d.deployment(d.archive(not_numbers)),
        "numbers that are none",
        "3 of 3 values",
    ),
    of_model(
        "too few labels",
        lambda d: d.deployment(d.archive(color_model, ("red", "green"))),
        "2 labels|labels.*2",
        "3",
    ),
    of_model(
        "a rule for a label that it lacks",
        lambda d: d.deployment(d.good["a.zip"], rules=rule(when={"label": "redd"})),
        "redd",
        "did you mean 'red'",
    ),
    of_model(
        "a crash while it loads",
        lambda d: d.deployment(d.archive(crashing_at_load)),
        "SIGFPE",
        "pipeline main",
    ),
    of_model(
        "endless loading",
        lambda d: d.deployment(
            d.archive(endless_at_load), limits={"start_timeout": "1s", "frame_timeout": "100ms", "memory": "1GB"}
        ),
        "took too long",
        "start_timeout",
    ),
    of_model(
        "too much memory",
        lambda d: d.deployment(d.archive(hoarding), limits={"memory": "200MB"}),
        "more memory than it is allowed",
        "at most 200 MB",
        r"limits: \{memory: \d+MB\}",
    ),
    of_model(
        "a slow one",
        lambda d: d.deployment(d.archive(slow), limits={"frame_timeout": "20ms"}),
        "slower than its pipeline allows",
        "0.02 s a frame",
    ),
    of_model(
        "a backend that is not installed",
        lambda d: d.deployment(_tflite_archive(d.folder)),
        "litert",
        "pip install",
        state="failed",
    ),
]

PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


def _junk(path: Path) -> Path:
    path.write_bytes(b"this is no archive" * 100)
    return path


def _climbing(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside.txt", "x")
    return path


def _tflite_archive(folder: Path) -> Path:
    path = folder / "lite.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(write_tflite_means(folder / "lite.tflite"), "lite.tflite")
        archive.writestr("labels.txt", "red\ngreen\nblue\n")
    return path


@pytest.mark.parametrize("bad", [*FILES, *ARCHIVES, *MODELS], ids=lambda bad: bad.name)
def test_it_is_refused_and_the_old_one_serves_on(device: Device, bad: Bad) -> None:
    core = device.core
    before, worker = core.status(), core.worker()
    digest = before["pipelines"][0]["model"]["sha256"]
    told = len(core.reports())
    wanted = bad.make(device)
    revision = core.send(wanted)
    core.wait(lambda: core.reports()[told:] and core.reports()[-1]["state"] == bad.state, f"{bad.state}")
    document = core.reports()[-1]
    assert document["revision"] in (revision, None)
    text = "\n".join(str(item) for item in document["error"].values() if item)
    for pattern in bad.told:
        assert re.search(pattern, text, re.DOTALL), text
    assert document["error"]["remedy"] or bad.remedied, text
    assert document["serving"] == {"revision": before["revision"], "identity": before["identity"]}
    core.wait_for_frames(3, model=digest)
    assert core.worker() == worker, "the old worker was disturbed"
    if bad.state == "refused":
        assert models_on_disk(core) <= {item.model for item in core.seen()}, "what was refused is kept"
    check_unbroken(core.seen(), device.labels, device.images)


def models_on_disk(core: CoreProcess) -> set[str]:
    return {path.name for path in (core.root / "models").iterdir() if len(path.name) == 64}


def test_after_each_of_them_the_next_good_one_works(device: Device) -> None:
    """Once more those that come far, each followed by a good one at once."""
    core = device.core
    for bad in (FILES[0], ARCHIVES[0], MODELS[4]):
        core.send(bad.make(device))
        digest = device.deploy_good()
        core.wait_for_frames(3, model=digest)
    check_unbroken(core.seen(), device.labels, device.images)


def test_a_lower_and_an_equal_revision_are_refused(device: Device) -> None:
    core = device.core
    serving = core.status()["revision"]
    other = device.deployment(device.good["a.zip"], top=2)
    for revision in (serving, serving - 1):
        told = len(core.reports())
        core.send(other, revision=revision)
        core.wait(lambda told=told: core.reports()[told:], "the answer")  # type: ignore[misc]
        document = core.reports()[-1]
        assert (document["state"], document["revision"]) == ("refused", revision)
        assert document["error"]["got"] == f"revision {revision}"
        assert str(core.revision + 1) in document["error"]["remedy"]
        assert document["serving"]["revision"] == serving


def test_a_bucket_in_another_region_than_the_deployment_says_is_followed(device: Device) -> None:
    deployment = device.deployment(device.put(device.good["a.zip"]), sha256_of(device.good["a.zip"]))
    deployment["models"]["color"]["region"] = "us-west-2"
    device.core.deploy_well(deployment)


def test_a_trial_that_takes_long_keeps_nothing_waiting(device: Device) -> None:
    """Neither a newer deployment, nor a cancellation, nor the end of the core."""
    core = device.core
    endless = device.deployment(device.archive(endless_at_load), limits={"memory": "1GB"})
    revision = core.send(endless)
    core.wait_for_state(revision, "canary")
    device.deploy_good()
    assert set(core.states(revision)) <= {"received", "downloading", "verifying", "canary", "superseded"}

    revision = core.send(endless)
    core.wait_for_state(revision, "canary")
    core.revision += 1
    core.publish(seal_cancel(thing=core.thing, revision=core.revision, expires_at=9e9, key=None))
    assert core.outcome(revision)["state"] == "cancelled"

    revision = core.send(endless)
    core.wait_for_state(revision, "canary")
    told = len(core.reports())
    core.restart()
    core.wait(lambda: "canary" in [item["state"] for item in core.reports()[told:]], "the trial, begun once more")
    device.deploy_good()
    core.wait_for_frames(3)
    check_unbroken(core.seen(), device.labels, device.images)
