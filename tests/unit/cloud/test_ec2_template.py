"""The EC2 core: nothing gets in, the metadata are closed, the disk is encrypted, its script is sound."""

from __future__ import annotations

import ast
import re
import subprocess
from typing import Any

import pytest
from tests.fixtures.cfn_resolve import Unresolvable, load_template
from tests.fixtures.ec2_stack import KEY, SECRET, TEMPLATE, aws_calls, ec2_stack, user_data

USER_DATA_LIMIT_BYTES = 16 * 1024
CORE = {"ArtifactKey": KEY, "ArtifactSha256": "a" * 64}
GREENGRASS = {"Runtime": "greengrass", "NucleusUrl": "https://example.com/n.zip", "NucleusSha256": "a" * 64}


def instance(**parameters: str) -> dict[str, Any]:
    return ec2_stack(**parameters).resources["Core"].properties


def test_nothing_gets_in() -> None:
    group = ec2_stack(**CORE).resources["SecurityGroup"].properties
    assert "SecurityGroupIngress" not in group
    assert not ec2_stack(**CORE).of_type("AWS::EC2::SecurityGroupIngress")
    assert "KeyName" not in instance(**CORE)


def test_out_goes_only_what_is_needed() -> None:
    egress = ec2_stack(**CORE).resources["SecurityGroup"].properties["SecurityGroupEgress"]
    assert {(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in egress} == {
        ("tcp", 443, 443),
        ("tcp", 8883, 8883),
        ("tcp", 80, 80),
    }


def test_metadata_need_a_token_and_stay_on_the_machine() -> None:
    template = ec2_stack(**CORE).resources["Template"].properties["LaunchTemplateData"]
    assert template["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }
    assert instance(**CORE)["LaunchTemplate"]["LaunchTemplateId"] == ec2_stack(**CORE).resources["Template"].physical


@pytest.mark.parametrize(
    ("system", "device"),
    [("ubuntu-24.04", "/dev/sda1"), ("debian-12", "/dev/xvda"), ("amazon-linux-2023", "/dev/xvda")],
)
def test_the_root_disk_is_encrypted(system: str, device: str) -> None:
    (disk,) = instance(**CORE, System=system)["BlockDeviceMappings"]
    assert disk["DeviceName"] == device
    assert disk["Ebs"]["Encrypted"] is True
    assert disk["Ebs"]["VolumeType"] == "gp3"


@pytest.mark.parametrize(
    ("system", "architecture", "parameter"),
    [
        ("ubuntu-24.04", "arm64", "canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id"),
        ("ubuntu-24.04", "amd64", "canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"),
        ("debian-12", "arm64", "debian/release/12/latest/arm64"),
        ("debian-12", "amd64", "debian/release/12/latest/amd64"),
        ("amazon-linux-2023", "arm64", "ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"),
        ("amazon-linux-2023", "amd64", "ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"),
    ],
)
def test_image_and_machine_fit_each_other(system: str, architecture: str, parameter: str) -> None:
    core = instance(**CORE, System=system, Architecture=architecture, Size="medium")
    assert core["ImageId"] == f"{{{{resolve:ssm:/aws/service/{parameter}}}}}"
    assert core["InstanceType"] == {"arm64": "t4g.medium", "amd64": "t3.medium"}[architecture]


def test_the_stack_waits_for_one_signal() -> None:
    policy = load_template(TEMPLATE)["Resources"]["Core"]["CreationPolicy"]
    assert policy == {"ResourceSignal": {"Count": 1, "Timeout": "PT20M"}}


@pytest.mark.parametrize("parameters", [CORE, GREENGRASS])
def test_the_script_is_small_enough_and_sound(parameters: dict[str, str]) -> None:
    text = user_data(**parameters)
    assert len(text.encode()) < USER_DATA_LIMIT_BYTES - 2048, "room for longer names is needed"
    assert text.startswith("#!/bin/bash\n")
    # What comes before it are settings alone.
    before = text.partition("\nset -euo pipefail\n")[0].splitlines()[1:]
    assert all(line.startswith("#") or "=" in line.split()[0] for line in before)
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_its_python_is_one_that_every_image_has() -> None:
    ast.parse(aws_calls(**CORE), feature_version=(3, 9))  # Amazon Linux 2023's python3


def test_no_parameter_can_become_a_command() -> None:
    declared = load_template(TEMPLATE)["Parameters"]
    fine = {**CORE, **GREENGRASS, "BundleSecret": SECRET, "AgentVersion": "latest", "AgentSha256": "b" * 64}
    settings = set(re.findall(r"\$\{(\w+)\}", TEMPLATE.partition("#!/bin/bash\n")[2].partition("Fn::ImportValue")[0]))
    assert settings == set(fine) | {"Bucket"}, "each setting of the script is tried here"
    del fine["Runtime"]  # one of a list
    for name, value in fine.items():
        pattern = declared[name]["AllowedPattern"]
        assert re.fullmatch(pattern, value)
        for end in ("$(reboot)", "`reboot`", ";reboot", " reboot", "'", '"', "\n", "&", "|", ">x", "\\"):
            assert not re.fullmatch(pattern, value + end), f"{name}: {value + end!r}"


@pytest.mark.parametrize("parameters", [CORE, GREENGRASS])
def test_what_is_installed_must_be_named_with_its_digest(parameters: dict[str, str]) -> None:
    for missing in parameters.keys() - {"Runtime"}:
        with pytest.raises(Unresolvable, match="WhatIsInstalledIsNamed"):
            ec2_stack(**{**parameters, missing: ""})


def test_no_secret_is_in_the_script_or_the_outputs() -> None:
    outputs = ec2_stack(**CORE).outputs
    assert set(outputs) == {"InstanceId", "Session", "Log"}
    assert "X-Amz-Signature" not in user_data(**CORE)
