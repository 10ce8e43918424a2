"""One life of a worker process: started, watched, and ended, with the cause of its death."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mli.config.settings import LimitSettings
from mli.core.isolation.environment import child_environment
from mli.core.isolation.isolator import NO_ISOLATION, Isolation, Isolator
from mli.core.isolation.memory import ControlKind, OutOfMemory, WatchdogOnly
from mli.core.isolation.view import worker_view
from mli.core.preparing import model_bytes
from mli.core.wire import Failed, Finished, Go, Heartbeat, Ready, Start, Trying, Warm, Wire, WireMessage
from mli.errors import MliError, StopError
from mli.types import Record

log = logging.getLogger(__name__)

POLL_S = 0.5
LOADING_POLL_S = 0.1
"""A model that is being loaded can take gigabytes in a second."""
SILENCE_S = 5.0
"""A work loop that sent no heartbeat for so long is stuck (or, while a frame is under way, for frame_timeout)."""
KILL_WAIT_S = 5.0
MEBIBYTE = 1024**2
UNLOADED_BYTES = 128 * MEBIBYTE
LOADED_SHARE = 2.25
"""What a worker takes without a model, and a loaded model for each byte of its file: weights are laid out anew."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker's life ended.

    Attributes:
        source_ended: the source came to its end; nothing is wrong.
        error: what went wrong, None where nothing did.
        permanent: another try cannot help.
        silent: its work loop sent no heartbeat any more.
        timed_out: it was ended because something took too long: a frame, its start, or its work loop.
        out_of_memory: it was ended because it, or the whole device, had no memory left.
        suspect: position of the frame that was worked on alone when the worker died of its own work.
    """

    source_ended: bool = False
    error: MliError | None = None
    permanent: bool = False
    silent: bool = False
    timed_out: bool = False
    out_of_memory: bool = False
    suspect: str | None = None


class WorkerProcess:
    """Starts a worker and reads from it until it ends. ``run`` belongs to one thread; ``stop`` to any.

    Args:
        on_message: gets ``Warm``, ``Ready`` and every ``Record``, in order.
        isolator: of the core; None starts the worker without a container, held by the watchdog alone.

    Attributes:
        isolation: how it was started.
        memory_control: what holds its memory.

    Raises:
        StopError: while starting: the pipeline, or this device, wants a container, and none can be had.
    """

    def __init__(
        self,
        start: Start,
        on_message: Callable[[Warm | Ready | Record], None],
        isolator: Isolator | None = None,
    ) -> None:
        self._start = start
        self._on_message = on_message
        self._limits: LimitSettings = start.settings.limits
        plain = isolator is None
        isolator = isolator or Isolator(memory=WatchdogOnly("nobody asked for more"))
        self.isolation: Isolation = NO_ISOLATION if plain else isolator.resolve(start.settings.isolation)
        self.memory_control: ControlKind = isolator.memory_control
        ours, theirs = socket.socketpair()
        self.wire = Wire(ours)
        arguments = [str(theirs.fileno()), str(self.isolation.parent_pid)]
        try:
            self._process = isolator.launch(
                [sys.executable, "-P", "-m", "mli.core.worker", *arguments],
                isolation=self.isolation,
                name=start.settings.name,
                memory_bytes=self._limits.memory_bytes,
                environment=child_environment(),
                view=worker_view(start.settings, start.model),
                pass_fds=[theirs.fileno()],
            )
        except BaseException:
            self.wire.close()
            raise
        finally:
            theirs.close()
        self._out_of_memory: OutOfMemory | None = None
        self._last_lines: deque[str] = deque(maxlen=20)
        self._stderr = threading.Thread(target=self._read_stderr, daemon=True)
        self._stderr.start()
        self._started_at = self._heard_at = time.monotonic()
        self._warm = self._gone = self._ready = False
        self._trying: str | None = None
        self.oldest_frame_s = 0.0
        self.resident_bytes = 0

    @property
    def pid(self) -> int:
        """The worker's process id, as this system counts."""
        return self._process.pid

    def run(self, go: Go | None) -> Death:
        """Serve the worker until its life ends, whatever ends it. It is gone when this returns.

        Args:
            go: sent at once; None leaves that to ``go``.
        """
        try:
            self.wire.send(self._start)
            if go is not None:
                self.go(go)
            return self._read_until_end()
        except (OSError, ValueError, TypeError, KeyError) as error:
            return self._died(f"its connection broke: {error}")
        finally:
            self.end()

    def go(self, go: Go) -> None:
        """Let it open its source and work; any thread, once.

        Raises:
            OSError: it is gone.
        """
        self._started_at = time.monotonic()
        self._gone = True
        self.wire.send(go)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def _read_until_end(self) -> Death:
        while True:
            try:
                message = self.wire.receive(POLL_S if self._ready else LOADING_POLL_S)
            except TimeoutError:
                message = None
                if self._process.poll() is not None:
                    with contextlib.suppress(TimeoutError):  # one in a container may hold its end a moment longer
                        message = self.wire.receive(0.01)
                elif (death := self._overdue() or self._too_large()) is not None:
                    return death
                else:
                    continue
            if message is None:
                return self._died()
            death = self._take(message)
            if death is not None:
                return death

    def _take(self, message: WireMessage) -> Death | None:
        self._heard_at = time.monotonic()
        match message:
            case Record():
                if message.position == self._trying:
                    self._trying = None
                self._on_message(message)
            case Trying():
                self._trying = message.position
            case Heartbeat():
                self.oldest_frame_s = float(message.oldest_frame_s)
                return self._overdue() or self._too_large()
            case Warm() | Ready():
                # Looked at first: what a model takes when it is loaded is no passing need of a frame.
                if (death := self._too_large()) is not None:
                    return death
                self._warm = True
                self._ready = isinstance(message, Ready)
                self._on_message(message)
            case Finished():
                return Death(source_ended=message.source_ended)
            case Failed():
                fields = dict(message.error)
                what = fields.pop("what") or "the worker failed"
                # Once frames have run, a failure may be one frame's; before, it is the model's or the settings'.
                permanent = message.permanent and not self._ready
                return Death(error=StopError(what, **fields), permanent=permanent, suspect=self._trying)
            case _:
                raise ValueError(f"a worker does not send {type(message).__name__}")
        return None

    def _overdue(self) -> Death | None:
        now = time.monotonic()
        if not self._ready:
            stands_by = self._warm and not self._gone
            if stands_by or now - self._started_at <= self._limits.start_timeout_s:
                return None
            what = "it did not open its source" if self._warm else "it did not load its model"
            return self._hung(what, "start_timeout", self._limits.start_timeout_s)
        silence = now - self._heard_at
        is_heard = silence <= SILENCE_S  # a stopped worker is silent, also when it was stopped in a frame
        if is_heard and self.oldest_frame_s and self.oldest_frame_s + silence > self._limits.frame_timeout_s:
            return self._hung("a frame took too long", "frame_timeout", self._limits.frame_timeout_s)
        if silence > max(SILENCE_S, self._limits.frame_timeout_s):
            return self._hung("its work loop is silent", "frame_timeout", self._limits.frame_timeout_s, silent=True)
        return None

    def _hung(self, what: str, limit: str, seconds: float, *, silent: bool = False) -> Death:
        self.kill()
        return Death(
            error=StopError(
                f"the worker was ended: {what} (limit {seconds:g} s)",
                remedy=f"raise limits.{limit} of the pipeline, or take a smaller model",
            ),
            silent=silent,
            timed_out=True,
            suspect=self._trying,
        )

    def _too_large(self) -> Death | None:
        resident = self._process.resident_bytes()
        if resident == 0:
            return None  # it is gone; the socket will tell
        self.resident_bytes = resident
        if resident <= self._limits.memory_bytes:
            return None
        self.kill()
        return self._used_too_much(f"{_megabytes(resident)} MB", need_bytes=resident * 5 // 4)

    def _used_too_much(self, got: str, *, need_bytes: int) -> Death:
        if not self._ready:  # it was ended while it loaded, and had not yet taken what it needs
            need_bytes = max(need_bytes, UNLOADED_BYTES + round(model_bytes(self._start.model) * LOADED_SHARE))
        need = f"{_megabytes(need_bytes)}MB"
        return Death(
            error=StopError(
                "the worker was ended: it used more memory than its pipeline allows",
                expected=f"at most {_megabytes(self._limits.memory_bytes)} MB (limits.memory)",
                got=got,
                remedy=f"set `limits: {{memory: {need}}}` for this pipeline (`mli run … --memory {need}`), "
                "or take a smaller model",
            ),
            permanent=not self._ready,  # the same model takes the same memory again
            out_of_memory=True,
            suspect=self._trying,
        )

    def _ended_by_kernel(self, ended: OutOfMemory) -> Death:
        used = max(ended.used_bytes, self.resident_bytes)
        if ended.own_fault:
            got = f"{_megabytes(used)} MB, and it asked for more ({self.memory_control} stopped it)"
            return self._used_too_much(got, need_bytes=used * 3 // 2)
        return Death(
            error=StopError(
                "the worker was ended by the system, which had no memory left",
                got=f"{_megabytes(used)} MB of the {_megabytes(self._limits.memory_bytes)} MB of its limits.memory",
                remedy="see what else takes memory on this device (its kernel's log says who was ended, and why), "
                "or take a smaller model",
            ),
            out_of_memory=True,
        )

    def _died(self, how: str | None = None) -> Death:
        self.end()
        if self._out_of_memory is not None:
            return self._ended_by_kernel(self._out_of_memory)
        code = self._process.returncode or 0
        if how is None:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = self._last_lines[-1] if self._last_lines else None
        # Whoever is killed from outside is not to blame for it.
        from_outside = -code in (signal.SIGKILL, signal.SIGTERM)
        remedy = "see who ended it: the system's log (dmesg, journalctl) says so where it was the system"
        if not from_outside:
            remedy = "try the model on a workstation (mli model verify); this pipeline's log has its last frames"
        error = StopError(f"the worker died: {how}", got=last, remedy=remedy)
        return Death(error=error, suspect=None if from_outside else self._trying)

    def end(self) -> None:
        """Whatever it still does, it is gone after this."""
        self.wire.close()
        try:
            self._process.wait(KILL_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_WAIT_S)
        self._stderr.join(KILL_WAIT_S)
        self._out_of_memory = self._out_of_memory or self._process.out_of_memory()
        self._process.close()

    def _read_stderr(self) -> None:
        with self._process.stderr as stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip()[:500]
                self._last_lines.append(line)
                level = logging.WARNING if line.startswith(("WARNING", "ERROR")) else logging.DEBUG
                log.log(level, "worker %d: %s", self.pid, line)


def _megabytes(size_bytes: int) -> str:
    return str(math.ceil(size_bytes / MEBIBYTE))
