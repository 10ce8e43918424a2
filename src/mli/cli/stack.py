"""``mli stack``: the AWS resources of devices, as CloudFormation stacks."""

from __future__ import annotations

import typer

from mli.cli.stack_deploy import deploy

stack_app = typer.Typer(
    help="Make, show and remove the AWS resources of devices.", no_args_is_help=True, rich_markup_mode=None
)
stack_app.command()(deploy)
