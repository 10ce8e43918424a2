"""``mli stack deploy``: everything is looked at first; then what all share, the component, the device."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mli.cloud.aws import Aws
from mli.cloud.names import SHARED_STACK
from mli.cloud.stack_change import Pause
from mli.cloud.stack_component import Build, bring_component
from mli.cloud.stack_requests import device_request, shared_request
from mli.cloud.stack_state import Stack
from mli.cloud.stack_step import Done, Watcher, bring, foretell, wait_for
from mli.cloud.stack_wanted import (
    Looked,
    Runtime,
    Stacks,
    Wanted,
    look,
    look_at_stacks,
    shared_names_are_free,
    usable_stack,
)
from mli.errors import RetryError


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of the stacks, in the order in which they were looked at."""

    looked: Looked
    done: tuple[Done, ...]

    @property
    def device(self) -> Done:
        return self.done[-1]

    @property
    def runtime(self) -> Runtime:
        return self.looked.runtime


def deploy_stacks(
    aws: Aws, wanted: Wanted, watcher: Watcher, build: Build, *, dry_run: bool, pause: Pause = time.sleep
) -> Deployed:
    """Bring all stacks of a device to what is wanted; a second run changes nothing.

    Args:
        build: makes the component's recipe and artifact; only called for Greengrass.
        dry_run: only tell; nothing stays.

    Raises:
        UsageError, RefusedError: a check failed; nothing was changed.
        StopError: the person did not agree, or the credentials ended.
        MliError: AWS did not answer, or a stack failed.
    """
    looked = look(aws, wanted, let_settle(aws, wanted, watcher, dry_run=dry_run, pause=pause))
    for caution in looked.cautions:
        watcher.say(caution)
    done = [bring_shared(aws, looked.stacks.shared, looked.model.bucket, watcher, dry_run=dry_run, pause=pause)]
    shared = done[0].stack
    version = ""
    if looked.runtime == "greengrass":
        component = bring_component(
            aws, build, shared, looked.stacks.component, watcher, dry_run=dry_run, pause=pause
        )
        version = component.version
        done.append(component.done)
    request = device_request(wanted, looked, version)
    before = looked.stacks.device
    if dry_run:
        there = shared is not None and shared.state == "settled"
        done.append(foretell(aws, request, before, pause, needs_all=there))
    else:
        done.append(bring(aws, request, before, watcher, pause))
    return Deployed(looked, tuple(done))


def bring_shared(
    aws: Aws, stack: Stack | None, bucket: str | None, watcher: Watcher, *, dry_run: bool, pause: Pause = time.sleep
) -> Done:
    """What all devices share.

    Args:
        bucket: a bucket that devices shall be able to read, beside those that they can read already.

    Raises:
        MliError: it failed, or AWS did not answer.
    """
    request = shared_request(aws, stack, bucket)
    if request.parameters.get("ExistingModelBucket") and stack is None:
        watcher.say(f"the bucket {request.parameters['ExistingModelBucket']} of an earlier stack is used again")
    return foretell(aws, request, stack, pause) if dry_run else bring(aws, request, stack, watcher, pause)


def deploy_shared(aws: Aws, watcher: Watcher, *, dry_run: bool, pause: Pause = time.sleep) -> Done:
    """Only what all devices share.

    Raises:
        RefusedError: a name is taken, or the stack cannot be used as it stands.
        MliError: it failed, or AWS did not answer.
    """
    stack = usable_stack(aws, SHARED_STACK, "shared")
    if stack is not None and stack.state == "moving":
        _let_settle(aws, stack, watcher, dry_run=dry_run, pause=pause)
        stack = usable_stack(aws, SHARED_STACK, "shared")
    if stack is None:
        shared_names_are_free(aws)
    return bring_shared(aws, stack, None, watcher, dry_run=dry_run, pause=pause)


def let_settle(aws: Aws, wanted: Wanted, watcher: Watcher, *, dry_run: bool, pause: Pause = time.sleep) -> Stacks:
    """The stacks that are there; those that an interrupted command left at work are waited for.

    Raises:
        RetryError: one is at work, and this is a dry run.
        MliError: one is not ours, it failed, or AWS did not answer.
    """
    found = look_at_stacks(aws, wanted.stack)
    moving = [s for s in (found.shared, found.component, found.device) if s is not None and s.state == "moving"]
    for stack in moving:
        _let_settle(aws, stack, watcher, dry_run=dry_run, pause=pause)
    return look_at_stacks(aws, wanted.stack) if moving else found


def _let_settle(aws: Aws, stack: Stack, watcher: Watcher, *, dry_run: bool, pause: Pause) -> None:
    if dry_run:
        raise RetryError(
            f"The stack {stack.name} is at work ({stack.status}): what would change cannot be said yet.",
            remedy="the same command again in a minute; without --dry-run it is followed to its end",
        )
    wait_for(aws, stack, watcher, pause)
