"""What a component sees, to settings: each key, its defaults, and every mistake by its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.brokers import ROOT, Certificates

from mli.config.component import ComponentEnvironment, ComponentSettings, read_component, read_component_environment
from mli.config.deployment import parse_deployment
from mli.config.settings import MqttSettings, NucleusSettings, TlsSettings
from mli.errors import UsageError

ENVIRON = {
    "AWS_IOT_THING_NAME": "gg_core",
    "AWS_REGION": "eu-central-1",
    "SVCUID": "a-secret-token",
    "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": "/run/ipc.socket",
    "GG_ROOT_CA_PATH": "/greengrass/certs/root.ca.pem",
    "GGC_VERSION": "2.6.0",
}
ENVIRONMENT = ComponentEnvironment("gg_core", NucleusSettings("/run/ipc.socket", "x"))


def settings(root: Path, value: dict[str, Any], environment: ComponentEnvironment = ENVIRONMENT) -> ComponentSettings:
    return read_component(value, environment, root, lambda: "prefix-ats.iot.eu-central-1.amazonaws.com")


def wrong(root: Path, value: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as error:
        settings(root, value)
    return str(error.value)


def test_environment_is_what_the_nucleus_sets() -> None:
    found = read_component_environment(ENVIRON)
    assert (found.thing, found.region, found.nucleus_version) == ("gg_core", "eu-central-1", "2.6.0")
    assert found.nucleus == NucleusSettings("/run/ipc.socket", "a-secret-token")
    assert found.ca_path == "/greengrass/certs/root.ca.pem"
    assert "a-secret-token" not in repr(found)


@pytest.mark.parametrize(
    "name", ["AWS_IOT_THING_NAME", "SVCUID", "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"]
)
def test_what_is_missing_of_it_is_named(name: str) -> None:
    with pytest.raises(UsageError) as error:
        read_component_environment({**ENVIRON, name: ""})
    assert f"no {name} (" in str(error.value)
    assert error.value.remedy is not None


def test_the_default_configuration_wants_nothing(tmp_path: Path) -> None:
    found = settings(tmp_path, {"deployment": {}, "delivery": "nucleus", "device": {}, "accessControl": {"a": {}}})
    assert found == settings(tmp_path, {})
    assert (found.delivery, found.deployment, found.held, found.validate_within_s) == ("nucleus", b"", None, 15.0)
    assert (found.device.thing, found.device.root, found.device.mqtt) == ("gg_core", str(tmp_path), None)
    assert found.device.allow.paths == (str(tmp_path / "images"),)


def test_deployment_is_the_same_in_whatever_order_the_engine_gives_its_keys(tmp_path: Path) -> None:
    one = settings(tmp_path, {"deployment": {"model": "a", "source": "b"}})
    other = settings(tmp_path, {"deployment": {"source": "b", "model": "a"}})
    assert one.deployment == other.deployment
    assert json.loads(one.deployment) == {"model": "a", "source": "b"}
    assert one.runs_as(settings(tmp_path, {}))
    assert not one.runs_as(settings(tmp_path, {"device": {"log": {"level": "debug"}}}))


def test_every_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    text = wrong(tmp_path, {"deployment": [], "deliverie": "mqtt", "validate_within": "soon", "device": 1})
    assert text.startswith("the component's configuration: 4 errors")
    assert "deliverie: unknown key; did you mean 'delivery'?" in text
    for key in ("deployment: ", "validate_within: ", "device: "):
        assert f"the component's configuration: {key}" in text
    text = wrong(tmp_path, {"device": {"spool": {"max_size": "many"}, "model": "x", "allowed": {}}})
    assert "device.spool.max_size" in text
    assert "device.model: this key belongs to a deployment" in text
    assert "device.allowed: unknown key; did you mean 'allow'?" in text


@pytest.mark.parametrize("key", ["deployment", "device", "accessControl"])
@pytest.mark.parametrize("depth", [32, 900])
def test_what_is_nested_without_end_is_a_mistake_as_any_other(tmp_path: Path, key: str, depth: int) -> None:
    deep: Any = [1]
    for _ in range(depth):
        deep = {"key": deep}
    assert "nested too deeply" in wrong(tmp_path, {key: deep})
    assert "nested too deeply" in wrong(tmp_path, {key: {"key": [deep]}})


def test_thing_and_root_are_the_nucleus_to_say(tmp_path: Path) -> None:
    assert "the nucleus' thing is gg_core" in wrong(tmp_path, {"device": {"thing": "another"}})
    assert "a component's root is its work folder" in wrong(tmp_path, {"device": {"root": "/var/lib/mli"}})


def test_a_connection_of_its_own_takes_what_the_nucleus_knows(tmp_path: Path, certificates: Certificates) -> None:
    for source, name in (
        (certificates.ca, "root.ca.pem"),
        (certificates.client, "thing.cert.pem"),
        (certificates.client_key, "thing.private.key"),
    ):
        shutil.copy(source, tmp_path / name)
    environment = ComponentEnvironment("gg_core", NucleusSettings("s", "t"), ca_path=str(tmp_path / "root.ca.pem"))
    found = settings(tmp_path, {"delivery": "mqtt"}, environment)
    assert found.held is None
    files = [str(tmp_path / name) for name in ("root.ca.pem", "thing.cert.pem", "thing.private.key")]
    assert found.device.mqtt == MqttSettings(
        "prefix-ats.iot.eu-central-1.amazonaws.com",
        8883,
        "gg_core-mli",
        TlsSettings(files[0], files[1], files[2]),
        protocol="auto",
    )
    own = {"mqtt": {"host": "broker", "port": 443, "client_id": "own", "tls": {"alpn": "x-amzn-mqtt-ca"}}}
    found = settings(tmp_path, {"delivery": "mqtt", "device": own}, environment)
    assert found.device.mqtt == MqttSettings(
        "broker", 443, "own", TlsSettings(files[0], files[1], files[2], "x-amzn-mqtt-ca")
    )


def test_a_connection_of_its_own_that_is_not_possible_is_told_and_the_rest_holds(tmp_path: Path) -> None:
    environment = ComponentEnvironment("gg_core", NucleusSettings("s", "t"), ca_path=str(tmp_path / "root.ca.pem"))
    found = settings(tmp_path, {"delivery": "mqtt", "deployment": {"model": "a"}}, environment)
    assert found.held is not None
    assert "thing.private.key" in str(found.held)
    assert "delivery: nucleus" in str(found.held.remedy)
    assert (found.device.mqtt, found.deployment) == (None, b'{"model": "a"}')
    found = read_component({"delivery": "mqtt"}, environment, tmp_path)
    assert "AWS IoT Core's endpoint" in str(found.held)
    assert "device.mqtt.port" in str(settings(tmp_path, {"delivery": "mqtt", "device": {"mqtt": {"port": 0}}}).held)


def test_the_page_s_configuration_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "greengrass.md").read_text()
    text = page[page.index("```json\n", page.index("### Its configuration")) + 8 :]
    found = settings(tmp_path, json.loads(text[: text.index("```")]))
    deployment = parse_deployment(
        found.deployment, found.device, origin="component", folder=tmp_path, name="page", check_files=False
    )
    assert (deployment.revision, deployment.pipelines[0].publish.image_name) == (7, True)
    assert deployment.pipelines[0].source.uri == str(tmp_path / "images")
