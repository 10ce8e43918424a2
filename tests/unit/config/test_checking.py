"""``mli config``: which kind of file one is, its long form, and its JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.fixtures.mli_process import run_mli
from tests.unit.config.json_schema_check import check

from mli.config.checking import check_settings, kind_of
from mli.config.json_schemas import deployment_json_schema, device_json_schema, run_file_json_schema
from mli.errors import UsageError

DEPLOYMENT = "revision: 1\nmodel: s3://bucket/m.zip\nsource: images\n"
DEVICE = "thing: t\nmqtt: {host: h, username: u, password: hush}\n"


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.yaml", "model: m.zip\nsource: images\n", "run"),
        ("a.yaml", "thing: t\nmodel: m.zip\nsource: images\n", "run"),
        ("a.yaml", "broker: mqtt://h\nmodel: m.zip\nsource: images\nrevision: 1\n", "run"),
        ("a.yaml", "commands: {}\nmodels: {}\npipelines: {}\n", "run"),
        ("a.yaml", "modl: m.zip\n", "run"),
        ("a.yaml", DEPLOYMENT, "deployment"),
        ("a.json", json.dumps({"revision": 1, "models": {}, "pipelines": {}}), "deployment"),
        ("a.yaml", "thing: t\nmodel: m.zip\nsource: images\ntrust: x\n", "deployment"),
        ("deployment.yaml", "model: m.zip\nsource: images\n", "deployment"),
        ("deployment.json", '{"model": "m.zip"}', "deployment"),
        ("a.yaml", DEVICE, "device"),
        ("a.yaml", "allow: {}\ntrust: x\n", "device"),
        ("device.yaml", "thing: t\n", "device"),
        ("device.yaml", "model: m.zip\n", "device"),
    ],
)
def test_a_file_is_known_by_its_keys(tmp_path: Path, name: str, text: str, kind: str) -> None:
    (tmp_path / name).write_text(text)
    assert kind_of(tmp_path / name) == kind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "device.yaml").write_text(DEVICE)
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT)
    return tmp_path


def test_a_device_is_shown_by_its_file_and_by_its_folder(folder: Path) -> None:
    by_file, by_folder = check_settings(folder / "device.yaml"), check_settings(folder)
    assert by_file == by_folder
    assert (by_file.kind, by_file.identity) == ("device", None)
    assert by_file.expanded["root"] == str(folder)
    assert by_file.expanded["mqtt"]["password"] == "********"
    check(by_file.expanded, device_json_schema())


def test_a_device_file_may_have_another_name(folder: Path) -> None:
    (folder / "device.yaml").rename(folder / "line-7.yaml")
    assert check_settings(folder / "line-7.yaml").expanded["thing"] == "t"


def test_a_deployment_is_shown_with_its_identity(folder: Path) -> None:
    checked = check_settings(folder / "deployment.yaml")
    assert checked.kind == "deployment"
    assert checked.identity is not None
    check(checked.expanded, deployment_json_schema())


def test_a_deployment_is_checked_against_a_device(folder: Path) -> None:
    assert check_settings(folder / "deployment.yaml", folder) == check_settings(folder / "deployment.yaml")
    (folder / "deployment.yaml").write_text(DEPLOYMENT.replace("images", "/etc"))
    check_settings(folder / "deployment.yaml")
    with pytest.raises(UsageError, match="/etc lies outside of the folders"):
        check_settings(folder / "deployment.yaml", folder)


def test_only_a_deployment_is_checked_against_a_device(folder: Path) -> None:
    with pytest.raises(UsageError, match="for checking a deployment"):
        check_settings(folder / "device.yaml", folder)


def test_what_the_command_prints_is_a_file_again(folder: Path, tmp_path: Path) -> None:
    result = run_mli("config", folder / "deployment.yaml", state=tmp_path)
    assert (result.returncode, yaml.safe_load(result.stdout)["revision"]) == (0, 1)
    assert result.stdout.startswith(
        f"# identity of the deployment: {check_settings(folder / 'deployment.yaml').identity}"
    )
    assert "checked without a device" in result.stderr
    (folder / "again.json").write_text(
        run_mli("config", folder / "deployment.yaml", "--json", "--root", folder, state=tmp_path).stdout
    )
    assert check_settings(folder / "again.json") == check_settings(folder / "deployment.yaml")


def test_the_command_prints_the_schema_of_each_kind(tmp_path: Path) -> None:
    schemas = {"run": run_file_json_schema(), "device": device_json_schema(), "deployment": deployment_json_schema()}
    for kind, schema in schemas.items():
        assert json.loads(run_mli("config", "--schema", kind, state=tmp_path).stdout) == schema
    assert json.loads(run_mli("config", "--schema", state=tmp_path).stdout) == schemas["run"]
    wrong = run_mli("config", "--schema", "devic", state=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "run, device, deployment" in wrong.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"thing": "a b"},
        {"thing": "t", "model": "m"},
        {"thing": "t", "min_isolation": "auto"},
        {"thing": "t", "allow": {"paths": "images"}},
        {"thing": "t", "store": {"credentials": "none"}},
    ],
)
def test_the_schema_of_devices_refuses_what_they_may_not_say(wrong: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        check(wrong, device_json_schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "m"},
        {"source": "x", "mqtt": {"host": "h"}},
        {"source": "x", "revision": -1},
        {"source": "x", "trust": []},
    ],
)
def test_the_schema_of_deployments_refuses_what_they_may_not_say(wrong: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        check(wrong, deployment_json_schema())
