"""How the stacks of a device stand, whether its certificate is active, and what the device said last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.names import COMPONENT_STACK, SHARED_STACK
from mli.cloud.stack_messages import LastWord, last_word
from mli.cloud.stack_state import Stack, contents_of, look_at_stack
from mli.cloud.template_text import device_template, template_text
from mli.cloud.troubles import asking, code_of

Kind = Literal["shared", "component", "device"]
TemplateIs = Literal["this mli's", "another version's", "not ours", "not known"]
_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"})


@dataclass(frozen=True, slots=True)
class StackStatus:
    """One stack.

    Attributes:
        stack: None where there is none.
        template: whose template it has; the component's holds its recipe, so it is not compared.
    """

    kind: Kind
    name: str
    stack: Stack | None
    template: TemplateIs

    @property
    def good(self) -> bool:
        return self.stack is not None and self.stack.status in _GOOD and self.template != "not ours"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """All that a workstation can see of a device.

    Attributes:
        certificate: ``ACTIVE``, ``INACTIVE``, …; ``gone`` for one that is not there; None where no stack names one.
        said: what the device said last; None for nothing.
    """

    shared: StackStatus
    component: StackStatus
    device: StackStatus
    thing: str
    certificate: str | None
    said: LastWord | None

    @property
    def on_greengrass(self) -> bool:
        """Whether the device needs the component's stack."""
        return self.device.stack is not None and self.device.stack.outputs.get("Runtime") == "greengrass"

    @property
    def good(self) -> bool:
        """Whether the stacks that the device needs are up, and its certificate is active."""
        needed = [self.shared, self.device, *([self.component] if self.on_greengrass else [])]
        return all(one.good for one in needed) and self.certificate == "ACTIVE"


def look_at_device(aws: Aws, core_name: str, name: str) -> DeviceStatus:
    """Ask for everything.

    Args:
        name: of the device's stack.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    device = _status(aws, "device", name)
    outputs: Any = device.stack.outputs if device.stack is not None else {}
    parameters: Any = device.stack.parameters if device.stack is not None else {}
    thing = outputs.get("ThingName") or core_name
    return DeviceStatus(
        _status(aws, "shared", parameters.get("SharedStack") or SHARED_STACK),
        _status(aws, "component", parameters.get("ComponentStack") or COMPONENT_STACK),
        device,
        thing,
        _certificate(aws, parameters.get("CertIdParam")),
        last_word(aws, thing),
    )


def _status(aws: Aws, kind: Kind, name: str) -> StackStatus:
    stack = look_at_stack(aws, name)
    return StackStatus(kind, name, stack, "not known" if stack is None else _whose(aws, kind, stack))


def _whose(aws: Aws, kind: Kind, stack: Stack) -> TemplateIs:
    if stack.state == "review":
        return "not known"
    if contents_of(aws, stack).metadata.get("template") != kind:
        return "not ours"
    if kind == "component":
        return "not known"
    with asking(f"for the template of the stack {stack.name}"):
        told = aws.client("cloudformation").get_template(StackName=stack.name, TemplateStage="Original")
    body = told.get("TemplateBody")
    own = device_template(stack.parameters.get("Runtime", "core")) if kind == "device" else template_text("shared")
    return "this mli's" if isinstance(body, str) and body.strip() == own.strip() else "another version's"


def _certificate(aws: Aws, certificate_id: str | None) -> str | None:
    if not certificate_id:
        return None
    with asking(f"for the certificate {certificate_id[:12]}…"):
        try:
            told = aws.client("iot").describe_certificate(certificateId=certificate_id)
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                return "gone"
            raise
    return str(told["certificateDescription"]["status"])
