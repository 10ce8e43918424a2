"""Does what a page says, line by line, as a person at a shell would, and stops at the first line that fails."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.fixtures.brokers import wait_until
from tests.fixtures.mli_process import kill_group

from rehearsal.little_aws import LittleAws
from rehearsal.page import Told

_LONGEST_S = 240.0
_SHOWN_PREDICTIONS = 3
_VARIABLES = ".variables"
_ASSIGNED = re.compile(r"^([A-Z]\w*)=\$\(")
_PUSHED = re.compile(r"s3://([^/\s]+)/\S*?([0-9a-f]{64})/\S+")
HOME = "/var/lib/mli"
"""The device's folder, as the page names it."""

Kind = Literal["run", "start", "watch", "await"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one line.

    Attributes:
        command: as the page has it.
        ran: what was run instead; the same where nothing had to be put in its place.
        output: standard output and error, as they came.
        failed: why it is no success; empty where it is one.
    """

    section: str
    step: str
    command: str
    ran: str
    seconds: float
    output: str
    failed: str = ""


class Unexpected(Exception):
    """All lines ran, and yet something is not as it should be."""


class Enough(Exception):
    """As many lines were run as were asked for."""


class Failed(Exception):
    """A line did not do what the page promises."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.failed)


@dataclass
class Walker:
    """Runs lines in a folder; enter it, so that what was started ends.

    Args:
        tell: is told of each line before and after it ran.
        most: lines that are run; then it is enough. None runs all.

    Attributes:
        places: folders of the device, as the page names them, and where they are here.
        values: what stands for what on the page: names in capitals, and hosts.
    """

    folder: Path
    aws: LittleAws
    tell: Callable[[Outcome | Told], None]
    most: int | None = None
    device: Path = field(init=False)
    outcomes: list[Outcome] = field(default_factory=list)
    places: dict[str, Path] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    _started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _variables: list[str] = field(default_factory=list)
    _pushed: re.Match[str] | None = None

    def __post_init__(self) -> None:
        self.device = self.folder / "device"
        self.device.mkdir()
        self.places[HOME] = self.device
        (self.folder / _VARIABLES).touch()

    def __enter__(self) -> Walker:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started.values():
            kill_group(process)  # type: ignore[arg-type]

    def do(self, told: Told) -> Outcome | None:
        """One line, or one file to write.

        Raises:
            Failed: it is no success.
            Enough: no more is asked for.
        """
        if self.most is not None and len(self.outcomes) >= self.most:
            raise Enough
        if told.file:
            (self.folder / told.file).write_text(self._filled(told.text))
            return None
        self.tell(told)
        line = self.replaced(told.command)
        began = time.monotonic()
        output, failed = self._run(line)
        outcome = Outcome(told.section, told.step, told.command, line, time.monotonic() - began, output, failed)
        self.outcomes.append(outcome)
        self.tell(outcome)
        if failed:
            raise Failed(outcome)
        found = _PUSHED.search(output) if "model push" in line else None
        self._pushed = found or self._pushed
        return outcome

    def note(self, step: str, command: str, act: Callable[[], str | None]) -> None:
        """Something that no line of shell does, but the device.

        Raises:
            Failed: it did not work.
        """
        told = Told("", step, command)
        self.tell(told)
        began = time.monotonic()
        try:
            output, failed = act() or "", ""
        except (subprocess.SubprocessError, OSError, AssertionError) as error:
            output, failed = str(getattr(error, "output", "") or ""), f"{type(error).__name__}: {error}"
        outcome = Outcome("", step, command, command, time.monotonic() - began, output, failed)
        self.outcomes.append(outcome)
        self.tell(outcome)
        if failed:
            raise Failed(outcome)

    def stop(self, root: Path) -> str:
        """End the core of a folder as its service would; why that was no orderly end, else empty."""
        process = self._started.pop(str(root))
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        return "" if code == 0 else f"the core of {root.name} ended with {code}"

    # --- what is put in the place of what -----------------------------------------------------------------------

    def replaced(self, line: str) -> str:
        """What can be run here; docs/rehearsal.md says each of these."""
        line = self._placed(self._filled(line.replace("sudo ", "")))
        if line.startswith("mli device install") and line.endswith("--dry-run"):
            return f"{line} || [ $? = 1 ]"  # there is no systemd, which it says
        line = line.replace("mli device install", "mli core start")
        line = re.sub(r"^curl -so (\S+) \S+AmazonRootCA1.pem$", rf"cp {self.aws.ca} \1", line)
        if line.startswith("mli device cert"):
            line += f" --ca {self.aws.ca}"
        if re.match(r"mli stack (deploy|destroy)\b", line):
            line += " --yes"
        return line

    def _placed(self, line: str) -> str:
        names = "|".join(map(re.escape, self.places))
        return re.sub(rf"(?<![\w./-])({names})\b", lambda found: str(self.places[found[1]]), line)

    def _filled(self, text: str) -> str:
        for name in sorted(self.values, key=len, reverse=True):
            text = text.replace(name, self.values[name])
        if self._pushed is None:
            return text
        return text.replace("s3://BUCKET", f"s3://{self._pushed[1]}").replace("SHA256", self._pushed[2])

    # --- running ------------------------------------------------------------------------------------------------

    def _run(self, line: str) -> tuple[str, str]:
        """Output, and why it failed."""
        if line.startswith("mli core start"):
            return self._start(line)
        if line.startswith("mli watch"):
            return self._watch(line)
        if line.startswith("mli core status"):
            return self._await(line, "connected")
        if line.startswith("mli doctor"):
            return self._ended(self._shell(line, self._device_environment(self.device)))
        if assigned := _ASSIGNED.match(line):
            self._variables.append(assigned[1])
        keep = f"declare -p {' '.join(self._variables)} > {_VARIABLES}" if self._variables else ":"
        script = f". ./{_VARIABLES}\n{line}\n{keep}\n"
        return self._ended(self._shell(script))

    def _ended(self, done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
        return done.stdout, "" if done.returncode == 0 else f"it ended with {done.returncode}"

    def _shell(self, script: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=environment or self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LONGEST_S,
        )

    def _environment(self) -> dict[str, str]:
        here = str(Path(sys.executable).parent)
        path = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
        return {**self.aws.environment(), "PATH": path, "NO_COLOR": "1", "COLUMNS": "160", "HOME": str(self.folder)}

    def _device_environment(self, root: Path) -> dict[str, str]:
        """A device has nobody's keys: it gets its own by its certificate."""
        keys = {name: value for name, value in self._environment().items() if not name.startswith("AWS_")}
        return {**keys, "HOME": str(root)}

    def _start(self, line: str) -> tuple[str, str]:
        """A core, which stays."""
        words = shlex.split(line)
        root = Path(words[words.index("--root") + 1])
        with (self.folder / "core.log").open("ab") as log:
            self._started[str(root)] = subprocess.Popen(
                words,
                cwd=self.folder,
                env=self._device_environment(root),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return "", ""

    def _watch(self, line: str) -> tuple[str, str]:
        """Until it has shown some predictions, then Ctrl-C; what it was to write to a file is there then."""
        command, _, kept = line.partition(" > ")
        process = subprocess.Popen(
            shlex.split(command),
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        timer = threading.Timer(_LONGEST_S, process.kill)
        timer.start()
        shown: list[str] = []
        try:
            for text in process.stdout:
                shown.append(text)
                if len(shown) > _SHOWN_PREDICTIONS:  # the first line says what is watched
                    break
            process.send_signal(signal.SIGINT)
            shown += process.stdout.readlines()
            code = process.wait()
        finally:
            timer.cancel()
            kill_group(process)
        messages = [text for text in shown if text.startswith("{")]
        if kept:
            (self.folder / kept).write_text("".join(messages))
        predictions = sum("prediction" in text for text in messages) if kept else sum("%" in text for text in shown)
        failed = (
            "" if predictions >= _SHOWN_PREDICTIONS and code == 130 else f"{predictions} predictions, exit {code}"
        )
        return "".join(shown), failed

    def _await(self, line: str, word: str) -> tuple[str, str]:
        """Again and again, until it says the word."""
        last: list[subprocess.CompletedProcess[str]] = []

        def says_it() -> bool:
            last[:] = [self._shell(line)]
            return last[0].returncode == 0 and f", {word}" in last[0].stdout

        try:
            wait_until(says_it, f"{word!r} in the output")
        except AssertionError as error:
            return last[0].stdout, str(error)
        return last[0].stdout, ""


def lines(section: str, step: str, commands: Sequence[str]) -> list[Told]:
    """What the page says in words, or leaves to the reader."""
    return [Told(section, step, command) for command in commands]
