"""Commands of rules, as real processes."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mli.config.settings import CommandSettings, SpoolSettings
from mli.delivery.actions import ActionOutcome, ActionRunner, ActionState
from mli.delivery.spool import Spool
from mli.errors import RetryError
from mli.types import Counters, Firing, Record

PYTHON = sys.executable
JAMMED = "import sys; print('jam\\nbelt \\x1b[31mstuck', file=sys.stderr); sys.exit(3)"


@dataclass(frozen=True)
class Stored:
    id: int
    firing: Firing


class MemoryStore:
    """Remembers the order of what happened, as the spool would commit it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, str]] = []
        self.on_start: Callable[[], None] = lambda: None

    def start_firing(self, firing_id: int) -> bool:
        self.on_start()
        if firing_id in self.started():
            return False
        self.events.append(("start", firing_id, ""))
        return True

    def end_firing(self, firing_id: int, state: ActionState, detail: str) -> None:
        self.events.append((state, firing_id, detail))

    def started(self) -> list[int]:
        return [number for event, number, _ in self.events if event == "start"]


class Outcomes:
    def __init__(self) -> None:
        self._all: list[ActionOutcome] = []
        self._changed = threading.Condition()

    def __call__(self, outcome: ActionOutcome) -> None:
        with self._changed:
            self._all.append(outcome)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[ActionOutcome]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._all) >= count, 60), self._all
            return list(self._all)


def firing(
    number: int = 1, *, command: str = "act", age_s: float = 0.0, max_age_s: float = 60.0, **more: str
) -> Stored:
    fields = {"rule": "divert", "label": "plastic bottle", "image_name": "0001.jpg"} | more
    return Stored(
        number,
        Firing(command=command, captured_at=time.time() - age_s, max_age_s=max_age_s, confidence=0.97, **fields),
    )


def python(code: str, *arguments: str, timeout_s: float = 30.0) -> CommandSettings:
    return CommandSettings((PYTHON, "-c", code, *arguments), timeout_s)


@contextmanager
def running(
    commands: dict[str, CommandSettings], *, store: MemoryStore | None = None, **options: object
) -> Iterator[tuple[ActionRunner, Outcomes, MemoryStore]]:
    store, outcomes = store or MemoryStore(), Outcomes()
    runner = ActionRunner(store, commands, on_outcome=outcomes, **options)  # type: ignore[arg-type]
    try:
        yield runner, outcomes, store
    finally:
        runner.stop(0.0)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does; there is no event to wait for."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        threading.Event().wait(0.01)


