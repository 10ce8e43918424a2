"""A real mosquitto for tests, which can be killed and started again on its port."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "the condition") -> T:
    """Wait for something that another process does; returns its first true value."""
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true"
        Event().wait(0.01)
    return value


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Mosquitto:
    """One broker; ``extra`` lines go into its configuration."""

    def __init__(self, folder: Path, extra: str = "allow_anonymous true") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(f"listener {self.port} 127.0.0.1\n{extra}\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["/usr/sbin/mosquitto", "-c", str(self._configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: accepts(self.port), "mosquitto's port")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def publish(self, topic: str, payload: str, *more: str) -> None:
        """Publish with QoS 1; returns once the broker has acknowledged."""
        command = ["mosquitto_pub", "-p", str(self.port), "-q", "1", "-t", topic, "-m", payload, *more]
        subprocess.run(command, check=True)

    def publish_compact(self, topic: str, sequence: int, *, epoch: str = "ab12cd34", pipeline: str = "main") -> None:
        """A compact prediction with MQTT 5 user properties, as mli publishes it."""
        told = {"id": f"{epoch}-{pipeline}-{sequence}", "sequence": str(sequence)}
        properties = [part for pair in told.items() for part in ("-D", "publish", "user-property", *pair)]
        self.publish(topic, '[{"confidence": "0.21719395", "prediction": "can"}]', "-V", "5", *properties)


@contextlib.contextmanager
def mosquitto(folder: Path, extra: str = "allow_anonymous true") -> Iterator[Mosquitto]:
    """A running mosquitto, killed at the end."""
    broker = Mosquitto(folder, extra)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
