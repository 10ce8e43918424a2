"""``mli stack package``: templates and commands for those who use the AWS CLI or the console."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mli.cli.options import AsJson
from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.cloud.component_package import ComponentPackage

_WHAT = {
    "shared.yaml": "what all devices share; once per account and region",
    "device.yaml": "one device",
    "device-greengrass.yaml": "one device with its Greengrass deployment",
    "component.yaml": "the Greengrass component, with its recipe",
    "ec2.yaml": "a core on EC2, for those without hardware",
    "operator.yaml": "the rights of the person who deploys",
    "device-parameters.json": "the parameters of device.yaml, to be filled in",
    "deploy.sh": "the AWS CLI's commands, in their order",
}


def package(
    out: Annotated[Path, typer.Option("-o", "--output-folder", help="Folder to write into.")] = Path("mli-stack"),
    component: Annotated[
        bool, typer.Option("--component", help="Also the Greengrass component: its recipe and its artifact.")
    ] = False,
    architecture: Annotated[
        list[str] | None,
        typer.Option(help="With --component, only for x86_64 or aarch64; may be repeated.", show_default=False),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(
            help="With --component, only for this Python, such as 3.11; may be repeated.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the templates, their parameters and the AWS CLI's commands; no account is asked."""
    from mli.cli.aws_account import need_cloud

    need_cloud()
    from mli.cloud.stack_package import write_package

    if (architecture or python) and not component:
        raise UsageError("--architecture and --python are about the component", remedy="add --component")
    packed = _pack(out, architecture, python) if component else None
    written = write_package(out, packed)
    if as_json:
        document = {"folder": str(out), "files": list(written.files), "component": _component_json(packed)}
        print(json.dumps(document, indent=2))
        return
    print(out)
    for name in written.files:
        print(f"  {name:<22}  {_WHAT.get(name, '')}".rstrip())
    if packed is not None:
        print(f"component {packed.version}, for {', '.join(packed.targets)}")
        print(f"  artifact  {packed.artifact}  {packed.size_bytes / 1e6:,.0f} MB")
        print(f"  key       {packed.artifact_key}")
        print(f"  sha256    {packed.sha256}")
        print(f"  recipe    {packed.recipe_path}")


def _pack(out: Path, architecture: list[str] | None, python: list[str] | None) -> ComponentPackage:
    from mli.cli.progress import InstallProgress
    from mli.cloud.component_package import build
    from mli.cloud.component_wheels import ARCHITECTURES, PYTHONS

    with InstallProgress("packing the component") as progress:
        return build(
            out,
            architecture or ARCHITECTURES,
            python or PYTHONS,
            on_progress=lambda _what, done, total: progress.update(done, total),
        )


def _component_json(packed: ComponentPackage | None) -> dict[str, object] | None:
    if packed is None:
        return None
    return {
        "version": packed.version,
        "artifact": str(packed.artifact),
        "artifact_key": packed.artifact_key,
        "bytes": packed.size_bytes,
        "sha256": packed.sha256,
        "recipe": str(packed.recipe_path),
        "targets": list(packed.targets),
    }
