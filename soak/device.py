"""A device under proof: a real core at a real broker, fresh models for it, and what must hold of it at any time."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.fixtures.brokers import wait_until
from tests.fixtures.color_model import LABELS, color_archive, numbered_images
from tests.fixtures.core_process import CoreProcess, Recorder, Witness, check_unbroken, sha256_of, without_repeats

from mli.core.isolation.cgroups import CgroupMemory, find_memory_control
from mli.errors import ArchiveRefused
from mli.models.repository import Repository

IMAGES = 3
HEALTH = {"healthy_after": "100ms", "watch": "60s", "deadline": "60s"}
LEFTOVERS_S = 20.0
"""So long a quiet core may take to clear away what is old, on a busy machine."""
_GROUP = re.compile(r"mli-([0-9]+)-[0-9]+-.+")
_GONE = "ZX"
"""States of a process that is no more (man 5 proc)."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A model that no other round has."""

    path: Path
    sha256: str


class Device:
    """A thing with one pipeline, ``main``; each of its models has labels of its own.

    Args:
        folder: everything lies below it.
        port: of its broker.
        interval: from frame to frame.
        sections: of ``device.yaml``.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        witness: Witness | Recorder,
        thing: str,
        *,
        interval: str = "1h",
        **sections: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.interval = interval
        self.core = CoreProcess(folder, port, witness, thing, **{"health": HEALTH, **sections})
        self.labels: dict[str, tuple[str, ...]] = {}
        self._pids: set[int] = set()
        self._newest = 0
        self._made = 0
        numbered_images(folder / "images", IMAGES)
        (folder / "empty").mkdir(exist_ok=True)

    # --- deployments -----------------------------------------------------------------------------------------

    def make_archive(self) -> Archive:
        """A model that was not there before: it has to be brought, installed and proved."""
        self._made += 1
        return self.make_archive_of(str(self._made))

    def make_archive_of(self, name: str) -> Archive:
        """The same with a name that the caller chooses."""
        labels = tuple(f"{label}-{name}" for label in LABELS)
        path = color_archive(self.folder, f"model-{name}.zip", labels=labels)
        archive = Archive(path, sha256_of(path))
        self.labels[archive.sha256] = labels
        return archive

    def deployment(self, archive: Archive, **pipeline: Any) -> dict[str, Any]:
        """One pipeline with this model.

        Args:
            pipeline: more of its settings.
        """
        source = {"uri": str(self.folder / "images"), "interval": self.interval}
        main = {"model": "m", "source": source, "publish": self._publish(), **pipeline}
        model = {"uri": archive.path.as_uri(), "sha256": archive.sha256}
        return {"models": {"m": model}, "pipelines": {"main": main}}

    @staticmethod
    def _publish() -> dict[str, Any]:
        return {"topic": "mli/predictions/{thing}/{pipeline}", "image_name": True}

    def bad_deployment(self, archive: Archive) -> dict[str, Any]:
        """It passes every check, and its worker cannot work: it is taken back at once."""
        return self.deployment(archive, source={"uri": str(self.folder / "empty"), "once": True})

    # --- the core --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and wait until it answers; it need not be connected. Of the one before it nothing lives then."""
        before = self._newest
        self.core.start(connected=False)
        self.note(self.core.pid)
        if before:
            wait_for_end_of(before)

    def last_words(self) -> str:
        """The end of what it said on standard error."""
        return "\n".join((self.folder / "stderr.txt").read_text(errors="replace").splitlines()[-8:])

    def note(self, pid: int) -> None:
        """A core of this device had this number."""
        self._pids.add(pid)
        self._newest = pid

    def kill(self) -> None:
        """kill -9, also of one that is dead already."""
        self.core.kill()

    def is_alive(self) -> bool:
        """Whether the core runs."""
        try:
            state = Path(f"/proc/{self._newest}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state not in _GONE

    def serving(self) -> str:
        """Digest of the model that works, once one does."""
        found: list[str] = []

        def works() -> bool:
            pipelines = self.core.status()["pipelines"]
            found[:] = [item["model"]["sha256"] for item in pipelines if item["state"] == "running"]
            return bool(found)

        self.core.wait(works, "a pipeline that runs")
        return found[0]

    def pointed_at(self) -> str:
        """Digest of the model that a start would run, as the files say; empty for none."""
        deployments = self.core.root / "deployments"
        try:
            pointer = json.loads((deployments / "pointer.json").read_text())
        except FileNotFoundError:
            return ""
        record = json.loads((deployments / "history" / f"{pointer['current']}.json").read_text())
        return str(record["models"]["m"]["sha256"])

    # --- what must hold --------------------------------------------------------------------------------------

    def check_files(self) -> None:
        """All digests of all installed models, and every page of the spool.

        Raises:
            MliError: a model is not what was installed.
        """
        check_models(self.core.root)
        check_spool(self.core.root)

    def check_leftovers(self) -> None:
        """Nothing is left of what was interrupted, once a deployment went well."""
        try:
            wait_until(lambda: not self.leftovers(), "no leftovers", LEFTOVERS_S)
        except AssertionError as error:
            raise AssertionError(f"left over: {self.leftovers()}") from error

    def leftovers(self) -> list[str]:
        """What a quiet device has no use for."""
        root = self.core.root
        try:
            found = [str(path) for path in root.rglob(".incoming-*")]
            found += [str(path) for path in (root / "downloads").glob("*")]
        except FileNotFoundError as error:  # a folder went while it was looked into
            return [str(error)]
        for folder, most in (("models", 2), ("cache", 2), ("deployments/history", 12)):
            there = [path.name for path in (root / folder).glob("*") if not path.name.startswith(".")]
            found += [f"{folder}: {len(there)}"] if len(there) > most else []
        earlier = self._pids - {self.core.pid}
        found += [str(path) for path in groups_of(earlier)]
        workers = self.core.workers()
        found += [f"{len(workers)} workers"] if len(workers) != 1 else []
        return found

    def check_predictions(self) -> int:
        """Each frame once and with the right model, since the device's first; their number."""
        seen = without_repeats(self.core.seen())
        check_unbroken(seen, self.labels)
        return len(seen)


def wait_for_end_of(pid: int) -> None:
    """Until nothing lives of what a dead core had started."""
    try:
        wait_until(lambda: not list(family_of(pid)), f"the end of what core {pid} had started")
    except AssertionError as error:
        left = [f"{one}: {Path(f'/proc/{one}/cmdline').read_bytes()!r}"[:300] for one in family_of(pid)]
        raise AssertionError(f"{error}: {left}") from error


def check_models(root: Path) -> int:
    """Compare each byte of each installed model with its digest; how many there are.

    Raises:
        MliError: one is not what was installed.
    """
    repository = Repository(root)
    models = repository.list()
    for model in models:
        try:
            repository.load(model.sha256)
        except ArchiveRefused:
            if (repository.folder / model.sha256).exists():  # else it was cleared away just now
                raise
    return len(models)


def check_spool(root: Path) -> None:
    """Read every page of the spool; a core may have it open."""
    spool = sqlite3.connect(f"file:{root / 'spool.db'}?mode=ro", uri=True, timeout=30)
    with contextlib.closing(spool):
        verdict = spool.execute("PRAGMA integrity_check").fetchone()[0]
    assert verdict == "ok", verdict


@cache
def _group_folder() -> Path | None:
    found = find_memory_control()
    return found.parent if isinstance(found, CgroupMemory) else None


def groups_of(pids: set[int]) -> Iterator[Path]:
    """Control groups of these cores."""
    parent = _group_folder()
    for path in () if parent is None else parent.glob("mli-*"):
        match = _GROUP.fullmatch(path.name)
        if match and int(match[1]) in pids:
            yield path


def family_of(pid: int) -> Iterator[int]:
    """What a core started and that still lives: of its session, or in its control groups."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == pid and int(folder.name) != pid and state not in _GONE:
                yield int(folder.name)
    for group in groups_of({pid}):
        with contextlib.suppress(OSError):
            yield from map(int, (group / "cgroup.procs").read_text().split())
