"""Logs: rotated, text or JSON, for the journal; no secret and no forged line, whoever logs what."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from mli.config.settings import LogSettings
from mli.core.log_format import MAX_CHARACTERS, TextFormatter, error_text
from mli.core.logs import close_log, journal_listens, open_logs, pipeline_log
from mli.core.root import Root
from mli.core.status import Problem
from mli.errors import RetryError, StopError

RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")
SECRET = "open-sesame-street"
ERROR = StopError(
    "the worker was ended: it used more memory than its pipeline allows",
    where="pipeline belt",
    expected="at most 120 MB",
    got="165 MB",
    remedy="set `limits: {memory: 207MB}`",
)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


@pytest.fixture(autouse=True)
def _levels_are_put_back() -> Iterator[None]:
    before = logging.getLogger().level, logging.getLogger("mli").level, list(logging.getLogger().handlers)
    yield
    assert (logging.getLogger().level, logging.getLogger("mli").level, list(logging.getLogger().handlers)) == before


def lines_of(root: Root) -> list[str]:
    return root.system_log.read_text().splitlines()


def test_a_failure_has_its_cause_and_remedy_in_text(root: Root) -> None:
    with open_logs(LogSettings(), root):
        logging.getLogger("mli.core").error("pipeline %s: %s", "belt", ERROR)
    first, *more = lines_of(root)
    assert RECORD.match(first)
    assert first.endswith(
        "mli.core: pipeline belt: the worker was ended: it used more memory than its pipeline allows"
    )
    assert more == [
        "  where:    pipeline belt",
        "  expected: at most 120 MB",
        "  found:    165 MB",
        "  to fix:   set `limits: {memory: 207MB}`",
    ]


def test_a_failure_has_its_cause_and_remedy_in_json(root: Root) -> None:
    with open_logs(LogSettings(format="json"), root, thing="t1"):
        logging.getLogger("mli.core").error("%s", ERROR, extra={"pipeline": "belt", "revision": 7})
    (body,) = map(json.loads, lines_of(root))
    assert RECORD.match(f"{body.pop('time')} ERROR ")
    assert body == {
        "level": "error",
        "logger": "mli.core",
        "message": ERROR.what,
        "thing": "t1",
        "pipeline": "belt",
        "revision": 7,
        "error": ERROR.to_json(),
    }


def test_an_error_that_was_raised_tells_its_fields_before_the_trace(root: Root) -> None:
    with open_logs(LogSettings(), root):
        try:
            raise RetryError("the disk is full", remedy="make room") from OSError(28, "No space")
        except RetryError:
            logging.getLogger("mli").exception("a write failed")
    lines = lines_of(root)
    assert lines[1] == "  to fix:   make room"
    assert lines[2].startswith("  | ")
    assert any("OSError" in line for line in lines)


@pytest.mark.parametrize("form", ["text", "json"])
def test_text_from_outside_cannot_forge_a_record_or_reach_a_terminal(root: Root, form: str) -> None:
    forged = (
        "x.jpg\n2026-11-25T14:13:00.123Z ERROR mli: forged\r\x1b[2J\x9b31m\u2028\u202e\udc80\r\n  to fix:   rm -rf /"
    )
    with open_logs(LogSettings(format="json" if form == "json" else "text"), root):
        log = logging.getLogger("mli.test")
        log.error("skipped %s", forged)
        log.error("%s", StopError(forged, where=forged, remedy=forged))
        log.error("%s", forged, exc_info=StopError(forged))
        log.error(forged)
        log.error("%(name)s", {"name": forged})
    text = root.system_log.read_text()
    assert all(character.isprintable() or character == "\n" for character in text)
    lines = text.splitlines()
    if form == "json":
        assert [json.loads(line)["level"] for line in lines] == ["error"] * 5
    else:
        assert sum(RECORD.match(line) is not None for line in lines) == 5
        assert all(RECORD.match(line) or line.startswith("  ") for line in lines)
        assert not any(line.startswith("  to fix:   rm") for line in lines)


def test_a_wrong_format_loses_no_record() -> None:
    record = logging.LogRecord("mli", logging.ERROR, "", 0, "wrong %d", ("text",), None)
    assert TextFormatter().format(record).endswith("mli: wrong %d ('text',)")


def test_no_secret_at_debug_from_whatever_library(root: Root, capfd: pytest.CaptureFixture[str]) -> None:
    signed = f"https://b.example/m.zip?X-Amz-Signature={'ab' * 32}"

    def dies() -> None:
        raise ValueError(f"cannot reach mqtt://me:{SECRET}@broker and {signed}")

    with open_logs(LogSettings(level="debug"), root, secrets=[SECRET], to_stderr=True):
        library = logging.getLogger("some.library")
        library.debug("password %s", SECRET.encode())
        library.debug({"Authorization": f"Basic {SECRET}"})
        library.info("GET %s", signed)
        thread = threading.Thread(target=dies)
        thread.start()
        thread.join()
        warnings.warn(f"deprecated: {SECRET}", UserWarning, stacklevel=1)
        try:
            dies()
        except ValueError:
            library.exception("with %s", SECRET)
    err = capfd.readouterr().err
    for text in (root.system_log.read_text(), err):
        assert SECRET not in text
        assert "abab" not in text
        assert "deprecated: ***" in text
        assert "Traceback" in text


def test_libraries_are_quiet_above_debug(root: Root) -> None:
    with open_logs(LogSettings(level="info"), root):
        logging.getLogger("some.library").info("chatter")
        logging.getLogger("some.library").warning("trouble")
        logging.getLogger("mli").info("news")
        logging.getLogger("mli").debug("detail")
    text = root.system_log.read_text()
    assert "trouble" in text
    assert "news" in text
    assert "chatter" not in text
    assert "detail" not in text


def test_a_record_of_a_pipeline_is_in_its_own_log_too(root: Root) -> None:
    with open_logs(LogSettings(), root):
        belt = pipeline_log(root.user_log("belt"), "belt")
        pipeline_log(root.user_log("door"), "door")
        belt.info("frame 1: rule r fired")
        logging.getLogger("mli.core").error("%s", ERROR, extra={"pipeline": "belt"})
        close_log(belt)
        close_log(logging.getLogger("mli-pipeline.door"))
    fired, failed, *fields = root.user_log("belt").read_text().splitlines()
    assert fired.endswith("Z INFO frame 1: rule r fired")
    assert failed.endswith("Z ERROR " + ERROR.what)
    assert fields[-1] == "  to fix:   set `limits: {memory: 207MB}`"
    assert root.user_log("door").read_text() == ""
    assert len([line for line in lines_of(root) if RECORD.match(line)]) == 1


def test_a_pipelines_json_names_it(root: Root) -> None:
    belt = pipeline_log(root.user_log("belt"), "belt", LogSettings(format="json"), thing="t1")
    belt.warning("skipped x.jpg")
    close_log(belt)
    body = json.loads(root.user_log("belt").read_text())
    assert (body["thing"], body["pipeline"], body["message"]) == ("t1", "belt", "skipped x.jpg")


def test_files_are_rotated_and_bounded(root: Root) -> None:
    with open_logs(LogSettings(max_bytes=10_000, kept=2), root):
        for number in range(1000):
            logging.getLogger("mli").info("line %d %s", number, "x" * 50)
    files = sorted(root.system_log.parent.iterdir())
    assert [path.name for path in files] == ["runtime.log", "runtime.log.1", "runtime.log.2"]
    assert all(path.stat().st_size <= 10_000 for path in files)
    assert "line 999 " in root.system_log.read_text()


def test_a_record_is_bounded(root: Root) -> None:
    with open_logs(LogSettings(), root):
        logging.getLogger("mli").info("%s", "y" * 10_000_000)
    assert root.system_log.stat().st_size < MAX_CHARACTERS + 200
    assert "9983616 characters more" in root.system_log.read_text()


def test_an_error_that_ends_it_all_is_in_the_file(root: Root, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StopError), open_logs(LogSettings(), root, to_stderr=True):
        raise ERROR
    first, *more = lines_of(root)
    assert first.endswith(f"CRITICAL mli.core.logs: ended by an error: {ERROR.what}")
    assert more[-1] == "  to fix:   set `limits: {memory: 207MB}`"
    assert capfd.readouterr().err == ""  # its catcher tells it there
    with pytest.raises(ZeroDivisionError), open_logs(LogSettings(), root):
        raise ZeroDivisionError(f"mqtt://me:{SECRET}@broker")
    text = root.system_log.read_text()
    assert "  | ZeroDivisionError: mqtt://me:***@broker" in text
    assert SECRET not in text


def test_files_are_not_for_everybody(root: Root) -> None:
    with open_logs(LogSettings(), root):
        pass
    assert root.system_log.stat().st_mode & 0o007 == 0


def test_a_line_that_a_power_cut_left_is_ended(root: Root) -> None:
    root.system_log.parent.mkdir(parents=True)
    root.system_log.write_text("2026-11-25T14:13:00.1")
    with open_logs(LogSettings(), root):
        logging.getLogger("mli").info("again")
    torn, new = lines_of(root)
    assert torn == "2026-11-25T14:13:00.1"
    assert RECORD.match(new)


def test_a_disk_without_room_for_a_lines_end_keeps_nothing_from_starting(root: Root) -> None:
    """It is a full disk that leaves half a line, at the end of its last block; a pipeline is not started twice."""
    script = """
