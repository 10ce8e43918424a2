"""Whose a stack is, and whether a command may touch it as it stands."""

from __future__ import annotations

from mli.cloud.aws import Aws
from mli.cloud.stack_state import CORE_TAG, TAG, Contents, Stack, contents_of, resources_of
from mli.errors import MliError, RefusedError

_GONE = frozenset({"DELETE_COMPLETE", "CREATE_FAILED"})


def must_be_ours(stack: Stack, contents: Contents, kind: str) -> None:
    """Refuse a stack that mli did not make.

    A stack of the AWS CLI or the console has no tag of ours: its template says whose it is.

    Args:
        kind: ``shared``, ``component`` or ``device``.

    Raises:
        RefusedError: it is another's, or holds the retired accelerator.
    """
    if contents.retired:
        raise RefusedError(
            f"The stack {stack.name} is the accelerator on Greengrass V1; mli does not touch it.",
            expected="a name that no stack has, or a stack of mli",
            got=f"it holds {', '.join(sorted(set(contents.retired))[:4])}",
            remedy="another --stack-name. To replace or delete that stack runs its handler, which detaches the "
            "certificate and deletes the thing; docs/migrate.md says how to retire it safely",
        )
    made = contents.metadata.get("template") or stack.tags.get(TAG)
    if made == kind or (not made and stack.state == "review" and not stack.tags):
        return
    raise RefusedError(
        f"A stack {stack.name} exists that is not mli's {kind} stack.",
        expected=f"no stack of that name, or one of the template {kind}.yaml",
        got=f"mli's {made} stack" if made else "neither a tag nor a template of mli",
        remedy="another --stack-name"
        if kind == "device"
        else f"mli needs the name {stack.name}: delete that stack if it is unused",
    )


def must_be_of(stack: Stack, core_name: str) -> None:
    """Refuse a stack of another core: a wrong --stack-name must cost no device its own.

    Raises:
        RefusedError: it is another's.
    """
    core = stack.parameters.get("CoreName", core_name)
    if core != core_name:
        raise RefusedError(
            f"The stack {stack.name} is for another core.",
            expected=f"CoreName {core_name}",
            got=f"CoreName {core}",
            remedy="another --stack-name, or none",
        )


def must_be_usable(aws: Aws, stack: Stack, kind: str) -> None:
    """Refuse a stack that is not ours, or that must be mended by a person first.

    Raises:
        RefusedError: with what to do.
        MliError: AWS did not answer, or a right is missing.
    """
    must_be_ours(stack, contents_of(aws, stack), kind)
    if stack.state == "stuck":
        raise _must_be_mended(
            stack,
            f"aws cloudformation continue-update-rollback --stack-name {stack.name} --region {aws.region}; "
            "then the same command again",
        )
    if stack.state == "undeleted":
        core = stack.tags.get(CORE_TAG) or stack.parameters.get("CoreName", "CORE_NAME")
        again = f"mli stack destroy {core}" if kind == "device" else "mli stack destroy --shared"
        raise _must_be_mended(stack, f"its deletion stopped half-way: {again} goes on with it; then deploy again")
    if stack.state == "never_up":
        held = held_by(aws, stack)
        if held:
            raise _must_be_mended(
                stack,
                f"it never came up and still holds {', '.join(held)}: look whether they are needed, then "
                f"aws cloudformation delete-stack --stack-name {stack.name} --region {aws.region}",
            )


def held_by(aws: Aws, stack: Stack) -> tuple[str, ...]:
    """Logical names of what a stack that never came up still has.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    return tuple(item.logical_id for item in resources_of(aws, stack) if item.status not in _GONE)


def _must_be_mended(stack: Stack, remedy: str) -> MliError:
    return RefusedError(
        f"The stack {stack.name} cannot be used as it stands.",
        got=f"{stack.status}: {stack.reason}" if stack.reason else stack.status,
        remedy=remedy,
    )
