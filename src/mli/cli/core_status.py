"""``mli core status``: what the core of this device does, or did when it ran last."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mli.errors import MliError

MEBIBYTE = 1024 * 1024


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    root: Annotated[Path | None, typer.Option(help="The core's folder [default: the service's, or yours].")] = None,
) -> None:
    """Show what the core of this device does; exit 1 where none runs."""
    from mli.cli.core_root import chosen_root
    from mli.core.control import ControlClient
    from mli.core.log_format import safe_text

    folder = chosen_root(root)
    try:
        found = ControlClient(folder).request({"do": "status"})
    except MliError as error:
        _tell_absence(folder, error, as_json)
        raise typer.Exit(1) from error
    found.pop("end", None)
    print(json.dumps(found, indent=2) if as_json else safe_text("\n".join(status_lines(found))))


def status_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A core's answer, for a person."""
    yield f"{found['thing']}  {found['health']}  (mli {found['version']}, {found.get('root', '')})"
    yield f"  broker      {_broker_text(found.get('broker') or {})}"
    yield f"  deployment  {_deployment_text(found)}"
    report = found.get("deployment") or {}
    yield from _under_way(report)
    spool = found["spool"]
    dead = f", {spool['dead']:,} refused by the broker for good" if spool["dead"] else ""
    yield f"  queue       {spool['queued']:,} messages, {spool['bytes'] / MEBIBYTE:,.1f} MB{dead}"
    if handed := found.get("handed_on"):
        yield f"  handed on   {handed['messages']:,} messages to {handed['to']}, which says nothing of their delivery"
    yield from (f"  not taken   {line}" for line in (found.get("broker") or {}).get("not_taken") or ())
    yield from (f"  not allowed {line}" for line in (found.get("broker") or {}).get("left_out") or ())
    for pipeline in found["pipelines"]:
        yield from _pipeline_lines(pipeline)
    if not found["pipelines"]:
        yield "  pipelines   none"
    if found.get("last_error"):
        first, *more = str(found["last_error"]).splitlines()
        yield f"  last error  {first}"
        yield from (f"              {line.strip()}" for line in more)


def _broker_text(broker: Mapping[str, Any]) -> str:
    if not broker.get("endpoint"):
        return "none"
    if not broker.get("connected"):
        return f"{broker['endpoint']}, not connected: {broker.get('last_error') or 'no connection was made yet'}"
    subscribed = {True: ", subscribed", False: ", not subscribed", None: ""}[broker.get("subscribed")]
    return f"{broker['endpoint']}, connected ({broker.get('protocol')}){subscribed}"


def _deployment_text(found: Mapping[str, Any]) -> str:
    if found.get("identity") is None:
        return "none"
    revision = "" if found.get("revision") is None else f"revision {found['revision']}, "
    return f"{revision}{str(found['identity'])[:12]}"


def _under_way(report: Mapping[str, Any]) -> Iterator[str]:
    """The newest deployment, where it is not simply the one that runs."""
    state = report.get("state")
    if state in (None, "healthy"):
        return
    revision = "" if report.get("revision") is None else f"revision {report['revision']} "
    progress = report.get("progress")
    done = ""
    if progress:
        total = progress.get("total")
        of = f" of {total / MEBIBYTE:,.1f} MB" if total else " MB"
        done = f": {progress['model']} {progress['bytes'] / MEBIBYTE:,.1f}{of}"
    yield f"  newest      {revision}{str(state).replace('_', ' ')}{done}"
    error = report.get("error") or {}
    for name, key in (
        ("", "what"),
        ("where: ", "where"),
        ("expected: ", "expected"),
        ("found: ", "got"),
        ("to fix: ", "remedy"),
    ):
        if error.get(key):
            yield f"              {name}{error[key]}"


def _pipeline_lines(pipeline: Mapping[str, Any]) -> Iterator[str]:
    model, memory = pipeline["model"], pipeline["memory"]
    yield f"  pipeline    {pipeline['name']}: {pipeline['state']}"
    backend = pipeline.get("backend") or "not loaded"
    yield f"    model     {model['name']} {model['version']}, {model['sha256'][:12]}, {backend}"
    isolation = pipeline.get("isolation") or "not started yet"
    why = f" ({pipeline['why_not_isolated']})" if pipeline.get("why_not_isolated") else ""
    yield f"    isolation {isolation}{why}"
    used, allowed = memory["used_bytes"] / MEBIBYTE, memory["allowed_bytes"] / MEBIBYTE
    yield f"    memory    {used:,.0f} of {allowed:,.0f} MB, held by {memory['control']}"
    counts = [f"{pipeline['frames']:,} frames"]
    counts += [f"{pipeline[key]:,} {key}" for key in ("skipped", "dropped", "timeouts") if pipeline.get(key)]
    if pipeline["restarts"]:
        counts.append(f"worker replaced {pipeline['restarts']:,} times")
    yield f"    work      {', '.join(counts)}"
    if pipeline.get("error"):
        first, *more = str(pipeline["error"]).splitlines()
        yield f"    error     {first}"
        yield from (f"              {line.strip()}" for line in more)


def _tell_absence(folder: Path, error: MliError, as_json: bool) -> None:
    from mli.cli.core_root import roots_beside
    from mli.core.doctor.patient import core_in
    from mli.core.doctor.records import read_pointer
    from mli.core.log_format import error_text
    from mli.core.root import Root

    pointer = read_pointer(Root(folder))
    holder = core_in(folder)
    if as_json:
        body = {"state": "offline", "root": str(folder), "pid": holder, "pointer": dict(pointer) or None}
        print(json.dumps(body | {"error": error.to_json()}, indent=2))
        return
    typer.echo(f"mli: {error_text(error)}", err=True)
    if holder:
        typer.echo(f"  process {holder} works in the folder; `mli run` answers no questions", err=True)
    if pointer.get("current"):
        revision = "" if pointer.get("revision") is None else f"revision {pointer['revision']}, "
        good = "which was good" if pointer.get("good") else "not yet known to be good"
        typer.echo(f"  its next start runs {revision}{str(pointer['current'])[:12]}, {good}", err=True)
    for other in roots_beside(folder)[:5]:
        typer.echo(f"  there is another: --root {other}", err=True)
