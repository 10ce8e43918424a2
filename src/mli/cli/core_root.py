"""Which folder a command means that looks at a core from outside, where none is named."""

from __future__ import annotations

import os
from pathlib import Path

SERVICE_ROOT = Path("/var/lib/mli")
ACCELERATOR_ROOT = Path("/greengrass")
_MARKS = ("device.yaml", "config/config.json", "core.sock", "log/system/runtime.log")


def chosen_root(given: Path | None) -> Path:
    """The folder of ``--root``; else the service's or the accelerator's where there is one; else the user's own.

    The user's own is that of ``mli run`` for a thing with this machine's name, or the only one that there is.
    """
    if given is not None:
        return given.absolute()
    for folder in (SERVICE_ROOT, ACCELERATOR_ROOT):
        if is_root(folder):
            return folder
    from mli.config.files import default_root, default_thing

    own = default_root(default_thing())
    others = roots_beside(own)
    return others[0] if len(others) == 1 and not is_root(own) else own


def is_root(folder: Path) -> bool:
    """Whether a core ran in this folder, or is meant to."""
    return any(os.path.lexists(folder / mark) for mark in _MARKS)


def roots_beside(root: Path) -> list[Path]:
    """Folders of other things in the same place."""
    if not root.parent.is_dir():
        return []
    return sorted(item for item in root.parent.iterdir() if item != root and is_root(item))
