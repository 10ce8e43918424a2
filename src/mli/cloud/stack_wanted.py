"""What a person wants deployed, and everything that is looked at before anything changes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.names import COMPONENT, COMPONENT_STACK, ROLE_ALIAS, SHARED_STACK, adopted_thing, device_stack
from mli.cloud.near_core import near_core
from mli.cloud.stack_certificate import (
    Certificate,
    certificate_id,
    certificate_of_thing,
    find_certificate,
    must_be_own,
)
from mli.cloud.stack_change import somebody_else
from mli.cloud.stack_failures import explained
from mli.cloud.stack_messages import revision_wanted
from mli.cloud.stack_model import Model, find_model
from mli.cloud.stack_owner import must_be_of, must_be_ours, must_be_usable
from mli.cloud.stack_state import Stack, contents_of, look_at_stack
from mli.cloud.stack_template import read_template, refused_values
from mli.cloud.template_text import device_template
from mli.cloud.thing_names import must_be_free, thing_exists
from mli.cloud.troubles import asking, code_of, message_of
from mli.errors import MliError, RefusedError, UsageError

Runtime = Literal["core", "greengrass"]
_STACK = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")
_THING = re.compile(r"[A-Za-z0-9:_-]{1,128}")
_MISSING = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for.

    Attributes:
        core_name: the accelerator's ``CoreName``; the thing's name, and the end of its topic.
        certificate: id, ARN or file; None for the stack's own, with ``adopt`` the thing's own.
        model_uri: None for the stack's own; so with the others.
        stack_name: None for the usual name.
        adopt: take over ``<core name>_Core``, which the accelerator made.
        thing_group: with Greengrass, deploy to this group, not to the thing alone.
    """

    core_name: str
    certificate: str | None = None
    model_uri: str | None = None
    sha256: str | None = None
    runtime: Runtime | None = None
    adopt: bool = False
    source: str | None = None
    thing_group: str | None = None
    stack_name: str | None = None

    @property
    def thing(self) -> str:
        return adopted_thing(self.core_name) if self.adopt else self.core_name

    @property
    def stack(self) -> str:
        return stack_name_of(self.core_name, self.stack_name)


@dataclass(frozen=True, slots=True)
class Stacks:
    """The stacks that are there; None for those that are not."""

    shared: Stack | None
    component: Stack | None
    device: Stack | None


@dataclass(frozen=True, slots=True)
class Looked:
    """All checks passed.

    Attributes:
        runtime: what shall run on the device.
        iot_endpoint, credentials_endpoint: hosts of this account and region.
        revision: of the deployment that the broker keeps for the thing; 0 for none.
        cautions: what is allowed, and better known.
    """

    stacks: Stacks
    runtime: Runtime
    certificate: Certificate
    model: Model
    iot_endpoint: str
    credentials_endpoint: str
    revision: int = 0
    cautions: tuple[str, ...] = field(default=())


def check_core_name(name: str) -> None:
    """Raise UsageError for what is no name of a thing."""
    if not _THING.fullmatch(name):
        raise UsageError(
            "this is no name for a core", expected="1 to 128 letters, digits, ':', '_' or '-'", got=repr(name)
        )


def stack_name_of(core_name: str, said: str | None) -> str:
    """Name of a core's stack: what was said, or the usual one.

    Raises:
        UsageError: no name of a core, or no name of a stack.
    """
    check_core_name(core_name)
    if said is not None and not _STACK.fullmatch(said):
        raise UsageError(
            "this is no name for a stack",
            expected="a letter, then up to 127 letters, digits and '-'",
            got=repr(said),
        )
    return said or device_stack(core_name)


def look_at_stacks(aws: Aws, device: str) -> Stacks:
    """The stacks that a device can have; each is ours.

    Raises:
        RefusedError: a stack of one of the names is not ours, or cannot be used as it stands.
        MliError: AWS did not answer, or a right is missing.
    """
    return Stacks(
        usable_stack(aws, SHARED_STACK, "shared"),
        usable_stack(aws, COMPONENT_STACK, "component"),
        usable_stack(aws, device, "device"),
    )


def usable_stack(aws: Aws, name: str, kind: str) -> Stack | None:
    """The stack of this name, which is ours and can be used; None where there is none.

    Raises:
        RefusedError: it is not ours, or cannot be used as it stands.
        MliError: AWS did not answer, or a right is missing.
    """
    stack = look_at_stack(aws, name)
    if stack is not None:
        must_be_usable(aws, stack, kind)
    return stack


