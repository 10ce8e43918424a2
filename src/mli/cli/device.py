"""``mli device``: the device's folder, its certificate, and the service that runs from it."""

from __future__ import annotations

import typer

from mli.cli.device_bundle import bundle
from mli.cli.device_cert import cert
from mli.cli.device_install import install
from mli.cli.device_rotate import replace_device

device_app = typer.Typer(
    help="Make a device's certificate, its folder, and its service.", no_args_is_help=True, rich_markup_mode=None
)
device_app.command()(cert)
device_app.command()(bundle)
device_app.command("replace")(replace_device)
device_app.command()(install)
