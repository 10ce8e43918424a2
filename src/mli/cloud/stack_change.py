"""What would change in a stack, asked before it changes: CloudFormation's change sets."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.stack_failures import explained
from mli.cloud.stack_state import Stack
from mli.cloud.troubles import asking, code_of, message_of
from mli.errors import RefusedError, RetryError

What = Literal["add", "change", "replace", "may replace", "remove"]
Pause = Callable[[float], None]

_PREFIX = "mli-"
_SAME = ("didn't contain changes", "No updates are to be performed")
_REFUSALS = frozenset({"ValidationError", "AlreadyExistsException", "LimitExceededException"})
_CROSSED = frozenset({"ChangeSetNotFound", "InvalidChangeSetStatus", "OperationInProgress"})
_CROSSED_WORDS = re.compile(
    r"is in \w+ state and can ?not be|already exists and cannot be created|"
    r"ChangeSet \[\S+\] (?:does not exist|cannot be executed)|^Stack\b.* does not exist"
)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _DEADLINE_S = 0.3, 3.0, 300.0


@dataclass(frozen=True, slots=True)
class Request:
    """What a stack shall be.

    Attributes:
        template: its text.
        parameters: all that are not left at the template's default.
    """

    name: str
    template: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    names_roles: bool = False
    """The template makes IAM roles, which CloudFormation wants to be said."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would happen to one resource."""

    what: What
    logical_id: str
    type: str
    physical_id: str = ""


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What CloudFormation would do; it does nothing until it is executed.

    Attributes:
        makes: the stack is not there yet.
    """

    name: str
    change_set_id: str
    stack_id: str
    makes: bool
    changes: tuple[Change, ...]


def propose(aws: Aws, request: Request, stack: Stack | None, pause: Pause = time.sleep) -> ChangeSet | None:
    """Ask what would change; None for nothing.

    Args:
        stack: what is there under this name; one that is only a plan is filled.

    Raises:
        RefusedError: CloudFormation does not take the template or the parameters.
        RetryError: somebody else is at this stack.
        MliError: AWS did not answer, or a right is missing.
    """
    makes = stack is None or stack.state == "review"
    client = aws.client("cloudformation")
    with asking(f"what would change in the stack {request.name}"), _nobody_else(request.name):
        if makes and stack is not None:
            _forget_plans(client, stack)
        told = _asked(client, request, makes)
        try:
            status, reason, changes = _described(client, told["Id"], pause)
        except BaseException:
            _discard(client, told["Id"], told["StackId"] if makes else None)
            raise
        change_set = ChangeSet(request.name, told["Id"], told["StackId"], makes, changes)
        if status == "CREATE_COMPLETE":
            return change_set
        discard(aws, change_set)
    if any(text in reason for text in _SAME):
        return None
    raise explained(request.name, reason) or RefusedError(
        f"CloudFormation does not take the stack {request.name}; nothing was changed.", got=reason
    )


def discard(aws: Aws, change_set: ChangeSet) -> None:
    """Take a change set back, and with it a stack that was never more than a plan.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    with asking(f"to forget what would change in the stack {change_set.name}"):
        _discard(
            aws.client("cloudformation"), change_set.change_set_id, change_set.stack_id if change_set.makes else None
        )


def execute(aws: Aws, change_set: ChangeSet) -> None:
    """Let CloudFormation do it; it goes on by itself from here.

    Raises:
        RetryError: somebody else is at this stack.
        MliError: AWS did not answer, or a right is missing.
    """
    name = change_set.name
    with asking(f"to {'make' if change_set.makes else 'update'} the stack {name}"), _nobody_else(name):
        aws.client("cloudformation").execute_change_set(
            ChangeSetName=change_set.change_set_id, StackName=change_set.stack_id
        )


