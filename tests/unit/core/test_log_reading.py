"""Reading a log from outside: its last records, and every later one exactly once, however often it is rotated."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from mli.config.settings import LogSettings
from mli.core.log_entries import as_object, as_text, records_of
from mli.core.log_reading import LogReader
from mli.core.logs import open_logs
from mli.core.root import Root
from mli.errors import StopError

ERROR = StopError("no room", where="/srv\n2026", expected="5 MB", got="0", remedy="make room")


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_the_last_records_are_whole_and_go_back_over_rotations(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    write(tmp_path / "x.log.2", "a", "b")
    write(tmp_path / "x.log.1", "c", "  to fix: x")
    write(path, "d", "  more", "e")
    with LogReader(path) as reader:
        assert reader.last(1) == ["e"]
    with LogReader(path) as reader:
        assert reader.last(3) == ["c", "  to fix: x", "d", "  more", "e"]
    with LogReader(path) as reader:
        assert len(reader.last(100)) == 7
    with LogReader(path) as reader:
        assert reader.last(0) == []
        assert reader.new() == []


def test_the_last_records_of_a_large_file_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    write(path, *(f"{number:06d} {'x' * 90}" for number in range(20_000)))
    with LogReader(path) as reader:
        lines = reader.last(5_000)
    assert [int(line[:6]) for line in lines] == list(range(15_000, 20_000))


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("a\nb")
    with LogReader(path) as reader:
        assert reader.last(5) == ["a"]
        assert reader.new() == []
        write(path, "c")
        assert reader.new() == ["bc"]


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log" / "x.log"
    with LogReader(path) as reader:
        assert reader.last(5) == []
        assert reader.new() == []
        write(path, "a")
        assert reader.new() == ["a"]


@pytest.mark.parametrize("between", [1, 7, 150])
def test_every_record_comes_once_across_rotations(tmp_path: Path, between: int) -> None:
    """``between``: so many are written from one look to the next; 150 of them fill three files."""
    root = Root(tmp_path)
    log = logging.getLogger("mli.test")
    seen: list[str] = []
    with open_logs(LogSettings(max_bytes=5_000, kept=5), root), LogReader(root.system_log) as reader:
        seen += reader.last(10)
        for number in range(1, 1001):
            log.info("record %d", number)
            if number % between == 0:
                seen += reader.new()
        seen += reader.new()
    assert [int(line.rsplit(" ", 1)[1]) for line in seen] == list(range(1, 1001))


def test_records_that_were_rotated_away_are_told(tmp_path: Path) -> None:
    root = Root(tmp_path)
    log = logging.getLogger("mli.test")
    with open_logs(LogSettings(max_bytes=2_000, kept=2), root), LogReader(root.system_log) as reader:
        log.info("first")
        reader.last(1)
        for number in range(500):
            log.info("record %d", number)
        lines = reader.new()
    assert sum("records are missing here" in line for line in lines) == 1
    assert lines[-1].endswith("record 499")


def test_a_file_that_was_emptied_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    write(path, "a", "b")
    with LogReader(path) as reader:
        reader.last(5)
        path.write_text("")
        assert reader.new() == []
        write(path, "c")
        assert reader.new() == ["c"]


def logged(root: Root, form: str) -> list[list[str]]:
    with open_logs(LogSettings(format="json" if form == "json" else "text"), root):
        log = logging.getLogger("mli.test")
        log.warning("two\nlines")
        log.error("pipeline %s: %s", "belt", ERROR)
        try:
            raise ValueError("wrong")
        except ValueError:
            log.exception("failed")
    return list(records_of(root.system_log.read_text().splitlines()))


@pytest.mark.parametrize("form", ["text", "json"])
def test_both_forms_are_read_into_both(tmp_path: Path, form: str) -> None:
    records = logged(Root(tmp_path), form)
    two, error, trace = map(as_object, records)
    assert two["message"] == "two\nlines"
    assert two["level"] == "warning"
    assert two["logger"] == "mli.test"
    wanted = {"where": "/srv\n2026", "expected": "5 MB", "got": "0", "remedy": "make room"}
    assert error["message"] == "pipeline belt: no room"
    assert {name: text for name, text in error["error"].items() if name != "what"} == wanted
    assert trace["trace"].endswith("ValueError: wrong")
    told = as_text(records[1])
    assert told[0].endswith("ERROR mli.test: pipeline belt: no room")
    assert told[1:] == [
        "  where:    /srv",
        "      2026",
        "  expected: 5 MB",
        "  found:    0",
        "  to fix:   make room",
    ]


def test_a_line_that_no_core_wrote_is_a_message() -> None:
    assert as_object(["hello", "  there"]) == {"message": "hello\n  there"}
    assert as_object(["{broken"]) == {"message": "{broken"}
    assert json.dumps(as_object(["2026-11-25T14:13:00.1"]))
