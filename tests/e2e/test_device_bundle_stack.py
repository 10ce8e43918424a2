"""`mli device bundle --stack CORE --certs DIR` is the one command from AWS to a device's folder."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.mli_here import mli_here
from tests.fixtures.moto_server import ACCOUNT, REGION, MotoServer

from mli.cloud.names import device_stack
from mli.config.device import load_device

pytestmark = pytest.mark.usefixtures("moto_environment")
ENDPOINT = f"a1b2c3d4e5f6g7-ats.iot.{REGION}.amazonaws.com"
PROVIDER = f"c1d2e3f4.credentials.iot.{REGION}.amazonaws.com"
THING_ARN = f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/line-1"


@pytest.fixture(autouse=True)
def empty_account(moto: MotoServer) -> None:
    moto.reset()


def make_stack(
    moto: MotoServer, certificate_id: str, core: str = "line-1", stack: str | None = None, **outputs: str | None
) -> None:
    """A stack that says what a device's stack says; what it makes does not matter here."""
    said: dict[str, str | None] = {
        "ThingName": core,
        "ThingArn": f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/{core}",
        "PolicyName": f"mli-{core}",
        "RoleAlias": "mli-device",
        "IotEndpoint": ENDPOINT,
        "CredentialsEndpoint": PROVIDER,
        **outputs,
    }
    template = {
        "Parameters": {"CertIdParam": {"Type": "String"}, "CoreName": {"Type": "String", "Default": core}},
        "Resources": {"Thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": core}}},
        "Outputs": {key: {"Value": value} for key, value in said.items() if value is not None},
    }
    moto.client("cloudformation").create_stack(
        StackName=stack or device_stack(core),
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": "CertIdParam", "ParameterValue": certificate_id}],
    )


