"""What the kernel says of processes, and the two of mosquitto that every measurement shares."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
DEADLINE_S = 180.0


def cpu_s(pid: int) -> float:
    """Processor time of a process with all its threads, user and system, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def machine_cpu_s() -> float:
    """Processor time that everything on this machine has used, seconds."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts = map(int, first[1:8])
    return (user + nice + system + interrupts + soft_interrupts) / TICKS_PER_S


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, MB (2^20): pages shared by n processes count 1/n."""
    return _mapped_mb(pid, "Pss")


def private_mb(pid: int) -> float:
    """Pages that no other process has, MB (2^20)."""
    return _mapped_mb(pid, "Private_Clean") + _mapped_mb(pid, "Private_Dirty")


def _mapped_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"the kernel gives no {name} for process {pid}")


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def wait_for_end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Output and errors of a process that is ending; one that does not end is killed and told."""
    try:
        return process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


@dataclass(frozen=True, slots=True)
class Broker:
    """A mosquitto with nothing but its defaults, on this machine."""

    port: int


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[Broker]:
    """Start a broker, and end it."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise FileNotFoundError("mosquitto and mosquitto_sub are needed: apt install mosquitto mosquitto-clients")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    configuration = folder / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([program, "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield Broker(port)
    finally:
        process.terminate()
        process.wait()


class Arrivals:
    """The times at which a subscriber received messages; mosquitto_sub, since it costs next to nothing.

    Args:
        folder: for its output.
    """

    def __init__(self, broker: Broker, topic: str, folder: Path) -> None:
        self._file = folder / "arrivals.txt"
        self._output = self._file.open("wb")
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic, "-q", "0", "-F", "%U"]
        self._process = subprocess.Popen(command, stdout=self._output)
        self._reader = self._file.open("rb")
        self.count = 0

    def poll(self) -> int:
        """How many messages have come."""
        self.count += self._reader.read().count(b"\n")
        return self.count

    def times(self) -> list[float]:
        """Unix times, seconds, in order."""
        return [float(line) for line in self._file.read_text().split("\n")[:-1]]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.close()
        self._output.close()
