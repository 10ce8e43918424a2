"""From the accelerator's policy to ours: the old one comes off the certificate once the new one is proven."""

from __future__ import annotations

from dataclasses import dataclass

from mli.cloud.aws import Aws
from mli.cloud.stack_certificate import attached_policies
from mli.cloud.stack_messages import LastWord, last_word
from mli.cloud.stack_state import Stack, resources_of
from mli.cloud.troubles import asking
from mli.errors import RefusedError

_POLICY = "AWS::IoT::Policy"


@dataclass(frozen=True, slots=True)
class OldPolicies:
    """What a certificate has beside its stack's policies.

    Attributes:
        names: of the other policies.
        kept: of ours.
    """

    thing: str
    certificate_arn: str
    names: tuple[str, ...]
    kept: tuple[str, ...]


def old_policies(aws: Aws, stack: Stack) -> OldPolicies:
    """The policies that a device's certificate has beside those of its stack.

    Raises:
        RefusedError: the stack's own policy is not on the certificate, so the device needs the old ones.
        MliError: AWS did not answer, or a right is missing.
    """
    thing = stack.outputs.get("ThingName", "")
    arn = aws.arn("iot", f"cert/{stack.parameters.get('CertIdParam', '')}")
    ours = {item.physical_id for item in resources_of(aws, stack) if item.type == _POLICY}
    ours.add(stack.outputs.get("PolicyName", ""))
    attached = attached_policies(aws, arn)
    kept = tuple(name for name in attached if name in ours)
    if not kept:
        raise RefusedError(
            f"The policy of the stack {stack.name} is not on the certificate: "
            "without the old ones the device would be cut off.",
            where=arn,
            expected=f"{stack.outputs.get('PolicyName', 'the policy of the stack')} among its policies",
            got=", ".join(attached) or "none",
            remedy="mli stack deploy CORE_NAME --adopt attaches it",
        )
    return OldPolicies(thing, arn, tuple(name for name in attached if name not in ours), kept)


def must_be_proven(aws: Aws, stack: Stack, old: OldPolicies) -> LastWord:
    """Refuse unless the device was connected as mli since the stack gave it its policy.

    Raises:
        RefusedError: it said nothing, is away, or spoke before that.
        MliError: AWS did not answer, or a right is missing.
    """
    word = last_word(aws, old.thing)
    remedy = (
        "start mli on the device and see its predictions (mli watch --aws), then again; "
        "--proven says that you saw the device at work"
    )
    if word is None or word.state != "online":
        raise RefusedError(
            f"It is not proven that {old.thing} works with the new policy.",
            where=f"mli/status/{old.thing}",
            expected="the device says that it is online",
            got="nothing was ever said there"
            if word is None
            else f"{word.state} since {word.told_at:%Y-%m-%d %H:%M} UTC",
            remedy=remedy,
        )
    if stack.changed_at is not None and word.told_at < stack.changed_at:
        raise RefusedError(
            f"It is not proven that {old.thing} works with the new policy.",
            where=f"mli/status/{old.thing}",
            expected=f"it said so after the stack was changed, {stack.changed_at:%Y-%m-%d %H:%M} UTC",
            got=f"it said it at {word.told_at:%Y-%m-%d %H:%M} UTC",
            remedy=remedy,
        )
    return word


def detach(aws: Aws, old: OldPolicies) -> None:
    """Take the old policies off the certificate; the policies themselves stay.

    Raises:
        MliError: AWS did not answer, or a right is missing; some may be off already.
    """
    client = aws.client("iot")
    for name in old.names:
        with asking(f"to take the policy {name} off the certificate"):
            client.detach_policy(policyName=name, target=old.certificate_arn)


def way_back(aws: Aws, old: OldPolicies) -> tuple[str, ...]:
    """The commands that put the old policies on again."""
    return tuple(
        f"aws iot attach-policy --policy-name {name} --target {old.certificate_arn} --region {aws.region}"
        for name in old.names
    )
