"""An old Greengrass on this machine: it would connect as the same thing, and each connection ends the other.

Greengrass V1 (``greengrassd``) is stopped and kept from starting again, however it was started: by a unit, by an init
script, or by hand. Greengrass V2 is another product that may well serve another thing, so it is only told of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from mli.core.service.change import Change
from mli.core.service.systemd import Systemd
from mli.errors import StopError

UNITS = ("greengrass.service", "greengrassd.service")
_ROOT = "greengrass"
_SCRIPT = re.compile(r"(/[^\s;]*?)/ggc/core/greengrassd\b")
_DAEMON = re.compile(r"(/.*?)/ggc/(?:packages|core)/.*\bdaemon")
_V2 = re.compile(r"/alts/|/(?:loader|greengrass-lite|ggdeploymentd|iotcored)\b")
_V2_FILES = (
    "greengrass/v2/config/effectiveConfig.yaml",
    "greengrass/v2/config/config.yaml",
    "etc/greengrass/config.yaml",
)
_V2_THING = re.compile(r"^\s*[\"']?thingName[\"']?:\s*[\"']?([A-Za-z0-9:_-]+)", re.MULTILINE)
_START_LINKS = "rc[2345].d/S??greengrassd"
_END_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class _OldUnit:
    """A unit of Greengrass V1.

    Attributes:
        root: its folder, the accelerator's /greengrass where the unit does not say.
        starts: at boot.
        scripted: systemd made it of an init script.
    """

    name: str
    root: Path
    active: bool
    starts: bool
    scripted: bool


class OldGreengrass:
    """What is left of it on this machine.

    Args:
        thing: of the device: a Greengrass of another thing is left alone.
        top: of the file system.
    """

    def __init__(self, systemd: Systemd, thing: str, top: Path = Path("/")) -> None:
        self._systemd = systemd
        self._thing = thing
        self._top = top

    def changes(self) -> Iterator[Change]:
        """Stop each that would fight for the thing, and keep it from starting.

        Raises:
            StopError: Greengrass V2 runs here as the same thing.
        """
        self._check_second_version()
        units = list(self._units())
        for unit in units:
            if self._is_ours(unit.root):
                yield from self._end_unit(unit)
        for process, root in _daemons([unit.name for unit in units if unit.active]):
            if self._is_ours(root):
                yield Change(f"end the Greengrass that was started by hand (process {process.pid})", _ender(process))

    def left_alone(self) -> Iterator[str]:
        """Sentences on each Greengrass that is here and stays."""
        for unit in self._units():
            if not self._is_ours(unit.root):
                yield f"{unit.name} stays: it is of another thing ({_thing_of(unit.root)})"
        for name in self._second_versions():
            yield f"{name} is Greengrass V2 and stays; it must be of another thing than {self._thing}"

    def _check_second_version(self) -> None:
        names = list(self._second_versions())
        for path in _V2_FILES if names else ():
            with suppress(OSError):
                found = _V2_THING.search((self._top / path).read_text(errors="replace"))
                if found and found[1] == self._thing:
                    raise StopError(
                        f"Greengrass V2 runs here as the thing {self._thing}; each would end the other's connection",
                        where=names[0],
                        remedy=f"give this device a thing of its own, or: systemctl disable --now {names[0]}",
                    )

    def _second_versions(self) -> Iterator[str]:
        for name in UNITS:
            found = self._systemd.show(name, "ExecStart", "ActiveState")
            if _V2.search(found["ExecStart"]) and found["ActiveState"] == "active":
                yield name

    def _units(self) -> Iterator[_OldUnit]:
        for name in UNITS:
            found = self._systemd.show(name, "LoadState", "ActiveState", "UnitFileState", "ExecStart", "SourcePath")
            script = _SCRIPT.search(found["ExecStart"])
            scripted = Path(found["SourcePath"]).name == "greengrassd"
            if found["LoadState"] != "loaded" or not (script or scripted):
                continue
            yield _OldUnit(
                name,
                Path(script[1]) if script else self._top / _ROOT,
                active=found["ActiveState"] not in ("inactive", "failed"),
                starts=self._has_links() if scripted else found["UnitFileState"] in ("enabled", "enabled-runtime"),
                scripted=scripted,
            )

    def _end_unit(self, unit: _OldUnit) -> Iterator[Change]:
        if unit.active:
            yield Change(f"stop {unit.name}, the old Greengrass", lambda: self._systemd.order("stop", unit.name))
        if unit.starts:
            yield Change(f"keep {unit.name} from starting at boot", lambda: self._disable(unit))

    def _disable(self, unit: _OldUnit) -> None:
        """An init script is disabled by a program that not every system has; a mask always works."""
        with suppress(StopError):
            self._systemd.order("disable", unit.name)
        if unit.scripted and self._has_links():
            self._systemd.order("mask", unit.name)
        elif not unit.scripted:
            self._systemd.order("disable", unit.name)

    def _has_links(self) -> bool:
        return any((self._top / "etc").glob(_START_LINKS))

    def _is_ours(self, root: Path) -> bool:
        """Whether it connects as our thing; one that does not say is taken for ours."""
        return _thing_of(root) in (None, self._thing)


def _thing_of(root: Path) -> str | None:
    try:
        arn = json.loads((root / "config" / "config.json").read_bytes())["coreThing"]["thingArn"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return str(arn).rpartition(":thing/")[2] or None


def _daemons(units: list[str]) -> Iterator[tuple[psutil.Process, Path]]:
    """Processes of a Greengrass V1 core that belong to none of ``units``, with its folder."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            words = process.cmdline()
            found = _DAEMON.match(words[0]) if words else None
            if found and not any(name in Path(f"/proc/{process.pid}/cgroup").read_text() for name in units):
                yield process, Path(found[1])


def _ender(process: psutil.Process) -> Callable[[], None]:
    """Its own stop script is not run: it lies in a folder that the service's user may write."""

    def end() -> None:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            try:
                process.wait(_END_TIMEOUT_S)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(_END_TIMEOUT_S)

    return end
