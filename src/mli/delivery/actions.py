"""The device's named commands, run when a rule fires: at most once, soon or never, one at a time per command.

What the camera saw reaches a command through its environment (MLI_LABEL and the like), never through its arguments:
no ``{label}`` is filled in. Text from outside that becomes an argument becomes an option, a path or, one ``sh -c``
further, a program; the device's owner alone writes the argument list.
"""

from __future__ import annotations

import logging
import os
import pwd
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol

from mli.delivery.command_process import CommandResult, run_command, tied_to_parent
from mli.delivery.one_line import one_line
from mli.errors import MliError

if TYPE_CHECKING:
    from mli.config.settings import CommandSettings
    from mli.types import Firing

WAITING_PER_COMMAND = 16
_UNRECORDED_DROPS = 10_000
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ActionState = Literal["ran", "failed", "timed_out", "dropped"]


class StoredFiring(Protocol):
    """A firing as the spool keeps it."""

    @property
    def id(self) -> int:
        """The spool's number of it."""

    @property
    def firing(self) -> Firing:
        """What the rule asks for."""


class FiringStore(Protocol):
    """Where firings are remembered. Called from several threads."""

    def start_firing(self, firing_id: int, /) -> bool:
        """Commit that the firing is used up; only then may its command start. False: it was used up before."""

    def end_firing(self, firing_id: int, state: ActionState, detail: str, /) -> None:
        """Keep how it ended; also for one that was never started."""


@dataclass(frozen=True, slots=True)
class ActionOutcome:
    """What became of one firing.

    Attributes:
        state: ``ran`` is exit code 0.
        detail: why it was dropped or failed; one line.
        age_s: from the frame's capture to the moment when the command started or was dropped.
        duration_s: how long the command ran, 0 where it did not.
    """

    firing: Firing
    state: ActionState
    detail: str
    age_s: float
    duration_s: float = 0.0


