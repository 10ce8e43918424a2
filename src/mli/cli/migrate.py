"""``mli migrate``: the accelerator's set-up on Greengrass V1 becomes mli's files, with a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mli.errors import RefusedError

if TYPE_CHECKING:
    from mli.cloud.migration.planning import Plan
    from mli.cloud.migration.setup import Setup


def migrate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR",
            help="The V1 template, what `aws greengrass get-…-version` gave, or the device's folder.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--output-dir", help="Folder to write.")] = Path("migrated"),
    core_name: Annotated[
        str | None, typer.Option(help="What the topic ends in [default: CoreName, or the thing without _Core]")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Of the template; or file://STACK.json. May be said several times."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="The model's archive: its sha256 is written down.")] = None,
    model_uri: Annotated[str | None, typer.Option(help="Where the model is, if the set-up does not say it.")] = None,
    role_alias: Annotated[
        str | None, typer.Option(help="For a device's folder: RoleAlias of its stack's outputs.")
    ] = None,
    credentials_endpoint: Annotated[
        str | None, typer.Option(help="Goes with --role-alias: CredentialsEndpoint of the outputs.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn a Greengrass V1 set-up into deployment.yaml, device.yaml, the stack's parameters and a report."""
    from mli.cloud.migration.given import given_parameters
    from mli.cloud.migration.models import Choices
    from mli.cloud.migration.planning import plan
    from mli.cloud.migration.reading import read_setup
    from mli.cloud.migration.report import report_json
    from mli.cloud.migration.writing import file_sha256, write

    given = given_parameters(parameter or [])
    digest = None if model is None else file_sha256(model)
    setup = read_setup(source, given, core_name)
    made = plan(setup, Choices(core_name, model_uri, digest, role_alias, credentials_endpoint))
    if made.missing:
        if as_json:
            print(json.dumps(report_json(setup, made, files=[], backup={}), indent=2, ensure_ascii=False))
        else:
            _print_findings(made)
        raise RefusedError(
            "The set-up does not say all that a deployment needs; nothing was written.",
            where=str(source),
            got="missing: " + "; ".join(dict.fromkeys(made.missing)),
            remedy="say it with the options above, or name the device's own folder, which mostly knows more",
        )
    files, backup = write(setup, made, out, overwrite=force, dry_run=dry_run)
    if as_json:
        written = {"output": str(out), "files": files, "backup": backup, "dry_run": dry_run}
        print(json.dumps(report_json(setup, made, **written), indent=2, ensure_ascii=False))
    else:
        _print(setup, made, out, files, dry_run)


def _print(setup: Setup, made: Plan, out: Path, files: list[str], dry_run: bool) -> None:
    from mli.cloud.migration.report import counts

    print(f"thing      {made.thing}")
    for name, item in made.deployment["pipelines"].items():
        print(
            f"pipeline   {name}: {item['source']['uri']} every {item['source']['interval']}, "
            f"on {item['publish']['topic']}"
        )
    _print_findings(made)
    found = counts(made.findings)
    print(f"{found['carried']} carried over, {found['changed']} changed, {found['gone']} gone, {found['open']} to do")
    verb = "would write" if dry_run else "written"
    print(f"{verb}    {', '.join(str(out / name) for name in files)}")
    if setup.files:
        number = f"{len(setup.files)} file{'' if len(setup.files) == 1 else 's'}"
        print(f"backup     {out / 'backup'}, {number}; private keys may be among them")
    print("next       docs/migrate.md, and the end of report.md")


def _print_findings(made: Plan) -> None:
    """What somebody has to know now; what simply went on working stands in the report."""
    from mli.core.log_format import safe_text

    for item in made.findings:
        if item.fate == "carried":
            continue
        becomes = f" → {item.becomes}" if item.becomes else ""
        print(safe_text(f"{item.fate:10} {item.about}: {item.was}{becomes}").replace("\n", " "))
        if item.todo:
            print(safe_text(f"{'':10} {item.todo}").replace("\n", " "))
