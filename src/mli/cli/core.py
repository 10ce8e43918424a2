"""``mli core``: run or inspect the agent of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mli.cli.core_logs import logs
from mli.cli.core_status import status

core_app = typer.Typer(
    help="Run the agent of a device, or look at the one that runs here.", no_args_is_help=True, rich_markup_mode=None
)
core_app.command()(status)
core_app.command()(logs)


@core_app.command()
def start(
    root: Annotated[
        Path | None,
        typer.Option(help="The device's folder: config/config.json and certs, or device.yaml.", show_default=False),
    ] = None,
) -> None:
    """Serve this device: take deployments, run their pipelines, publish predictions, until it is told to end.

    The folder is the one that greengrass-setup.zip was unpacked into, or one with a device.yaml.
    """
    import faulthandler
    import os

    from mli.cli.core_root import chosen_root
    from mli.cli.interrupts import interrupts
    from mli.config.device import load_device
    from mli.config.redaction import secrets_of
    from mli.core.agent import Agent
    from mli.core.logs import open_logs
    from mli.core.root import Root, RootLock
    from mli.core.service.notify import Notifier

    faulthandler.enable()  # systemd's watchdog ends what hangs by SIGABRT: the journal then has every thread's stack
    notifier = Notifier()
    device = load_device(chosen_root(root))
    place = Root(Path(device.root))
    secrets = secrets_of(device, os.environ)
    agent = Agent(device, place, notifier)
    with (
        RootLock(place),
        open_logs(device.log, place, thing=device.thing, secrets=secrets, to_stderr=True),
        interrupts(agent) as interrupted,  # before the agent starts: it may be told to end at any moment
        agent,
    ):
        agent.run()
        agent.drain()
    if interrupted.signal == "SIGINT":
        raise typer.Exit(130)