class ActionRunner:
    """Runs commands for firings. Each command has a thread and a short queue of its own.

    Args:
        store: is told, and has committed, that a firing is used up before its command starts: a crash in between
            loses the command, and never runs it twice.
        commands: the device's commands by name.
        clock: Unix time, seconds.
        on_outcome: called with each outcome, from the thread that produced it.
        max_waiting: firings that wait for one command; the oldest is dropped for a newer one.
    """

    def __init__(
        self,
        store: FiringStore,
        commands: Mapping[str, CommandSettings],
        *,
        clock: Callable[[], float] = time.time,
        log: logging.Logger | None = None,
        on_outcome: Callable[[ActionOutcome], None] | None = None,
        max_waiting: int = WAITING_PER_COMMAND,
    ) -> None:
        self._store = store
        self._clock = clock
        self._log = log or logging.getLogger(__name__)
        self._on_outcome = on_outcome
        self._counts: Counter[ActionState] = Counter()
        self._held: set[int] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._drops = _Drops(self)
        self._lanes = {name: _Lane(self, name, command, max_waiting) for name, command in commands.items()}
        if commands:
            tied_to_parent()  # tried out now, so that the first action is not later than the others
        for thread in (self._drops, *self._lanes.values()):
            thread.start()

    def submit(self, firings: Sequence[StoredFiring]) -> None:
        """Take firings in frame order and return at once; nothing here waits for a command or for the disk.

        One that is already held is passed over, so the caller may hand over all that are pending each time.
        """
        for stored in firings:
            with self._lock:
                if stored.id in self._held:
                    continue
                self._held.add(stored.id)
            name = stored.firing.command
            if name not in self._lanes:
                self._drops.put(stored, f"this device's own file names no command {one_line(name)!r}")
                continue
            pushed_out = self._lanes[name].put(stored)
            if pushed_out is not None:
                self._drops.put(pushed_out, "newer firings filled the command's queue")

    def counts(self) -> dict[ActionState, int]:
        """How many firings ended in each state since this runner was made."""
        with self._lock:
            return {state: self._counts[state] for state in ("ran", "failed", "timed_out", "dropped")}

    def stop(self, timeout_s: float) -> None:
        """Start nothing more; let running commands end within ``timeout_s``, then end them.

        Waiting firings stay in the store, not started; the next start runs those that are still young enough.
        """
        if self._stopped:
            return
        self._stopped = True
        deadline = time.monotonic() + timeout_s
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.finish()
        for lane in lanes:
            lane.join(max(0.0, deadline - time.monotonic()))
        for lane in lanes:
            lane.end_command()
        for lane in lanes:
            lane.join()
            lane.close()
        self._drops.finish()
        self._drops.join()

    def _refuse_reason(self, stored: StoredFiring, waited_s: float) -> str | None:
        """Why a firing must not start now. Time waited is not read off the clock: one set back hides no age."""
        firing = stored.firing
        age_s = self._clock() - firing.captured_at
        if max(age_s, waited_s) > firing.max_age_s:
            return f"{max(age_s, waited_s):.2f} s old, the limit is {firing.max_age_s:g} s"
        if age_s < -firing.max_age_s:
            return f"its frame is {-age_s:.2f} s in the future: the clock was set, so its age is unknown"
        return None

    def _end(
        self, stored: StoredFiring, state: ActionState, detail: str, result: CommandResult | None = None
    ) -> None:
        """Count, log and keep how a firing ended."""
        duration_s = result.duration_s if result else 0.0
        age_s = self._clock() - stored.firing.captured_at - duration_s
        outcome = ActionOutcome(stored.firing, state, one_line(detail), age_s, duration_s)
        self._count(state)
        self._log.log(logging.INFO if state == "ran" else logging.WARNING, "%s", _log_line(outcome))
        self._at_edge(lambda: self._store.end_firing(stored.id, state, outcome.detail), "its outcome cannot be kept")
        if self._on_outcome is not None:
            callback = self._on_outcome
            self._at_edge(lambda: callback(outcome), "its outcome cannot be told")

    def _count(self, state: ActionState) -> None:
        with self._lock:
            self._counts[state] += 1

    def _release(self, stored: StoredFiring) -> None:
        with self._lock:
            self._held.discard(stored.id)

    def _at_edge(self, call: Callable[[], object], problem: str) -> None:
        """Call out of a thread that must live on; a failure is logged with its cause."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 a thread's edge
            self._log.error(
                "action: %s: %s", problem, one_line(str(error), 500), exc_info=not isinstance(error, MliError)
            )


class _Lane(threading.Thread):
    """One command's queue and thread."""

    def __init__(self, runner: ActionRunner, name: str, command: CommandSettings, max_waiting: int) -> None:
        super().__init__(name=f"mli-action-{name}", daemon=True)
        self._runner = runner
        self._command = command
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[float, StoredFiring]] = deque()
        self._changed = threading.Condition()
        self._finishing = False
        self._stop_read_fd, self._stop_write_fd = os.pipe()

    def put(self, stored: StoredFiring) -> StoredFiring | None:
        """Queue a firing; returns the one that had to leave for it."""
        with self._changed:
            self._waiting.append((time.monotonic(), stored))
            self._changed.notify()
            return self._waiting.popleft()[1] if len(self._waiting) > self._max_waiting else None

    def finish(self) -> None:
        with self._changed:
            self._finishing = True
            self._changed.notify()

    def end_command(self) -> None:
        os.write(self._stop_write_fd, b"x")

    def close(self) -> None:
        os.close(self._stop_read_fd)
        os.close(self._stop_write_fd)

    def run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._finishing)
                if self._finishing:
                    return
                since, stored = self._waiting.popleft()
            self._runner._at_edge(lambda s=stored, t=since: self._act(s, t), "a firing was lost")  # type: ignore[misc]
            self._runner._release(stored)

    def _act(self, stored: StoredFiring, since: float) -> None:
        runner = self._runner
        reason = runner._refuse_reason(stored, time.monotonic() - since)
        if reason is None:
            try:
                if not runner._store.start_firing(stored.id):
                    runner._log.warning("action: firing %d was started before; it is not run again", stored.id)
                    return
            except MliError as error:
                # Without the record a restart would run it again; and it may have been recorded in spite of all.
                runner._end(stored, "dropped", f"its start could not be recorded: {error.what}")
                return
            # The commit waits for a disk, which may be slow: look again.
            reason = runner._refuse_reason(stored, time.monotonic() - since)
        if reason is not None:
            runner._end(stored, "dropped", reason)
            return
        result = run_command(
            self._command.argv,
            environment=_environment(stored.firing),
            timeout_s=self._command.timeout_s,
            stop_fd=self._stop_read_fd,
        )
        runner._end(stored, *_judge(result, self._command.timeout_s), result)


