"""greengrass-setup.zip: the accelerator's form, safe modes, and nothing written where anything is wrong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from tests.fixtures.device_files import DeviceFiles, elliptic_key, make_device_files, private_pem

from mli.config.device import load_device
from mli.config.settings import TlsSettings
from mli.core.aws_endpoint import aws_host
from mli.core.bundle_request import BundleRequest
from mli.core.device_bundle import Bundle, write_bundle
from mli.errors import UsageError

ATS = "a1b2c3d4e5f6g7-ats.iot.eu-west-1.amazonaws.com"
PROVIDER = "c1d2e3f4.credentials.iot.eu-west-1.amazonaws.com"


@pytest.fixture
def files(tmp_path: Path) -> DeviceFiles:
    return make_device_files(tmp_path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "greengrass-setup.zip"


def request_for(files: DeviceFiles, **changes: Any) -> BundleRequest:
    wanted = BundleRequest("gg_mli_accel", ATS, certificate=files.cert, key=files.key, authorities=files.ca)
    return replace(wanted, **changes)


def unzipped(bundle: Bundle, folder: Path) -> Path:
    """As its user does it; a careless umask must not matter."""
    subprocess.run(["unzip", "-q", str(bundle.path), "-d", str(folder)], check=True, preexec_fn=lambda: os.umask(0))
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_has_the_accelerators_form(files: DeviceFiles, out: Path, tmp_path: Path) -> None:
    folder = unzipped(write_bundle(request_for(files), out), tmp_path / "root")
    assert json.loads((folder / "config" / "config.json").read_text()) == {
        "coreThing": {
            "caPath": "root.ca.pem",
            "certPath": "thing.cert.pem",
            "keyPath": "thing.private.key",
            "thingArn": "arn:aws:iot:eu-west-1::thing/gg_mli_accel",
            "iotHost": ATS,
            "ggHost": "greengrass-ats.iot.eu-west-1.amazonaws.com",
            "iotMqttPort": 8883,
            "keepAlive": 60,
        },
        "runtime": {"cgroup": {"useSystemd": "yes"}},
        "managedRespawn": False,
        "crypto": {
            "principals": {
                "SecretsManager": {"privateKeyPath": "file:///greengrass/certs/thing.private.key"},
                "IoTCertificate": {
                    "privateKeyPath": "file:///greengrass/certs/thing.private.key",
                    "certificatePath": "file:///greengrass/certs/thing.cert.pem",
                },
            },
            "caPath": "file:///greengrass/certs/root.ca.pem",
        },
    }
    assert (folder / "certs" / "root.ca.pem").read_bytes() == files.ca.read_bytes()
    assert (folder / "certs" / "thing.cert.pem").read_bytes() == files.cert.read_bytes()
    assert (folder / "certs" / "thing.private.key").read_bytes() == files.key.read_bytes()
    assert not (folder / "device.yaml").exists()


def test_keys_are_for_the_owner_alone_in_the_zip_and_beside_it(files: DeviceFiles, out: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        bundle = write_bundle(request_for(files), out)
    finally:
        os.umask(before)
    assert mode(out) == 0o600
    folder = unzipped(bundle, tmp_path / "root")
    modes = {str(path.relative_to(folder)): mode(path) for path in folder.rglob("*")}
    assert modes == {
        "config": 0o755,
        "config/config.json": 0o644,
        "certs": 0o755,
        "certs/root.ca.pem": 0o644,
        "certs/thing.cert.pem": 0o644,
        "certs/thing.private.key": 0o600,
    }


def test_device_yaml_is_for_whom_is_trusted_and_config_json_for_all_else(
    files: DeviceFiles, out: Path, tmp_path: Path
) -> None:
    store = {"region": "us-east-1", "role_alias": "GreengrassRole", "credentials_endpoint": PROVIDER}
    folder = unzipped(write_bundle(request_for(files, **store), out), tmp_path / "alone")
    core_thing = json.loads((folder / "config" / "config.json").read_text())["coreThing"]
    said = {key: core_thing[key] for key in ("awsRegion", "iotRoleAlias", "iotCredEndpoint")}
    assert said == {"awsRegion": "us-east-1", "iotRoleAlias": "GreengrassRole", "iotCredEndpoint": PROVIDER}
    assert not (folder / "device.yaml").exists()

    wanted = request_for(files, **store, trust=(files.deployer, files.deployer))
    bundle = write_bundle(wanted, out, overwrite=True)
    assert bundle.trusted == 1
    device = yaml.safe_load((unzipped(bundle, tmp_path / "trusting") / "device.yaml").read_text())
    assert device == {"trust": [files.deployer.read_text()]}


@pytest.mark.parametrize(("endpoint", "port", "alpn"), [(ATS, 443, "x-amzn-mqtt-ca"), ("broker.example", 8884, None)])
def test_the_core_takes_the_folder_as_it_is(
    files: DeviceFiles, out: Path, tmp_path: Path, endpoint: str, port: int, alpn: str | None
) -> None:
    provider = {"role_alias": "GreengrassRole", "credentials_endpoint": PROVIDER} if alpn else {}
    wanted = request_for(files, endpoint=endpoint, port=port, trust=(files.deployer,), **provider)
    root = unzipped(write_bundle(wanted, out), tmp_path / "root")
    device = load_device(root)
    assert device.mqtt is not None
    assert (device.thing, device.mqtt.client_id, device.root) == ("gg_mli_accel", "gg_mli_accel", str(root))
    assert (device.mqtt.host, device.mqtt.port, device.mqtt.keepalive_s) == (endpoint, port, 60)
    certs = f"{root}/certs"
    pem = {"ca_path": f"{certs}/root.ca.pem", "certificate_path": f"{certs}/thing.cert.pem"}
    assert device.mqtt.tls == TlsSettings(**pem, private_key_path=f"{certs}/thing.private.key", alpn=alpn)
    assert (device.store.role_alias, device.store.credentials_endpoint) == (
        (None, None) if alpn is None else ("GreengrassRole", PROVIDER)
    )
    assert [anchor.public_key for anchor in device.trust] == [raw_public_key(files.deployer.read_bytes()).hex()]


def raw_public_key(pem: bytes) -> bytes:
    key = serialization.load_pem_public_key(pem)
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def test_an_arn_is_kept_and_a_broker_of_ones_own_has_neither_region_nor_account(
    files: DeviceFiles, out: Path
) -> None:
    arn = "arn:aws:iot:eu-west-1:123456789012:thing/press-4"
    assert write_bundle(request_for(files, thing=arn), out).thing == "press-4"
    with zipfile.ZipFile(out) as archive:
        assert json.loads(archive.read("config/config.json"))["coreThing"]["thingArn"] == arn
    own = request_for(files, thing="press-4", endpoint="Broker.example.org.", port=8884)
    write_bundle(own, out, overwrite=True)
    with zipfile.ZipFile(out) as archive:
        core_thing = json.loads(archive.read("config/config.json"))["coreThing"]
    assert core_thing["thingArn"] == "arn:aws:iot:::thing/press-4"
    assert (core_thing["iotHost"], core_thing["iotMqttPort"]) == ("broker.example.org", 8884)
    assert "ggHost" not in core_thing


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"thing": "press 4"}, "this is no name of a thing"),
        ({"thing": ""}, "this is no name of a thing"),
        ({"thing": "arn:aws:iot:eu-west-1:123456789012:thing/a/b"}, "this is no name of a thing"),
        ({"endpoint": f"mqtts://{ATS}:8883"}, "leave out mqtts:// and the port"),
        ({"endpoint": "broker_.example..org"}, "the endpoint is no host name"),
        ({"endpoint": PROVIDER}, "takes no MQTT"),
        ({"endpoint": "greengrass-ats.iot.eu-west-1.amazonaws.com"}, "takes no MQTT"),
        ({"port": 1883}, "--port 8883 or 443"),
        ({"region": "Ireland!"}, "this is no region"),
        ({"role_alias": "Role"}, "--role-alias alone"),
        ({"credentials_endpoint": PROVIDER}, "--credentials-endpoint alone"),
        ({"role_alias": "a role", "credentials_endpoint": PROVIDER}, "this is no role alias"),
        ({"role_alias": "Role", "credentials_endpoint": ATS}, "no host of the credentials provider"),
        (
            {"role_alias": "Role", "credentials_endpoint": PROVIDER.replace("west", "north")},
            "a credentials endpoint in eu-west-1",
        ),
        ({"trust": (Path("absent.pem"),)}, "the public key cannot be read"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(
    files: DeviceFiles, out: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError) as error:
        write_bundle(request_for(files, **changes), out)
    assert expected in str(error.value)
    assert not out.exists()


def test_the_key_of_a_certificate_authority_or_a_private_key_is_nobody_to_trust(
    files: DeviceFiles, out: Path
) -> None:
    for content, expected in (
        (files.key.read_bytes(), "found a private one"),
        (files.ca.read_bytes(), "certificate"),
    ):
        files.deployer.write_bytes(content)
        with pytest.raises(UsageError) as error:
            write_bundle(request_for(files, trust=(files.deployer,)), out)
        assert expected in str(error.value)


def test_everything_wrong_is_told_at_once(files: DeviceFiles, out: Path) -> None:
    files.key.write_bytes(private_pem(elliptic_key()))
    files.ca.unlink()
    with pytest.raises(UsageError) as error:
        write_bundle(request_for(files, thing="a b", port=1), out)
    text = str(error.value)
    assert text.startswith("4 things are wrong, and nothing was done\n\nthis is no name of a thing")
    assert "the private key does not belong to the certificate" in text
    assert str(files.ca) in text


def test_the_old_endpoint_of_aws_is_a_caution_that_names_the_new_one(files: DeviceFiles, out: Path) -> None:
    bundle = write_bundle(request_for(files, endpoint=ATS.replace("-ats", "")), out)
    (caution,) = bundle.cautions
    assert ATS in caution


def test_a_file_that_is_there_is_only_replaced_when_asked_and_never_followed(files: DeviceFiles, out: Path) -> None:
    elsewhere = out.with_name("precious")
    elsewhere.write_text("kept")
    out.symlink_to(elsewhere)
    with pytest.raises(UsageError, match="there already"):
        write_bundle(request_for(files), out)
    write_bundle(request_for(files), out, overwrite=True)
    assert elsewhere.read_text() == "kept"
    assert zipfile.is_zipfile(out)
    assert [path.name for path in out.parent.glob(".greengrass*")] == []


@pytest.mark.parametrize(
    ("name", "expected"), [("setup.tar", "expected: X.zip"), ("absent/x.zip", "writable folder")]
)
def test_a_target_that_cannot_be_is_told(files: DeviceFiles, out: Path, name: str, expected: str) -> None:
    with pytest.raises(UsageError) as error:
        write_bundle(request_for(files), out.with_name("x").parent / name)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("host", "service", "region"),
    [
        (ATS, "data", "eu-west-1"),
        (ATS.upper(), "data", "eu-west-1"),
        (f"{ATS.replace('eu-west-1', 'cn-north-1')}.cn", "data", "cn-north-1"),
        (ATS.replace("eu-west-1", "us-gov-west-1"), "data", "us-gov-west-1"),
        (ATS.replace("-ats", ""), "legacy-data", "eu-west-1"),
        (PROVIDER, "credentials", "eu-west-1"),
        (ATS.replace("-ats", ".jobs"), "other", "eu-west-1"),
    ],
)
def test_hosts_of_aws_are_known(host: str, service: str, region: str) -> None:
    found = aws_host(host)
    assert found is not None
    assert (found.service, found.region) == (service, region)


@pytest.mark.parametrize("host", ["localhost", "192.168.1.9", "iot.example.org", f"{ATS}.evil.example"])
def test_other_hosts_are_not_of_aws(host: str) -> None:
    assert aws_host(host) is None
