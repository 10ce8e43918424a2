"""The stand-in for IoT Core holds who connects to policies and limits, as AWS does; else it would prove nothing."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.brokers import Certificates, wait_until
from tests.fixtures.iot_core import ALPN, IotCore
from tests.fixtures.iot_credentials import GivenKeys
from tests.fixtures.iot_registry import FixedRegistry, certificate_id

from mli.config.settings import MqttSettings, TlsSettings
from mli.delivery.remote import RemoteSession
from mli.delivery.subscriber import Subscription
from mli.errors import MliError, RefusedError, RetryError

ARN = "arn:aws:iot:eu-central-1:123456789012"
THING = "${iot:Connection.Thing.ThingName}"


def statement(action: str, *resources: str, **condition: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Effect": "Allow",
        "Action": f"iot:{action}",
        "Resource": [f"{ARN}:{r}" for r in resources],
    }
    return {**found, "Condition": condition} if condition else found


DEVICE: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        statement("Connect", f"client/{THING}", Bool={"iot:Connection.Thing.IsAttached": "true"}),
        statement("Publish", f"topic/mli/status/{THING}", f"topic/mli/predictions/{THING}"),
        statement("RetainPublish", f"topic/mli/status/{THING}"),
        statement("Subscribe", f"topicfilter/mli/deployments/{THING}", "topicfilter/mli/many/*"),
        statement("Receive", f"topic/mli/deployments/{THING}"),
        statement("AssumeRoleWithCertificate", "rolealias/mli-device"),
    ],
}


@pytest.fixture
def iot(tmp_path: Path, certificates: Certificates) -> Iterator[IotCore]:
    registry = FixedRegistry()
    registry.attach(certificates.client.read_text(), "line-1", DEVICE)
    core = IotCore(tmp_path, certificates, registry, [], GivenKeys("mli-device", "KEY", "SECRET"))
    core.start()
    yield core
    core.stop()


@pytest.fixture
def device(iot: IotCore, certificates: Certificates) -> MqttSettings:
    """As its thing, with its certificate."""
    tls = TlsSettings(str(certificates.ca), str(certificates.client), str(certificates.client_key))
    return MqttSettings("localhost", iot.mqtt_port, "line-1", tls, connect_timeout_s=10.0)


def changed(settings: MqttSettings, **fields: Any) -> MqttSettings:
    from dataclasses import replace

    return replace(settings, **fields)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_device_does_what_its_policy_allows(iot: IotCore, device: MqttSettings, protocol: Any) -> None:
    with RemoteSession(changed(device, protocol=protocol)) as session:
        assert session.subscribe(["mli/deployments/line-1"]) == {}
        session.publish_retained("mli/status/line-1", b"here")
    assert iot.denied == []


def test_another_client_id_does_not_connect(iot: IotCore, device: MqttSettings) -> None:
    with (
        pytest.raises(RefusedError, match="refused the connection"),
        RemoteSession(changed(device, client_id="line-2")),
    ):
        pass
    assert iot.denied == ["thing line-1: iot:Connect on client/line-2"]


def test_port_443_speaks_mqtt_to_who_names_it(iot: IotCore, device: MqttSettings) -> None:
    assert device.tls is not None
    named = TlsSettings(device.tls.ca_path, device.tls.certificate_path, device.tls.private_key_path, ALPN)
    with RemoteSession(changed(device, port=iot.port, tls=named)) as session:
        session.publish_retained("mli/status/line-1", b"here")


def test_a_certificate_that_is_not_registered_or_not_active_any_more_is_nobodys(
    iot: IotCore, device: MqttSettings, certificates: Certificates
) -> None:
    registry = iot.registry
    assert isinstance(registry, FixedRegistry)
    del registry.devices[certificate_id(certificates.client.read_text())]
    with pytest.raises(RetryError), RemoteSession(device):
        pass
    assert iot.denied
    assert set(iot.denied) == {"a certificate that is not active"}


@pytest.mark.parametrize(
    ("topic", "payload", "told"),
    [
        ("mli/status/line-2", b"", "iot:Publish on topic/mli/status/line-2"),
        ("mli/predictions/line-1", b"", "iot:RetainPublish on topic/mli/predictions/line-1"),
        ("mli/status/line-1", b"x" * (128 * 1024 + 1), "131073 bytes to mli/status/line-1"),
        ("a/b/c/d/e/f/g/h/i", b"", "more than 7 slashes in a/b/c/d/e/f/g/h/i"),
    ],
)
def test_what_is_not_allowed_ends_the_connection(
    iot: IotCore, device: MqttSettings, topic: str, payload: bytes, told: str
) -> None:
    with RemoteSession(device) as session:
        with pytest.raises(MliError, match="did not take the message"):
            session.publish_retained(topic, payload)
        session.publish_retained("mli/status/line-1", b"still here")
    assert set(iot.denied) == {f"thing line-1: {told}"}


def test_limits_of_subscriptions(iot: IotCore, device: MqttSettings) -> None:
    with RemoteSession(device) as session:
        assert session.subscribe([f"mli/many/{number}" for number in range(50)]) == {}
        assert session.subscribe(["mli/many/50"]) != {}
    assert set(iot.denied) == {"thing line-1: more than 50 subscriptions"}


def test_what_a_policy_lets_nobody_receive_does_not_come(iot: IotCore, device: MqttSettings) -> None:
    with Subscription(device, ["mli/many/#", "mli/deployments/line-1"]) as subscription:
        with RemoteSession(changed(iot.behind.settings(), client_id="")) as session:
            session.publish_retained("mli/many/1", b"not for you")
            session.publish_retained("mli/deployments/line-1", b"for you")
        received = subscription.receive(10.0)
        assert received is not None
        assert received.payload == b"for you"
    assert iot.denied == ["thing line-1: iot:Receive on topic/mli/many/1"]


def test_a_filter_with_a_hash_takes_in_what_lies_below_and_not_the_topic_itself(
    iot: IotCore, device: MqttSettings
) -> None:
    rights = {**DEVICE, "Statement": [*DEVICE["Statement"], statement("Receive", "topic/mli/many*")]}
    registry = iot.registry
    assert isinstance(registry, FixedRegistry)
    assert device.tls is not None
    assert device.tls.certificate_path is not None
    registry.attach(Path(device.tls.certificate_path).read_text(), "line-1", rights)
    with Subscription(device, ["mli/many/#"]) as subscription:
        with RemoteSession(changed(iot.behind.settings(), client_id="")) as session:
            session.publish_retained("mli/many", b"itself")
            session.publish_retained("mli/many/1", b"below")
        received = subscription.receive(10.0)
        assert received is not None
        assert received.payload == b"below"


@pytest.mark.parametrize(
    ("path", "thing", "status"),
    [
        ("/role-aliases/mli-device/credentials", "line-1", 200),
        ("/role-aliases/mli-device/credentials", "line-2", 403),
        ("/role-aliases/another/credentials", "line-1", 403),
        ("/elsewhere", "line-1", 404),
    ],
)
def test_keys_are_given_by_certificate_thing_and_role_alias(
    iot: IotCore, certificates: Certificates, path: str, thing: str, status: int
) -> None:
    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(certificates.client, certificates.client_key)
    connection = HTTPSConnection("localhost", iot.credentials_port, context=context, timeout=10)
    connection.request("GET", path, headers={"x-amzn-iot-thingname": thing})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == status
    assert (b"SECRET" in body) == (status == 200)


def test_a_line_that_is_cut_comes_back(iot: IotCore, device: MqttSettings) -> None:
    with Subscription(device, ["mli/deployments/line-1"]) as subscription:
        iot.cut()
        wait_until(lambda: subscription.reconnects == 1, "a new connection")