class _Drops(threading.Thread):
    """Keeps the outcome of firings that never got to their command's thread: the disk may make it wait."""

    def __init__(self, runner: ActionRunner) -> None:
        super().__init__(name="mli-action-drops", daemon=True)
        self._runner = runner
        self._waiting: deque[tuple[StoredFiring, str]] = deque()
        self._changed = threading.Condition()
        self._finishing = False

    def put(self, stored: StoredFiring, reason: str) -> None:
        with self._changed:
            if (
                len(self._waiting) < _UNRECORDED_DROPS
            ):  # beyond, it stays in the store and is too old at the next start
                self._waiting.append((stored, reason))
                self._changed.notify()

    def finish(self) -> None:
        with self._changed:
            self._finishing = True
            self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._finishing)
                if not self._waiting:
                    return
                stored, reason = self._waiting.popleft()
            self._runner._end(stored, "dropped", reason)
            self._runner._release(stored)


def _judge(result: CommandResult, timeout_s: float) -> tuple[ActionState, str]:
    said = _last_line(result.stderr)
    if result.end == "not_started":
        return "failed", f"cannot start: {result.error}"
    if result.end == "timed_out":
        return "timed_out", f"ended after its limit of {timeout_s:g} s" + (f": {said}" if said else "")
    if result.end == "stopped":
        return "failed", "ended because mli stops"
    if result.exit_code == 0:
        return "ran", ""
    code = result.exit_code or 0
    how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
    return "failed", how + (f": {said}" if said else "")


def _last_line(output: bytes) -> str:
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _environment(firing: Firing) -> dict[str, str]:
    """All that a command gets to know. NUL cannot be in an environment, whatever a label contains."""
    home = "/"
    with suppress(KeyError):  # a user without an entry, as in some containers
        home = pwd.getpwuid(os.getuid()).pw_dir
    captured_at = datetime.fromtimestamp(firing.captured_at, UTC).isoformat(timespec="milliseconds")
    values = {
        "PATH": _PATH,
        "HOME": home,
        "LANG": "C.UTF-8",
        "MLI_RULE": firing.rule,
        "MLI_LABEL": firing.label,
        "MLI_CONFIDENCE": f"{firing.confidence:.6f}",
        "MLI_IMAGE_NAME": firing.image_name,
        "MLI_CAPTURED_AT": captured_at.replace("+00:00", "Z"),
    }
    return {name: value.replace("\0", "\ufffd") for name, value in values.items()}


def _log_line(outcome: ActionOutcome) -> str:
    firing = outcome.firing
    took = f" in {outcome.duration_s * 1000:.0f} ms" if outcome.duration_s else ""
    return (
        f"action {outcome.state}{took}: rule={one_line(firing.rule)} command={one_line(firing.command)} "
        f'label="{one_line(firing.label)}" confidence={firing.confidence:.4f} age={outcome.age_s * 1000:.0f}ms'
        + (f" ({outcome.detail})" if outcome.detail else "")
    )