import resource, sys
from pathlib import Path
from mli.core.logs import pipeline_log
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size,) * 2)
pipeline_log(path, "main").warning("nobody reads this")
"""
    path = root.user_log("main")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a line")
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert path.read_bytes() == b"half a line"


def test_a_log_that_cannot_be_written_says_so(root: Root) -> None:
    (root.path / "log").write_text("in the way")
    with pytest.raises(StopError, match="the log cannot be written") as caught, open_logs(LogSettings(), root):
        pass
    assert caught.value.remedy


JOURNAL = """
import logging, os, sys
from pathlib import Path
from mli.config.settings import LogSettings
from mli.core.logs import open_logs
from mli.core.root import Root
from mli.core.status import Problem
from mli.errors import StopError
found = os.fstat(2)
environment = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
settings = LogSettings(level="debug", format=sys.argv[2])
with open_logs(settings, Root(Path(sys.argv[1])), to_stderr=True, environment=environment):
    log = logging.getLogger("mli.x")
    for level in (10, 20, 30, 40, 50):
        log.log(level, "hello")
    log.error("%s", StopError("bad", remedy="good\\n<0>forged"))
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_journal_gets_priorities_and_no_second_time(tmp_path: Path, form: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", JOURNAL, str(tmp_path), form], capture_output=True, text=True, check=True
    )
    lines = run.stderr.splitlines()
    if form == "text":
        assert lines == [
            *("<7>mli.x: hello", "<6>mli.x: hello", "<4>mli.x: hello", "<3>mli.x: hello", "<2>mli.x: hello"),
            *("<3>mli.x: bad", "<3>  to fix:   good", "<3>      <0>forged"),
        ]
    else:
        assert [line[:4] for line in lines] == ["<7>{", "<6>{", "<4>{", "<3>{", "<2>{", "<3>{"]
        assert json.loads(lines[5][3:])["error"] == {"what": "bad", "remedy": "good\n<0>forged"}
    assert RECORD.match(Root(tmp_path).system_log.read_text()) or form == "json"


def test_only_the_journals_own_stream_is_the_journal() -> None:
    found = os.fstat(2)
    assert journal_listens({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, 2)
    assert not journal_listens({"JOURNAL_STREAM": "8:1"}, 2)
    assert not journal_listens({}, 2)


def test_an_error_in_a_published_document_has_no_secret() -> None:
    problem = Problem.of(StopError("no way", where="mqtt://me:hunter2@broker", remedy="look"))
    assert problem == Problem("no way", where="mqtt://me:***@broker", remedy="look")


def test_an_error_on_the_terminal_is_safe() -> None:
    text = error_text(StopError("no \x1b[31mfile", where="mqtt://me:hunter2@broker", remedy="a\nb"))
    assert text == "no \\x1b[31mfile\n  where:    mqtt://me:***@broker\n  to fix:   a\n      b"


CRASH = """
import mli.cli.main as command_line
def app():
    raise ValueError("nobody foresaw mqtt://me:hunter2@broker")
command_line.app = app
command_line.main()
"""


def test_a_crash_of_a_command_shows_no_secret() -> None:
    run = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("Traceback")
    assert run.stderr.endswith("ValueError: nobody foresaw mqtt://me:***@broker\n")
