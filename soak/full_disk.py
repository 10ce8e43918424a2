"""A small disk that is really full: the old model serves on, and all goes on once there is room."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from pathlib import Path

from soak.account import Account, say
from soak.disk import MEBIBYTE, new_disk
from soak.kills import Survival
from soak.place import Place

DISK_MB = 256
FULL_S = 5.0
"""So long there is no room."""


def fill_disk(place: Place, chance: random.Random, rounds: int, full_s: float = FULL_S) -> Account:
    """Fill it to the last byte before, and in the middle of, a deployment; then make room again."""
    account = Account()
    folder = place.folder / "small-disk"
    with new_disk(place.folder / "small.img", DISK_MB, folder), account.whole("a full disk"):
        survival = Survival(place, "full", folder=folder, interval="50ms")
        device, core = survival.device, survival.core
        try:
            for number in range(rounds):
                outcome = _fill(
                    survival, folder, at_once=number == 0, pause_s=chance.uniform(0.0, 1.0), full_s=full_s
                )
                account.outcomes[outcome] += 1
                account.rounds += 1
                say(f"full disk: {outcome}")
            survival.settle()
            account.facts["predictions"] = device.check_predictions()
            core.stop()
        finally:
            if device.is_alive():
                device.kill()
    return account


def _fill(survival: Survival, folder: Path, *, at_once: bool, pause_s: float, full_s: float) -> str:
    core, device = survival.core, survival.device
    new = device.make_archive()
    ballast = folder / "ballast"
    if at_once:
        _take_all(ballast)
    revision = core.send(device.deployment(new))
    if not at_once:
        _wait(pause_s)
        _take_all(ballast)
    core.wait(lambda: bool(core.states(revision)), "a word about the deployment")
    _wait(full_s)
    state = core.states(revision)[-1]
    assert device.is_alive(), device.last_words()
    assert device.serving() in (survival.now.sha256, new.sha256)
    ballast.unlink()
    document = core.wait_for_state(revision, "healthy", "failed", "refused", "rolled_back", deadline_s=90.0)
    if document["state"] == "failed":
        survival.get_through(new, core.send(device.deployment(new)))
        return "failed, the old model served on; sent again, it became healthy"
    survival.get_through(new, revision)
    return f"{state} while it was full; became healthy by itself"


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _take_all(path: Path) -> None:
    """Until the kernel says that there is no byte left."""
    block = bytes(MEBIBYTE)
    with path.open("wb", buffering=0) as file:
        while block:
            try:
                file.write(block)
            except OSError:
                block = block[: len(block) // 2]
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())