def device_stack_of(aws: Aws, core_name: str, stack_name: str | None = None) -> Stack:
    """The device's stack, which is there and ours.

    Raises:
        UsageError: no name of a core.
        RefusedError: there is none, or it is not ours.
        MliError: AWS did not answer, or a right is missing.
    """
    name = stack_name_of(core_name, stack_name)
    stack = look_at_stack(aws, name)
    if stack is None:
        raise RefusedError(
            f"There is no stack {name}.",
            where=f"account {aws.account}, region {aws.region}",
            got=core_name + near_core(aws, core_name),
            remedy=f"mli stack deploy {core_name} makes it; --stack-name finds one of another name",
        )
    must_be_ours(stack, contents_of(aws, stack), "device")
    return stack


def look(aws: Aws, wanted: Wanted, stacks: Stacks) -> Looked:
    """Everything that can be checked before anything changes; nothing is written.

    Args:
        stacks: those that are there; none of them is at work.

    Raises:
        UsageError: a word of the command is wrong.
        RefusedError: something there is not as it must be; what, and how to go on.
        MliError: AWS did not answer, or a right is missing.
    """
    runtime = runtime_of(wanted, stacks.device)
    if wanted.thing_group is not None and runtime != "greengrass":
        raise UsageError(
            "only a deployment of Greengrass goes to a group",
            got=f"--thing-group {wanted.thing_group} with --runtime {runtime}",
            remedy="--runtime greengrass, or leave out --thing-group",
        )
    chosen = certificate_id(wanted.certificate, aws) if wanted.certificate else None
    _same_core(stacks.device, wanted)
    _look_at_thing(aws, wanted, stacks.device)
    certificate = find_certificate(aws, chosen or _known_certificate(aws, wanted, stacks.device))
    must_be_own(certificate, wanted.core_name, wanted.thing)
    model = _with_known_digest(
        find_model(aws, wanted.model_uri or _known_model(stacks.device), wanted.sha256), stacks.device
    )
    _words_fit(wanted, model, runtime)
    if runtime == "greengrass":
        greengrass_is_known(aws)
    if stacks.shared is None:
        shared_names_are_free(aws)
    return Looked(
        stacks,
        runtime,
        certificate,
        model,
        iot_endpoint=endpoint(aws, "iot:Data-ATS"),
        credentials_endpoint=endpoint(aws, "iot:CredentialProvider"),
        revision=revision_wanted(aws, wanted.thing) if stacks.device is not None else 0,
        cautions=_cautions(wanted, certificate, model, stacks),
    )


def _words_fit(wanted: Wanted, model: Model, runtime: Runtime) -> None:
    """CloudFormation would refuse them too, but after the shared stack was changed."""
    words = {"ModelS3Uri": model.uri, **({} if wanted.source is None else {"Source": wanted.source})}
    for name, value, expected in refused_values(read_template(device_template(runtime)), words):
        option = "--model" if name == "ModelS3Uri" else "--source"
        raise UsageError(f"{option} cannot stand in a stack", expected=expected, got=repr(value))


def runtime_of(wanted: Wanted, stack: Stack | None) -> Runtime:
    """What was asked for, else what the stack has, else mli's own core."""
    if wanted.runtime is not None:
        return wanted.runtime
    return "greengrass" if stack is not None and stack.parameters.get("Runtime") == "greengrass" else "core"