def mli(desk: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return mli_here(*arguments, cwd=desk)


def certificate_of(desk: Path, core: str = "line-1") -> str:
    done = mli(desk, "device", "cert", core, "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["certificate_id"])


def unzipped(desk: Path) -> Path:
    with zipfile.ZipFile(desk / "greengrass-setup.zip") as archive:
        archive.extractall(desk / "device")
    return desk / "device"


def core_thing(desk: Path) -> dict[str, Any]:
    with zipfile.ZipFile(desk / "greengrass-setup.zip") as archive:
        body: dict[str, Any] = json.loads(archive.read("config/config.json"))["coreThing"]
    return body


def test_the_stack_and_the_folder_say_everything(tmp_path: Path, moto: MotoServer) -> None:
    make_stack(moto, certificate_of(tmp_path))
    done = mli(tmp_path, "device", "bundle", "--stack", "line-1", "--certs", "certs/line-1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    device = load_device(unzipped(tmp_path))
    assert device.mqtt is not None
    assert (device.thing, device.mqtt.host, device.mqtt.port) == ("line-1", ENDPOINT, 8883)
    store = device.store
    assert (store.role_alias, store.credentials_endpoint, store.region) == ("mli-device", PROVIDER, REGION)
    assert core_thing(tmp_path)["thingArn"] == THING_ARN
    assert not (tmp_path / "device" / "device.yaml").exists()


def test_endpoints_that_the_stack_does_not_say_are_asked_for(tmp_path: Path, moto: MotoServer) -> None:
    make_stack(moto, certificate_of(tmp_path), IotEndpoint=None, CredentialsEndpoint=None)
    done = mli(tmp_path, "device", "bundle", "--stack", "line-1", "--certs", "certs/line-1")
    assert done.returncode == 0, done.stderr
    said = core_thing(tmp_path)
    iot = moto.client("iot")
    assert said["iotHost"] == iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    assert said["iotCredEndpoint"] == iot.describe_endpoint(endpointType="iot:CredentialProvider")["endpointAddress"]


def test_a_stack_that_somebody_named_himself_is_found_by_its_name(tmp_path: Path, moto: MotoServer) -> None:
    make_stack(moto, certificate_of(tmp_path), stack="my-own-stack")
    done = mli(tmp_path, "device", "bundle", "--stack", "my-own-stack", "--certs", "certs/line-1")
    assert done.returncode == 0, done.stderr
    assert core_thing(tmp_path)["thingArn"] == THING_ARN


def test_what_the_options_say_wins(tmp_path: Path, moto: MotoServer) -> None:
    make_stack(moto, certificate_of(tmp_path))
    options = ["--endpoint", "broker.example", "--port", "8884", "--thing", "other", "-o", "x.zip", "--json"]
    done = mli(tmp_path, "device", "bundle", "--stack", "line-1", "--certs", "certs/line-1", *options)
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert (body["thing"], body["endpoint"], body["port"], body["path"]) == ("other", "broker.example", 8884, "x.zip")


def test_a_key_that_is_on_the_device_is_left_out(tmp_path: Path, moto: MotoServer) -> None:
    """The device's folder is complete where the bundle is unzipped over the key."""
    asked = mli(tmp_path, "device", "cert", "line-1", "--csr-only", "-o", "device/certs")
    assert asked.returncode == 0, asked.stderr
    signed = mli(tmp_path, "device", "cert", "line-1", "--csr", "device/certs/thing.csr", "--json")
    make_stack(moto, json.loads(signed.stdout)["certificate_id"])
    arguments = ["--stack", "line-1", "--certs", "certs/line-1"]
    without = mli(tmp_path, "device", "bundle", *arguments)
    assert without.returncode == 2
    assert "--key" in without.stderr
    assert "--no-key" in without.stderr
    done = mli(tmp_path, "device", "bundle", *arguments, "--no-key")
    assert done.returncode == 0, done.stderr
    assert "it holds no private key" in done.stdout
    device = load_device(unzipped(tmp_path))
    assert device.mqtt is not None
    assert device.mqtt.tls is not None
    assert device.mqtt.tls.private_key_path == str(tmp_path / "device" / "certs" / "thing.private.key")


def test_a_certificate_that_the_thing_does_not_have_is_told(tmp_path: Path, moto: MotoServer) -> None:
    certificate_id = certificate_of(tmp_path)
    make_stack(moto, "0" * 64)
    arguments = ["device", "bundle", "--stack", "line-1", "--certs", "certs/line-1", "--force"]
    done = mli(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{certificate_id[:12]}… does not belong to the thing line-1" in done.stderr
    moto.client("iot").attach_thing_principal(
        thingName="line-1", principal=f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{certificate_id}"
    )
    assert mli(tmp_path, *arguments).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--stack", "line-2", "--certs", "certs/line-1"], 2, "of another core"),
        (["--stack", "line-9"], 1, "mli stack deploy line-9"),
        (["--stack", "line-1", "--certs", "absent"], 2, "mli device cert CORE_NAME"),
        (["--stack", "line-1", "--certs", "certs"], 2, "--certs certs/line-1"),
        (["--stack", "line-1", "--certs", "."], 2, "holds no files of a device"),
        (["--stack", "line-1"], 2, "needs --cert, --ca, --key"),
        (["--certs", "certs/line-1"], 2, "needs --thing, --endpoint"),
        ([], 2, "needs --thing, --endpoint, --cert, --ca, --key"),
        (["--certs", "certs/line-1", "--no-key", "--key", "x"], 2, "say one of the two"),
    ],
)
def test_what_is_missing_is_told_with_the_command_that_brings_it(
    tmp_path: Path, moto: MotoServer, arguments: list[str], code: int, told: str
) -> None:
    make_stack(moto, certificate_of(tmp_path))
    make_stack(moto, "0" * 64, "line-2")
    done = mli(tmp_path, "device", "bundle", *arguments)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "greengrass-setup.zip").exists()


def test_a_stack_that_is_none_of_a_device_is_told(tmp_path: Path, moto: MotoServer) -> None:
    make_stack(moto, certificate_of(tmp_path), PolicyName=None)
    done = mli(tmp_path, "device", "bundle", "--stack", "line-1", "--certs", "certs/line-1")
    assert done.returncode == 1
    assert "no PolicyName" in done.stderr
