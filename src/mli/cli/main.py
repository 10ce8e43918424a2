"""The command line: which commands there are, and how an error is told."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from types import TracebackType
from typing import Annotated

import typer

from mli import __version__
from mli.cli.component import component_app
from mli.cli.config import config
from mli.cli.core import core_app
from mli.cli.demo import demo
from mli.cli.deploy import deploy
from mli.cli.device import device_app
from mli.cli.doctor import doctor
from mli.cli.migrate import migrate
from mli.cli.model import model_app
from mli.cli.model_import import import_model
from mli.cli.model_push import push
from mli.cli.run import run
from mli.cli.stack import stack_app
from mli.cli.watch import watch
from mli.errors import MliError

app = typer.Typer(
    name="mli",
    help="Run a pre-trained model on an edge device and publish its predictions over MQTT.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(run)
app.command()(config)
app.command()(watch)
app.command()(deploy)
app.command()(doctor)
app.command()(migrate)
model_app.command("import")(import_model)
model_app.command()(push)
app.add_typer(model_app, name="model")
app.add_typer(core_app, name="core")
app.add_typer(component_app, name="component", hidden=True)
app.add_typer(device_app, name="device")
app.add_typer(stack_app, name="stack")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mli {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def _tell_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody foresaw, with its traceback; an address in it may have a password."""
    import traceback

    from mli.config.redaction import redact

    print(redact("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="")


def main() -> None:
    """Run the command line and exit: 0 fine, 1 failed, 2 wrong usage or invalid file, 130 Ctrl-C."""
    logging.raiseExceptions = False  # a log that cannot be written must not print tracebacks
    sys.excepthook = _tell_crash
    try:
        app()
    except MliError as error:
        from mli.core.log_format import error_text

        print(f"mli: {error_text(error)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("mli: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`mli … | head`); nothing more can be said to it.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