def is_gone(pid: int) -> bool:
    """A zombie that init has not collected yet has ended as well."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_command_runs_once_after_its_start_was_committed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    store = MemoryStore()
    store.on_start = lambda: store.events.append(("mark exists", 0, str(mark.exists())))
    code = "import sys; open(sys.argv[1], 'a').write('x')"
    with running({"act": python(code, str(mark))}, store=store) as (runner, outcomes, _):
        runner.submit([firing(7)])
        (outcome,) = outcomes.wait_for(1)
    assert outcome.state == "ran"
    assert mark.read_text() == "x"
    assert store.events == [("mark exists", 0, "False"), ("start", 7, ""), ("ran", 7, "")]
    assert runner.counts() == {"ran": 1, "failed": 0, "timed_out": 0, "dropped": 0}


def test_the_command_gets_a_clean_environment_and_no_placeholder_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    told = tmp_path / "told.json"
    code = (
        "import json, os, sys; json.dump({'argv': sys.argv[2:], 'environment': dict(os.environ), "
        "'stdin': sys.stdin.read(), 'files': sorted(map(int, os.listdir('/proc/self/fd')))}, open(sys.argv[1], 'w'))"
    )
    command = CommandSettings((PYTHON, "-I", "-c", code, str(told), "{label}", "{image_name}"), 30.0)
    kept_open = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(kept_open, True)
    with running({"act": command}) as (runner, outcomes, _):
        runner.submit([firing(label="$(reboot); \0 'x'", image_name="--help.jpg")])
        (outcome,) = outcomes.wait_for(1)
    os.close(kept_open)
    assert outcome.state == "ran", outcome.detail
    answer = json.loads(told.read_text())
    environment = answer["environment"]
    environment.pop("LC_CTYPE", None)  # Python's own doing
    assert set(environment) == {
        *("PATH", "HOME", "LANG"),
        *("MLI_RULE", "MLI_LABEL", "MLI_CONFIDENCE", "MLI_IMAGE_NAME", "MLI_CAPTURED_AT"),
    }
    assert environment["MLI_LABEL"] == "$(reboot); \ufffd 'x'"
    assert environment["MLI_CONFIDENCE"] == "0.970000"
    assert environment["MLI_IMAGE_NAME"] == "--help.jpg"
    assert environment["MLI_CAPTURED_AT"].endswith("Z")
    assert answer["argv"] == ["{label}", "{image_name}"]
    assert answer["stdin"] == ""
    assert kept_open not in answer["files"]


@pytest.mark.parametrize(
    ("argv", "detail"),
    [
        ((PYTHON, "-c", JAMMED), "exit code 3: belt \\x1b[31mstuck"),
        ((PYTHON, "-c", "import os; os.kill(os.getpid(), 11)"), "killed by signal 11"),
        (("/no/such/diverter",), "cannot start: no executable file '/no/such/diverter' was found"),
    ],
)  # fmt: skip
def test_a_failing_command_is_reported_with_its_cause(argv: tuple[str, ...], detail: str) -> None:
    with running({"act": CommandSettings(argv, 30.0)}) as (runner, outcomes, store):
        runner.submit([firing(1)])
        (outcome,) = outcomes.wait_for(1)
    assert (outcome.state, outcome.detail) == ("failed", detail)
    assert store.events == [("start", 1, ""), ("failed", 1, detail)]


def test_a_hanging_command_is_ended_with_all_of_its_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    # Deaf to SIGTERM, with a grandchild that is deaf as well and holds the pipes.
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if child:\n"
        "    open(sys.argv[1] + '.new', 'w').write(f'{os.getpid()} {child}')\n"
        "    os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "while True: time.sleep(60)\n"
    )
    with running({"act": python(code, str(pids), timeout_s=1.0)}) as (runner, outcomes, store):
        runner.submit([firing(1)])
        (outcome,) = outcomes.wait_for(1)
        assert outcome.state == "timed_out"
        assert outcome.detail == "ended after its limit of 1 s"
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]
    assert store.events[-1][0] == "timed_out"


def test_a_grandchild_left_behind_neither_holds_the_queue_nor_survives(tmp_path: Path) -> None:
    left = tmp_path / "left"
    code = (
        "import os, sys, time\n"
        "child = os.fork()\n"
        "if child: open(sys.argv[1], 'w').write(str(child)); os._exit(0)\n"
        "time.sleep(3600)\n"
    )
    with running({"act": python(code, str(left))}) as (runner, outcomes, _):
        runner.submit([firing(1)])
        (outcome,) = outcomes.wait_for(1)
    assert outcome.state == "ran"
    until(lambda: is_gone(int(left.read_text())))


def test_a_command_that_writes_without_end_fills_no_memory() -> None:
    code = (
        "import sys\n"
        "for _ in range(100): sys.stdout.write('x' * 1_000_000); sys.stderr.write('y' * 1_000_000)\n"
        "print('\\nthe last word', file=sys.stderr); sys.exit(1)"
    )
    import tracemalloc

    with running({"act": python(code)}) as (runner, outcomes, _):
        tracemalloc.start()
        runner.submit([firing(1)])
        (outcome,) = outcomes.wait_for(1)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert outcome.detail == "exit code 1: the last word"
    assert peak_bytes < 4_000_000


def test_a_late_firing_never_starts() -> None:
    with running({"act": CommandSettings(("/bin/true",))}) as (runner, outcomes, store):
        runner.submit([firing(1, age_s=3.0, max_age_s=1.0)])
        (outcome,) = outcomes.wait_for(1)
    assert outcome.state == "dropped"
    assert "the limit is 1 s" in outcome.detail
    assert outcome.age_s >= 3.0
    assert store.started() == []


def test_a_firing_that_gets_late_while_its_start_is_committed_never_runs(tmp_path: Path) -> None:
    now = [1000.0]
    store = MemoryStore()

    def slow_disk() -> None:
        now[0] += 5.0

    store.on_start = slow_disk
    mark = tmp_path / "mark"
    stored = Stored(1, Firing("r", "act", 1000.0, 1.0, "can", 0.5, "a.jpg"))
    with running({"act": CommandSettings(("/bin/touch", str(mark)))}, store=store, clock=lambda: now[0]) as parts:
        parts[0].submit([stored])
        (outcome,) = parts[1].wait_for(1)
    assert outcome.state == "dropped"
    assert not mark.exists()


def test_a_frame_from_the_future_has_no_known_age_and_is_dropped() -> None:
    with running({"act": CommandSettings(("/bin/true",))}) as (runner, outcomes, store):
        runner.submit([firing(1, age_s=-3600.0, max_age_s=1.0)])
        (outcome,) = outcomes.wait_for(1)
    assert outcome.state == "dropped"
    assert "in the future" in outcome.detail
    assert store.started() == []


def test_a_start_that_cannot_be_recorded_runs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = tmp_path / "mark"
    store = MemoryStore()

    def full_disk() -> None:
        raise RetryError("The spool's disk is full.")

    store.on_start = full_disk
    with running({"act": CommandSettings(("/bin/touch", str(mark)))}, store=store) as (runner, outcomes, _):
        runner.submit([firing(1)])
        (outcome,) = outcomes.wait_for(1)
    assert outcome.state == "dropped"
    assert not mark.exists()
    assert "The spool's disk is full." in caplog.text


def test_a_firing_that_was_started_before_is_not_run_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running({"act": python("import sys; open(sys.argv[1], 'a').write('x')", str(log))}) as (
        runner,
        outcomes,
        store,
    ):
        runner.submit([firing(1), firing(1)])
        outcomes.wait_for(1)
        runner.submit([firing(1), firing(2)])
        outcomes.wait_for(2)
    assert log.read_text() == "xx"
    assert store.started() == [1, 2]


def test_with_the_real_spool_a_crash_after_the_start_never_runs_it_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    path = tmp_path / "spool.db"
    commands = {"act": python("import os, sys; open(sys.argv[1], 'a').write(os.environ['MLI_IMAGE_NAME'])", str(log))}
    spool = Spool(path, SpoolSettings(), sink="stdout")
    firings = tuple(firing(image_name=name).firing for name in "abc")
    spool.put([Record(1, "main", 1, None, False, Counters(), firings=firings)])
    crashed, *_ = spool.pending_firings()
    assert spool.start_firing(crashed.id)
    spool.close()
    spool = Spool(path, SpoolSettings(), sink="stdout")
    outcomes = Outcomes()
    runner = ActionRunner(spool, commands, on_outcome=outcomes)
    runner.submit([crashed, *spool.pending_firings()])
    runner.submit(spool.pending_firings())
    outcomes.wait_for(2)
    runner.stop(30.0)
    states = [(stored.firing.image_name, stored.state) for stored in spool.recent_firings(10)]
    spool.close()
    assert log.read_text() == "bc"
    assert states == [("c", "ran"), ("b", "ran"), ("a", "unknown")]


def test_one_at_a_time_in_frame_order_and_the_oldest_leaves_a_full_queue(tmp_path: Path) -> None:
    gate, order = tmp_path / "gate", tmp_path / "order"
    os.mkfifo(gate)
    # Each appends its begin and end, so an overlap would show; the first waits for the gate.
    code = (
        "import os, sys\n"
        "name = os.environ['MLI_IMAGE_NAME']\n"
        "log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "def say(text): os.write(log, text.encode())\n"
        "say(f'({name} ')\n"
        "if name == '1': open(sys.argv[1]).read()\n"
        "say(')')\n"
    )
    with running({"act": python(code, str(gate), str(order))}, max_waiting=3) as (runner, outcomes, store):
        runner.submit([firing(1, image_name="1")])
        until(lambda: store.started() == [1])
        runner.submit([firing(n, image_name=str(n)) for n in range(2, 8)])
        outcomes.wait_for(3)
        gate.write_text("go")
        ended = outcomes.wait_for(7)
    assert order.read_text() == "(1 )(5 )(6 )(7 )"
    assert sorted(o.firing.image_name for o in ended if o.state == "dropped") == ["2", "3", "4"]
    assert runner.counts()["dropped"] == 3


def test_commands_do_not_wait_for_each_other_and_submit_waits_for_none(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    commands = {
        "slow": python("import sys; open(sys.argv[1]).read()", str(gate)),
        "quick": CommandSettings(("/bin/true",)),
    }
    with running(commands) as (runner, outcomes, store):
        runner.submit([firing(1, command="slow")])
        runner.submit([firing(2, command="quick")])
        (first,) = outcomes.wait_for(1)
        assert first.firing.command == "quick"
        until(lambda: 1 in store.started())
        gate.write_text("go")
        outcomes.wait_for(2)


def test_an_unknown_command_is_dropped_and_named() -> None:
    with running({}) as (runner, outcomes, store):
        runner.submit([firing(1, command="reboot")])
        (outcome,) = outcomes.wait_for(1)
    assert outcome.state == "dropped"
    assert "names no command 'reboot'" in outcome.detail
    assert store.events == [("dropped", 1, outcome.detail)]


def test_each_outcome_is_one_log_line_that_tells_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mli.delivery.actions")
    with running({"act": CommandSettings(("/bin/true",))}) as (runner, outcomes, _):
        runner.submit([firing(1, label="can\nERROR forged")])
        outcomes.wait_for(1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    assert line.startswith("action ran in ")
    for part in ("rule=divert", "command=act", 'label="can\\nERROR forged"', "confidence=0.9700", "age="):
        assert part in line


def test_stopping_ends_the_running_command_and_leaves_the_waiting_ones_unstarted(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import os, sys, time\nopen(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\ntime.sleep(3600)"
    )
    with running({"act": python(code, str(pid_file), timeout_s=3600)}) as (runner, outcomes, store):
        runner.submit([firing(1), firing(2)])
        until(pid_file.exists)
    (outcome,) = outcomes.wait_for(1)
    assert (outcome.state, outcome.detail) == ("failed", "ended because mli stops")
    assert is_gone(int(pid_file.read_text()))
    assert store.started() == [1]


def test_a_command_dies_with_a_killed_core(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    core = tmp_path / "core.py"
    core.write_text(
        "import sys, threading, time\n"
        "from mli.config.settings import CommandSettings\n"
        "from mli.delivery.actions import ActionRunner\n"
        "from mli.types import Firing\n"
        "class Store:\n"
        "    def start_firing(self, i): return True\n"
        "    def end_firing(self, i, state, detail): pass\n"
        "class Stored:\n"
        "    id = 1\n"
        "    firing = Firing('r', 'act', time.time(), 60.0, 'can', 0.5, 'a.jpg')\n"
        'code = \'import os, sys, time; open(sys.argv[1] + ".n", "w").write(str(os.getpid())); \'\n'
        "code += 'os.rename(sys.argv[1] + \".n\", sys.argv[1]); time.sleep(3600)'\n"
        "runner = ActionRunner(Store(), {'act': CommandSettings((sys.executable, '-c', code, sys.argv[1]), 3600)})\n"
        "runner.submit([Stored()])\n"
        "threading.Event().wait()\n"
    )
    process = subprocess.Popen([PYTHON, str(core), str(pid_file)])
    until(pid_file.exists)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: is_gone(int(pid_file.read_text())))
