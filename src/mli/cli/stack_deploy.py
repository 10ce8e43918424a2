"""``mli stack deploy``: the AWS resources of a device, and of what all devices share."""

from __future__ import annotations

import json
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mli.cli.aws_account import Profile, Region, aws_account
from mli.cli.options import AsJson, StackName, Yes
from mli.cli.stack_view import LinesWatcher, change_lines, done_json, done_text, told_when_interrupted
from mli.cli.to_type import tells_what_to_type, to_type
from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.cloud.aws import Aws
    from mli.cloud.component_package import ComponentPackage
    from mli.cloud.stack_deploy import Deployed
    from mli.cloud.stack_step import Done
    from mli.cloud.stack_wanted import Wanted


@tells_what_to_type
def deploy(
    core_name: Annotated[
        str | None, typer.Argument(help="Name of the device: its thing, and its topic's end.")
    ] = None,
    certificate: Annotated[
        str | None, typer.Option(help="The device's certificate: id, ARN or file (PEM) [default: the stack's]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="s3://BUCKET/KEY of the archive [default: the stack's]")] = None,
    sha256: Annotated[str | None, typer.Option(help="Of the archive [default: as mli model push said it]")] = None,
    runtime: Annotated[
        Literal["core", "greengrass"] | None,
        typer.Option(help="mli's own core, or a Greengrass V2 component [default: the stack's, or core]"),
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over <CORE_NAME>_Core, which the accelerator made, and its topic.")
    ] = False,
    detach_old: Annotated[
        bool,
        typer.Option("--detach-old", help="Once it is proven: take the certificate's other policies off it."),
    ] = False,
    proven: Annotated[
        bool, typer.Option("--proven", help="With --detach-old: you have seen the device at work.")
    ] = False,
    source: Annotated[
        str | None, typer.Option(help="Where the images come from [default: the stack's, or images]")
    ] = None,
    thing_group: Annotated[
        str | None,
        typer.Option(help="With --runtime greengrass: deploy to this thing group (nucleus lite needs one)."),
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Only what all devices share; takes no CORE_NAME.")
    ] = False,
    stack_name: StackName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; nothing stays.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Make or update the AWS resources of a device; looks at everything first."""
    if shared == (core_name is not None):
        raise UsageError(
            "which device?" if core_name is None else "--shared takes no CORE_NAME",
            expected="mli stack deploy CORE_NAME --certificate ID --model s3://…, or mli stack deploy --shared",
        )
    aws = aws_account(profile, region)
    watcher = LinesWatcher(yes=yes, quiet=as_json)
    with told_when_interrupted():
        if core_name is None:
            _show_done([_deploy_shared(aws, watcher, dry_run=dry_run)], as_json)
        elif detach_old:
            from mli.cli.stack_adopt import detach_old_policies

            detach_old_policies(
                aws, core_name, stack_name, watcher, proven=proven, dry_run=dry_run, yes=yes, as_json=as_json
            )
        else:
            from mli.cloud.stack_wanted import Wanted

            wanted = Wanted(
                core_name=core_name,
                certificate=certificate,
                model_uri=model,
                sha256=sha256,
                runtime=runtime,
                adopt=adopt,
                source=source,
                thing_group=thing_group,
                stack_name=stack_name,
            )
            _deploy_device(aws, wanted, watcher, dry_run=dry_run, as_json=as_json)


def _deploy_shared(aws: Aws, watcher: LinesWatcher, *, dry_run: bool) -> Done:
    from mli.cloud.stack_deploy import deploy_shared

    return deploy_shared(aws, watcher, dry_run=dry_run)


def _deploy_device(aws: Aws, wanted: Wanted, watcher: LinesWatcher, *, dry_run: bool, as_json: bool) -> None:
    from mli.cloud.stack_deploy import deploy_stacks

    with tempfile.TemporaryDirectory(prefix="mli-component-") as folder:

        def build() -> ComponentPackage:
            from mli.cli.progress import InstallProgress
            from mli.cloud.component_package import build as pack

            watcher.say("packing the Greengrass component")
            with InstallProgress("packing the component") as progress:
                return pack(Path(folder), on_progress=lambda _what, done, total: progress.update(done, total))

        deployed = deploy_stacks(aws, wanted, watcher, build, dry_run=dry_run)
    if as_json:
        print(json.dumps(_deployed_json(deployed), indent=2, ensure_ascii=False))
        return
    _show_done(deployed.done, as_json=False)
    if not dry_run:
        _show_next(wanted, deployed)


def _show_done(done: list[Done] | tuple[Done, ...], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"stacks": [done_json(one) for one in done]}, indent=2, ensure_ascii=False))
        return
    for one in done:
        print(done_text(one))
        if one.did.startswith("would"):
            for line in change_lines(one.changes):
                print(f"  {line}")


def _show_next(wanted: Wanted, deployed: Deployed) -> None:
    outputs = deployed.device.stack.outputs if deployed.device.stack is not None else {}
    print(f"  thing        {outputs.get('ThingName', wanted.thing)}")
    print(f"  certificate  {deployed.looked.certificate.certificate_id}")
    print(f"  model        {deployed.looked.model.uri}")
    print(f"  predictions  {outputs.get('PredictionTopic', '')}")
    print("Next:")
    # Who named the file has the folder; an id or an ARN says nothing of where that is.
    file = Path(wanted.certificate or "")
    certs = shlex.quote(str(file.parent)) if file.is_file() else "DIR"
    core, stack = wanted.core_name, wanted.stack_name or wanted.core_name
    print(to_type(f"  mli device bundle --stack {stack} --certs {certs}  # greengrass-setup.zip for the device"))
    if deployed.runtime == "core":
        print(to_type(f"  mli stack outputs {core} --output CommandToDeployGroup | sh  # sends the deployment"))
    print(to_type(f"  mli stack status {core}"))


def _deployed_json(deployed: Deployed) -> dict[str, Any]:
    model, stack = deployed.looked.model, deployed.device.stack
    return {
        "stacks": [done_json(one) for one in deployed.done],
        "certificate": deployed.looked.certificate.certificate_id,
        "model": {
            "uri": model.uri,
            "bytes": model.size_bytes,
            "sha256": model.sha256 or None,
            "sha256_from": model.sha256_from,
        },
        "cautions": list(deployed.looked.cautions),
        "outputs": dict(stack.outputs) if stack is not None else {},
    }
