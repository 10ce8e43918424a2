"""``mli run``: predict here, from arguments or from a file."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.cli.options import BrokerCa, ClientCertificate, ClientKey, PasswordFile, Username
from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.cli.running import Running
    from mli.config.files import RunSettings

_FILES = (".yaml", ".yml", ".json")


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL|FILE", help="Model archive (.zip, .tar.gz) or YAML file.")],
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="Folder, glob or image file; `demo` is a simulated camera.")
    ] = None,
    broker: Annotated[
        str | None, typer.Option(help="Publish there: mqtt://[user:password@]host[:port] or mqtts://…")
    ] = None,
    ca: BrokerCa = None,
    cert: ClientCertificate = None,
    key: ClientKey = None,
    username: Username = None,
    password_file: PasswordFile = None,
    once: Annotated[bool, typer.Option("--once", help="Read each image once and end.")] = False,
    interval: Annotated[
        str | None, typer.Option(help="Time from frame to frame, such as 5s or 200ms; 0 is as fast as possible.")
    ] = None,
    thing: Annotated[str | None, typer.Option(help="Name of this device [default: the machine's].")] = None,
    topic: Annotated[str | None, typer.Option(help="[default: mli/predictions/{thing}]")] = None,
    payload: Annotated[str | None, typer.Option(help="compact (the accelerator's array) or full.")] = None,
    image_name: Annotated[bool, typer.Option("--image-name", help="Add image_name to the compact payload.")] = False,
    top: Annotated[int | None, typer.Option(help="Predictions a frame [default: 1].")] = None,
    min_confidence: Annotated[float | None, typer.Option(help="Leave out what is less certain, 0 to 1.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="What a large model may use, such as 2GB [default: 500MB].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a frame.")] = False,
    root: Annotated[Path | None, typer.Option(help="Folder for models, queue and logs [default: per thing].")] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Begin the source anew instead of where an earlier run stopped.")
    ] = False,
) -> None:
    """Predict here; publish to a broker, or print.

    With a file (device and deployment, see `mli config`), options replace what the file says.
    """
    options = {
        "once": once or None,
        "interval": interval,
        "thing": thing,
        "topic": topic,
        "payload": payload,
        "image_name": image_name or None,
        "top": top,
        "min_confidence": min_confidence,
        "memory": memory,
        "root": None if root is None else str(root.absolute()),
        "mqtt": _mqtt(
            broker,
            {
                "username": username,
                "password_file": password_file,
                "ca_path": ca,
                "certificate_path": cert,
                "private_key_path": key,
            },
        ),
    }
    for word in (model, source, options["root"]):
        if isinstance(word, str) and not word.isprintable() and not _is_text(word):
            raise UsageError("the path is not UTF-8 text", got=repr(word), remedy="rename the folder or file")
    given = {name: value for name, value in options.items() if value is not None}
    settings = _settings(model, source, given)
    from mli.cli.running import Running

    view = Running(settings, as_json=as_json, person=sys.stdout.isatty() and not as_json)
    raise typer.Exit(run_here(view, from_start=from_start))


def _settings(model: str, source: str | None, given: dict[str, Any]) -> RunSettings:
    from mli.config.files import load_run_file, settings_of_arguments

    if Path(model).suffix.lower() in _FILES:
        if source is not None:
            raise UsageError(
                "a file names its own source",
                got=f"{model} {source}",
                remedy="mli run FILE, or mli run MODEL SOURCE",
            )
        if not Path(model).exists():
            raise UsageError("there is no such file", where=model)
        return load_run_file(Path(model), given)
    if Path(model).suffix.lower() in (".onnx", ".tflite"):
        raise UsageError(
            "a model needs its labels",
            expected="a model archive (.zip or .tar.gz)",
            got=model,
            remedy=f"mli model pack {model} labels.txt -o model.zip",
        )
    if source is None:
        raise UsageError(
            "where do the images come from?",
            expected="a model archive and a source, or a .yaml file that names both",
            got=f"mli run {model}",
            remedy=f"mli run {model} ./images",
        )
    memory = {"memory": given.pop("memory")} if "memory" in given else None
    return settings_of_arguments({"model": model, "source": source, **given}, memory)


def _mqtt(broker: str | None, options: dict[str, str | None]) -> dict[str, Any] | None:
    if broker is not None:
        from mli.config.files import mqtt_section

        return mqtt_section(broker, **options)
    if any(options.values()):
        raise UsageError(
            "--ca, --cert, --key, --username and --password-file belong to a --broker",
            remedy="add --broker mqtts://HOST",
        )
    return None


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def run_here(view: Running, *, from_start: bool = False) -> int:
    """Run a core in this process until it ends or is interrupted.

    Returns:
        The exit code.
    """
    from mli.cli.interrupts import interrupts
    from mli.cli.progress import InstallProgress

    with ExitStack() as stack:
        with InstallProgress() as progress:
            core = stack.enter_context(view.make_core(progress.update, from_start=from_start))
        interrupted = stack.enter_context(interrupts(core))  # before it starts: it may be told to end at any moment
        core.start()
        view.started()
        core.wait(view.wake_s, view.on_wake)
        return view.ended(interrupted)
