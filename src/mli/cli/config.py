"""``mli config``: check a file and show what it stands for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mli.errors import UsageError


def config(
    file: Annotated[
        Path | None, typer.Argument(help="File for mli run, device.yaml or its folder, or a deployment.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print a JSON Schema instead: `run`, `device` or `deployment` as FILE.")
    ] = False,
    root: Annotated[
        Path | None, typer.Option(help="Folder of a device: would it take this deployment from the network?")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False,
) -> None:
    """Check and expand a file."""
    if schema:
        _print_schema("run" if file is None else str(file))
        return
    if file is None:
        raise UsageError(
            "no file was given", remedy="mli config FILE, or mli config --schema [run|device|deployment]"
        )
    from mli.config.checking import check_settings

    checked = check_settings(file, root)
    if as_json:
        print(json.dumps(checked.expanded, indent=2))
    else:
        import yaml

        if checked.identity is not None:
            print(f"# identity of the deployment: {checked.identity}")
        print(yaml.safe_dump(checked.expanded, sort_keys=False, allow_unicode=True), end="")
    if checked.kind == "deployment" and root is None:
        print("checked without a device; --root DIR checks whether that device would take it", file=sys.stderr)


def _print_schema(kind: str) -> None:
    from mli.config.json_schemas import deployment_json_schema, device_json_schema, run_file_json_schema

    schemas = {"run": run_file_json_schema, "device": device_json_schema, "deployment": deployment_json_schema}
    if kind not in schemas:
        raise UsageError("there is no such schema", expected=", ".join(schemas), got=kind)
    print(json.dumps(schemas[kind](), indent=2))
