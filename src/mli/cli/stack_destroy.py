"""``mli stack destroy``: remove what ``mli stack deploy`` made."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mli.cli.aws_account import Profile, Region, aws_account
from mli.cli.options import AsJson, StackName, Yes
from mli.cli.stack_view import LinesWatcher, told_when_interrupted
from mli.cli.to_type import tells_what_to_type, to_type
from mli.errors import StopError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mli.cloud.aws import Aws
    from mli.cloud.stack_destroy import DeviceEnd
    from mli.cloud.stack_state import Resource


@tells_what_to_type
def destroy(
    core_name: Annotated[str | None, typer.Argument(help="Name of the device.")] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="What all devices share, once no device uses it; takes no CORE_NAME.")
    ] = False,
    stack_name: StackName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and what stays.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Remove a device's AWS resources; your certificate and your models stay."""
    if shared == (core_name is not None):
        raise UsageError(
            "which device?" if core_name is None else "--shared takes no CORE_NAME",
            expected="mli stack destroy CORE_NAME, or mli stack destroy --shared",
        )
    aws = aws_account(profile, region)
    watcher = LinesWatcher(yes=yes, quiet=as_json)
    with told_when_interrupted():
        if core_name is None:
            _destroy_shared(aws, watcher, dry_run=dry_run, yes=yes, as_json=as_json)
        else:
            _destroy_device(aws, core_name, stack_name, watcher, dry_run=dry_run, yes=yes, as_json=as_json)


def _destroy_device(
    aws: Aws,
    core_name: str,
    stack_name: str | None,
    watcher: LinesWatcher,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from mli.cloud.stack_destroy import end_device, look_at_device_end
    from mli.cloud.stack_wanted import stack_name_of

    name = stack_name_of(core_name, stack_name)
    end = look_at_device_end(aws, core_name, name)
    nothing = end.stack is None and not end.messages
    messages = [f"the message that the broker keeps on {topic}" for topic in end.messages]
    _show(_goes(end.goes) + messages, end.stays, quiet=as_json)
    if not nothing and not dry_run:
        _agree(yes=yes)
        end_device(aws, end, watcher)
    if as_json:
        document = {"stack": name, "thing": end.thing, "goes": _goes(end.goes), "messages": list(end.messages)}
        _print_json({**document, "stays": list(end.stays), "done": not nothing and not dry_run})
    elif nothing:
        print(f"{name}: there is no such stack; nothing to remove{_near(aws, end)}")
    elif not dry_run:
        print(f"{name}: removed")


def _near(aws: Aws, end: DeviceEnd) -> str:
    """What may have been meant: a stack of another name, or of another core."""
    from mli.cloud.near_core import near_core

    return "; --stack-name says what its stack is called" if end.stays else near_core(aws, end.thing)


def _destroy_shared(aws: Aws, watcher: LinesWatcher, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    from mli.cloud.stack_destroy import end_shared, look_at_shared_end

    end = look_at_shared_end(aws)
    goes = _goes(end.goes) + [f"the bucket {name}, with all its versions" for name in end.artifact_buckets]
    stays = [f"the bucket {name}, with your models; the next stack takes it up again" for name in end.model_buckets]
    nothing = not end.stacks and not end.artifact_buckets
    _show(goes, stays, quiet=as_json)
    if not nothing and not dry_run:
        _agree(yes=yes)
        end_shared(aws, end, watcher)
    if as_json:
        names = [stack.name for stack in end.stacks]
        _print_json({"stacks": names, "goes": goes, "stays": stays, "done": not nothing and not dry_run})
    elif nothing:
        print("there is nothing that devices share; nothing to remove")
    elif not dry_run:
        print(f"{', '.join(stack.name for stack in end.stacks) or 'the bucket'}: removed")


def _goes(resources: Sequence[Resource]) -> list[str]:
    return [f"{item.logical_id}  {item.type}  {item.physical_id}".rstrip() for item in resources]


def _show(goes: Sequence[str], stays: Sequence[str], *, quiet: bool) -> None:
    if quiet:
        return
    for title, lines in (("goes:", goes), ("stays:", stays)):
        if lines:
            print(title)
            for line in lines:
                print(to_type(f"  {line}"))


def _agree(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is here to agree that this goes", remedy="look at it with --dry-run, then --yes")
    if not typer.confirm("Remove it?", err=True):
        raise StopError("Nothing was removed: you did not agree.")


def _print_json(document: dict[str, object]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))
