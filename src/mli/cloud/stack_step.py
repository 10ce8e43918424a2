"""One stack, brought to what it shall be: made, updated, or left alone; or only told what that would be."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mli.cloud.aws import Aws
from mli.cloud.stack_change import Change, ChangeSet, Pause, Request, discard, execute, propose
from mli.cloud.stack_failures import Event
from mli.cloud.stack_follow import Mark, follow, mark
from mli.cloud.stack_state import Stack, look_at_stack
from mli.cloud.stack_template import read_template, resources_made
from mli.cloud.troubles import asking
from mli.errors import StopError

Did = Literal["made", "updated", "nothing", "would make", "would update"]


class Watcher(Protocol):
    """Who is told what happens, and asked where it matters."""

    def say(self, text: str) -> None:
        """A sentence for a person."""

    def event(self, stack_name: str, event: Event) -> None:
        """A line of a stack's log."""

    def agree(self, stack_name: str, makes: bool, changes: Sequence[Change]) -> bool:
        """Show what would change; False where the person does not want it."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a stack.

    Attributes:
        stack: as it is now; None in a dry run of one that is not there.
    """

    name: str
    did: Did
    changes: tuple[Change, ...]
    stack: Stack | None


def bring(aws: Aws, request: Request, stack: Stack | None, watcher: Watcher, pause: Pause = time.sleep) -> Done:
    """Make or update the stack, and wait until it stands.

    Args:
        stack: what is there under this name; one that never came up is deleted first.

    Raises:
        StopError: the person did not agree.
        MliError: it failed, or AWS did not answer.
    """
    if stack is not None and stack.state == "never_up":
        watcher.say(f"{stack.name} never came up ({stack.status}); it holds nothing, and is deleted and made anew")
        if not watcher.agree(stack.name, False, [Change("remove", stack.name, "AWS::CloudFormation::Stack")]):
            raise declined(stack.name)
        delete(aws, stack, watcher, pause)
        stack = None
    change_set = propose(aws, request, stack, pause)
    if change_set is None:
        return Done(request.name, "nothing", (), stack)
    try:
        agreed = watcher.agree(request.name, change_set.makes, change_set.changes)
    except BaseException:
        discard(aws, change_set)
        raise
    if not agreed:
        discard(aws, change_set)
        raise declined(request.name)
    settled = _run(aws, change_set, watcher, pause)
    return Done(request.name, "made" if change_set.makes else "updated", change_set.changes, settled)


def foretell(
    aws: Aws, request: Request, stack: Stack | None, pause: Pause = time.sleep, *, needs_all: bool = True
) -> Done:
    """Say what ``bring`` would do; nothing stays.

    Args:
        needs_all: what the stack imports is there. Where it is not, and for a stack that never came up, nobody can be
            asked, and the template says what it would make.

    Raises:
        MliError: CloudFormation does not take it, or did not answer.
    """
    if not needs_all or (stack is not None and stack.state == "never_up"):
        return Done(request.name, "would make", foreseen(request), stack)
    change_set = propose(aws, request, stack, pause)
    if change_set is None:
        return Done(request.name, "nothing", (), stack)
    discard(aws, change_set)
    return Done(request.name, "would make" if change_set.makes else "would update", change_set.changes, stack)


def foreseen(request: Request) -> tuple[Change, ...]:
    """What the template would make with these parameters."""
    template = read_template(request.template)
    return tuple(Change("add", name, kind) for name, kind in resources_made(template, request.parameters))


def wait_for(aws: Aws, stack: Stack, watcher: Watcher, pause: Pause = time.sleep) -> None:
    """Follow a stack that is at work, as an interrupted command left it.

    Raises:
        MliError: it failed, or AWS did not answer.
    """
    watcher.say(f"{stack.name} is {stack.status}: followed to its end first")
    follow(aws, stack.stack_id, stack.name, mark(aws, stack.stack_id), lambda e: watcher.event(stack.name, e), pause)


def delete(aws: Aws, stack: Stack, watcher: Watcher, pause: Pause = time.sleep) -> None:
    """Delete a stack, and wait until it is gone.

    Raises:
        MliError: something of it cannot be deleted, or AWS did not answer.
    """
    since = mark(aws, stack.stack_id)
    with asking(f"to delete the stack {stack.name}"):
        aws.client("cloudformation").delete_stack(StackName=stack.stack_id)
    follow(aws, stack.stack_id, stack.name, since, lambda event: watcher.event(stack.name, event), pause)


def declined(name: str) -> StopError:
    """The person did not agree."""
    return StopError(f"The stack {name} is left as it is: you did not agree.")


def _run(aws: Aws, change_set: ChangeSet, watcher: Watcher, pause: Pause) -> Stack | None:
    since = Mark(None) if change_set.makes else mark(aws, change_set.stack_id)
    execute(aws, change_set)
    stack = follow(
        aws,
        change_set.stack_id,
        change_set.name,
        since,
        lambda event: watcher.event(change_set.name, event),
        pause,
    )
    return stack or look_at_stack(aws, change_set.name)
