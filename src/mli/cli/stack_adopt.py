"""``mli stack deploy --detach-old``: the accelerator's policy comes off the certificate."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import typer

from mli.cli.to_type import to_type
from mli.errors import StopError, UsageError

if TYPE_CHECKING:
    from mli.cli.stack_view import LinesWatcher
    from mli.cloud.aws import Aws


def detach_old_policies(
    aws: Aws,
    core_name: str,
    stack_name: str | None,
    watcher: LinesWatcher,
    *,
    proven: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Show what the certificate has beside the stack's own policies, and take it off.

    Raises:
        RefusedError: no stack, or it is not proven that the device works without them.
        StopError: the person did not agree.
        MliError: AWS did not answer, or a right is missing.
    """
    from mli.cloud import stack_adopt
    from mli.cloud.stack_wanted import device_stack_of

    stack = device_stack_of(aws, core_name, stack_name)
    old = stack_adopt.old_policies(aws, stack)
    back = stack_adopt.way_back(aws, old)
    if not old.names:
        watcher.say("the certificate has no policy but the stack's own; nothing to do")
    elif dry_run:
        watcher.say(f"would come off the certificate: {', '.join(old.names)}")
    else:
        if not proven:
            stack_adopt.must_be_proven(aws, stack, old)
        _agree(old.names, old.kept, yes=yes)
        stack_adopt.detach(aws, old)
    if as_json:
        did = bool(old.names) and not dry_run
        document = {"thing": old.thing, "detached": list(old.names) if did else [], "old": list(old.names)}
        print(json.dumps({**document, "kept": list(old.kept), "way_back": list(back)}, indent=2))
        return
    print(f"{old.thing}: its certificate {'would keep' if old.names and dry_run else 'has'} {', '.join(old.kept)}")
    if old.names and not dry_run:
        print(f"  taken off: {', '.join(old.names)}")
        print(to_type("Look whether predictions still come: mli watch --aws. The way back:"))
        for line in back:
            print(to_type(f"  {line}"))


def _agree(names: tuple[str, ...], kept: tuple[str, ...], *, yes: bool) -> None:
    typer.echo(f"to come off the certificate: {', '.join(names)}", err=True)
    typer.echo(f"stays on it: {', '.join(kept)}", err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is here to agree that these policies come off", remedy="--yes")
    if not typer.confirm("Go on?", err=True):
        raise StopError("The certificate keeps its policies: you did not agree.")
