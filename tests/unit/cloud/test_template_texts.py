"""The texts that a device's stack hands out, config.json, deployment and command: each is used as it would be."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fixtures.brokers import Certificates
from tests.fixtures.cfn_resolve import Unresolvable
from tests.fixtures.device_stacks import CORE, MODEL, PLACES, SHA256, device_stack, endpoints

from mli.config.deployment import parse_deployment, read_deployment
from mli.config.device import load_device
from mli.config.settings import DeploymentSettings, DeviceSettings
from mli.core.bundle_request import BundleRequest
from mli.core.device_bundle import write_bundle

BUNDLED = ("root.ca.pem", "thing.cert.pem", "thing.private.key")
RECORDER = """#!/bin/sh
for word in "$@"; do
  if [ "$word" = describe-endpoint ]; then
    printf '%s\\n' "$*" > "$RECORD/asked"
    echo a1b2-ats.iot.eu-west-1.amazonaws.com
    exit
  fi
done
for word in "$@"; do printf '%s\\0' "$word"; done > "$RECORD/words"
cat > "$RECORD/input"
"""
NASTY = (
    "$(>there)",
    "`>there`",
    "a;>there",
    "a|b&c",
    "100%s%d",
    "!!",
    "~/x",
    "*?[a]",
    "#x",
    "ü→✓",
    "a<b>c",
    "$HOME",
    "--payload",
)
"""Parts of a key or a source that a shell, printf or JSON may take for more than text."""


@pytest.fixture
def folder(tmp_path: Path, certificates: Certificates) -> Path:
    """A device's folder with its three certificates."""
    (tmp_path / "config").mkdir()
    (tmp_path / "certs").mkdir()
    for name, file in zip(BUNDLED, (certificates.ca, certificates.client, certificates.client_key), strict=True):
        shutil.copy(file, tmp_path / "certs" / name)
    return tmp_path


def configured(folder: Path, **parameters: str) -> DeviceSettings:
    (folder / "config" / "config.json").write_text(device_stack(**parameters).outputs["GreengrassConfig"])
    return load_device(folder)


def parsed(text: str, device: DeviceSettings) -> DeploymentSettings:
    return parse_deployment(
        text.encode(), device, origin="remote", folder=Path("/"), name="the output", check_files=False
    )


@pytest.mark.parametrize("partition", PLACES)
def test_config_json_is_complete(partition: str, folder: Path) -> None:
    region, _ = PLACES[partition]
    given = endpoints(partition)
    (folder / "config" / "config.json").write_text(device_stack(partition, **given).outputs["GreengrassConfig"])
    device = load_device(folder)
    assert device.thing == CORE
    assert device.mqtt is not None
    assert (device.mqtt.host, device.mqtt.port, device.mqtt.client_id) == (given["IotEndpoint"], 8883, CORE)
    assert device.mqtt.tls is not None
    assert [device.mqtt.tls.ca_path, device.mqtt.tls.certificate_path, device.mqtt.tls.private_key_path] == [
        str(folder / "certs" / name) for name in BUNDLED
    ]
    store = device.store
    assert (store.role_alias, store.credentials_endpoint, store.region) == (
        "mli-device",
        given["CredentialsEndpoint"],
        region,
    )


