"""A device's folder to mli's files, and what is written: backup, report, parameters."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.fixtures.greengrass_v1 import (
    CERTIFICATE_ID,
    CORE,
    ENDPOINT,
    FUNCTION,
    MODEL,
    THING,
    device_folder,
    export,
    group_json,
)

from mli.cloud.migration.findings import Finding
from mli.cloud.migration.given import given_parameters
from mli.cloud.migration.models import Choices
from mli.cloud.migration.planning import Plan, plan
from mli.cloud.migration.reading import read_setup
from mli.cloud.migration.report import report_text
from mli.cloud.migration.writing import write
from mli.config.checking import check_settings
from mli.config.deployment import parse_deployment
from mli.config.device import read_device
from mli.config.settings import DeploymentSettings
from mli.errors import UsageError


def planned(path: Path, **choices: Any) -> Plan:
    return plan(read_setup(path, {}), Choices(**choices))


def about(made: Plan, part: str) -> list[Finding]:
    return [item for item in made.findings if item.about.startswith(part)]


def with_access(*ids: str) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(FUNCTION))
    policies = changed["FunctionConfiguration"]["Environment"]["ResourceAccessPolicies"]
    policies += [{"ResourceId": id_, "Permission": "ro"} for id_ in ids]
    return changed


def test_a_devices_folder_gives_everything_and_stays_as_it_is(tmp_path: Path) -> None:
    root = device_folder(tmp_path, group=group_json())
    before = {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in sorted(root.rglob("*"))}
    setup = read_setup(root, {})
    made = plan(setup, Choices())
    assert (made.thing, made.core_name, made.missing) == (THING, CORE, [])
    assert made.deployment["pipelines"]["main"]["publish"]["topic"] == f"mli/predictions/{CORE}"
    assert made.deployment["models"] == {"inception-bn": {"uri": MODEL}}
    certificate = x509.load_pem_x509_certificate((root / "certs" / "thing.cert.pem").read_bytes())
    assert made.parameters is not None
    assert made.parameters["CertIdParam"] == hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    assert not about(made, "not understood")
    assert about(made, "endpoint")[0].was == f"{ENDPOINT}, port 443"
    assert "2 images" in about(made, "source")[0].todo
    assert "synset.txt" in about(made, "unpacked model")[0].was
    out = tmp_path / "out"
    _, backup = write(setup, made, out)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in sorted(root.rglob("*"))} == before
    copy = out / "backup" / "certs" / "thing.private.key"
    assert copy.read_bytes() == (root / "certs" / "thing.private.key").read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_dir()} == {0o700}
    for name, digest in backup.items():
        assert hashlib.sha256((out / "backup" / name).read_bytes()).hexdigest() == digest
    assert "ggc/deployment/group/group.json" in backup
    assert any(name.endswith("long_run.py") for name in backup)
    assert not any("mlmodel" in name for name in backup)


def test_a_folder_without_a_group_needs_the_model_and_no_more(tmp_path: Path) -> None:
    root = device_folder(tmp_path)
    assert planned(root).missing == ["a model (--model-uri s3://BUCKET/KEY)"]
    made = planned(root, model_uri=MODEL)
    assert made.deployment["models"] == {"inception-bn": {"uri": MODEL}}
    assert made.deployment["pipelines"]["main"]["publish"]["topic"] == f"mli/predictions/{CORE}"


def test_what_is_wrong_with_config_json_is_told_and_hinders_no_migration(tmp_path: Path) -> None:
    root = device_folder(tmp_path, group=group_json())
    (root / "certs" / "thing.private.key").unlink()
    made = planned(root)
    assert not made.missing
    assert "thing.private.key" in about(made, "config.json")[0].was


def test_links_in_the_folder_are_not_followed(tmp_path: Path) -> None:
    root = device_folder(tmp_path, group=group_json())
    (tmp_path / "secret").write_text("sesame")
    (root / "certs" / "other.key").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "certs" / "pipe")
    setup = read_setup(root, {})
    made = plan(setup, Choices())
    write(setup, made, tmp_path / "out")
    assert not (tmp_path / "out" / "backup" / "certs" / "other.key").exists()
    assert {item.was for item in about(made, "not in the backup")} == {
        "certs/other.key: a link, or no regular file",
        "certs/pipe: a link, or no regular file",
    }


@pytest.mark.parametrize("part", ["certs", "ggc"])
def test_a_folder_that_is_a_link_is_not_followed_either(tmp_path: Path, part: str) -> None:
    root = device_folder(tmp_path)
    (root / part).rename(tmp_path / "elsewhere")
    (root / part).symlink_to(tmp_path / "elsewhere")
    setup = read_setup(root, {})
    made = plan(setup, Choices(model_uri=MODEL))
    write(setup, made, tmp_path / "out")
    assert not (tmp_path / "out" / "backup" / part).exists()
    assert f"{part}: a link, or no regular file" in {item.was for item in about(made, "not in the backup")}


def test_device_yaml_is_taken_alone_and_beside_config_json(tmp_path: Path) -> None:
    group = group_json()
    group["GroupDefinitions"]["Logging"]["Content"][0]["Level"] = "DEBUG"
    root = device_folder(tmp_path, group=group)
    setup = read_setup(root, {})
    out = tmp_path / "out"
    write(setup, plan(setup, Choices()), out)
    assert check_settings(out / "device.yaml").kind == "device"
    assert check_settings(out / "deployment.yaml").kind == "deployment"
    (root / "device.yaml").write_bytes((out / "device.yaml").read_bytes())
    settings = read_device(root).settings
    assert (settings.thing, settings.log.level) == (THING, "debug")
    assert settings.mqtt is not None
    assert settings.mqtt.host == ENDPOINT


def test_again_changes_nothing_and_other_content_needs_force(tmp_path: Path) -> None:
    source, out = export(tmp_path), tmp_path / "out"

    def run(**choices: Any) -> None:
        setup = read_setup(source, {})
        write(setup, plan(setup, Choices(**choices)), out, overwrite=bool(choices.pop("force", False)))

    run()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    run()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="would change"):
        run(model_sha256="ab" * 32)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    setup = read_setup(source, {})
    write(setup, plan(setup, Choices(model_sha256="ab" * 32)), out, overwrite=True)
    assert "ab" * 32 in (out / "deployment.yaml").read_text()


def test_nothing_is_written_into_what_is_read(tmp_path: Path) -> None:
    source = export(tmp_path)
    setup = read_setup(source, {})
    with pytest.raises(UsageError, match="the one that is read"):
        write(setup, plan(setup, Choices()), source / "migrated")


def test_the_right_to_read_the_model_stands_in_device_yaml_beside_config_json(tmp_path: Path) -> None:
    root = device_folder(tmp_path, group=group_json())
    assert about(planned(root), "right to read the model")[0].fate == "open"
    setup = read_setup(root, {})
    endpoint = "c1d2e3f4g5h6i7.credentials.iot.eu-west-1.amazonaws.com"
    made = plan(setup, Choices(role_alias="mli-device", credentials_endpoint=endpoint))
    write(setup, made, tmp_path / "out")
    (root / "device.yaml").write_bytes((tmp_path / "out" / "device.yaml").read_bytes())
    store = read_device(root).settings.store
    assert (store.role_alias, store.credentials_endpoint, store.region) == ("mli-device", endpoint, "eu-west-1")
    with pytest.raises(UsageError, match="go together"):
        planned(root, role_alias="mli-device")
    with pytest.raises(UsageError, match="device's folder"):
        planned(export(tmp_path), role_alias="mli-device", credentials_endpoint=endpoint)


@pytest.mark.parametrize(
    "value",
    [
        [{"ParameterKey": "CoreName", "ParameterValue": "a"}, {"ParameterKey": "X", "ParameterValue": "1=2"}],
        ["CoreName=a", "X=1=2"],
        {"Stacks": [{"Parameters": [{"ParameterKey": "CoreName", "ParameterValue": "a"}, "X=1=2"]}]},
    ],
)
def test_parameters_may_stand_in_a_file_and_are_overruled_by_what_is_said(tmp_path: Path, value: object) -> None:
    path = tmp_path / "stack.json"
    path.write_text(json.dumps(value))
    assert given_parameters([f"file://{path}"]) == {"CoreName": "a", "X": "1=2"}
    assert given_parameters(["CoreName=b", f"file://{path}"])["CoreName"] == "b"


@pytest.mark.parametrize("words", [["CoreName"], ["=x"], ["A=1", "A=2"], ["file:///nowhere"]])
def test_what_is_no_parameter_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        given_parameters(words)


@pytest.mark.parametrize("text", ["[]", "{}", "[1]", '{"Stacks": []}', '[{"ParameterKey": "A"}]'])
def test_a_file_without_parameters_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="no parameters"):
        given_parameters([f"file://{path}"])


def test_the_report_ends_with_the_commands_for_this_device(tmp_path: Path) -> None:
    setup = read_setup(export(tmp_path), {})
    report = report_text(setup, plan(setup, Choices()), {"a.json": "ab" * 32}, ["deployment.yaml"])
    command = f"mli stack deploy {CORE} --adopt --certificate {CERTIFICATE_ID} --model {MODEL} --region eu-west-1"
    assert f"`{command}`" in report
    assert f"`mli deploy deployment.yaml --thing {THING}`" in report
    assert f"- `a.json` {'ab' * 32}" in report
    assert report == report_text(setup, plan(setup, Choices()), {"a.json": "ab" * 32}, ["deployment.yaml"])


def test_the_device_takes_its_deployment_from_the_network(tmp_path: Path) -> None:
    group = group_json()
    data = {"SourcePath": "/srv/x", "DestinationPath": "/p"}
    volume = {"Id": "photos", "Name": "photos", "Type": "Volume", "Data": data}
    group["GroupDefinitions"]["Resources"]["Content"].append(volume)
    group["GroupDefinitions"]["Lambdas"]["Content"] = [with_access("photos")]
    root, out = device_folder(tmp_path, group=group), tmp_path / "out"
    setup = read_setup(root, {})
    made = plan(setup, Choices())
    write(setup, made, out)
    sent = (out / "deployment.yaml").read_bytes() + b"revision: 1\n"

    def taken() -> DeploymentSettings:
        device = read_device(root).settings
        return parse_deployment(sent, device, origin="remote", folder=root, name="sent", check_files=False)

    with pytest.raises(UsageError, match=r"allow\.paths"):
        taken()
    (root / "device.yaml").write_bytes((out / "device.yaml").read_bytes())
    (pipeline,) = taken().pipelines
    assert (pipeline.source.uri, pipeline.source.interval_s) == ("/srv/x", 5.0)
    assert pipeline.publish.topic == f"mli/predictions/{CORE}"
    assert pipeline.publish.image_name
    assert pipeline.limits.memory_bytes == 500_000 * 1024
