"""What the core tells systemd, read from a real datagram socket."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mli.core.service.notify import Notifier

ABSTRACT = f"mli-notify-test-{os.getpid()}"


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str, shown: str) -> None:
        self.shown = shown
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(0.0)

    def heard(self) -> list[str]:
        """Datagrams that have come since; what is sent is there at once."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    made = Manager(path, path) if request.param == "file" else Manager(f"\0{ABSTRACT}", f"@{ABSTRACT}")
    yield made
    made.close()


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_it_says_ready_alive_and_stopping(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.shown, "WATCHDOG_USEC": "30000000"})
    assert notifier.listens
    notifier.ready("thing press-4\nREADY=0")
    notifier.status("3 pipelines")
    notifier.watchdog()
    notifier.more_time(1.5)
    notifier.stopping("delivering")
    notifier.stopping()
    assert manager.heard() == [
        "READY=1\nSTATUS=thing press-4 READY=0",
        "STATUS=3 pipelines",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=1500000",
        "STOPPING=1\nSTATUS=delivering",
        "STOPPING=1",
    ]


def test_the_watchdog_is_fed_three_times_within_its_time_however_often_the_loop_turns(manager: Manager) -> None:
    clock = Clock()
    notifier = Notifier({"NOTIFY_SOCKET": manager.shown, "WATCHDOG_USEC": "30000000"}, clock)
    assert notifier.watchdog_every_s == 10.0
    for _ in range(300):
        notifier.watchdog()
        clock.now_s += 0.1
    assert manager.heard() == ["WATCHDOG=1"] * 3


@pytest.mark.parametrize(
    "watched", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}]
)
def test_without_a_watchdog_for_this_process_none_is_fed(manager: Manager, watched: dict[str, str]) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.shown, **watched})
    assert notifier.watchdog_every_s is None
    notifier.watchdog()
    assert manager.heard() == []


def test_the_watchdog_of_this_process_is_fed(manager: Manager) -> None:
    watched = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    Notifier({"NOTIFY_SOCKET": manager.shown, **watched}).watchdog()
    assert manager.heard() == ["WATCHDOG=1"]


def test_children_inherit_none_of_it(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"NOTIFY_SOCKET": manager.shown, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    notifier = Notifier()
    assert not names.keys() & os.environ.keys()
    notifier.ready()
    assert manager.heard() == ["READY=1"]


@pytest.mark.parametrize("shown", ["", "@", "vsock:2:1234"])
def test_without_a_socket_that_it_knows_it_is_silent(shown: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": shown, "WATCHDOG_USEC": "3000000"})
    assert not notifier.listens
    notifier.ready("x")
    notifier.watchdog()
    notifier.stopping()


def test_a_manager_that_is_gone_is_told_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "3000000"}, Clock())
    with caplog.at_level(logging.WARNING):
        notifier.ready("x")
        notifier.watchdog()
        notifier.stopping()
    assert [record.getMessage() for record in caplog.records] == [
        "the service manager could not be told 'READY=1': [Errno 2] No such file or directory"
    ]


def test_a_manager_that_does_not_read_costs_a_bounded_time_and_is_fed_again(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.shown, "WATCHDOG_USEC": "3000000"}, Clock())
    sent = 0
    while not caplog.records:
        notifier.status(f"number {sent}")
        sent += 1
    notifier.watchdog()  # lost too, and therefore said again
    assert len(manager.heard()) == sent - 1
    notifier.watchdog()
    assert manager.heard() == ["WATCHDOG=1"]


def test_a_status_is_short_and_can_always_be_sent(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.shown})
    notifier.status("x" * 100_000)
    notifier.status("folder \udcff")
    first, second = manager.heard()
    assert len(first) < 1000
    assert second == "STATUS=folder ?"
