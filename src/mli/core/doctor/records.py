"""What a core has written down of its deployments, read without its store.

The store cleans up behind a dead core when it is opened, and so would get into the way of a living one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mli.config.settings import DeploymentSettings, DeviceSettings, TrustAnchor
from mli.core.root import Root
from mli.errors import MliError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where the file is missing, damaged, or not for this user."""
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def read_pointer(root: Root) -> dict[str, Any]:
    """Which deployment runs: ``mli.core.deployment_store.Pointer``, as JSON."""
    return read_json(root.deployments / "pointer.json")


def read_highest(root: Root) -> dict[str, Any]:
    """The newest deployment from the network: ``mli.core.deployment_store.Highest``, as JSON."""
    return read_json(root.deployments / "highest.json")


def read_trust(root: Root, of_device: tuple[TrustAnchor, ...]) -> tuple[TrustAnchor, ...]:
    """The keys that hold, as ``mli.core.deployment_store.DeploymentStore.trust`` finds them."""
    found = read_json(root.deployments / "trust.json")
    ids = sorted(anchor.key_id for anchor in of_device)
    if not of_device or found.get("replaces") != ids or not found.get("anchors"):
        return of_device
    try:
        return tuple(TrustAnchor(item["key_id"], item["public_key"]) for item in found["anchors"])
    except (TypeError, KeyError):
        return of_device


def read_active(root: Root, device: DeviceSettings) -> DeploymentSettings | None:
    """The deployment that was activated last.

    Raises:
        MliError: its record is missing or damaged, or this device does not allow it any more.
    """
    from mli.config.deployment import parse_deployment

    identity = read_pointer(root).get("current")
    if not isinstance(identity, str):
        return None
    path = root.deployments / "history" / f"{identity}.json"
    record = read_json(path)
    try:
        text, origin, folder, name = (str(record[key]) for key in ("text", "origin", "folder", "name"))
    except KeyError as error:
        raise MliError("its record is missing or damaged", where=str(path), remedy="deploy once more") from error
    return parse_deployment(
        text.encode(),
        device,
        origin="remote" if origin == "remote" else "component" if origin == "component" else "file",
        folder=Path(folder),
        name=name,
        check_files=False,
    )
