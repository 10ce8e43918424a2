"""``mli config``: check a file and show what it stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mli.errors import UsageError


def config(
    file: Annotated[Path | None, typer.Argument(help="Device and deployment file, short or long form.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of such files instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False,
) -> None:
    """Check and expand a file."""
    if schema:
        from mli.config.json_schemas import run_file_json_schema

        print(json.dumps(run_file_json_schema(), indent=2))
        return
    if file is None:
        raise UsageError("no file was given", remedy="mli config FILE, or mli config --schema")
    from mli.config.files import load_run_file, shown

    settings = load_run_file(file)
    expanded = shown(settings)
    if as_json:
        print(json.dumps(expanded, indent=2))
        return
    import yaml

    print(yaml.safe_dump(expanded, sort_keys=False, allow_unicode=True), end="")
