"""What kind of file one is, and what it stands for: for ``mli config``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mli.config.deployment import parse_deployment, read_deployment
from mli.config.device import DEVICE_FILE, load_device, read_device
from mli.config.files import load_run_file, shown
from mli.config.problems import DEVICE_KEYS, WANTED_KEYS
from mli.config.yaml_places import read_bounded, read_settings
from mli.errors import UsageError

Kind = Literal["run", "device", "deployment"]
_OF_BOTH = {"thing", "trust"}


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file without errors.

    Attributes:
        expanded: its long form for people to read.
        identity: of the deployment in it.
    """

    kind: Kind
    expanded: dict[str, Any]
    identity: str | None = None


def check_settings(path: Path, root: Path | None = None) -> CheckedFile:
    """Check a file for ``mli run``, a device's file or folder, or a deployment.

    Args:
        root: folder of the device that a deployment is checked against, as if it came over the network.

    Raises:
        UsageError: everything that is wrong with it.
    """
    kind: Kind = "device" if path.is_dir() else kind_of(path)
    if root is not None and kind != "deployment":
        raise UsageError("a device's folder is for checking a deployment", where=str(path), got=f"a {kind} file")
    if kind == "device":
        device = read_device(path) if path.is_dir() else read_device(path.parent, path.name)
        return CheckedFile(kind, device.shown())
    if kind == "run":
        settings = load_run_file(path)
        return CheckedFile(kind, shown(settings), settings.deployment.identity)
    text = read_bounded(path)
    form = read_deployment(text, str(path))
    if root is not None:
        parse_deployment(text, load_device(root), origin="remote", folder=root, name=str(path))
    return CheckedFile(kind, form.shown(), form.identity)


def kind_of(path: Path) -> Kind:
    """What a file is, by its keys, and by its name where these leave it open.

    Raises:
        UsageError: it cannot be read.
    """
    keys = read_settings(path).value.keys()
    wanted, device = keys & (WANTED_KEYS - _OF_BOTH), keys & (DEVICE_KEYS - _OF_BOTH)
    if path.name == DEVICE_FILE or (device and not wanted):
        return "device"
    if device:
        return "run"
    if path.stem == "deployment" or {"revision", "trust"} & keys:
        return "deployment"
    return "run"
