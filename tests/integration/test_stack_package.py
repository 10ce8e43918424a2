"""``mli stack package``: templates and commands that the AWS CLI runs, here at moto."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.stack_rig import MODELS, Rig
from tests.integration.test_stack_greengrass import Packer

from mli.cloud import component_package
from mli.cloud.stack_template import read_template
from mli.cloud.template_text import template_text

PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def deploy_by_hand(rig: Rig, folder: Path) -> str:
    """The script as a person runs it."""
    command = ["sh", str(folder / "deploy.sh"), "line-1", rig.certificate, f"s3://{MODELS}/m.zip", "by-hand"]
    ran = subprocess.run(command, env={**os.environ, "PATH": PATH}, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_files_need_no_account(tmp_path: Path, stack_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    ran = stack_rig.stack("package", "-o", str(tmp_path / "new" / "folder"), "--json")
    assert ran.exit_code == 0
    assert {"deploy.sh", "device.yaml", "shared.yaml", "ec2.yaml"} <= set(ran.json["files"])
    assert "component.yaml" not in ran.json["files"]
    assert (tmp_path / "new/folder/device.yaml").read_text() == template_text("device")


def test_the_script_says_what_it_needs(tmp_path: Path, stack_rig: Rig) -> None:
    stack_rig.stack("package", "-o", str(tmp_path))
    ran = subprocess.run(["sh", "deploy.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, "CORE_NAME CERTIFICATE_ID" in ran.stderr) == (2, True)


def test_the_parameters_file_has_every_parameter_and_first_those_that_must_be_said(
    tmp_path: Path, stack_rig: Rig
) -> None:
    stack_rig.stack("package", "-o", str(tmp_path))
    listed = json.loads((tmp_path / "device-parameters.json").read_text())
    assert [item["ParameterKey"] for item in listed[:3]] == ["CoreName", "CertIdParam", "ModelS3Uri"]
    assert {item["ParameterKey"] for item in listed} == set(read_template(template_text("device"))["Parameters"])


def test_the_script_makes_with_the_aws_cli_what_mli_then_takes_as_its_own(tmp_path: Path, stack_rig: Rig) -> None:
    stack_rig.stack("package", "-o", str(tmp_path))
    said = deploy_by_hand(stack_rig, tmp_path)
    assert '"iotRoleAlias":"mli-device"' in said
    assert "aws iot-data publish" in said
    assert stack_rig.things() == ["line-1"]

    ran = stack_rig.stack("deploy", "line-1", "--stack-name", "by-hand", "--dry-run", "--json")
    assert ran.exit_code == 0, ran.err
    changes = [change for one in ran.json["stacks"] for change in one["changes"]]
    assert changes == []  # only our tags are new
    assert stack_rig.stack("destroy", "line-1", "--stack-name", "by-hand", "--yes").exit_code == 0


@pytest.mark.parametrize(
    ("had", "buckets"),
    [
        ("", "my-models"),
        ("others", "others,my-models"),
        ("others,my-models", "others,my-models"),
        ("my-models-2", "my-models-2,my-models"),
    ],
)
def test_the_script_forgets_no_bucket_of_another_device(
    tmp_path: Path, stack_rig: Rig, had: str, buckets: str
) -> None:
    stack_rig.stack("package", "-o", str(tmp_path))
    fake, log = tmp_path / "aws", tmp_path / "log"
    fake.write_text(f'#!/bin/sh\necho "$*" >>{log}\ncase "$*" in *ParameterKey==*) echo "{had}" ;; esac\n')
    fake.chmod(0o755)
    command = ["sh", "deploy.sh", "line-1", "0" * 64, f"s3://{MODELS}/m.zip", "a"]
    subprocess.run(command, cwd=tmp_path, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True, timeout=60)
    (line,) = [line for line in log.read_text().splitlines() if "shared.yaml" in line]
    assert line.endswith(f"ModelBuckets={buckets}")


def test_with_the_component_the_artifact_is_uploaded_by_the_script(
    tmp_path: Path, stack_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(component_package, "build", Packer().build)
    ran = stack_rig.stack("package", "-o", str(tmp_path), "--component", "--json")
    assert ran.exit_code == 0, ran.err
    deploy_by_hand(stack_rig, tmp_path)
    bucket = stack_rig.stack("outputs", "line-1", "--stack-name", "by-hand", "--output", "ArtifactBucket").out.strip()
    stack_rig.client("s3").head_object(Bucket=bucket, Key=ran.json["component"]["artifact_key"])
    assert (
        stack_rig.stack("outputs", "line-1", "--stack-name", "by-hand", "--output", "Runtime").out == "greengrass\n"
    )


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, stack_rig: Rig) -> None:
    (tmp_path / "file").write_text("")
    ran = stack_rig.stack("package", "-o", str(tmp_path / "file" / "below"))
    assert (ran.exit_code, "The templates cannot be written." in ran.err) == (1, True)
