"""A device changes its certificate: the new one comes beside the old, the stack is told, the old one is switched off.

In this order an interruption leaves a device that works: until the last step the old certificate does everything that
it did.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.device_certificates import ACTIVE, INACTIVE, REVOKED, IssuedCertificate, look_at_certificate
from mli.cloud.device_facts import certificate_of, core_of, settled_stack
from mli.cloud.stack_certificate import attached_policies
from mli.cloud.stack_change import Request
from mli.cloud.stack_messages import last_word
from mli.cloud.stack_state import Stack, look_at_stack, resources_of
from mli.cloud.stack_step import Watcher, bring
from mli.cloud.thing_certificates import certificates_of, things_of
from mli.cloud.troubles import asking, code_of
from mli.errors import MliError, RefusedError

_POLICY, _THING_ATTACHMENT = "AWS::IoT::Policy", "AWS::IoT::ThingPrincipalAttachment"
_ADOPTED = "_Core"


@dataclass(frozen=True, slots=True)
class Device:
    """A thing, and what its certificates must have.

    Attributes:
        stack: None for a thing that was made by hand.
        policies: names; those of its stack, else those that its certificates have.
        certificates: ids of all that it has, whatever their status.
    """

    core: str
    thing: str
    stack: Stack | None
    policies: tuple[str, ...]
    certificates: tuple[str, ...]


def find_device(aws: Aws, name: str) -> Device:
    """The device of a core or thing.

    Raises:
        RefusedError: there is no such thing, or nothing says which policies it needs.
        MliError: AWS did not answer, a right is missing, or its stack is being changed.
    """
    stack = settled_stack(aws, name)
    if stack is None and name.endswith(_ADOPTED):
        found = settled_stack(aws, name.removesuffix(_ADOPTED))
        stack = found if found is not None and found.outputs.get("ThingName") == name else None
    thing = stack.outputs.get("ThingName", name) if stack is not None else name
    certificates = certificates_of(aws, thing)
    policies = _policies_of_stack(aws, stack) if stack is not None else ()
    if not policies:
        arns = [aws.arn("iot", f"cert/{item}") for item in certificates]
        policies = tuple(dict.fromkeys(policy for arn in arns for policy in attached_policies(aws, arn)))
    if not policies:
        raise RefusedError(
            f"Nothing says which policies a certificate of {thing} needs.",
            where=f"account {aws.account}, {aws.region}",
            expected="a stack, or a certificate of the thing that has a policy",
            remedy=f"mli stack deploy {name} makes policy and thing",
        )
    return Device(core_of(stack, name), thing, stack, policies, certificates)


def attach(aws: Aws, device: Device, certificate: IssuedCertificate) -> None:
    """Give the device one more certificate, with all rights; what is attached already stays so.

    Raises:
        MliError: AWS did not answer, or a right is missing; the same call again goes on.
    """
    client = aws.client("iot")
    for policy in device.policies:
        with asking(f"to attach the policy {policy}"):
            client.attach_policy(policyName=policy, target=certificate.arn)
    with asking(f"to attach the certificate to the thing {device.thing}"):
        client.attach_thing_principal(thingName=device.thing, principal=certificate.arn)


def must_be_in_use(aws: Aws, device: Device, certificate_id: str) -> None:
    """Refuse unless the device says that it is connected by this certificate.

    Raises:
        RefusedError: it says another, or nothing.
        MliError: AWS did not answer, or a right is missing.
    """
    word = last_word(aws, device.thing)
    shown = str(word.document.get("certificate") or "") if word is not None else ""
    if word is not None and word.state == "online" and shown == certificate_id:
        return
    if word is None:
        got = "it never said anything"
    elif word.state != "online":
        got = f"it is {word.state} since {word.told_at:%Y-%m-%d %H:%M} UTC"
    else:
        got = f"it is online with {shown[:12]}…" if shown else "it is online, and does not say with which certificate"
    raise RefusedError(
        f"{device.thing} has not been seen with its new certificate; the old one stays active.",
        where=f"mli/status/{device.thing}",
        expected=f"online with {certificate_id[:12]}…",
        got=got,
        remedy="put the new bundle on the device, mli device install, then again; --proven says that you saw it work",
    )


def name_in_stack(aws: Aws, device: Device, certificate_id: str, watcher: Watcher) -> bool:
    """Have the stack name this certificate, by the template and parameters that it has; False where it does already.

    Raises:
        StopError: the person did not agree.
        MliError: CloudFormation failed, or did not answer; everything is as it was before.
    """
    stack = None if device.stack is None else look_at_stack(aws, device.stack.stack_id)
    if stack is None or certificate_of(stack) == certificate_id:
        return False
    with asking(f"for the template of the stack {stack.name}"):
        told = aws.client("cloudformation").get_template(StackName=stack.name, TemplateStage="Original")
    body = told["TemplateBody"]
    request = Request(
        name=stack.name,
        template=body if isinstance(body, str) else json.dumps(body),
        parameters={**stack.parameters, "CertIdParam": certificate_id},
        tags=stack.tags,
    )
    try:
        bring(aws, request, stack, watcher)
    except RefusedError as error:
        if not _attached_before(error):
            raise
        _make_anew(aws, device, certificate_id, request, watcher)
    return True


def _attached_before(error: RefusedError) -> bool:
    """CloudFormation did not take an attachment for its own because it is there already."""
    return "PrincipalAttachment" in (error.where or "") and "already exists" in (error.got or "").lower()


def _make_anew(aws: Aws, device: Device, certificate_id: str, request: Request, watcher: Watcher) -> None:
    """Take off what the stack would attach, and let the stack do it. Where that fails, it is put back.

    AWS does not say whether an attachment may be there before. Meanwhile a device with the new certificate is turned
    away, and what it has to say waits in its queue.
    """
    assert device.stack is not None
    stack = look_at_stack(aws, device.stack.stack_id)
    client, arn = aws.client("iot"), aws.arn("iot", f"cert/{certificate_id}")
    own = resources_of(aws, device.stack)
    watcher.say("CloudFormation takes no attachment that is there: those of the new certificate are made anew by it")
    try:
        with asking("to take off what the stack will attach"):
            for name in (item.physical_id for item in own if item.type == _POLICY and item.physical_id):
                client.detach_policy(policyName=name, target=arn)
            if any(item.type == _THING_ATTACHMENT for item in own):
                client.detach_thing_principal(thingName=device.thing, principal=arn)
        bring(aws, request, stack, watcher)
    except BaseException as error:
        try:
            certificate = look_at_certificate(aws, certificate_id)
            if certificate is not None:
                attach(aws, device, certificate)
        except MliError as second:
            raise _not_put_back(device, certificate_id, error, second) from error
        raise


def _not_put_back(device: Device, certificate_id: str, first: BaseException, second: MliError) -> MliError:
    """Two failures at once: neither hides the other, and it is said what does not work now."""
    why = first.what if isinstance(first, MliError) else f"It was interrupted ({type(first).__name__})."
    cause = f" ({first.got})" if isinstance(first, MliError) and first.got else ""
    told = f" ({second.got})" if second.got else ""
    return type(second)(
        f"The new certificate of {device.thing} lost its rights, and they could not be given back: a device with it "
        "cannot connect.",
        where=certificate_id,
        expected=second.expected,
        got=f"first: {why}{cause} Then, putting it back: {second.what}{told}",
        remedy=f"{second.remedy or 'mend that'}; mli device cert {device.core} --rotate gives them back, "
        "then --finish again",
    )


def old_certificates(device: Device, new: str, remembered: tuple[str, ...]) -> tuple[str, ...]:
    """Every certificate that the new one takes the place of.

    Args:
        remembered: those that the device had before; by now the stack may have detached them.
    """
    named = () if device.stack is None else (certificate_of(device.stack),)
    return tuple(item for item in dict.fromkeys([*device.certificates, *remembered, *named]) if item and item != new)


def switch_off(aws: Aws, thing: str, certificate_id: str) -> tuple[str, ...]:
    """Take a certificate from a thing for good; done again, it does what is left to do.

    One that other things have too is theirs: it only leaves this thing.

    Returns:
        What was done, in words; nothing where nothing was left to do.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    certificate = look_at_certificate(aws, certificate_id)
    if certificate is None:
        return ()
    things = things_of(aws, certificate.arn)
    others = [name for name in things if name != thing]
    short = f"{certificate_id[:12]}…"
    if others:
        if thing in things:
            _detach_thing(aws, certificate, thing)
        return (f"{short} left {thing}; it stays active, for it is also of {', '.join(others)}",)
    did = []
    if certificate.status not in (INACTIVE, REVOKED):
        _set_status(aws, certificate, INACTIVE)
        did.append(f"{short} was deactivated")
    did += _detached(aws, certificate, things)
    if certificate.status != REVOKED:
        _set_status(aws, certificate, REVOKED)
        did.append(f"{short} was revoked")
    return tuple(did)


