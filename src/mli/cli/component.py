"""``mli component run``: the agent as a component of AWS IoT Greengrass V2, started by its nucleus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mli.core.agent import Agent

component_app = typer.Typer(
    help="What the recipe of the Greengrass component starts.", no_args_is_help=True, rich_markup_mode=None
)


@component_app.callback()
def _group() -> None:
    pass


class _Present:
    """The core that runs now: a signal is for whichever it is, and for none that comes later."""

    def __init__(self) -> None:
        self.agent: Agent | None = None
        self.is_asked = False

    def request_stop(self) -> None:
        self.is_asked = True
        if self.agent is not None:
            self.agent.request_stop()


@component_app.command()
def run(
    root: Annotated[Path, typer.Option(help="The component's work folder.", show_default=False)],
) -> None:
    """Serve this thing with the deployment that the component's configuration holds; its nucleus starts this."""
    import faulthandler
    import os

    from mli.cli.interrupts import interrupts
    from mli.config.component import read_component_environment
    from mli.config.redaction import secrets_of
    from mli.core.agent import Agent
    from mli.core.component.configuration import first_settings
    from mli.core.component.home import ComponentHome
    from mli.core.logs import open_logs
    from mli.core.root import Root, RootLock
    from mli.core.service.notify import Notifier

    faulthandler.enable()
    notifier = Notifier()
    environment = read_component_environment(os.environ)
    place, present = Root(root.absolute()), _Present()
    with RootLock(place), interrupts(present):
        while not present.is_asked:
            settings, problem = first_settings(environment, place)
            home = ComponentHome(environment, place, settings, problem)
            device = settings.device
            secrets = [*secrets_of(device, os.environ), environment.nucleus.token]
            agent = Agent(device, place, notifier, home)
            present.agent = agent
            if present.is_asked:  # a signal before there was one
                agent.request_stop()
            with open_logs(device.log, place, thing=device.thing, secrets=secrets, to_stderr=True), agent:
                agent.run()
                agent.drain()
            present.agent = None
            if home.failure is not None:
                raise home.failure
            if not home.wants_another:
                return
