"""A stack names a new certificate whose attachments are there already: AWS may take that, or refuse it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.fixtures.stubbed_aws import StubbedAws

from mli.cloud import certificate_change
from mli.cloud.certificate_change import Device, name_in_stack
from mli.cloud.stack_failures import Event, stack_failed
from mli.cloud.stack_state import Stack
from mli.errors import RefusedError, StopError

OLD, NEW = "a" * 64, "b" * 64
ARN = f"arn:aws:iot:eu-central-1:123456789012:cert/{NEW}"
STACK = "arn:aws:cloudformation:eu-central-1:123456789012:stack/mli-belt/1"
DEVICE = Device("belt", "belt", Stack("mli-belt", STACK, "UPDATE_COMPLETE"), ("DevicePolicy_1",), (OLD, NEW))
RESOURCES = {
    "Thing": ("AWS::IoT::Thing", "belt"),
    "ThingCertificate": ("AWS::IoT::ThingPrincipalAttachment", "x"),
    "DevicePolicy": ("AWS::IoT::Policy", "DevicePolicy_1"),
}


class Told:
    """A watcher that agrees."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def event(self, *_: object) -> None:
        """A line of the log."""

    def agree(self, *_: object) -> bool:
        return True


def failed(kind: str, reason: str) -> Callable[[], None]:
    def fail() -> None:
        event = Event("1", "ThingCertificate", kind, "CREATE_FAILED", reason)
        raise stack_failed("mli-belt", event, "UPDATE_ROLLBACK_COMPLETE", "", "everything is as it was")

    return fail


ATTACHED = failed("AWS::IoT::ThingPrincipalAttachment", "Resource of type 'x' with identifier 'y' already exists.")


def brought(monkeypatch: pytest.MonkeyPatch, *ends: Callable[[], None]) -> list[dict[str, str]]:
    """How each attempt of CloudFormation ends; with which parameters it was asked."""
    left, asked = list(ends), []

    def bring(_aws: Any, request: Any, *_: Any) -> None:
        asked.append(dict(request.parameters))
        left.pop(0)()

    monkeypatch.setattr(certificate_change, "bring", bring)
    return asked


def stack_is_there(aws: StubbedAws) -> None:
    told = {"StackName": "mli-belt", "StackId": STACK, "StackStatus": "UPDATE_ROLLBACK_COMPLETE"}
    parameters = [{"ParameterKey": "CertIdParam", "ParameterValue": OLD}]
    whole = {**told, "CreationTime": datetime.now(UTC), "Parameters": parameters}
    aws.on("cloudformation").add_response("describe_stacks", {"Stacks": [whole]})


def asked_once(aws: StubbedAws) -> None:
    stack_is_there(aws)
    aws.on("cloudformation").add_response("get_template", {"TemplateBody": "Resources: {}"})


def taken_off(aws: StubbedAws) -> None:
    stack_is_there(aws)
    listed = [
        {
            "LogicalResourceId": name,
            "PhysicalResourceId": physical,
            "ResourceType": kind,
            "ResourceStatus": "CREATE_COMPLETE",
            "LastUpdatedTimestamp": datetime.now(UTC),
        }
        for name, (kind, physical) in RESOURCES.items()
    ]
    aws.on("cloudformation").add_response("list_stack_resources", {"StackResourceSummaries": listed})
    iot = aws.on("iot")
    iot.add_response("detach_policy", {}, {"policyName": "DevicePolicy_1", "target": ARN})
    iot.add_response("detach_thing_principal", {}, {"thingName": "belt", "principal": ARN})


def test_what_is_attached_already_is_made_anew_by_the_stack(
    stubbed_aws: StubbedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = brought(monkeypatch, ATTACHED, lambda: None)
    asked_once(stubbed_aws)
    taken_off(stubbed_aws)
    told = Told()
    assert name_in_stack(stubbed_aws.account, DEVICE, NEW, told)
    assert [parameters["CertIdParam"] for parameters in asked] == [NEW, NEW]
    assert "made anew" in told.said[0]


def test_where_that_fails_the_new_certificate_has_its_rights_back(
    stubbed_aws: StubbedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought(monkeypatch, ATTACHED, failed("AWS::IoT::PolicyPrincipalAttachment", "busy"))
    asked_once(stubbed_aws)
    taken_off(stubbed_aws)
    iot = stubbed_aws.on("iot")
    found = {"certificateId": NEW, "certificateArn": ARN, "status": "ACTIVE", "certificatePem": pem()}
    iot.add_response("describe_certificate", {"certificateDescription": found})
    iot.add_response("attach_policy", {}, {"policyName": "DevicePolicy_1", "target": ARN})
    iot.add_response("attach_thing_principal", {}, {"thingName": "belt", "principal": ARN})
    with pytest.raises(RefusedError, match="failed") as caught:
        name_in_stack(stubbed_aws.account, DEVICE, NEW, Told())
    assert caught.value.got == "busy"


@pytest.mark.parametrize("interrupted", [False, True])
def test_where_they_cannot_be_given_back_both_failures_are_told(
    stubbed_aws: StubbedAws, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    brought(
        monkeypatch, ATTACHED, interrupt if interrupted else failed("AWS::IoT::PolicyPrincipalAttachment", "busy")
    )
    asked_once(stubbed_aws)
    taken_off(stubbed_aws)
    stubbed_aws.on("iot").add_client_error("describe_certificate", "ExpiredTokenException", "The token is expired")
    with pytest.raises(StopError, match="belt lost its rights") as caught:
        name_in_stack(stubbed_aws.account, DEVICE, NEW, Told())
    told = str(caught.value)
    assert ("KeyboardInterrupt" if interrupted else "The stack mli-belt failed. (busy)") in told
    assert "The AWS session has expired. (The token is expired)" in told
    assert "mli device cert belt --rotate gives them back" in told


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("AWS::IoT::Policy", "Policy x already exists"), ("AWS::IoT::ThingPrincipalAttachment", "no such thing")],
)
def test_another_failure_is_only_told(
    stubbed_aws: StubbedAws, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    brought(monkeypatch, failed(kind, reason))
    asked_once(stubbed_aws)
    with pytest.raises(RefusedError) as caught:
        name_in_stack(stubbed_aws.account, DEVICE, NEW, Told())
    assert caught.value.got == reason


def pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "belt")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
