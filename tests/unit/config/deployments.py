"""Deployments for tests, and a device that looks at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mli.config.deployment import Origin, parse_deployment
from mli.config.settings import AllowSettings, CommandSettings, DeploymentSettings, DeviceSettings, StoreSettings
from mli.errors import UsageError

SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
BASE = "revision: 7\nmodel: s3://bucket/m.zip\nsource: images\n"


def device_of(folder: Path, **changes: Any) -> DeviceSettings:
    """A device whose folder this is."""
    values: dict[str, Any] = {
        "thing": "line-7",
        "root": str(folder),
        "commands": {"divert": CommandSettings(("/bin/divert",))},
        "allow": AllowSettings(
            (str(folder / "images"), str(folder / "archives")), ("models.example.org", "*.cdn.example.org")
        ),
        "store": StoreSettings(endpoint="https://s3.example.org:9000"),
    }
    return DeviceSettings(**{**values, **changes})


def parse(
    root: Path,
    text: str | bytes,
    *,
    origin: Origin = "remote",
    folder: Path | None = None,
    check_files: bool = True,
    **changes: Any,
) -> DeploymentSettings:
    """What the device with that folder makes of a deployment; ``changes`` are of the device."""
    return parse_deployment(
        text.encode() if isinstance(text, str) else text,
        device_of(root, **changes),
        origin=origin,
        folder=folder or root,
        name="d",
        check_files=check_files,
    )


def errors(root: Path, text: str | bytes, **options: Any) -> list[str]:
    """What the device has against a deployment, one line each."""
    with pytest.raises(UsageError) as refusal:
        parse(root, text, **options)
    assert refusal.value.exit_code == 2
    first, *rest = str(refusal.value).replace(f"{root}", "ROOT").splitlines()
    assert first == f"d: {len(rest)} error{'s' if len(rest) > 1 else ''}"
    return [line.removeprefix("  ") for line in rest]
