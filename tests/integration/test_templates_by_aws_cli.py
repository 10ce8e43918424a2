"""The templates with the AWS CLI alone, as a person without ``mli`` would use them, on moto.

moto makes S3, IAM and IoT resources, with the corrections of ``moto_corrections.py`` also attachments. It checks no
schema (cfn-lint does: test_template_gates.py), ignores a bucket's policy and most of its properties, and makes
nothing of Greengrass V2. Here it is the second opinion on what the resolver works out, and on what deleting leaves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fixtures.cfn_resolve import load_template, resolve
from tests.fixtures.device_stacks import CORE, SHA256
from tests.fixtures.moto_server import ACCOUNT, REGION, MotoServer

from mli.cloud.template_text import template_text

AWS = Path(sys.executable).with_name("aws")
DEVICE = "mli-gg-mli-accel"
Aws = Callable[..., None]


@pytest.fixture(scope="module")
def aws(moto: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Aws:
    """``aws WORDS …``, in a folder with the packaged templates."""
    folder = tmp_path_factory.mktemp("templates")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    environment = kept | moto.environment()

    def run(*words: str) -> None:
        result = subprocess.run(
            [AWS, *words], env=environment, cwd=folder, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, (words, result.stdout, result.stderr)

    run("s3", "mb", "s3://packages")
    for name in ("shared", "device"):
        template = template_text(name)
        (folder / f"{name}.yaml").write_text(template, encoding="utf-8")
        run(
            *("cloudformation", "package", "--s3-bucket", "packages", "--template-file", f"{name}.yaml"),
            *("--output-template-file", f"packaged-{name}.yaml"),
        )
        assert load_template((folder / f"packaged-{name}.yaml").read_text(encoding="utf-8")) == load_template(
            template
        )
    return run


@pytest.fixture(scope="module")
def certificate(moto: MotoServer) -> str:
    """A person's own, active."""
    return str(moto.client("iot").create_keys_and_certificate(setAsActive=True)["certificateId"])


def deployed(aws: Aws, moto: MotoServer, template: str, stack: str, *parameters: str) -> dict[str, str]:
    """The outputs of a stack that ``aws cloudformation deploy`` makes or changes."""
    overrides = ("--parameter-overrides", *parameters) if parameters else ()
    aws(
        *("cloudformation", "deploy", "--template-file", f"packaged-{template}.yaml", "--stack-name", stack),
        *("--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset", *overrides),
    )
    (found,) = moto.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {item["OutputKey"]: item["OutputValue"] for item in found["Outputs"]}


@pytest.fixture(scope="module")
def shared(aws: Aws, moto: MotoServer) -> dict[str, str]:
    """The outputs of the shared stack, deployed with no parameter."""
    return deployed(aws, moto, "shared", "mli-shared")


@pytest.fixture(scope="module")
def device(aws: Aws, moto: MotoServer, shared: dict[str, str], certificate: str) -> dict[str, str]:
    """The outputs of a device's stack, deployed with the accelerator's three parameters."""
    return deployed(aws, moto, "device", DEVICE, *_three(shared, certificate))


def _three(shared: dict[str, str], certificate: str) -> tuple[str, ...]:
    model = f"s3://{shared['ModelBucket']}/inception-bn.zip"
    return f"CoreName={CORE}", f"CertIdParam={certificate}", f"ModelS3Uri={model}"


def _deleted(aws: Aws, stack: str) -> None:
    aws("cloudformation", "delete-stack", "--stack-name", stack)
    aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", stack)


def test_moto_works_the_outputs_out_as_the_resolver_does(
    shared: dict[str, str], device: dict[str, str], certificate: str
) -> None:
    own = resolve(template_text("shared"), region=REGION, account=ACCOUNT, stack="mli-shared").outputs
    invented = dict.fromkeys(("ModelBucket", "ArtifactBucket", "DeviceRoleArn"), "a name that CloudFormation invents")
    assert own | invented == shared | invented
    assert set(own) == set(shared)
    parameters = dict(item.split("=", 1) for item in _three(shared, certificate))
    exports = {f"mli-shared:{key}": value for key, value in shared.items()}
    worked_out = resolve(template_text("device"), parameters, exports, REGION, ACCOUNT, stack=DEVICE).outputs
    assert worked_out | {"PolicyName": ""} == device | {"PolicyName": ""}
    assert set(worked_out) == set(device)


def test_the_device_has_its_thing_its_policy_and_their_attachment(
    moto: MotoServer, device: dict[str, str], certificate: str
) -> None:
    iot, arn = moto.client("iot"), f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{certificate}"
    assert iot.list_thing_principals(thingName=CORE)["principals"] == [arn]
    attached = iot.list_attached_policies(target=arn)["policies"]
    assert [item["policyName"] for item in attached] == [device["PolicyName"]]
    assert (
        ":client/${iot:Connection.Thing.ThingName}"
        in iot.get_policy(policyName=device["PolicyName"])["policyDocument"]
    )


def test_a_change_needs_only_the_parameters_that_change(aws: Aws, moto: MotoServer, device: dict[str, str]) -> None:
    changed = deployed(aws, moto, "device", DEVICE, f"ModelSha256={SHA256}", "Revision=2")
    before, said = json.loads(device["Deployment"]), json.loads(changed["Deployment"])
    assert said["revision"] == 2
    assert said["models"]["main"] == {**before["models"]["main"], "sha256": SHA256}
    assert changed["PolicyName"] == device["PolicyName"]


@pytest.mark.usefixtures("device")
def test_deleting_takes_what_was_made_and_leaves_what_is_the_user_s(
    aws: Aws, moto: MotoServer, shared: dict[str, str], certificate: str
) -> None:
    iot, s3, arn = moto.client("iot"), moto.client("s3"), f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{certificate}"
    s3.put_object(Bucket=shared["ModelBucket"], Key="inception-bn.zip", Body=b"model")
    _deleted(aws, DEVICE)
    assert iot.list_things()["things"] == []
    assert iot.list_policies()["policies"] == []
    assert iot.list_attached_policies(target=arn)["policies"] == []
    assert iot.describe_certificate(certificateId=certificate)["certificateDescription"]["status"] == "ACTIVE"

    _deleted(aws, "mli-shared")
    assert s3.get_object(Bucket=shared["ModelBucket"], Key="inception-bn.zip")["Body"].read() == b"model"
    assert iot.list_role_aliases()["roleAliases"] == []
    assert moto.client("logs").describe_log_groups()["logGroups"] == []

    again = deployed(aws, moto, "shared", "mli-shared", f"ExistingModelBucket={shared['ModelBucket']}")
    assert again["ModelBucket"] == shared["ModelBucket"]
    assert again["ArtifactBucket"] != shared["ArtifactBucket"]
    assert deployed(aws, moto, "device", DEVICE, *_three(again, certificate))["ThingName"] == CORE
