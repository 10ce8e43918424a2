"""Why a stack failed: the first resource, not the cascade; and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mli.cloud.troubles import missing_right
from mli.errors import MliError, RefusedError

_CASCADE = re.compile(r"cancelled|The following resource\(s\) failed|Rollback requested by user", re.IGNORECASE)
_AGAIN = "then the same command again"
_KNOWN = (
    (
        re.compile(r"already exists", re.IGNORECASE),
        "something of that name exists that this stack did not make: take another name, or delete it if it is yours "
        f"and unused, {_AGAIN}",
    ),
    (
        re.compile(r"Unrecognized resource types: .*GreengrassV2"),
        "CloudFormation knows no Greengrass V2 in this region: --runtime core, another region, or the AWS CLI's way "
        "in docs/greengrass.md",
    ),
    (
        re.compile(r"No export named (?P<name>\S+) found", re.IGNORECASE),
        "the shared stack is not there, or is older than this mli: mli stack deploy --shared",
    ),
    (
        re.compile(r"in use by (?P<stacks>.+?)\.?$"),
        "those stacks import it: remove them first (mli stack destroy CORE_NAME)",
    ),
    (
        re.compile(r"attached to one or more principals", re.IGNORECASE),
        "AWS IoT can need five minutes to see that it was detached; if it is still so then, another certificate has "
        f"it (mli device cert CORE_NAME --revoke ID takes it off). Wait, {_AGAIN}",
    ),
    (
        re.compile(r"limit ?exceeded|quota|maximum number", re.IGNORECASE),
        f"a quota of this account is used up: free something or have it raised (Service Quotas), {_AGAIN}",
    ),
    (
        re.compile(r"not empty", re.IGNORECASE),
        f"a bucket still holds objects: empty it if nothing in it is needed, {_AGAIN}",
    ),
    (
        re.compile(r"expired|security token", re.IGNORECASE),
        f"the credentials ended before CloudFormation did: log in again, {_AGAIN}",
    ),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a stack's log."""

    event_id: str
    logical_id: str
    type: str
    status: str
    reason: str

    @property
    def failed(self) -> bool:
        return self.status.endswith("_FAILED")


def first_failure(events: Sequence[Event]) -> Event | None:
    """What went wrong first; None where nothing did.

    Args:
        events: oldest first.
    """
    failed = [event for event in events if event.failed and event.type != "AWS::CloudFormation::Stack"]
    causes = [event for event in failed if not _CASCADE.search(event.reason)]
    whole = [event for event in events if event.failed]
    return next(iter([*causes, *failed, *whole]), None)


def explained(stack_name: str, reason: str, where: str | None = None) -> MliError | None:
    """The error for a reason that is known, with its remedy; None for others."""
    denied = missing_right(reason, where or f"the stack {stack_name}")
    if denied is not None:
        return denied
    for pattern, remedy in _KNOWN:
        if pattern.search(reason):
            return RefusedError(_failed(stack_name), where=where, got=reason, remedy=remedy)
    return None


def stack_failed(stack_name: str, event: Event | None, status: str, reason: str, left: str) -> MliError:
    """The error of a stack that did not get where it should.

    Args:
        event: its first failure, where one is known.
        status, reason: where the stack stands now.
        left: what that means for the next run, in a sentence.
    """
    if event is None:
        return RefusedError(_failed(stack_name), got=f"{status}: {reason}" if reason else status, remedy=left)
    where = f"{event.logical_id} ({event.type})"
    known = explained(stack_name, event.reason, where)
    if known is not None:
        return type(known)(
            known.what,
            where=f"{where} of the stack {stack_name}, now {status}",
            expected=known.expected,
            got=known.got,
            remedy=f"{known.remedy}. {left}" if known.remedy else left,
        )
    return RefusedError(
        _failed(stack_name),
        where=f"{where}, now the stack is {status}",
        got=event.reason or event.status,
        remedy=left,
    )


def _failed(stack_name: str) -> str:
    return f"The stack {stack_name} failed."
