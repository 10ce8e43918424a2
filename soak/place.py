"""Where a soak runs: a folder, a mosquitto, and a witness of all that is said at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fixtures.brokers import Mosquitto
from tests.fixtures.core_process import Recorder, Witness

from soak.device import Device


class Place:
    """Makes devices; see ``open_place``."""

    def __init__(self, folder: Path, broker: Mosquitto, witness: Witness) -> None:
        self.folder = folder
        self.broker = broker
        self.witness = witness
        self._devices: list[Device] = []

    def device(
        self,
        thing: str,
        *,
        folder: Path | None = None,
        port: int | None = None,
        witness: Recorder | None = None,
        **options: Any,
    ) -> Device:
        """A new one; its core is not started yet.

        Args:
            folder: where it lives; None makes a new folder.
            port: of another broker, with its witness.
        """
        folder = folder or self.folder / thing
        device = Device(folder, port or self.broker.port, witness or self.witness, thing, **options)
        self._devices.append(device)
        return device

    def end(self) -> None:
        """Whatever still runs."""
        for device in self._devices:
            device.core.end()


@contextmanager
def open_place(folder: Path) -> Iterator[Place]:
    """Start the broker; whatever runs ends with the context."""
    (folder / "broker").mkdir(parents=True, exist_ok=True)
    broker = Mosquitto(folder / "broker")
    broker.start()
    try:
        with Witness(broker) as witness:
            place = Place(folder, broker, witness)
            try:
                yield place
            finally:
                place.end()
    finally:
        broker.stop()
