"""What AWS knows of one device: its stack, its thing, where it connects to and by which role it reads the models."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mli.cloud.aws import Aws
from mli.cloud.names import device_stack
from mli.cloud.near_core import near_core
from mli.cloud.stack_state import Stack, look_at_stack
from mli.cloud.troubles import asking
from mli.errors import RefusedError, RetryError

_STACK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")
_NEEDED = frozenset({"ThingName", "PolicyName"})
DATA, CREDENTIALS = "iot:Data-ATS", "iot:CredentialProvider"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device that has a stack.

    Attributes:
        certificate_id: the one that the stack names.
        role_alias: None where the device gets no keys for buckets.
    """

    core: str
    stack: Stack
    thing: str
    thing_arn: str
    policy: str
    certificate_id: str
    endpoint: str
    role_alias: str | None
    credentials_endpoint: str | None


def device_facts(aws: Aws, core: str) -> DeviceFacts:
    """What the stack of a core says, and of the endpoints what it does not say.

    Raises:
        RefusedError: there is no such stack, it never came up, or it is none of ours.
        RetryError: it is being changed.
        MliError: AWS did not answer, or a right is missing.
    """
    stack = settled_stack(aws, core)
    if stack is None:
        raise RefusedError(
            f"The core {core} has no stack in {aws.region}.",
            where=f"stack {device_stack(core)}, account {aws.account}",
            got=core + near_core(aws, core),
            remedy=f"mli stack deploy {core} makes it; a stack in another region: --region REGION",
        )
    return facts_of_stack(aws, core_of(stack, core), stack)


def facts_of_stack(aws: Aws, core: str, stack: Stack) -> DeviceFacts:
    """What a stack says of its device, and of the endpoints what it does not say.

    Raises:
        RefusedError: it is none of ours.
        MliError: AWS did not answer, or a right is missing.
    """
    outputs = stack.outputs
    missing = [key for key in sorted(_NEEDED, reverse=True) if not outputs.get(key)]
    if missing:
        raise RefusedError(
            "The stack says too little of its device.",
            where=f"stack {stack.name}, {stack.status}",
            expected="the outputs ThingName, PolicyName, RoleAlias",
            got=f"no {' and no '.join(missing)}",
            remedy=f"mli stack deploy {core} brings it up to date",
        )
    role_alias = outputs.get("RoleAlias") or None
    credentials = outputs.get("CredentialsEndpoint") or (endpoint_of(aws, CREDENTIALS) if role_alias else None)
    return DeviceFacts(
        core=core,
        stack=stack,
        thing=outputs["ThingName"],
        thing_arn=outputs.get("ThingArn") or aws.arn("iot", f"thing/{outputs['ThingName']}"),
        policy=outputs["PolicyName"],
        certificate_id=certificate_of(stack),
        endpoint=outputs.get("IotEndpoint") or endpoint_of(aws, DATA),
        role_alias=role_alias,
        credentials_endpoint=credentials if role_alias else None,
    )


def settled_stack(aws: Aws, core: str) -> Stack | None:
    """The stack of a core, in a state in which its outputs count; None where there is none.

    Args:
        core: its name, or that of a stack which somebody named otherwise than the command does.

    Raises:
        RefusedError: it never came up.
        RetryError: it is being changed.
        MliError: AWS did not answer, or a right is missing.
    """
    stack = look_at_stack(aws, device_stack(core))
    if stack is None and _STACK_NAME.fullmatch(core):
        named = look_at_stack(aws, core)
        stack = named if named is not None and named.outputs.keys() >= _NEEDED else None
    if stack is None or stack.state == "review":
        return None
    where = f"stack {stack.name}, {stack.status}"
    if stack.state == "moving":
        raise RetryError(
            f"The stack of {core} is being changed just now.",
            where=where,
            remedy=f"mli stack status {core}; then again",
        )
    if stack.state == "never_up":
        raise RefusedError(
            f"The stack of {core} never came up.",
            where=where,
            got=stack.reason or None,
            remedy=f"mli stack deploy {core} clears it away and makes it anew",
        )
    return stack


def core_of(stack: Stack | None, name: str) -> str:
    """The name of the core that a stack is of; ``name`` where the stack does not say."""
    return stack.parameters.get("CoreName", name) if stack is not None else name


def certificate_of(stack: Stack) -> str:
    """The certificate that a device's stack names: its parameter is an id, or as the accelerator took it, an ARN."""
    return stack.parameters.get("CertIdParam", "").rpartition("/")[2]


def endpoint_of(aws: Aws, kind: str) -> str:
    """The account's host of AWS IoT for MQTT (``iot:Data-ATS``) or for the credentials provider.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    with asking(f"for the endpoint {kind}"):
        told = aws.client("iot").describe_endpoint(endpointType=kind)
    return str(told["endpointAddress"])