def may_go(aws: Aws, device: Device, certificate: IssuedCertificate) -> None:
    """Refuse to take away what a device lives on.

    Raises:
        RefusedError: it is another thing's, its stack names it, or it is the device's last active one.
        MliError: AWS did not answer, or a right is missing.
    """
    where, force = certificate.arn, "--force does it all the same"
    things = things_of(aws, certificate.arn)
    others = [name for name in things if name != device.thing]
    if others:
        raise RefusedError(
            f"The certificate is not of {device.thing} alone.",
            where=where,
            got=f"it belongs to {', '.join(others)}",
            remedy=f"mli device cert {others[0]} --revoke …; {force}",
        )
    left = [item for item in device.certificates if item != certificate.certificate_id]
    if certificate.status == ACTIVE and device.thing in things and not any(_is_active(aws, item) for item in left):
        raise RefusedError(
            f"It is the last active certificate of {device.thing}, which could not connect any more.",
            where=where,
            remedy=f"mli device replace {device.core} makes a new one first; {force}",
        )
    if device.stack is not None and certificate_of(device.stack) == certificate.certificate_id:
        raise RefusedError(
            f"The stack of {device.core} names this certificate.",
            where=f"stack {device.stack.name}",
            remedy=f"mli stack deploy {device.core} --certificate ANOTHER, then again; {force}",
        )


