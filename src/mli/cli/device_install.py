"""``mli device install``: the folder becomes a service of this machine."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mli.core.service.change import Step, StepReport

_WORDS = {"done": "done", "unchanged": "fine", "planned": "would", "impossible": "cannot"}
_REFUSED_ROOTS = {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/media", "/mnt", "/opt", "/proc", "/root"}
_REFUSED_ROOTS |= {"/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log"}


class Isolation(enum.StrEnum):
    """What the unit leaves possible."""

    AUTO = "auto"
    NONE = "none"


def install(
    root: Annotated[
        Path | None,
        typer.Option(help="The device's folder [default: /var/lib/mli, else /greengrass]", show_default=False),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="User that the service runs as [default: mli]", show_default=False)
    ] = None,
    isolation: Annotated[
        Isolation, typer.Option(help="none: no worker is put into a container, and the unit allows none.")
    ] = Isolation.AUTO,
    camera: Annotated[bool, typer.Option("--camera", help="Let pipelines open cameras of this machine.")] = False,
    uninstall: Annotated[
        bool, typer.Option("--uninstall", help="Take back what was installed; the folder stays.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every step, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a service of a device's folder: its user, its rights, its unit; stop an old Greengrass; start the core.

    A second run changes nothing.
    """
    from mli.core.service.change import run_steps

    cautions: list[str] = []
    steps, last = (
        _taking_back(root, user)
        if uninstall
        else _making(root, user, isolation, camera=camera, look_only=dry_run, cautions=cautions)
    )
    told = 0

    def show(report: StepReport) -> None:
        nonlocal told
        for caution in cautions[told:]:
            typer.echo(f"mli: {caution}", err=True)
        told = len(cautions)
        if not as_json:
            _print(report)

    reports = run_steps(steps, dry_run=dry_run, told=show)
    impossible = [report for report in reports if report.error]
    changed = any(report.state == "done" for report in reports)
    if as_json:
        print(json.dumps(_json(reports, cautions, changed=changed), indent=2, ensure_ascii=False))
    elif dry_run:
        print("nothing was changed: this was a dry run")
    else:
        print(last if changed else f"nothing had to be changed; {last}")
    if impossible:
        raise typer.Exit(max(report.error.exit_code for report in impossible if report.error))


def _making(
    root: Path | None, user: str | None, isolation: Isolation, *, camera: bool, look_only: bool, cautions: list[str]
) -> tuple[Iterable[Step], str]:
    """The steps, and the last line where they all went well."""
    import shutil

    from mli.config.device import load_device
    from mli.core.service.account import check_name
    from mli.core.service.install import USER, InstallRequest, check_system, install_steps
    from mli.core.service.systemd import Systemd

    root = _root(root)
    user = user or USER
    check_name(user)
    if not look_only:
        check_system(root)  # before the folder is read, which is mostly root's alone
    containers = isolation is Isolation.AUTO
    device = load_device(root)
    if not containers and device.min_isolation == "container":
        raise UsageError(
            "device.yaml lets nothing run without a container, and this unit would allow none",
            where=str(root / "device.yaml"),
            expected="--isolation auto, or min_isolation: none",
        )
    if containers and shutil.which("bwrap") is None:
        cautions.append("bubblewrap is not installed, so workers run without containers (apt install bubblewrap)")
    request = InstallRequest(root, user, containers=containers, camera=camera)
    steps = install_steps(request, device, Systemd(), caution=cautions.append)
    return steps, f"{device.thing} runs from {root}: mli core status, mli core logs -f, journalctl -u mli"


def _taking_back(root: Path | None, user: str | None) -> tuple[Iterable[Step], str]:
    from mli.core.service.install import USER, installed, uninstall_steps
    from mli.core.service.systemd import Systemd

    known = installed()
    root = _checked(root) if root else known[0] if known else _root(None)
    user = user or (known[1] if known else USER)
    return uninstall_steps(root, user, Systemd()), f"the folder {root} is left as it is"


def _root(given: Path | None) -> Path:
    from mli.cli.core_root import ACCELERATOR_ROOT, SERVICE_ROOT

    if given is not None:
        return _checked(given)
    for usual in (SERVICE_ROOT, ACCELERATOR_ROOT):
        if (usual / "config" / "config.json").exists() or (usual / "device.yaml").exists():
            return _checked(usual)
    raise UsageError(
        "there is no device's folder at the usual places",
        expected=f"{SERVICE_ROOT} or {ACCELERATOR_ROOT}, with config/config.json and certs/, or with device.yaml",
        remedy="unzip greengrass-setup.zip there, or say --root",
    )


def _checked(root: Path) -> Path:
    """The folder without links in its path; its owner is going to change, so it must be a device's alone."""
    found = root.resolve()
    if str(found) in _REFUSED_ROOTS or not str(found).isprintable():
        raise UsageError(
            "this folder can be no device's",
            where=str(found),
            expected="a folder for the device alone, such as /var/lib/mli",
        )
    return found


def _print(report: StepReport) -> None:
    word, name = _WORDS[report.state], report.name
    for text in report.texts:
        print(f"{word:7} {name:11} {text}")
        word = name = ""
    if report.error is not None:
        for detail in str(report.error).splitlines()[1:]:
            print(f"{'':19} {detail}")


def _json(reports: tuple[StepReport, ...], cautions: list[str], *, changed: bool) -> dict[str, Any]:
    return {
        "changed": changed,
        "steps": [
            {
                "step": report.name,
                "state": report.state,
                "texts": list(report.texts),
                "error": None if report.error is None else report.error.to_json(),
            }
            for report in reports
        ],
        "cautions": cautions,
    }