def test_config_json_is_what_mli_device_bundle_writes(certificates: Certificates, tmp_path: Path) -> None:
    stack = device_stack(**endpoints())
    request = BundleRequest(
        thing=stack.outputs["ThingArn"],
        endpoint=stack.outputs["IotEndpoint"],
        certificate=certificates.client,
        key=certificates.client_key,
        authorities=certificates.ca,
        region="eu-west-1",
        role_alias=stack.outputs["RoleAlias"],
        credentials_endpoint=stack.outputs["CredentialsEndpoint"],
    )
    write_bundle(request, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        bundled = json.loads(archive.read("config/config.json"))
    assert json.loads(stack.outputs["GreengrassConfig"]) == bundled


def test_without_endpoints_the_next_step_is_told_in_place_of_half_a_config() -> None:
    outputs = device_stack().outputs
    assert "GreengrassConfig" not in outputs
    assert "iot:Data-ATS" in outputs["NextStep"]
    assert "iot:CredentialProvider" in outputs["NextStep"]
    assert "NextStep" not in device_stack(**endpoints()).outputs


def test_the_deployment_is_what_the_parameters_say(folder: Path) -> None:
    given = {"ModelSha256": SHA256, "Source": "images", "Revision": "7"}
    device = configured(folder, **endpoints())
    text = device_stack(**given).outputs["Deployment"]
    assert read_deployment(text.encode(), "x").revision == 7
    deployment = parsed(text, device)
    (model,) = deployment.models.values()
    (pipeline,) = deployment.pipelines
    assert (model.uri, model.sha256) == (MODEL, SHA256)
    assert pipeline.source.uri == str(folder / "images")
    assert pipeline.publish.topic == f"mli/predictions/{CORE}"
    assert not pipeline.publish.image_name


def test_an_adopted_device_keeps_topic_and_payload(folder: Path) -> None:
    device = configured(folder, Adopt="true", **endpoints())
    assert device.thing == f"{CORE}_Core"
    (pipeline,) = parsed(device_stack(Adopt="true").outputs["Deployment"], device).pipelines
    assert pipeline.publish.topic == f"mli/predictions/{CORE}"
    assert pipeline.publish.image_name


@given(
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    source=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
)
@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow], deadline=None)
def test_whatever_the_patterns_take_is_the_same_text_in_json(key: str, source: str) -> None:
    for parameters in ({"ModelS3Uri": f"s3://bucket/{key}"}, {"Source": source}):
        try:
            outputs = device_stack(Runtime="greengrass", **parameters).outputs
        except Unresolvable:  # another test says what of
            continue
        found = json.loads(outputs["Deployment"])
        assert found["models"]["main"]["uri"] == parameters.get("ModelS3Uri", MODEL)
        assert found["pipelines"]["main"]["source"]["uri"] == parameters.get("Source", "images")
        if "ModelS3Uri" in parameters:
            read_deployment(outputs["Deployment"].encode(), "x")  # its own check of addresses takes it too


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``aws`` that writes down its words and its input."""
    program = tmp_path / "aws"
    program.write_text(RECORDER)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path))
    return tmp_path


def run(command: str, recorder: Path) -> dict[str, str]:
    """Run a command as if it was pasted; its options."""
    before = {path.name for path in recorder.iterdir()}
    result = subprocess.run(["sh", "-c", command], cwd=recorder, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")
    assert {path.name for path in recorder.iterdir()} - before <= {"words", "input", "asked"}
    *words, last = (recorder / "words").read_bytes().decode().split("\0")
    assert last == ""
    options = {"": " ".join(words[:2])}
    if "--retain" in words:
        words.remove("--retain")
        options["--retain"] = ""
    return options | dict(zip(words[2::2], words[3::2], strict=True))


@pytest.mark.parametrize("part", ["plain", *NASTY])
def test_the_command_publishes_the_deployment_retained(part: str, recorder: Path) -> None:
    outputs = device_stack(ModelS3Uri=f"s3://bucket/{part}.zip", Source=part, Adopt="true", **endpoints()).outputs
    assert run(outputs["CommandToDeployGroup"], recorder) == {
        "": "iot-data publish",
        "--region": "eu-west-1",
        "--endpoint-url": f"https://{outputs['IotEndpoint']}",
        "--topic": f"mli/deployments/{CORE}_Core",
        "--qos": "1",
        "--retain": "",
        "--payload": "fileb:///dev/stdin",
    }
    assert (recorder / "input").read_bytes().decode() == outputs["Deployment"]
    assert "\n" not in outputs["CommandToDeployGroup"]


def test_the_command_asks_for_the_endpoint_where_the_stack_does_not_know_it(recorder: Path) -> None:
    options = run(device_stack().outputs["CommandToDeployGroup"], recorder)
    assert options["--endpoint-url"] == "https://a1b2-ats.iot.eu-west-1.amazonaws.com"
    assert "--endpoint-type iot:Data-ATS" in (recorder / "asked").read_text()


@pytest.mark.parametrize("adopt", ["false", "true"])
@pytest.mark.parametrize("part", ["plain", *NASTY])
def test_with_greengrass_the_command_is_the_stack_s_own_deployment(part: str, adopt: str, recorder: Path) -> None:
    stack = device_stack(
        Runtime="greengrass", Adopt=adopt, ModelS3Uri=f"s3://bucket/{part}.zip", Source=part, ModelSha256=SHA256
    )
    made = stack.resources["Deployment"].properties
    options = run(stack.outputs["CommandToDeployGroup"], recorder)
    assert options[""] == "greengrassv2 create-deployment"
    assert options["--target-arn"] == made["TargetArn"]
    assert options["--deployment-name"] == made["DeploymentName"]
    assert small(json.loads(options["--components"])) == small(made["Components"])
    assert small(json.loads(options["--deployment-policies"])) == small(made["DeploymentPolicies"])


def small(value: Any) -> Any:
    """CloudFormation's names of keys as the API has them."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: small(item) for key, item in value.items()}
    return value


def test_the_api_s_own_model_takes_the_command(recorder: Path) -> None:
    """botocore knows what CreateDeployment takes, with which names and types."""
    import botocore.session
    from botocore.validate import ParamValidator

    options = run(device_stack(Runtime="greengrass").outputs["CommandToDeployGroup"], recorder)
    model = botocore.session.get_session().get_service_model("greengrassv2").operation_model("CreateDeployment")
    said = {
        "targetArn": options["--target-arn"],
        "deploymentName": options["--deployment-name"],
        "components": json.loads(options["--components"]),
        "deploymentPolicies": json.loads(options["--deployment-policies"]),
    }
    assert not ParamValidator().validate(said, model.input_shape).has_errors()
    wrong = {**said, "components": {"mli.core": {"version": "1"}}}
    assert ParamValidator().validate(wrong, model.input_shape).has_errors()


def test_what_runs_on_the_device_is_the_same_on_both_ways(folder: Path) -> None:
    device = configured(folder, **endpoints())
    core, greengrass = (
        parsed(device_stack(Runtime=runtime).outputs["Deployment"], device) for runtime in ("core", "greengrass")
    )
    assert replace(core, revision=None) == replace(greengrass, revision=None)
