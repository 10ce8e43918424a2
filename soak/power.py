"""Power cuts: the disk of a running core is copied at a random moment, and another core starts from the copy.

The writers are stopped (SIGSTOP) while the image below the mounted file system is copied: what was written and not
synced is not in it, as after a power cut. The first core goes on afterwards.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.fixtures.brokers import RecordingBrokerProcess, wait_until
from tests.fixtures.core_process import Recorder

from mli.core.topics import report_topic
from mli.errors import MliError
from soak.account import Account, say
from soak.device import Device, family_of
from soak.disk import copy_image, mounted, new_disk
from soak.place import Place
from soak.swaps import recorded_device

DISK_MB = 512
LONGEST_PAUSE_S = 3.0
MORE = 20
"""Predictions that the core in the copy brings before it is looked at."""


def cut_power(place: Place, chance: random.Random, cuts: int) -> Account:
    """``cuts`` cuts of one core's power, while it is sent one deployment after another."""
    account = Account()
    folder = place.folder / "power"
    folder.mkdir()
    image = folder / "disk.img"
    with (
        new_disk(image, DISK_MB, folder / "disk"),
        recorded_device(place, "power", folder=folder / "disk", interval="20ms") as (device, broker),
        account.whole("all cuts"),
    ):
        device.start()
        try:
            with _deploying(device) as sent:
                wait_until(lambda: len(sent) > 1, "two deployments")
                for number in range(cuts):
                    threading.Event().wait(chance.uniform(0.0, LONGEST_PAUSE_S))
                    with _stopped(device):
                        copy_image(image, folder / "copy.img")
                        acknowledged = broker.events()  # what it hears later, the copy need not know
                    known = len(sent)
                    with mounted(folder / "copy.img", folder / f"copy-{number}"):
                        _look_at(place, device, folder / f"copy-{number}", acknowledged, number, account)
                    account.rounds += 1
                    say(f"cut {number + 1} of {cuts}, after {known} deployments: {account.outcomes}")
                account.facts |= {"deployments": len(sent)}
                account.facts["acknowledged"] = len(broker.events())
        finally:
            device.kill()
    return account


@contextmanager
def _deploying(device: Device) -> Iterator[list[str]]:
    """Deploy new models one after another; entered, it has the identities of those that became healthy."""
    sent: list[str] = []
    failed: list[object] = []
    enough = threading.Event()

    def run() -> None:
        while not enough.is_set():
            archive = device.make_archive()
            try:
                status = device.core.deploy_here(device.deployment(archive))
            except MliError as error:
                failed.append(error)
                return
            if status["state"] != "healthy":
                failed.append(status)
            sent.append(str(status["identity"]))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sent
    finally:
        enough.set()
        thread.join()
    assert not failed, failed[:3]


@contextmanager
def _stopped(device: Device) -> Iterator[None]:
    """The core and all its children stand still."""
    pids = [device.core.pid, *family_of(device.core.pid)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _look_at(
    place: Place, device: Device, folder: Path, acknowledged: list[dict[str, Any]], number: int, account: Account
) -> None:
    """Start a core in the copy, at a broker of its own, and compare with what the first broker has."""
    healthy, newest = _told(device, acknowledged)
    logs = place.folder / f"power-copy-{number}"
    logs.mkdir()
    broker = RecordingBrokerProcess(logs)
    broker.start()
    try:
        copy = place.device(
            device.core.thing, folder=folder, port=broker.port, witness=Recorder(broker), interval="20ms"
        )
        copy.labels = device.labels
        pointer = json.loads((copy.core.root / "deployments" / "pointer.json").read_text())
        assert pointer["current"] in (healthy, newest), f"{pointer} after {healthy} was told to be healthy"
        account.outcomes["old model" if pointer["current"] == healthy else "new model"] += 1
        serves = copy.pointed_at()
        copy.start()
        assert copy.serving() == serves
        copy.check_files()
        copy.core.wait(lambda: len(copy.core.seen()) >= MORE, "predictions of the core in the copy")
        _check_no_contradiction(device, acknowledged, broker.events())
        archive = copy.make_archive_of(f"after-cut-{number}")
        status = copy.core.deploy_here(copy.deployment(archive))
        assert status["state"] == "healthy", status
        copy.check_leftovers()
        copy.core.stop()
    finally:
        if copy.is_alive():
            copy.kill()
        broker.kill()


def _told(device: Device, events: list[dict[str, Any]]) -> tuple[str | None, str | None]:
    """Identities of the last deployment that the broker knows to be healthy, and of the last that it heard of."""
    topic = report_topic(device.core.thing)
    documents = [json.loads(item["payload"]) for item in events if item["topic"] == topic]
    healthy = [item["identity"] for item in documents if item["state"] == "healthy"]
    return (healthy[-1] if healthy else None), (documents[-1]["identity"] if documents else None)


def _check_no_contradiction(device: Device, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """A sequence is one message, whichever core sent it, and there is no hole between the two."""
    topic = device.core.topic("main")
    ids: dict[int, set[tuple[str, str]]] = {}
    first_after = None
    for events in (before, after):
        for item in events:
            if item["event"] == "publish" and item["topic"] == topic:
                sequence = int(item["properties"]["sequence"])
                ids.setdefault(sequence, set()).add((item["properties"]["id"], item["payload"]))
                if events is after and first_after is None:
                    first_after = sequence
    twice = [sequence for sequence, found in ids.items() if len(found) > 1]
    assert not twice, f"sequences of two messages: {twice[:5]}"
    assert sorted(ids) == list(range(1, len(ids) + 1)), "a hole"
    again = Counter(int(item["properties"]["sequence"]) for item in after if item["topic"] == topic)
    assert again, "nothing came of the core in the copy"