def _policies_of_stack(aws: Aws, stack: Stack) -> tuple[str, ...]:
    found = [item.physical_id for item in resources_of(aws, stack) if item.type == _POLICY and item.physical_id]
    named = stack.outputs.get("PolicyName")
    return tuple(dict.fromkeys([*found, *([named] if named else [])]))


def _is_active(aws: Aws, certificate_id: str) -> bool:
    certificate = look_at_certificate(aws, certificate_id)
    return certificate is not None and certificate.status == ACTIVE


def _detached(aws: Aws, certificate: IssuedCertificate, things: tuple[str, ...]) -> list[str]:
    client, did = aws.client("iot"), []
    for policy in attached_policies(aws, certificate.arn):
        with asking(f"to take the policy {policy} off the certificate"):
            client.detach_policy(policyName=policy, target=certificate.arn)
        did.append(f"{certificate.certificate_id[:12]}… lost the policy {policy}")
    for thing in things:
        _detach_thing(aws, certificate, thing)
        did.append(f"{certificate.certificate_id[:12]}… left the thing {thing}")
    return did


def _detach_thing(aws: Aws, certificate: IssuedCertificate, thing: str) -> None:
    with asking(f"to take the certificate from the thing {thing}"):
        try:
            aws.client("iot").detach_thing_principal(thingName=thing, principal=certificate.arn)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":  # somebody else was faster
                raise


def _set_status(aws: Aws, certificate: IssuedCertificate, status: str) -> None:
    with asking(f"to make the certificate {certificate.certificate_id[:12]}… {status}"):
        aws.client("iot").update_certificate(certificateId=certificate.certificate_id, newStatus=status)
