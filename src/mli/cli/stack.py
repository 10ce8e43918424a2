"""``mli stack``: the AWS resources of devices, as CloudFormation stacks."""

from __future__ import annotations

import typer

from mli.cli.stack_deploy import deploy
from mli.cli.stack_destroy import destroy
from mli.cli.stack_package import package
from mli.cli.stack_show import outputs, status

stack_app = typer.Typer(
    help="Make, show and remove the AWS resources of devices.", no_args_is_help=True, rich_markup_mode=None
)
stack_app.command()(package)
stack_app.command()(deploy)
stack_app.command()(outputs)
stack_app.command()(status)
stack_app.command()(destroy)
