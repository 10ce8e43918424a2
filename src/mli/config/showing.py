"""Long forms for people to read: without passwords, keys and the queries that sign an address."""

from __future__ import annotations

from typing import Any

from mli.config.settings import DeviceSettings
from mli.config.uris import shown_uri

HIDDEN = "********"
_SECRET = "secret:"


def shown_device(expanded: dict[str, Any], device: DeviceSettings) -> dict[str, Any]:
    """The device's part of a long form, completed with what was worked out; changes ``expanded``."""
    expanded.setdefault("root", device.root)
    if device.mqtt is not None:
        mqtt = expanded["mqtt"]
        mqtt.setdefault("port", device.mqtt.port)
        mqtt.setdefault("client_id", device.mqtt.client_id)
        _hide(mqtt, "password")
    expanded["allow"].setdefault("paths", list(device.allow.paths))
    store = expanded["store"]
    _hide(store, "secret_access_key")
    if not store.get("proxy", _SECRET).startswith(_SECRET):
        store["proxy"] = shown_uri(store["proxy"])
    return expanded


def shown_deployment(expanded: dict[str, Any]) -> dict[str, Any]:
    """The deployment's part of a long form; changes ``expanded``."""
    for model in expanded["models"].values():
        model["uri"] = shown_uri(model["uri"])
    return expanded


def _hide(section: dict[str, Any], key: str) -> None:
    if not section.get(key, _SECRET).startswith(_SECRET):
        section[key] = HIDDEN
