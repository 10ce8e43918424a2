"""A stack as CloudFormation tells it: its state in our words, whose it is, what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.troubles import asking, message_of

State = Literal["settled", "moving", "review", "never_up", "stuck", "undeleted"]
"""What can be done with a stack.

``settled`` can be updated; ``moving`` is at work, wait; ``review`` is only a plan; ``never_up`` failed at its first
creation and can only be deleted; ``stuck`` needs continue-update-rollback; ``undeleted`` needs another delete.
"""
TAG = "mli:stack"
"""Tag of every stack that a command made: ``shared``, ``component`` or ``device``."""
CORE_TAG = "mli:core"

_NEVER_UP = frozenset({"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"})
_V1 = ("AWS::Greengrass::", "AWS::Serverless::", "Custom::")
_V1_ALSO = frozenset({"AWS::CloudFormation::CustomResource", "AWS::Lambda::Function"})


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack that is there.

    Attributes:
        status: CloudFormation's own word, such as ``UPDATE_COMPLETE``.
        reason: what it says of the status; empty for nothing.
    """

    name: str
    stack_id: str
    status: str
    reason: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    changed_at: Any = None

    @property
    def state(self) -> State:
        return state_of(self.status)


@dataclass(frozen=True, slots=True)
class Contents:
    """What the template of a stack says.

    Attributes:
        metadata: of ours, ``{"template": "device", …}``; empty in templates of others.
        types: of its resources.
    """

    metadata: Mapping[str, Any]
    types: tuple[str, ...]

    @property
    def retired(self) -> tuple[str, ...]:
        """Types of the Greengrass V1 accelerator, whose handler undoes more than the stack made."""
        return tuple(kind for kind in self.types if kind.startswith(_V1) or kind in _V1_ALSO)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a stack."""

    logical_id: str
    physical_id: str
    type: str
    status: str


def state_of(status: str) -> State:
    """What can be done with a stack of this status."""
    if status == "REVIEW_IN_PROGRESS":
        return "review"
    if status.endswith("_IN_PROGRESS"):
        return "moving"
    if status in _NEVER_UP:
        return "never_up"
    if status in ("UPDATE_ROLLBACK_FAILED", "IMPORT_ROLLBACK_FAILED"):
        return "stuck"
    return "undeleted" if status == "DELETE_FAILED" else "settled"


def look_at_stack(aws: Aws, name: str) -> Stack | None:
    """The stack of this name or id; None where there is none (any more).

    Raises:
        MliError: AWS did not answer, or the right to ask is missing.
    """
    with asking(f"for the stack {name}"):
        try:
            found = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if "does not exist" in message_of(error):
                return None
            raise
    alive = [told for told in found if told["StackStatus"] != "DELETE_COMPLETE"]
    return _stack(alive[0]) if alive else None


def contents_of(aws: Aws, stack: Stack) -> Contents:
    """What the stack's template says; a stack that is only a plan has none.

    Raises:
        MliError: AWS did not answer, or the right to ask is missing.
    """
    if stack.state == "review":
        return Contents({}, ())
    with asking(f"what is in the stack {stack.name}"):
        told = aws.client("cloudformation").get_template_summary(StackName=stack.name)
    return Contents(_own_metadata(told.get("Metadata")), tuple(told.get("ResourceTypes", ())))


def resources_of(aws: Aws, stack: Stack) -> tuple[Resource, ...]:
    """Every resource of the stack, also those that are gone.

    Raises:
        MliError: AWS did not answer, or the right to ask is missing.
    """
    with asking(f"what the stack {stack.name} made"):
        pages = aws.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack.name)
        told = [item for page in pages for item in page["StackResourceSummaries"]]
    return tuple(
        Resource(
            item["LogicalResourceId"],
            item.get("PhysicalResourceId", ""),
            item["ResourceType"],
            item["ResourceStatus"],
        )
        for item in told
    )


def importers_of(aws: Aws, stack: Stack) -> tuple[str, ...]:
    """Names of the stacks that import what this one exports.

    Raises:
        MliError: AWS did not answer, or the right to ask is missing.
    """
    names: set[str] = set()
    with asking(f"which stacks use the stack {stack.name}"):
        pages = aws.client("cloudformation").get_paginator("list_exports").paginate()
        exports = [
            item["Name"] for page in pages for item in page["Exports"] if item["ExportingStackId"] == stack.stack_id
        ]
    for export in exports:
        names |= set(importers_of_export(aws, export))
    return tuple(sorted(names))


def importers_of_export(aws: Aws, export: str) -> tuple[str, ...]:
    """Names of the stacks that import what is exported under this name; none where there is no such.

    Raises:
        MliError: AWS did not answer, or the right to ask is missing.
    """
    with asking(f"which stacks use {export}"):
        try:
            pages = aws.client("cloudformation").get_paginator("list_imports").paginate(ExportName=export)
            return tuple(name for page in pages for name in page["Imports"])
        except ClientError as error:
            if "not imported" not in message_of(error):
                raise
    return ()


def _stack(told: Mapping[str, Any]) -> Stack:
    return Stack(
        name=told["StackName"],
        stack_id=told["StackId"],
        status=told["StackStatus"],
        reason=told.get("StackStatusReason") or "",
        parameters={item["ParameterKey"]: item.get("ParameterValue", "") for item in told.get("Parameters", ())},
        outputs={item["OutputKey"]: item.get("OutputValue", "") for item in told.get("Outputs", ())},
        tags={item["Key"]: item["Value"] for item in told.get("Tags", ())},
        changed_at=told.get("LastUpdatedTime") or told.get("CreationTime"),
    )


def _own_metadata(text: Any) -> Mapping[str, Any]:
    """``Metadata: {mli: …}`` of a template; CloudFormation gives it as the text of a JSON object."""
    try:
        whole = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return {}
    own = whole.get("mli") if isinstance(whole, Mapping) else None
    return own if isinstance(own, Mapping) else {}