def somebody_else(name: str, where: str, got: str) -> RetryError:
    """Two make or change one stack at a time."""
    return RetryError(
        f"Somebody else is making or changing the stack {name} at this moment; this command changed nothing in it.",
        where=where,
        expected="one at a time; an mli stack deploy or destroy, the AWS CLI, the console or a pipeline is first",
        got=got,
        remedy="the same command again: it follows what is under way to its end, then does what is left. "
        f"aws cloudformation describe-stack-events --stack-name {name} shows what that is, CloudTrail whose",
    )


@contextmanager
def _nobody_else(name: str) -> Iterator[None]:
    """Tell what AWS says of two who make or change one stack at a time as that."""
    try:
        yield
    except ClientError as error:
        if code_of(error).removesuffix("Exception") not in _CROSSED and not _CROSSED_WORDS.search(message_of(error)):
            raise
        raise somebody_else(name, error.operation_name, message_of(error)) from error


def _asked(client: Any, request: Request, makes: bool) -> Any:
    try:
        return client.create_change_set(
            StackName=request.name,
            ChangeSetName=f"{_PREFIX}{secrets.token_hex(6)}",
            ChangeSetType="CREATE" if makes else "UPDATE",
            TemplateBody=request.template,
            Parameters=[{"ParameterKey": key, "ParameterValue": text} for key, text in request.parameters.items()],
            Tags=[{"Key": key, "Value": text} for key, text in request.tags.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"] if request.names_roles else [],
        )
    except ClientError as error:
        said = message_of(error)
        refused = code_of(error) in _REFUSALS and not _CROSSED_WORDS.search(said)
        known = explained(request.name, said) if refused else None
        if known is None:
            raise
        raise known from error


def _described(client: Any, change_set_id: str, pause: Pause) -> tuple[str, str, tuple[Change, ...]]:
    """Status, reason and changes, once CloudFormation has thought."""
    waited, wait = 0.0, _FIRST_PAUSE_S
    while True:
        told = client.describe_change_set(ChangeSetName=change_set_id)
        status = told["Status"]
        if status not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
            break
        if waited > _DEADLINE_S:
            raise RetryError("CloudFormation does not say what would change.", remedy="the same command again")
        pause(wait)
        waited, wait = waited + wait, min(wait * 1.5, _LONGEST_PAUSE_S)
    changes = [_change(item) for item in told.get("Changes", ())]
    while told.get("NextToken"):
        told = client.describe_change_set(ChangeSetName=change_set_id, NextToken=told["NextToken"])
        changes += [_change(item) for item in told.get("Changes", ())]
    return status, told.get("StatusReason") or "", tuple(changes)


def _change(told: Mapping[str, Any]) -> Change:
    resource = told["ResourceChange"]
    replacement = resource.get("Replacement")
    if resource["Action"] == "Add":
        what: What = "add"
    elif resource["Action"] == "Remove":
        what = "remove"
    elif replacement == "True":
        what = "replace"
    else:
        what = "may replace" if replacement == "Conditional" else "change"
    return Change(
        what, resource["LogicalResourceId"], resource["ResourceType"], resource.get("PhysicalResourceId") or ""
    )


def _forget_plans(client: Any, stack: Stack) -> None:
    """Change sets that an interrupted command left on a stack that is only a plan."""
    pages = client.get_paginator("list_change_sets").paginate(StackName=stack.name)
    for page in pages:
        for item in page["Summaries"]:
            if item["ChangeSetName"].startswith(_PREFIX) and item.get("StackId") == stack.stack_id:
                client.delete_change_set(ChangeSetName=item["ChangeSetId"])


def _discard(client: Any, change_set_id: str, plan_only: str | None) -> None:
    client.delete_change_set(ChangeSetName=change_set_id)
    if plan_only is None:
        return
    try:
        told = client.describe_stacks(StackName=plan_only)["Stacks"][0]
        others = client.list_change_sets(StackName=plan_only)["Summaries"]
    except ClientError:
        return  # the plan went with its change set
    if told["StackStatus"] == "REVIEW_IN_PROGRESS" and not [o for o in others if o.get("StackId") == plan_only]:
        client.delete_stack(StackName=plan_only)
