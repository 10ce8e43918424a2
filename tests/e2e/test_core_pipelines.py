"""Several pipelines in one core, with models, sources and rates of their own: what befalls one leaves the others."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from tests.fixtures.bad_models import crashing_on_white, not_numbers
from tests.fixtures.color_model import color_archive, numbered_images, white_image
from tests.fixtures.core_process import CoreProcess, WitnessedBroker, check_unbroken, models_of, sha256_of

LABELS = {
    "colours.zip": ("red", "green", "blue"),
    "shades.zip": ("crimson", "lime", "navy"),
    "crashing.zip": ("rouge", "vert", "bleu"),
    "not-numbers.zip": ("rosso", "verde", "blu"),
}
MODELS = {"crashing.zip": {"model": crashing_on_white}, "not-numbers.zip": {"model": not_numbers}}
IMAGES = 9
COLOURED = 5


class Device:
    """Its deployments have pipelines ``quick``, ``slow`` and ``shared``; the third takes the first's model."""

    def __init__(self, core: CoreProcess) -> None:
        self.core = core
        self.folder = core.folder
        self.archives = {
            name: color_archive(self.folder, name, labels=labels, **MODELS.get(name, {}))
            for name, labels in LABELS.items()
        }
        self.labels = {sha256_of(path): LABELS[name] for name, path in self.archives.items()}
        self.images = numbered_images(self.folder / "images", IMAGES)
        numbered_images(self.folder / "turning-white", COLOURED)
        for index in range(COLOURED, COLOURED + 9):
            white_image(self.folder / "turning-white" / f"frame-{index}.png")

    def deployment(self, **pipelines: dict[str, Any] | None) -> dict[str, Any]:
        """Changes of the usual pipelines by name; None leaves one out."""
        usual = {
            "quick": self.pipeline("colours.zip", "50ms"),
            "slow": self.pipeline("shades.zip", "300ms"),
            "shared": self.pipeline("colours.zip", "100ms"),
        }
        chosen = {name: item for name, item in {**usual, **pipelines}.items() if item is not None}
        models = {
            item["model"]: {
                "uri": str(self.archives[f"{item['model']}.zip"]),
                "sha256": sha256_of(self.archives[f"{item['model']}.zip"]),
            }
            for item in chosen.values()
        }
        return {"models": models, "pipelines": chosen}

    def pipeline(self, archive: str, interval: str, images: str = "images", **changes: Any) -> dict[str, Any]:
        return {
            "model": archive.removesuffix(".zip"),
            "source": {"uri": str(self.folder / images), "interval": interval},
            "publish": {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True},
            **changes,
        }

    def deploy_usual(self) -> set[psutil.Process]:
        """Back to the three, each with its worker at work."""
        self.core.deploy_well(self.deployment())
        return self.workers(3)

    def workers(self, count: int) -> set[psutil.Process]:
        found: set[psutil.Process] = set()

        def seen() -> bool:
            nonlocal found
            found = set(self.core.workers())
            return len(found) == count

        self.core.wait(seen, f"{count} workers")
        return found

    def check(self, *pipelines: str) -> None:
        for pipeline in pipelines:
            self.core.wait_for_frames(2, pipeline)
            check_unbroken(self.core.seen(pipeline), self.labels, self.images)

    def digest(self, archive: str) -> str:
        return sha256_of(self.archives[archive])


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, witnessed_broker: WitnessedBroker) -> Iterator[Device]:
    with witnessed_broker.core(tmp_path_factory.mktemp("pipelines"), "pipelines") as core:
        device = Device(core)
        core.start()
        yield device
        core.stop()


def test_each_has_its_model_and_its_rate_and_a_shared_model_is_there_once(device: Device) -> None:
    device.deploy_usual()
    device.check("quick", "slow", "shared")
    core = device.core
    status = {item["name"]: item for item in core.status()["pipelines"]}
    assert {name: item["model"]["sha256"] for name, item in status.items()} == {
        "quick": device.digest("colours.zip"),
        "slow": device.digest("shades.zip"),
        "shared": device.digest("colours.zip"),
    }
    for name in ("quick", "slow", "shared"):
        assert models_of(core.seen(name)) == [status[name]["model"]["sha256"]]
    stored = {path.name for path in (core.root / "models").iterdir() if len(path.name) == 64}
    assert stored == {device.digest("colours.zip"), device.digest("shades.zip")}
    assert len(core.seen("quick")) > len(core.seen("shared")) > len(core.seen("slow"))


def test_what_a_deployment_does_not_change_keeps_its_worker(device: Device) -> None:
    core, before = device.core, device.deploy_usual()
    core.deploy_well(device.deployment(slow=device.pipeline("shades.zip", "200ms", top=2)))
    changed = device.workers(3)
    assert len(before & changed) == 2
    core.deploy_well(device.deployment(slow=None, new=device.pipeline("shades.zip", "200ms")))
    replaced = device.workers(3)
    assert len(changed & replaced) == 2
    core.deploy_well(device.deployment(slow=None))
    left = device.workers(2)
    assert left < replaced
    assert sorted(item["name"] for item in core.status()["pipelines"]) == ["quick", "shared"]
    assert device.deploy_usual() > left
    device.check("quick", "slow", "shared")


def test_one_bad_pipeline_refuses_the_whole_deployment(device: Device) -> None:
    core, before = device.core, device.deploy_usual()
    document = core.deploy(device.deployment(slow=device.pipeline("not-numbers.zip", "50ms")))
    assert document["state"] == "refused"
    assert "numbers that are none" in document["error"]["what"]
    assert device.workers(3) == before
    device.check("quick", "slow", "shared")


def test_a_crash_loop_takes_the_deployment_back_and_only_its_own_worker_is_replaced(device: Device) -> None:
    core, before = device.core, device.deploy_usual()
    crashing = device.pipeline("crashing.zip", "50ms", "turning-white")
    revision = core.send(device.deployment(slow=crashing))
    core.wait_for_state(revision, "rolled_back", deadline_s=60)
    core.wait_for_frames(2, "slow", device.digest("shades.zip"))
    assert len(device.workers(3) & before) == 2
    check_unbroken(core.seen("slow"), device.labels)
    device.check("quick", "shared")


def test_one_that_crashes_again_and_again_leaves_the_others_running(device: Device) -> None:
    """Its deployment was good for so long that nothing is taken back any more."""
    core, folder = device.core, device.folder / "later-white"
    numbered_images(folder, COLOURED)
    core.deploy_well(device.deployment(slow=device.pipeline("crashing.zip", "50ms", "later-white")))
    core.stop()
    pointer = core.root / "deployments" / "pointer.json"
    pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "activated_at": time.time() - 3600}))
    core.start()
    before = device.workers(3)
    device.check("quick", "shared")
    for index in range(COLOURED, COLOURED + 20):
        white_image(folder / f"frame-{index}.png")
    core.wait(lambda: slow(core)["restarts"] >= 3, "its third crash")
    assert "SIGFPE" in slow(core)["error"]
    assert core.status()["health"] == "degraded"
    device.check("quick", "shared")
    assert len(before & set(core.workers())) == 2
    assert core.reports()[-1]["state"] == "healthy"
    device.deploy_usual()
    device.check("quick", "shared")


def slow(core: CoreProcess) -> dict[str, Any]:
    return next(item for item in core.status()["pipelines"] if item["name"] == "slow")
