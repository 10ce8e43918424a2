"""``mli stack outputs`` and ``mli stack status``: what there is, and how it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.aws_account import Profile, Region, aws_account
from mli.cli.options import AsJson, StackName
from mli.cli.to_type import tells_what_to_type, to_type
from mli.errors import RefusedError, UsageError
from mli.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mli.cloud.stack_status import DeviceStatus, StackStatus

_CONFIG = "GreengrassConfig"
_LONGEST = 100_000


@tells_what_to_type
def outputs(
    core_name: Annotated[str, typer.Argument(help="Name of the device.")],
    output: Annotated[str | None, typer.Option(help="Print this one alone, as it is.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Write GreengrassConfig to this file: the device's config/config.json.")
    ] = None,
    stack_name: StackName = None,
    as_json: AsJson = False,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show what a device's stack gives: GreengrassConfig, CommandToDeployGroup, its topic, hosts and buckets."""
    from mli.cloud.stack_wanted import device_stack_of
    from mli.delivery.one_line import one_line

    stack = device_stack_of(aws_account(profile, region), core_name, stack_name)
    found = stack.outputs
    if not found:
        raise RefusedError(
            f"The stack {stack.name} has no outputs.", got=stack.status, remedy=f"mli stack deploy {core_name}"
        )
    if config is not None:
        _write_config(found, config, core_name)
    if output is not None:
        print(_one(found, output))
    elif as_json:
        print(json.dumps(dict(found), indent=2, ensure_ascii=False))
    elif config is None:
        width = max(map(len, found))
        for name, text in sorted(found.items(), key=lambda item: (len(item[1]) > 100, item[0])):
            print(f"{name:<{width}}  {one_line(text, _LONGEST)}")


@tells_what_to_type
def status(
    core_name: Annotated[str, typer.Argument(help="Name of the device.")],
    stack_name: StackName = None,
    as_json: AsJson = False,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show a device's stacks, certificate and last word; exit 1 when it lacks something."""
    from mli.cloud.near_core import near_core
    from mli.cloud.stack_status import look_at_device
    from mli.cloud.stack_wanted import stack_name_of

    name = stack_name_of(core_name, stack_name)
    aws = aws_account(profile, region)
    found = look_at_device(aws, core_name, name)
    if as_json:
        print(json.dumps(_status_json(found), indent=2, ensure_ascii=False))
    else:
        near = near_core(aws, core_name) if found.device.stack is None else ""
        for line in _status_lines(found, core_name, near):
            print(to_type(line))
    if not found.good:
        raise typer.Exit(1)


def _one(found: Mapping[str, str], name: str) -> str:
    if name in found:
        return found[name]
    raise UsageError(
        "the stack has no such output", expected=f"one of {', '.join(sorted(found))}", got=name + nearest(name, found)
    )


def _write_config(found: Mapping[str, str], path: Path, core_name: str) -> None:
    if _CONFIG not in found:
        raise RefusedError(
            "The stack does not know its endpoints, so it has no GreengrassConfig.",
            remedy=f"mli stack deploy {core_name} fills them in",
        )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(json.loads(found[_CONFIG]), indent=2) + "\n")
    except FileExistsError as error:
        raise UsageError(
            "the file is there already", where=str(path), remedy="another --config, or remove it"
        ) from error
    except OSError as error:
        raise UsageError("the file cannot be written", where=str(path), got=error.strerror) from error
    typer.echo(f"mli: wrote {path}", err=True)


def _status_lines(found: DeviceStatus, core_name: str, near: str) -> list[str]:
    from mli.delivery.one_line import one_line

    stacks = [found.shared, found.component, found.device]
    if found.component.stack is None and not found.on_greengrass:
        stacks.remove(found.component)
    lines = [_stack_line(one, core_name) + (near if one is found.device else "") for one in stacks]
    lines.append(f"certificate  {found.certificate or 'none is named'}")
    if found.said is None:
        lines.append(f"last word    {found.thing} said nothing yet on mli/status/{found.thing}")
    else:
        at = f"{found.said.told_at:%Y-%m-%d %H:%M:%S} UTC"
        version = one_line(str(found.said.document.get("version") or ""))
        lines.append(f"last word    {found.thing} {one_line(found.said.state)}, {at}  {version}".rstrip())
    return lines


def _stack_line(one: StackStatus, core_name: str) -> str:
    from mli.delivery.one_line import one_line

    if one.stack is None:
        words = {"component": "", "shared": "; mli stack deploy --shared makes it"}
        needed = words.get(one.kind, f"; mli stack deploy {core_name} makes it")
        return f"{one.kind:<11}  {one.name}  not there{needed}"
    template = "" if one.template == "not known" else f"  template: {one.template}"
    reason = f"  {one_line(one.stack.reason)}" if one.stack.reason and one.stack.state != "settled" else ""
    return f"{one.kind:<11}  {one.name}  {one.stack.status}{reason}{template}"


def _status_json(found: DeviceStatus) -> dict[str, Any]:
    return {
        "good": found.good,
        "thing": found.thing,
        "stacks": {
            one.kind: {
                "name": one.name,
                "status": None if one.stack is None else one.stack.status,
                "template": one.template,
            }
            for one in (found.shared, found.component, found.device)
        },
        "certificate": found.certificate,
        "device": None
        if found.said is None
        else {"at": found.said.told_at.isoformat(), "status": found.said.document},
    }
