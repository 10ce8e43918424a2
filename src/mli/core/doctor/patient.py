"""What the checks look at: a device's folder, what its files say, and the core that runs in it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mli.config.settings import DeploymentSettings, DeviceSettings, MqttSettings
from mli.core.doctor.wanted import WantedReader
from mli.core.root import Root
from mli.errors import MliError, StopError

STATUS_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Patient:
    """A device at one moment.

    Attributes:
        device: its settings; None where there are none, or they are wrong: then ``device_error`` says how.
        deployment: what was activated last; None where nothing was, or it cannot be read: ``deployment_error``.
        core_pid: the process that works in the folder.
        status: what it says of itself (the control socket's answer); None where no core runs, or none that answers.
        wanted: what the broker holds for this thing.
        now: Unix time, seconds.
    """

    root: Root
    device: DeviceSettings | None = None
    device_error: MliError | None = None
    deployment: DeploymentSettings | None = None
    deployment_error: MliError | None = None
    core_pid: int | None = None
    status: Mapping[str, Any] | None = None
    wanted: WantedReader = field(default_factory=WantedReader)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    now: Callable[[], float] = time.time

    def broker(self) -> MqttSettings | None:
        """The broker of the device, if it has one."""
        return None if self.device is None else self.device.mqtt

    def knocking_id(self) -> str:
        """A client id that ends nobody's connection: the device's own while no core uses it."""
        broker = self.broker()
        own = "" if broker is None else broker.client_id
        return f"{own}-doctor" if self.core_pid is not None else own


def gather(root: Path) -> Patient:
    """Everything that the checks look at, of the folder ``root``; what cannot be read is a finding."""
    place = Root(root)
    device, device_error = _device(root)
    deployment, deployment_error = (None, None) if device is None else _deployment(place, device)
    return Patient(
        place,
        device,
        device_error,
        deployment,
        deployment_error,
        core_pid=core_in(root),
        status=_status(root),
    )


def _device(root: Path) -> tuple[DeviceSettings | None, MliError | None]:
    from mli.config.accelerator import CONFIG
    from mli.config.device import DEVICE_FILE, load_device
    from mli.core.component.configuration import kept_settings

    if root.is_dir() and not os.access(root, os.R_OK | os.X_OK):
        return None, StopError(
            "this user may not look into the folder", where=str(root), remedy="run `mli doctor` with sudo"
        )
    try:
        if any(os.path.lexists(root / name) for name in (DEVICE_FILE, CONFIG)):
            return load_device(root), None
        component = kept_settings(Root(root))
        return (None if component is None else component.device), None if component is None else component.held
    except MliError as error:
        return None, error


def _deployment(root: Root, device: DeviceSettings) -> tuple[DeploymentSettings | None, MliError | None]:
    from mli.core.doctor.records import read_active

    try:
        return read_active(root, device), None
    except MliError as error:
        return None, error


def _status(root: Path) -> Mapping[str, Any] | None:
    from mli.core.control import ControlClient

    try:
        return ControlClient(root).request({"do": "status"}, STATUS_WAIT_S)
    except MliError:
        return None  # the check of the core tells


def core_in(root: Path) -> int | None:
    """The process that holds a folder's lock, without touching the lock; 0 where it cannot be seen from here."""
    try:
        found = root.stat()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    major, minor = os.major(found.st_dev), os.minor(found.st_dev)
    inode = f"{major:02x}:{minor:02x}:{found.st_ino}"
    for line in locks.splitlines():
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == inode:
            return int(words[4]) if int(words[4]) > 0 else 0
    return None
