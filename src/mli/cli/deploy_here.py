"""``mli deploy FILE --root DIR``: hand a deployment to the core that runs on this machine, by its control socket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mli.cli.deploy_view import make_view, remark
from mli.core.control import ControlClient
from mli.core.sending.device_report import DeploymentReport, read_deployment_report
from mli.core.sending.rollout import Change
from mli.core.status import Problem
from mli.errors import RetryError

_ANSWER_S = 30.0


def cancel_here(root: Path) -> int:
    """End what is under way; the exit code."""
    answer = ControlClient(root).request({"do": "cancel"})
    print("the deployment under way is cancelled" if answer.get("under_way") else "nothing was under way")
    return 0


def deploy_here(file: Path, root: Path, *, again: bool, wait: bool, timeout_s: float, as_json: bool) -> int:
    """Hand the file over, and follow it where ``wait`` says so; the exit code.

    Args:
        again: also where this deployment was taken back before.

    Raises:
        MliError: no core runs there, or it does not take the file.
    """
    from mli.config.deployment import read_deployment
    from mli.config.yaml_places import read_bounded

    data = read_bounded(file)
    read_deployment(data, str(file))
    path = file.absolute()
    request = {
        "do": "deploy",
        "text": data.decode("utf-8-sig"),
        "folder": str(path.parent),
        "name": path.name,
        "again": again,
        "wait": wait,
    }
    started = time.monotonic()
    client = ControlClient(root)
    thing = str(client.request({"do": "status"})["thing"])
    if not wait:
        client.request(request, _ANSWER_S)
        with make_view([thing], "healthy", as_json=as_json, steps=False) as view:
            view.change(Change(thing, "sent", time.monotonic() - started, ended=True))
        return 0
    try:
        return _follow(client, request, thing, timeout_s, as_json)
    except KeyboardInterrupt:
        remark("interrupted; the deployment goes on. mli core status shows it, mli deploy --cancel --root ends it.")
        raise typer.Exit(130) from None


def _follow(client: ControlClient, request: dict[str, Any], thing: str, timeout_s: float, as_json: bool) -> int:
    started = time.monotonic()
    state, ended = "received", False
    with make_view([thing], "healthy", as_json=as_json, steps=True) as view:
        for report in _reports(client, request, started + timeout_s):
            state, ended = report.state, report.ended
            view.change(Change(thing, state, time.monotonic() - started, ended, report, report.error))
        if not ended:
            problem = Problem(
                f"The deployment did not end within {timeout_s:g} s.",
                got=f"it is at {state}",
                remedy="It goes on: mli core status shows it.",
            )
            view.change(Change(thing, "unanswered", time.monotonic() - started, ended=True, error=problem))
    return 0 if state == "healthy" else 1


def _reports(client: ControlClient, request: dict[str, Any], deadline: float) -> Iterator[DeploymentReport]:
    """What the core tells, until the deployment has ended or the time is up."""
    try:
        for answer in client.stream(request, max(0.1, deadline - time.monotonic())):
            if time.monotonic() > deadline:
                return
            report = read_deployment_report(json.dumps(answer.get("status")).encode())
            if report is not None:
                yield report
    except RetryError:
        if time.monotonic() < deadline:
            raise
