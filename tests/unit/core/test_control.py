"""The control socket of a core: whatever a client says or leaves out, the core answers the next one."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.brokers import wait_until

from mli.core.control import MAX_REQUEST_BYTES, MOST_CLIENTS, ControlClient, ControlServer, Request
from mli.errors import MliError, RetryError, StopError, UsageError

Gone = Callable[[], bool]


class Handlers:
    """What the core of these tests answers."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.may_end = threading.Event()

    def echo(self, request: Request, _: Gone) -> Iterator[dict[str, Any]]:
        yield {"said": request.get("text"), "end": True}

    def count(self, request: Request, _: Gone) -> Iterator[dict[str, Any]]:
        for number in range(int(request["to"])):
            yield {"number": number, "end": number + 1 == request["to"]}

    def refuse(self, _request: Request, _: Gone) -> Iterator[dict[str, Any]]:
        raise UsageError("not so", where="line 3", expected="x", got="y", remedy="write x")
        yield {}

    def stop(self, _request: Request, _: Gone) -> Iterator[dict[str, Any]]:
        yield {"state": "received"}
        raise StopError("no more")

    def mistake(self, _request: Request, _: Gone) -> Iterator[dict[str, Any]]:
        yield {"part": 1}
        raise ZeroDivisionError

    def wait(self, _request: Request, gone: Gone) -> Iterator[dict[str, Any]]:
        yield {"state": "waiting"}
        wait_until(lambda: gone() or self.may_end.is_set(), "the client's leave")
        self.left.set()
        yield {"end": True}


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def root(tmp_path: Path, handlers: Handlers) -> Iterator[Path]:
    """Of a core that answers; its folder's name is longer than a socket's address may be."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    names = ("echo", "count", "refuse", "stop", "mistake", "wait")
    server = ControlServer(deep / "core.sock", {name: getattr(handlers, name) for name in names})
    server.start()
    yield deep
    handlers.may_end.set()
    server.stop()


def raw(root: Path) -> socket.socket:
    """A client that says what it likes."""
    folder = os.open(root, os.O_PATH)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(f"/proc/self/fd/{folder}/core.sock")
    os.close(folder)
    return connection


def works(root: Path) -> bool:
    return ControlClient(root).request({"do": "echo", "text": "ü"}) == {"said": "ü", "end": True}


def test_one_answer_and_several(root: Path) -> None:
    assert works(root)
    answers = list(ControlClient(root).stream({"do": "count", "to": 3}))
    assert [item["number"] for item in answers] == [0, 1, 2]


def test_only_the_cores_own_user_may_ask(root: Path) -> None:
    assert (root / "core.sock").stat().st_mode & 0o777 == 0o600


def test_errors_come_back_as_they_were(root: Path) -> None:
    with pytest.raises(UsageError) as usage:
        ControlClient(root).request({"do": "refuse"})
    assert usage.value.to_json() == {
        "what": "not so",
        "where": "line 3",
        "expected": "x",
        "got": "y",
        "remedy": "write x",
    }
    stream = ControlClient(root).stream({"do": "stop"})
    assert next(stream) == {"state": "received"}
    with pytest.raises(MliError, match="no more"):
        next(stream)


def test_an_answer_that_breaks_off_is_told(root: Path) -> None:
    with pytest.raises(RetryError, match="did not answer to the end"):
        list(ControlClient(root).stream({"do": "mistake"}))
    assert works(root)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b'{"do": 1}\n',
        b'{"do": "unknown"}\n',
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        b'{"do": "count"}\n',
        b'{"do": "count", "to": []}\n',
    ],
    ids=["empty", "no JSON", "a list", "no name", "unknown", "no text", "deep", "a part missing", "wrong types"],
)
def test_nonsense_is_answered_with_what_is_wrong(root: Path, line: bytes) -> None:
    with raw(root) as connection:
        connection.sendall(line)
        answer = json.loads(connection.makefile("rb").readline())
    assert answer["error"]["what"]
    assert (answer["exit_code"], answer["end"]) == (UsageError.exit_code, True)
    assert works(root)


def test_a_request_without_end_is_refused(root: Path) -> None:
    with raw(root) as connection:
        connection.sendall(b"x" * (MAX_REQUEST_BYTES + 1))
        answer = json.loads(connection.makefile("rb").readline())
    assert "too long" in answer["error"]["what"]
    assert works(root)


def test_a_client_that_leaves_in_the_middle_is_noticed(root: Path, handlers: Handlers) -> None:
    stream = ControlClient(root).stream({"do": "wait"})
    assert next(stream) == {"state": "waiting"}
    stream.close()  # type: ignore[attr-defined]
    assert handlers.left.wait(30)
    assert works(root)


def test_many_silent_clients_do_not_shut_the_others_out_for_good(root: Path) -> None:
    silent = [raw(root) for _ in range(MOST_CLIENTS)]
    with pytest.raises((RetryError, StopError)):
        wait_until(lambda: not works(root), "no room")
    for connection in silent:
        connection.close()

    def works_again() -> bool:
        try:
            return works(root)
        except (RetryError, StopError):
            return False

    wait_until(works_again, "room again")


def test_no_core_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StopError, match="no core runs") as absent:
        ControlClient(tmp_path).request({"do": "status"})
    assert f"mli core start --root {tmp_path}" in (absent.value.remedy or "")


def test_the_socket_of_a_dead_core_is_replaced(tmp_path: Path, handlers: Handlers) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "core.sock"))
    dead.close()
    with pytest.raises(StopError, match="no core runs"):
        ControlClient(tmp_path).request({"do": "echo"})
    server = ControlServer(tmp_path / "core.sock", {"echo": handlers.echo})
    server.start()
    assert works(tmp_path)
    server.stop()
    assert not (tmp_path / "core.sock").exists()
