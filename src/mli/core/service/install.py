"""Makes a service of a device's folder, and takes it away again: each step is said, a second run changes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mli import __version__
from mli.config.settings import DeviceSettings
from mli.core.service.account import account_changes, find_account, removal_changes
from mli.core.service.change import Change, Step
from mli.core.service.folder import folder_changes, return_changes
from mli.core.service.greengrass import OldGreengrass
from mli.core.service.probe import ANYBODY, check_environment, check_files, check_import, check_place
from mli.core.service.systemd import UNIT_FOLDER, Systemd
from mli.core.service.unit import MARK, OLD_GROUPS, UNIT_NAME, UnitSettings, root_and_user, start_arguments, unit_text
from mli.errors import StopError, UsageError

UNIT_PATH = UNIT_FOLDER / UNIT_NAME
USER = "mli"
_LOG_LINES = 12
_UNIT_MODE = 0o644


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """What the service shall be.

    Attributes:
        root: the device's folder, without links in its path.
        containers: the unit leaves what containers need.
        camera: the unit leaves this machine's cameras.
    """

    root: Path
    user: str = USER
    containers: bool = True
    camera: bool = False


def start_by_hand(root: Path) -> str:
    """The command that runs the core where no service manager does."""
    return " ".join(start_arguments(sys.executable, root))


def install_steps(
    request: InstallRequest, device: DeviceSettings, systemd: Systemd, *, caution: Callable[[str], None]
) -> tuple[Step, ...]:
    """The steps of an installation, in their order: whatever can fail comes before the old core is stopped.

    Args:
        device: what the folder says.
        caution: is told what works but somebody should know.
    """
    root, user = request.root, request.user
    old = OldGreengrass(systemd, device.thing)
    service = _Service(systemd, request)

    def system() -> Iterator[Change]:
        check_system(root)
        return iter(())

    def python() -> Iterator[Change]:
        check_environment()
        check_place(root)
        return iter(())

    def access() -> Iterator[Change]:
        _check_access(user, root, device, caution)
        if find_account(user) is None:  # only in a dry run
            yield Change(f"try as {user} to import mli, to read the configuration and to write", lambda: None)

    def greengrass() -> Iterator[Change]:
        for text in old.left_alone():
            caution(text)
        yield from old.changes()

    return (
        Step("system", system, "systemd runs, and this is root"),
        Step("python", python, f"{sys.executable}, mli {__version__}"),
        Step("user", lambda: account_changes(user), f"{user} is there"),
        Step("folder", service.folder_changes, "each part belongs to whom it should"),
        Step("access", access, f"{user} can import mli, read its configuration and write its state"),
        Step("greengrass", greengrass, "no old one is in the way"),
        Step("unit", service.unit_changes, f"{UNIT_PATH} is up to date"),
        Step("service", service.changes, f"{UNIT_NAME} runs, and starts at boot"),
    )


def uninstall_steps(root: Path, user: str, systemd: Systemd) -> tuple[Step, ...]:
    """The steps that take back what an installation made; the folder stays, and is root's again."""

    def system() -> Iterator[Change]:
        check_system(root)
        return iter(())

    def service() -> Iterator[Change]:
        found = systemd.show(UNIT_NAME, "ActiveState", "UnitFileState")
        if _unit_is_ours() and (found["ActiveState"] != "inactive" or found["UnitFileState"] == "enabled"):
            order = ("disable", "--now", UNIT_NAME)
            yield Change(f"stop {UNIT_NAME}, and keep it from starting", lambda: systemd.order(*order))

    def unit() -> Iterator[Change]:
        if _unit_is_ours():
            yield Change(f"remove {UNIT_PATH}", lambda: _remove_unit(systemd))

    def folder() -> Iterator[Change]:
        account = find_account(user)
        if account is not None and root.is_dir():
            yield from return_changes(root, account)

    return (
        Step("system", system, "systemd runs, and this is root"),
        Step("service", service, f"{UNIT_NAME} does not run"),
        Step("unit", unit, f"{UNIT_PATH} is not there"),
        Step("folder", folder, f"nothing in {root} is the service's"),
        Step("user", lambda: removal_changes(user), "no user that was made for it is there"),
    )


def installed() -> tuple[Path, str] | None:
    """Root and user of the service that is installed; None where none is."""
    try:
        return root_and_user(UNIT_PATH.read_text(errors="replace"))
    except OSError:
        return None


