"""``mli stack deploy --runtime greengrass`` against moto: artifact, component, device, in this order."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.stack_rig import Rig

from mli.cloud import component_package, stack_component
from mli.cloud.component_package import ComponentPackage
from mli.cloud.component_recipe import artifact_key, component_version, recipe_text

COMPONENT = "mli-component"


class Packer:
    """Packs a small component in place of the real one, whose wheels are no part of this."""

    def __init__(self) -> None:
        self.content = b"one"
        self.calls = 0

    def build(self, out: Path, *_: Any, **__: Any) -> ComponentPackage:
        self.calls += 1
        digest = hashlib.sha256(self.content).hexdigest()
        version = component_version("1.0.0", digest)
        artifact = out / "mli-core.zip"
        artifact.parent.mkdir(parents=True, exist_ok=True)
        artifact.write_bytes(self.content)
        return ComponentPackage(
            recipe=recipe_text(version, digest),
            recipe_path=out / "recipe.json",
            artifact=artifact,
            artifact_key=artifact_key(version),
            sha256=digest,
            size_bytes=len(self.content),
            version=version,
            targets=("x86_64-cp311",),
            unpacked_bytes=1,
        )


@pytest.fixture
def packer(monkeypatch: pytest.MonkeyPatch) -> Packer:
    packer = Packer()
    monkeypatch.setattr(component_package, "build", packer.build)
    return packer


def parameters(rig: Rig, name: str) -> dict[str, str]:
    told = rig.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]["Parameters"]
    return {item["ParameterKey"]: item["ParameterValue"] for item in told}


def artifacts(rig: Rig) -> list[str]:
    client = rig.client("s3")
    (bucket,) = [b["Name"] for b in client.list_buckets()["Buckets"] if "artifact" in b["Name"]]
    return [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_the_artifact_lies_there_before_the_stack_that_names_it(
    stack_rig: Rig, packer: Packer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packer.content == b"one"
    seen: list[list[str]] = []
    bring = vars(stack_component)["bring"]

    def watched(*given: Any) -> Any:
        seen.append(artifacts(stack_rig))
        return bring(*given)

    monkeypatch.setattr(stack_component, "bring", watched)
    ran = stack_rig.deploy("line-1", "--runtime", "greengrass")
    assert ran.exit_code == 0, ran.err
    version = component_version("1.0.0", hashlib.sha256(b"one").hexdigest())
    assert seen == [[artifact_key(version)]]
    assert ran.out.splitlines()[:3] == ["mli-shared: made", "mli-component: made", "mli-line-1: made"]
    assert parameters(stack_rig, "mli-line-1")["ComponentVersion"] == version
    assert "mli stack outputs line-1 --output CommandToDeployGroup" not in ran.out
    assert len(stack_rig.policies()) == 3


def test_a_second_run_keeps_the_runtime_and_changes_and_uploads_nothing(stack_rig: Rig, packer: Packer) -> None:
    stack_rig.deploy("line-1", "--runtime", "greengrass")
    ran = stack_rig.deploy("line-1")
    assert [line.split(": ")[1] for line in ran.out.splitlines()[:3]] == ["nothing to change"] * 3
    assert "uploading" not in ran.err

    packer.content = b"two"
    ran = stack_rig.deploy("line-1")
    assert ran.exit_code == 0, ran.err
    assert "uploading the component 1.0.0" in ran.err
    assert ran.out.splitlines()[1:3] == ["mli-component: updated", "mli-line-1: updated"]
    assert len(artifacts(stack_rig)) == 2
    status = stack_rig.stack("status", "line-1")
    assert (status.exit_code, "mli-component  UPDATE_COMPLETE" in status.out) == (0, True)


def test_a_dry_run_uploads_nothing(stack_rig: Rig, packer: Packer) -> None:
    ran = stack_rig.deploy("line-1", "--runtime", "greengrass", "--dry-run")
    assert ran.exit_code == 0, ran.err
    assert "Deployment  AWS::GreengrassV2::Deployment" in ran.out
    assert [stack_rig.status(name) for name in ("mli-shared", COMPONENT, "mli-line-1")] == [None] * 3
    stack_rig.stack("deploy", "--shared")
    stack_rig.deploy("line-1", "--runtime", "greengrass", "--dry-run")
    assert (artifacts(stack_rig), stack_rig.change_sets(), packer.calls) == ([], [], 2)


def test_from_core_to_greengrass_and_back(stack_rig: Rig, packer: Packer) -> None:
    stack_rig.deploy("line-1")
    assert packer.calls == 0
    ran = stack_rig.deploy("line-1", "--runtime", "greengrass")
    assert ran.exit_code == 0, ran.err
    assert (packer.calls, len(stack_rig.policies())) == (1, 3)
    refused = stack_rig.deploy("line-1", "--runtime", "core")
    assert (refused.exit_code, "NucleusPolicy (REMOVE)" in refused.err) == (2, True)
    assert stack_rig.deploy("line-1", "--runtime", "core", "--yes").exit_code == 0
    assert len(stack_rig.policies()) == 1


def test_the_component_goes_with_what_all_share(stack_rig: Rig, packer: Packer) -> None:
    stack_rig.deploy("line-1", "--runtime", "greengrass")
    assert packer.calls == 1
    stack_rig.stack("destroy", "line-1", "--yes")
    ran = stack_rig.stack("destroy", "--shared", "--yes")
    assert (ran.exit_code, stack_rig.status(COMPONENT), stack_rig.status("mli-shared")) == (0, None, None)
