"""The isolator that a core makes for its device."""

from __future__ import annotations

from pathlib import Path

from mli.config.settings import DeviceSettings
from mli.core.isolation.isolator import Isolator


def isolator_for(device: DeviceSettings) -> Isolator:
    """Contained processes see neither the root, with the queue and the secrets, nor the key of the certificate."""
    tls = None if device.mqtt is None else device.mqtt.tls
    key = () if tls is None or tls.private_key_path is None else (Path(tls.private_key_path),)
    return Isolator(hidden=(Path(device.root), *key), minimum=device.min_isolation)
