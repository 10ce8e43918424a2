"""A device's folder to its settings: ``device.yaml``, and ``config/config.json`` as the accelerator left it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from mli.config.accelerator import ALPN, ALPN_PORT, CONFIG, PROVIDER_KEYS, AcceleratorConfig, read_accelerator
from mli.config.build_device import build_device
from mli.config.paths import Problems, why_unreadable
from mli.config.problems import problems_of
from mli.config.refusals import place_of, refusal_of
from mli.config.schema import DeviceFile
from mli.config.settings import DeviceSettings
from mli.config.short_form import expand_device
from mli.config.showing import shown_device
from mli.config.yaml_places import Location, PlacedYaml, read_settings
from mli.errors import UsageError

DEVICE_FILE = "device.yaml"
_MISNAMED = ("device.yml", "device.json")


@dataclass(frozen=True, slots=True)
class DeviceFolder:
    """A device, and the long form that it came from."""

    settings: DeviceSettings
    expanded: dict[str, Any] = field(repr=False)

    def shown(self) -> dict[str, Any]:
        """The long form for people to read: every default, and no password."""
        return shown_device(copy.deepcopy(self.expanded), self.settings)


def load_device(root: Path) -> DeviceSettings:
    """The settings of the device whose folder ``root`` is; see ``read_device``."""
    return read_device(root).settings


def read_device(root: Path, device_file: str = DEVICE_FILE) -> DeviceFolder:
    """Read ``device.yaml`` and ``config/config.json`` of a device's folder; one of them is enough.

    What ``device.yaml`` says replaces the other's, key by key; its paths are relative to the folder.

    Args:
        device_file: a file of another name in its place.

    Raises:
        UsageError: everything that is wrong with them: file, line or JSON path, key, what to do.
    """
    root = root.absolute()
    accelerator, placed = _read(root, device_file)
    if accelerator is None and placed is None:
        raise UsageError(
            "the folder holds no device",
            where=str(root),
            expected=f"{DEVICE_FILE}, or {CONFIG} and certs/ as the accelerator made them",
            remedy="make greengrass-setup.zip with `mli device bundle`, unzip it here, and start again",
        )
    return _Reading(root, accelerator, placed or PlacedYaml(str(root / DEVICE_FILE), {}, {})).folder()


def _read(root: Path, device_file: str) -> tuple[AcceleratorConfig | None, PlacedYaml | None]:
    accelerator = placed = None
    unreadable: list[UsageError] = []
    try:
        accelerator = read_accelerator(root)
    except UsageError as error:
        unreadable.append(error)
    try:
        placed = read_settings(root / device_file) if (root / device_file).exists() else None
        misnamed = [name for name in _MISNAMED if placed is None and (root / name).exists()]
        if misnamed:
            raise UsageError(f"{misnamed[0]} is not read", where=str(root), remedy=f"rename it to {DEVICE_FILE}")
    except UsageError as error:
        unreadable.append(error)
    except OSError as error:
        unreadable.append(UsageError(f"the folder cannot be read: {why_unreadable(error)}", where=str(root)))
    if len(unreadable) == 1:
        raise unreadable[0]
    if unreadable:
        raise UsageError("\n".join(map(str, unreadable)))
    return accelerator, placed


class _Reading:
    """The two files of a folder, as one."""

    def __init__(self, root: Path, accelerator: AcceleratorConfig | None, placed: PlacedYaml) -> None:
        self._root = root
        self._accelerator = accelerator
        self._placed = placed
        self._expansion = expand_device(self._placed.value)
        self._origins: dict[Location, str] = {} if accelerator is None else dict(accelerator.origins)
        both = accelerator is not None and placed.value
        self._name = str(root) if both else placed.name if accelerator is None else accelerator.name

    def folder(self) -> DeviceFolder:
        """Raises: UsageError."""
        value = self._merged()
        told = [item for item in self._accelerator.problems if item[0] in self._origins] if self._accelerator else []
        problems: Problems = list(self._expansion.problems)
        try:
            file = DeviceFile.model_validate(value)
        except pydantic.ValidationError as error:
            problems += problems_of(error, self._placed.value, DeviceFile)
            raise self._refusal(told, problems) from error
        settings = build_device(file, self._root, self._root, problems)
        if Path(settings.root).resolve() != self._root.resolve():
            problems.append(
                (
                    ("root",),
                    f"this folder is the device's root, not {settings.root}; leave the key out, or move the file",
                )
            )
        if told or problems:
            raise self._refusal(told, problems)
        return DeviceFolder(settings, file.model_dump(mode="json", exclude_none=True))

    def _merged(self) -> dict[str, Any]:
        own = self._expansion.value
        if self._accelerator is None:
            return own
        merged = copy.deepcopy(self._accelerator.section)
        if "broker" in self._placed.value or own.get("mqtt", {}) is None:
            merged.pop("mqtt")  # an address, or nothing at all, is all there is to say of a broker
            self._forget(("mqtt",))
            for key in PROVIDER_KEYS:  # it knows the device by the certificate that went with it
                merged.get("store", {}).pop(key, None)
                self._forget(("store", key))
        self._merge(merged, own, ())
        self._name_protocol(merged.get("mqtt"))
        return merged

    def _name_protocol(self, mqtt: Any) -> None:
        """AWS IoT Core's endpoint, whichever file says the port: on 443 it wants to hear that this is MQTT."""
        if ("mqtt", "host") not in self._origins or not isinstance(mqtt, dict) or mqtt.get("port") != ALPN_PORT:
            return
        if isinstance(mqtt.get("tls"), dict):
            mqtt["tls"].setdefault("alpn", ALPN)

    def _merge(self, base: dict[str, Any], own: dict[str, Any], at: Location) -> None:
        for key, item in own.items():
            here = (*at, key)
            if isinstance(item, dict) and isinstance(base.get(key), dict):
                self._merge(base[key], item, here)
            else:
                base[key] = item
                self._forget(here)

    def _forget(self, location: Location) -> None:
        """What config.json says there no longer counts."""
        for known in [item for item in self._origins if item[: len(location)] == location]:
            del self._origins[known]

    def _refusal(self, told: Problems, problems: Problems) -> UsageError:
        """Of config.json first; what it says wrongly is not told a second time, as missing."""
        known = {location[:length] for location, _ in told for length in range(len(location) + 1)}
        every = told + [item for item in problems if item[0] not in known]
        return refusal_of(self._name, [(*self._place(location), text) for location, text in every])

    def _place(self, location: Location) -> tuple[int, str]:
        if self._accelerator is not None and location in self._origins:
            return 0, f"{self._accelerator.name}: {self._origins[location]}"
        return place_of(self._placed, self._expansion, location)
