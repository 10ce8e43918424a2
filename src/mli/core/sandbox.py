"""One job over bytes that nobody has checked, in a child process that can hurt nobody.

The child has no network and starts no other program (where the kernel can refuse it, see ``Finished.no_network``);
memory, time and the size of its files are bounded. It is gone when :func:`run` returns, however that returns, and
ends with this process. In a container it sees the files that its job is about, and no others; without one it may do
what this user may do with files.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
import typing
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from mli import errors
from mli.config.settings import IsolationMode
from mli.core.isolation.environment import child_environment
from mli.core.isolation.isolator import NO_ISOLATION, Isolator
from mli.core.isolation.memory import WatchdogOnly
from mli.core.isolation.view import View, package_paths
from mli.errors import MliError, ModelRefused, RetryError, StopError
from mli.frozen_json import from_json, to_json

log = logging.getLogger(__name__)

Q = TypeVar("Q")
R = TypeVar("R")
Note = Callable[[str], None]
Job = Callable[[Q, Note], R]
"""A function of a module, ``(request, note) -> result``; request and result are frozen dataclasses, by its hints."""

MEBIBYTE = 1024 * 1024
POLL_S = 0.05
END_WAIT_S = 2.0
DATA_SPARE_BYTES = 256 * MEBIBYTE
"""Asked for but never used: the kernel's own bound on private memory is so much above what may be resident."""
ANSWER_LIMIT_BYTES = 16 * MEBIBYTE
NOTE_LENGTH = 500
_CHUNK_BYTES = 65_536
_LAST_LINES = 20
_FIELDS = ("where", "expected", "got", "remedy")


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Bounds of one job.

    Attributes:
        memory_bytes: resident memory.
        time_s: from the child's start to its answer; so much CPU time a core as well.
        file_bytes: of each file that it writes.
        memory_remedy, time_remedy: what a user can do where the bound is too tight; ``{need}`` is filled in, in MB.
    """

    memory_bytes: int = 500 * MEBIBYTE
    time_s: float = 60.0
    file_bytes: int = 4096 * MEBIBYTE
    memory_remedy: str | None = None
    time_remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Finished(Generic[R]):
    """A job that was done.

    Attributes:
        no_network: the kernel refused it the network and other programs; False where it cannot.
        peak_bytes: the most resident memory that was seen.
        contained: it was done in a container.
    """

    value: R
    no_network: bool
    duration_s: float
    peak_bytes: int
    contained: bool = False


class JobCancelled(Exception):
    """Nobody wants the job's answer any more; nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a job is done.

    Attributes:
        isolator: of the core; None uses no container.
        view: the files that a contained job is about.
        mode: ``auto`` takes a container where one can be had.
    """

    isolator: Isolator | None = None
    view: View = View()
    mode: IsolationMode = "auto"


def run(
    job: Job[Q, R],
    request: Q,
    limits: SandboxLimits,
    *,
    title: str,
    on_note: Note = lambda _: None,
    cell: Cell | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Finished[R]:
    """Do a job in a child process.

    Args:
        job: found again by its name in the child.
        title: what is being done, for messages: "the import of x.zip".
        on_note: gets the job's notes while it runs; they are text of the child's, printable and bounded.
        cell: None is without a container.
        cancelled: asked all the time; the child is ended when nobody wants its answer any more.

    Raises:
        JobCancelled: it is not wanted any more.
        MliError: the job's own, in its own class.
        ModelRefused: the job crashed, or went over a bound.
        StopError: somebody else killed the child, or a container is demanded and none can be had.
        RetryError: the disk is full.
    """
    child = _Child(limits, title, on_note, cell or Cell(), job.__module__, cancelled)
    try:
        answer = child.ask(job, request)
    finally:
        child.end()
    try:
        value = from_json(typing.get_type_hints(job)["return"], answer)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise child.failed(f"its answer makes no sense: {one_line(str(error))}") from error
    finished = Finished(
        value, child.no_network, time.monotonic() - child.started_at, child.peak_bytes, child.contained
    )
    log.info(
        "%s took %.1f s and %.0f MB%s",
        title,
        finished.duration_s,
        finished.peak_bytes / MEBIBYTE,
        "" if finished.no_network else "; this system cannot refuse the network to a process",
    )
    return finished


class _Child:
    """One life of the child."""

    def __init__(
        self,
        limits: SandboxLimits,
        title: str,
        on_note: Note,
        cell: Cell,
        module: str,
        cancelled: Callable[[], bool],
    ) -> None:
        self._cancelled = cancelled
        self._limits = limits
        self._title = title
        self._on_note = on_note
        self.no_network = False
        self.peak_bytes = 0
        self.started_at = time.monotonic()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        isolator = cell.isolator or Isolator(memory=WatchdogOnly("nobody asked for more"))
        isolation = NO_ISOLATION if cell.isolator is None else isolator.resolve(cell.mode)
        self.contained = isolation.kind == "container"
        view = cell.view
        packages = package_paths(module.partition(".")[0])
        self._answers, theirs = os.pipe()
        try:
            self._process = isolator.launch(
                [sys.executable, "-P", "-m", "mli.core.sandbox_child", str(theirs), str(isolation.parent_pid)],
                isolation=isolation,
                name="job",
                memory_bytes=limits.memory_bytes,
                environment=child_environment(),
                view=replace(view, readable=(*view.readable, *packages)),
                pass_fds=[theirs],
                stdin=subprocess.PIPE,
                new_session=True,  # Ctrl-C comes to this process, which decides; and no terminal of its own
            )
        except BaseException:
            os.close(self._answers)
            raise
        finally:
            os.close(theirs)

    def ask(self, job: Job[Q, R], request: Q) -> Any:
        """Send the job, and give its answer as JSON values."""
        limits = {
            "data_bytes": self._limits.memory_bytes + DATA_SPARE_BYTES,
            "cpu_s": self._limits.time_s * (os.cpu_count() or 1),
            "file_bytes": self._limits.file_bytes,
        }
        name = f"{job.__module__}:{job.__name__}"
        line = json.dumps({"limits": limits, "job": name, "request": to_json(request)}).encode() + b"\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            log.debug("the child ended before it was asked")  # its exit code says more
        return self._read_answer()

    def end(self) -> None:
        """Whatever it still does, it is gone after this."""
        self._process.close()
        for stream in (self._process.stdin, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what it never read
                    stream.close()
        os.close(self._answers)

    def failed(self, how: str) -> ModelRefused:
        """The error for a child that did not do its job, through its own fault."""
        for text in self._last_lines:
            log.info("%s: %s", self._title, text)
        return ModelRefused(
            f"{self._title} failed: {how}",
            got=self._last_lines[-1] if self._last_lines else None,
            remedy="try the archive on a workstation (mli model verify); if it fails there too, make it anew",
        )

    # --- what it says ----------------------------------------------------------------------------------------

    def _read_answer(self) -> Any:
        answers, errors_ = bytearray(), bytearray()
        received = 0
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ, answers)
            selector.register(self._process.stderr.fileno(), selectors.EVENT_READ, errors_)
            while self._answers in selector.get_map():
                for key, _ in selector.select(POLL_S):
                    data = os.read(key.fd, _CHUNK_BYTES)
                    if not data:
                        selector.unregister(key.fd)
                    received += len(data)
                    key.data.extend(data)
                self._keep_lines(errors_)
                for line in _take_lines(answers):
                    message = self._message(line)
                    if "result" in message:
                        return message["result"]
                    self._take(message)
                if received > ANSWER_LIMIT_BYTES:
                    raise self.failed(f"it says more than {ANSWER_LIMIT_BYTES // MEBIBYTE} MB")
                self._check_bounds()
            self._read_rest(errors_)
        raise self._died()

    def _message(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise self.failed("what it says is no message")
        return message

    def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"no_network": bool(no_network)}:
                self.no_network = no_network
            case {"note": str(text)}:
                self._on_note(one_line(text))
            case {"error": str(kind), "fields": dict(fields)}:
                raise _rebuilt(kind, fields) or self.failed("its error is none that mli knows")
            case {"out_of": "memory"}:
                raise self._too_large(self._process.resident_bytes() or self.peak_bytes)
            case {"out_of": "disk"}:
                raise RetryError(
                    f"{self._title} failed: no space left on the disk", remedy="make room on it, and start again"
                )
            case {"out_of": "file_size"}:
                allowed = self._limits.file_bytes // MEBIBYTE
                raise ModelRefused(
                    f"{self._title} was ended: it wrote too large a file", expected=f"at most {allowed} MB a file"
                )
            case {"crash": str(text)}:
                raise self.failed(one_line(text))
            case _:
                raise self.failed("what it says is no message")

    def _keep_lines(self, buffer: bytearray) -> None:
        for line in _take_lines(buffer):
            if text := one_line(line.decode(errors="replace")):
                self._last_lines.append(text)
        if len(buffer) > _CHUNK_BYTES:
            buffer.clear()

    def _read_rest(self, buffer: bytearray) -> None:
        """Wait for its end, which must be near, and take its last words."""
        try:
            self._process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            raise self.failed("it stopped answering") from None
        os.set_blocking(self._process.stderr.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while (data := os.read(self._process.stderr.fileno(), _CHUNK_BYTES)) and len(buffer) < _CHUNK_BYTES:
                buffer.extend(data)
        buffer.extend(b"\n")
        self._keep_lines(buffer)

    # --- its bounds ------------------------------------------------------------------------------------------

    def _check_bounds(self) -> None:
        if self._cancelled():
            raise JobCancelled(f"{self._title} is not wanted any more")
        resident = self._process.resident_bytes()
        self.peak_bytes = max(self.peak_bytes, resident)
        if resident > self._limits.memory_bytes:
            raise self._too_large(resident)
        passed_s = time.monotonic() - self.started_at
        if passed_s > self._limits.time_s:
            raise self._too_late(f"{passed_s:.0f} s, and it was not done")

    def _too_large(self, resident: int) -> ModelRefused:
        allowed = self._limits.memory_bytes
        used = f"{resident / MEBIBYTE:.0f} MB" if resident > allowed else "it asked for more than that at once"
        need = f"{max(resident, allowed) * 1.5 / MEBIBYTE:.0f}"
        return ModelRefused(
            f"{self._title} was ended: it needs more memory than it is allowed",
            expected=f"at most {allowed / MEBIBYTE:.0f} MB",
            got=used,
            remedy=self._limits.memory_remedy and self._limits.memory_remedy.format(need=need),
        )

    def _too_late(self, used: str) -> ModelRefused:
        return ModelRefused(
            f"{self._title} was ended: it took too long",
            expected=f"at most {self._limits.time_s:g} s",
            got=used,
            remedy=self._limits.time_remedy,
        )

    def _died(self) -> MliError:
        code = self._process.returncode or 0
        ended = self._process.out_of_memory()
        if ended is not None and ended.own_fault:
            return self._too_large(ended.used_bytes)
        if code == -signal.SIGXCPU:
            return self._too_late(f"{self._limits.time_s:g} s of CPU time a core, and it was not done")
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            return StopError(
                f"{self._title} was interrupted: somebody killed its process ({signal.Signals(-code).name})",
                got=f"it used {self.peak_bytes / MEBIBYTE:.0f} of {self._limits.memory_bytes / MEBIBYTE:.0f} MB",
                remedy="start again; where the system killed it for want of memory, its log (dmesg) says so",
            )
        if any("bad_alloc" in line for line in self._last_lines):
            return self._too_large(0)
        how = f"its process was ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return self.failed(how)


def _take_lines(buffer: bytearray) -> list[bytes]:
    """Whole lines, taken out of ``buffer``."""
    if b"\n" not in buffer:
        return []
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest
    return lines


def one_line(text: str) -> str:
    """A child's text, safe on a terminal and of bounded length."""
    plain = "".join(c if c.isprintable() else " " for c in text[: NOTE_LENGTH + 1]).rstrip()
    return plain if len(plain) <= NOTE_LENGTH else plain[: NOTE_LENGTH - 1] + "…"


def _rebuilt(kind: str, fields: dict[str, Any]) -> MliError | None:
    """The job's error in its own class; None where there is no such class."""
    found = getattr(errors, kind, None)
    texts = {name: text for name, text in fields.items() if isinstance(text, str)}
    if not (isinstance(found, type) and issubclass(found, MliError)) or "what" not in texts:
        return None
    return found(texts.pop("what"), **{name: texts[name] for name in _FIELDS if name in texts})