def endpoint(aws: Aws, kind: str) -> str:
    """Host of AWS IoT for this account and region.

    Args:
        kind: ``iot:Data-ATS`` or ``iot:CredentialProvider``.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    with asking(f"for the endpoint {kind}"):
        return str(aws.client("iot").describe_endpoint(endpointType=kind)["endpointAddress"])


def _same_core(stack: Stack | None, wanted: Wanted) -> None:
    """A stack is for one core, and cannot change between a thing of its own and an adopted one."""
    if stack is None or stack.state != "settled":
        return
    must_be_of(stack, wanted.core_name)
    adopted = stack.parameters.get("Adopt", "false") == "true"
    if adopted != wanted.adopt:
        raise RefusedError(
            f"The stack {stack.name} {'took over an existing thing' if adopted else 'made its own thing'}; "
            "that cannot be changed afterwards.",
            remedy=f"{'with' if adopted else 'without'} --adopt; or mli stack destroy {wanted.core_name} first",
        )


def _look_at_thing(aws: Aws, wanted: Wanted, stack: Stack | None) -> None:
    if wanted.adopt:
        if not thing_exists(aws, wanted.thing):
            raise RefusedError(
                f"There is no thing {wanted.thing} to adopt.",
                where=f"account {aws.account}, region {aws.region}",
                expected="the thing that the accelerator made for this CoreName",
                remedy="aws iot list-things shows those that are there; without --adopt a new thing is made",
            )
        return
    if stack is None or stack.state != "settled":
        must_be_free(aws, wanted.core_name)


def _known_certificate(aws: Aws, wanted: Wanted, stack: Stack | None) -> str:
    known = stack.parameters.get("CertIdParam") if stack is not None else None
    if known:
        return known
    if wanted.adopt:
        return certificate_of_thing(aws, wanted.thing)
    raise UsageError(
        "no certificate is named",
        expected="--certificate ID, ARN or FILE.pem",
        remedy=f"mli device cert {wanted.core_name} makes one",
    )


def _known_model(stack: Stack | None) -> str:
    known = stack.parameters.get("ModelS3Uri") if stack is not None else None
    if not known:
        raise UsageError(
            "no model is named", expected="--model s3://BUCKET/KEY", remedy="mli model push FILE uploads one"
        )
    return known


def _with_known_digest(model: Model, stack: Stack | None) -> Model:
    """What an earlier deploy said of the same model still holds where nobody says otherwise."""
    known = stack.parameters.get("ModelSha256") if stack is not None else None
    if model.sha256_from != "nobody" or not known or stack is None or stack.parameters["ModelS3Uri"] != model.uri:
        return model
    return replace(model, sha256=known, sha256_from="stack")


def greengrass_is_known(aws: Aws) -> None:
    """In most regions of AWS IoT Core CloudFormation knows no Greengrass V2, and refuses a template that names it.

    Raises:
        RefusedError: it does not know it here.
        MliError: AWS did not answer, or a right is missing.
    """
    with asking("whether it knows Greengrass V2 in this region"):
        try:
            aws.client("cloudformation").validate_template(TemplateBody=device_template("greengrass"))
        except ClientError as error:
            known = explained("of a device with Greengrass", message_of(error))
            if known is None:
                raise
            raise known from error


def shared_names_are_free(aws: Aws) -> None:
    """The shared stack makes a role alias and a log group of fixed names.

    Raises:
        RefusedError: one of them is taken.
        RetryError: by a shared stack that somebody else makes just now.
        MliError: AWS did not answer, or a right is missing.
    """
    group = f"/aws/greengrass/UserComponent/{aws.region}/{COMPONENT}"
    with asking("for a role alias and a log group of the names that are needed"):
        found = aws.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        if any(item["logGroupName"] == group for item in found):
            raise _taken(aws, f"log group {group}", f"aws logs delete-log-group --log-group-name {group}")
        try:
            aws.client("iot").describe_role_alias(roleAlias=ROLE_ALIAS)
        except ClientError as error:
            if code_of(error) == _MISSING:
                return
            raise
    raise _taken(aws, f"role alias {ROLE_ALIAS}", f"aws iot delete-role-alias --role-alias {ROLE_ALIAS}")


def _taken(aws: Aws, what: str, delete: str) -> MliError:
    if look_at_stack(aws, SHARED_STACK) is not None:
        return somebody_else(SHARED_STACK, f"looking for a {what}", "the stack was not there a moment ago")
    return RefusedError(
        f"A {what} exists that no stack of ours made.",
        where=f"account {aws.account}, region {aws.region}",
        remedy=f"where nothing uses it: {delete}; then the same command again",
    )


def _cautions(wanted: Wanted, certificate: Certificate, model: Model, stacks: Stacks) -> tuple[str, ...]:
    told = []
    others = [name for name in certificate.things if name != wanted.thing]
    if others:
        told.append(
            f"the certificate also belongs to {', '.join(others)}: who has its key can be each of them; "
            f"mli device replace {wanted.core_name} gives this device one of its own"
        )
    if model.sha256_from == "nobody":
        told.append(
            f"nobody says the sha256 of {model.uri}: the device pins what it gets first "
            "(mli model push, or --sha256, would say it)"
        )
    old = stacks.device
    if old is not None and old.state == "settled":
        before = old.parameters.get("CertIdParam", certificate.certificate_id)
        if before != certificate.certificate_id:
            told.append(f"the certificate {before[:12]}… loses the thing and its policy; it stays active itself")
    return tuple(told)
