"""Follow a stack that CloudFormation works at, until it stands still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mli.cloud.aws import Aws
from mli.cloud.stack_change import Pause
from mli.cloud.stack_failures import Event, first_failure, stack_failed
from mli.cloud.stack_state import Stack, look_at_stack
from mli.cloud.troubles import asking
from mli.errors import MliError, RetryError, StopError

Tell = Callable[[Event], None]
GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.3, 4.0
_PATIENCE_S, _TRUST_AFTER_S = 3600.0, 30.0
_STACK = "AWS::CloudFormation::Stack"
_STARTS = frozenset({"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"})


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a stack's log ended before something was asked of it."""

    last_event: str | None


def mark(aws: Aws, name: str | None) -> Mark:
    """Remember where the log of this stack ends; None for a stack that is not there yet.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    if name is None:
        return Mark(None)
    with asking(f"for the log of the stack {name}"):
        events = aws.client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    return Mark(events[0]["EventId"] if events else None)


def follow(aws: Aws, stack_id: str, name: str, since: Mark, tell: Tell, pause: Pause = time.sleep) -> Stack | None:
    """Wait until the stack stands still, and its log says that it came there.

    Right after a request the state can still be the old one, so the state alone is not believed at once.

    Args:
        stack_id: not the name: a deleted stack is only found by its id.
        tell: gets each new line of the stack's log.

    Returns:
        The stack; None where it was deleted.

    Raises:
        RefusedError, StopError: it failed; the first cause and what to do.
        RetryError: the line or the session was lost, or an hour passed; CloudFormation goes on.
    """
    seen, ended = {since.last_event}, False
    waited, wait = 0.0, _FIRST_PAUSE_S
    while True:
        try:
            stack = look_at_stack(aws, stack_id)
            fresh = [] if stack is None else _news(aws, stack_id, seen)
        except MliError as error:
            raise _lost(error, name) from error
        for event in fresh:
            tell(event)
            ended = ended or (event.type == _STACK and stack is not None and event.status == stack.status)
        if stack is None or (_stands(stack) and (ended or waited > _TRUST_AFTER_S)):
            break
        if waited > _PATIENCE_S:
            raise RetryError(
                f"The stack {name} is still {stack.status} after an hour.", remedy="the same command follows it on"
            )
        pause(wait)
        waited, wait = waited + wait, min(wait * 1.4, _LONGEST_PAUSE_S)
    if stack is not None and stack.status not in GOOD:
        cause = first_failure(_last_operation(aws, stack_id))
        raise stack_failed(name, cause, stack.status, stack.reason, _what_is_left(stack))
    return stack


def _stands(stack: Stack) -> bool:
    return stack.state not in ("moving", "review") or stack.status in GOOD


def _news(aws: Aws, stack_id: str, seen: set[str | None]) -> list[Event]:
    """Events that were not seen yet, oldest first; ``seen`` grows."""
    fresh: list[Event] = []
    for event in _log(aws, stack_id):
        if event.event_id in seen:
            break
        fresh.append(event)
    seen |= {event.event_id for event in fresh}
    return fresh[::-1]


def _last_operation(aws: Aws, stack_id: str) -> list[Event]:
    """What happened since somebody asked something of the stack, oldest first."""
    events: list[Event] = []
    for event in _log(aws, stack_id):
        events.append(event)
        if event.type == _STACK and event.status in _STARTS:
            break
    return events[::-1]


def _log(aws: Aws, stack_id: str) -> Iterator[Event]:
    """Newest first; a page is asked for when it is needed."""
    with asking("for the log of the stack"):
        for page in aws.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack_id):
            yield from map(_event, page["StackEvents"])


def _event(told: Mapping[str, Any]) -> Event:
    nested = told.get("ResourceType") == _STACK and told.get("PhysicalResourceId") != told["StackId"]
    return Event(
        told["EventId"],
        told.get("LogicalResourceId", ""),
        f"nested {_STACK}" if nested else told.get("ResourceType", ""),
        told.get("ResourceStatus", ""),
        told.get("ResourceStatusReason") or "",
    )


def _what_is_left(stack: Stack) -> str:
    if stack.state == "never_up":
        return "what it had made is removed; once the cause is mended, the same command makes it anew"
    if stack.state == "stuck":
        return f"aws cloudformation continue-update-rollback --stack-name {stack.name}; then the same command again"
    if stack.state == "undeleted":
        return "mend the cause; then the same command deletes the rest"
    return "everything is as it was before; mend the cause, then the same command again"


def _lost(error: MliError, name: str) -> MliError:
    """AWS cannot be asked any more, in the middle."""
    kind = type(error) if isinstance(error, StopError | RetryError) else RetryError
    return kind(
        error.what,
        where=f"following the stack {name}, which CloudFormation goes on with",
        expected=error.expected,
        got=error.got,
        remedy=f"{error.remedy or 'the same command again'}; it follows the stack to its end and goes on from there",
    )
