"""``mli demo``: the whole way on this machine, from a simulated camera to an MQTT broker."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from mli.cli.running import Running
    from mli.config.files import RunSettings
    from mli.delivery.embedded_broker import EmbeddedBroker

THING = "demo"
RULE = "divert"
DIVERTED = "plastic bottle"


def demo(
    frames: Annotated[int | None, typer.Option(min=1, help="End after so many frames.")] = None,
    interval: Annotated[str, typer.Option(help="Time from frame to frame; 0 is as fast as possible.")] = "200ms",
    seed: Annotated[int, typer.Option(min=0, help="What the simulated camera draws.")] = 7,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the embedded broker; 0 takes a free one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a frame, also on a terminal.")] = False,
) -> None:
    """See it work on this machine.

    A simulated camera over a recycling belt, a model of ours, an embedded broker, and a rule that diverts bottles.
    """
    import tempfile
    from importlib.resources import as_file, files
    from pathlib import Path

    from mli.cli.run import run_here
    from mli.delivery.embedded_broker import EmbeddedBroker

    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mli-demo-")))
        archive = stack.enter_context(as_file(files("mli") / "assets" / "recycling.zip"))
        broker = stack.enter_context(EmbeddedBroker(port=port))
        settings = demo_settings(archive, root, broker.port, frames=frames, interval=interval, seed=seed)
        code = run_here(_view(settings, broker, person=sys.stdout.isatty() and not as_json))
    raise typer.Exit(code)


def demo_settings(
    archive: Path, root: Path, port: int, *, frames: int | None, interval: str, seed: int
) -> RunSettings:
    """What the demo runs: simulated camera, its model, the embedded broker, and the rule that diverts."""
    from mli.config.files import settings_of_arguments

    source: dict[str, Any] = {"kind": "demo", "seed": seed, "interval": interval}
    if frames is not None:
        source["frames"] = frames
    return settings_of_arguments(
        {
            "thing": THING,
            "root": str(root),
            # What the embedded broker speaks; asking for more first would only cost a round trip.
            "mqtt": {"host": "127.0.0.1", "port": port, "protocol": "3.1.1"},
            "commands": {RULE: {"argv": ["true"], "timeout": "1s"}},
            "model": str(archive),
            "source": source,
            "image_name": True,
            "rules": [
                {
                    "name": RULE,
                    "when": {"label": DIVERTED, "confidence": 0.8},
                    "then": {"publish": f"mli/actions/{THING}", "command": RULE, "max_age": "500ms"},
                }
            ],
        }
    )


def _view(settings: RunSettings, broker: EmbeddedBroker, *, person: bool) -> Running:
    from mli.cli.running import Running

    if not person:
        view = Running(settings, as_json=True, person=False)
        view.note(f"watch them with any MQTT client: {watch_command(broker.host, broker.port)}")
        return view
    from mli.cli.demo_view import DemoView

    return DemoView(settings, watch_command(broker.host, broker.port))


def watch_command(host: str, port: int) -> str:
    """A command that shows what the demo publishes."""
    return f"mosquitto_sub -h {host} -p {port} -t 'mli/#' -v"