def check_system(root: Path) -> None:
    """Whether services can be made here, by this user.

    Raises:
        StopError: no systemd, or not root.
    """
    if not Systemd.is_running():
        raise StopError(
            "no systemd runs here, so no service can be made; perhaps this is a container",
            remedy=f"start the core by hand, or have the container start it: {start_by_hand(root)}",
        )
    if os.geteuid() != 0:
        raise StopError("only root can make a service", remedy="say it with sudo; --dry-run shows what it would do")


def _check_access(user: str, root: Path, device: DeviceSettings, caution: Callable[[str], None]) -> None:
    if os.geteuid() != 0:
        raise StopError(f"only root can try what the user {user} may do")
    account = find_account(user)
    told = check_import(account or ANYBODY)
    if told:
        caution(told)
    files = _configuration(root, device)
    for path in files:
        if not path.is_relative_to(root):
            caution(f"{path} lies outside of {root}")
    if account:
        check_files(account, root, files)


def _configuration(root: Path, device: DeviceSettings) -> list[Path]:
    """What the core reads before it does anything."""
    named = [root / "config" / "config.json", root / "device.yaml"]
    tls = device.mqtt.tls if device.mqtt else None
    pem = (tls.ca_path, tls.certificate_path, tls.private_key_path) if tls else ()
    return [*(path for path in named if path.exists()), *(Path(path) for path in pem if path)]


class _Service:
    """The unit on this machine, and the service that it makes."""

    def __init__(self, systemd: Systemd, request: InstallRequest) -> None:
        self._systemd = systemd
        self._request = request
        self._renewed = False

    def folder_changes(self) -> Iterator[Change]:
        """New files, such as another certificate, count from the next start."""
        for change in folder_changes(self._request.root, find_account(self._request.user)):
            self._renewed = True
            yield change

    def unit_changes(self) -> Iterator[Change]:
        """Write the unit, where it is not there as it should be."""
        wanted = unit_text(
            UnitSettings(
                python=sys.executable,
                root=self._request.root,
                user=self._request.user,
                containers=self._request.containers,
                camera=self._request.camera,
                old_groups=OLD_GROUPS.is_dir(),
                systemd_version=self._systemd.version(),
            )
        )
        is_there = os.path.lexists(UNIT_PATH)
        if is_there and not _unit_is_ours():
            raise UsageError(
                "a unit of this name is there, and mli did not write it",
                where=str(UNIT_PATH),
                expected=f"a file that begins with: {MARK}",
                remedy="move it away, and run this again",
            )
        if not is_there or UNIT_PATH.read_text() != wanted:
            self._renewed = True
            yield Change(f"write {UNIT_PATH}", lambda: self._write(wanted))

    def changes(self) -> Iterator[Change]:
        """Have the service start at boot, and run with everything as it is now."""
        found = self._systemd.show(UNIT_NAME, "ActiveState", "UnitFileState")
        if found["UnitFileState"] != "enabled":
            yield Change(f"have {UNIT_NAME} start at boot", lambda: self._systemd.order("enable", UNIT_NAME))
        if found["ActiveState"] != "active":
            yield Change(f"start {UNIT_NAME}, and wait until it is ready", self._start)
        elif self._renewed:
            yield Change(f"start {UNIT_NAME} again, and wait until it is ready", self._start)

    def _write(self, text: str) -> None:
        temporary = UNIT_PATH.with_name(f".{UNIT_NAME}-{os.getpid()}")
        try:
            temporary.write_text(text)
            temporary.chmod(_UNIT_MODE)
            temporary.replace(UNIT_PATH)
        except OSError as error:
            raise StopError(f"the unit cannot be written: {error.strerror}", where=str(UNIT_PATH)) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._systemd.order("daemon-reload")

    def _start(self) -> None:
        with suppress(StopError):  # it never failed before
            self._systemd.order("reset-failed", UNIT_NAME)
        try:
            self._systemd.order("restart", UNIT_NAME)
        except StopError as error:
            raise StopError(
                f"{UNIT_NAME} did not become ready",
                where=error.where,
                got=self._systemd.log(UNIT_NAME, _LOG_LINES).replace("\n", "\n            ") or error.got,
                remedy=f"mli doctor --root {self._request.root} looks for the cause; then run this again",
            ) from error


def _unit_is_ours() -> bool:
    try:
        return UNIT_PATH.read_text(errors="replace").startswith(MARK)
    except OSError:
        return False


def _remove_unit(systemd: Systemd) -> None:
    UNIT_PATH.unlink()
    systemd.order("daemon-reload")
