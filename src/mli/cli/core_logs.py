"""``mli core logs``: what a core, or one of its pipelines, has written down; also while it goes on."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mli.errors import StopError

if TYPE_CHECKING:
    from mli.core.log_reading import LogReader

POLL_S = 0.2


def logs(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes; Ctrl-C ends.")] = False,
    pipeline: Annotated[str | None, typer.Option(help="What this pipeline saw, skipped and fired.")] = None,
    count: Annotated[int, typer.Option("-n", "--lines", min=0, help="Begin with the last so many records.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a record.")] = False,
    root: Annotated[Path | None, typer.Option(help="The core's folder [default: the service's, or yours].")] = None,
) -> None:
    """Show what a core has written down."""
    from mli.cli.core_root import chosen_root
    from mli.core.log_reading import LogReader
    from mli.core.root import Root

    folder = Root(chosen_root(root))
    path = folder.system_log if pipeline is None else folder.user_log(pipeline)
    try:
        if not path.exists() and not (follow and pipeline is None):
            raise _no_log(folder.path, path, pipeline)
        with LogReader(path) as reader:
            for lines in _batches(reader, count, follow):
                _print(lines, as_json)
    except PermissionError as error:
        raise StopError(
            "the log cannot be read", where=str(path), got=error.strerror, remedy="use sudo, or the core's own user"
        ) from error
    except BrokenPipeError:
        # Whoever read our output has enough; what is still buffered must go somewhere at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _batches(reader: LogReader, count: int, follow: bool) -> Iterator[list[str]]:
    """Lines as they come; each batch ends with the end of a record unless one is being written."""
    yield reader.last(count)
    while follow:
        lines = reader.new()
        if lines:
            yield lines
        else:
            time.sleep(POLL_S)


def _print(lines: list[str], as_json: bool) -> None:
    from mli.core.log_entries import as_object, as_text, records_of
    from mli.core.log_format import safe_text

    for record in records_of(lines):
        if as_json:
            print(json.dumps(as_object(record)))
        else:
            print(*map(safe_text, as_text(record)), sep="\n")
    sys.stdout.flush()


def _no_log(root: Path, path: Path, pipeline: str | None) -> StopError:
    from mli.cli.core_root import roots_beside
    from mli.nearest import nearest

    if pipeline is not None:
        known = sorted(item.name.removesuffix(".log") for item in path.parent.glob("*.log"))
        there = f"there are logs of {', '.join(known)}{nearest(pipeline, known)}" if known else "no pipeline has one"
        return StopError(f"the pipeline {pipeline} has no log", where=str(path.parent), got=there)
    others = roots_beside(root)
    return StopError(
        "no core has run in this folder yet",
        where=str(path),
        remedy=f"--root {others[0]}" if others else "name the folder of the core with --root",
    )
