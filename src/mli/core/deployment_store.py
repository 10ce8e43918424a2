"""What must survive a power cut about deployments: ``<root>/deployments/``.

``history/<identity>.json`` has each deployment as it came, with the digests of its models. ``pointer.json`` says
which one runs: replacing that one file is the only step that changes it. ``highest.json`` has the highest revision
that came from the network, outside the history, so that clearing that lets no old one in again. ``quarantine.json``
has those that were taken back.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from mli.config.settings import TrustAnchor
from mli.core.status import DeploymentState, ModelState, Problem
from mli.errors import RetryError, StopError
from mli.frozen_json import from_json, to_json
from mli.models.staging import PREFIX, write_durably

log = logging.getLogger(__name__)

T = TypeVar("T")
Origin = Literal["file", "remote", "component"]

HISTORY_KEPT = 10
NO_REVISION = -1
QUARANTINED = 100


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A deployment as it came, and what was found out about it.

    Attributes:
        text: its exact text, YAML or JSON.
        folder: what relative paths in it belong to.
        name: what errors call it.
        signed_by: id of the trusted key; None where it was not signed.
        models: digests of its models; complete once they are installed.
        proved: digests of the pipelines' settings and models that the canary approved.
    """

    identity: str
    revision: int | None
    origin: Origin
    text: str
    folder: str
    name: str
    received_at: float
    signed_by: str | None = None
    models: dict[str, ModelState] = field(default_factory=dict)
    proved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which deployment runs.

    Attributes:
        current: identity; None while none was ever activated.
        previous: the last one that was good; the way back.
        revision: under which ``current`` was sent last.
        good: ``current`` was healthy for a while.
        activated_at: Unix time, seconds.
        crashes: how often a worker of ``current`` ended while it could still be taken back.
        boots: how often the core was started with ``current`` before it was good.
    """

    current: str | None = None
    previous: str | None = None
    revision: int | None = None
    good: bool = False
    activated_at: float = 0.0
    crashes: int = 0
    boots: int = 0


@dataclass(frozen=True, slots=True)
class Highest:
    """The newest deployment that came over the network, and how far it got.

    Attributes:
        revision: NO_REVISION for one that has none: a component's configuration need not.
        state: ``received`` until it has come to an end.
        message: sha256 of the message as it came.
    """

    revision: int = NO_REVISION
    identity: str | None = None
    state: DeploymentState = "received"
    error: Problem | None = None
    message: str | None = None

    @property
    def told_revision(self) -> int | None:
        """As documents have it."""
        return None if self.revision == NO_REVISION else self.revision


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A deployment that was taken back, and is not taken again."""

    identity: str
    at: float
    revision: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class FromFile:
    """The device's own deployment.yaml, as it was applied last."""

    sha256: str = ""


@dataclass(frozen=True, slots=True)
class _Quarantine:
    items: tuple[Quarantined, ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """Keys that a signed deployment put in place of the device file's.

    Attributes:
        replaces: key ids that the device file had then; when its owner changes them, theirs hold again.
    """

    anchors: tuple[TrustAnchor, ...] = ()
    replaces: tuple[str, ...] = ()


class DeploymentStore:
    """The files below ``folder``, ``<root>/deployments``; one process uses them. Every change is whole or not there.

    Raises:
        StopError: the folder cannot be used, or a file in it is damaged in a way that could let a bad deployment in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._history = folder / "history"
        try:
            self._history.mkdir(parents=True, exist_ok=True)
            for path in folder.rglob(f"{PREFIX}*"):  # written by a core that was killed before the rename
                path.unlink()
        except OSError as error:
            raise StopError(
                "the record of deployments cannot be used",
                where=str(folder),
                got=error.strerror,
                remedy="check the disk and the folder's permissions",
            ) from error

    # --- the pointer ---------------------------------------------------------------------------------------

    def pointer(self) -> Pointer:
        """Which deployment runs; a damaged file is told, and read as none."""
        return self._read(self.folder / "pointer.json", Pointer) or Pointer()

    def point(self, pointer: Pointer) -> None:
        """Make another deployment the one that runs, durably.

        Raises:
            RetryError: the disk is full or failed; the old pointer holds.
        """
        self._write(self.folder / "pointer.json", pointer)

    # --- the history ---------------------------------------------------------------------------------------

    def record(self, identity: str) -> DeploymentRecord | None:
        """A deployment of the history; None where there is none, or it is damaged."""
        found = self._read(self._history / f"{identity}.json", DeploymentRecord)
        return found if found is not None and found.identity == identity else None

    def keep(self, record: DeploymentRecord) -> None:
        """Write a deployment down.

        Raises:
            RetryError: the disk is full or failed.
        """
        self._write(self._history / f"{record.identity}.json", record)

    def forget_others(self, kept: set[str]) -> None:
        """Remove all but the newest deployments of the history; those in ``kept`` stay whatever their age."""
        paths = sorted(self._history.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in paths[HISTORY_KEPT:]:
            if path.stem not in kept:
                with contextlib.suppress(OSError):  # it is in nobody's way
                    path.unlink()

    # --- revisions -----------------------------------------------------------------------------------------

    def highest(self) -> Highest:
        """The newest deployment from the network."""
        return self._read(self.folder / "highest.json", Highest, strict=True) or Highest()

    def raise_to(self, highest: Highest) -> None:
        """Note it.

        Raises:
            RetryError: the disk is full or failed.
        """
        self._write(self.folder / "highest.json", highest)

    # --- the device's own file -----------------------------------------------------------------------------

    def from_file(self) -> FromFile:
        """Which deployment.yaml was applied last."""
        return self._read(self.folder / "file.json", FromFile) or FromFile()

    def note_file(self, sha256: str) -> None:
        """Note it.

        Raises:
            RetryError: the disk is full or failed.
        """
        self._write(self.folder / "file.json", FromFile(sha256))

    # --- what was taken back -------------------------------------------------------------------------------

    def quarantined(self, identity: str) -> Quarantined | None:
        """Why a deployment is not taken again; None where it may be."""
        found = self._quarantine().items
        return next((item for item in found if item.identity == identity), None)

    def quarantine(self, item: Quarantined) -> None:
        """Take a deployment never again.

        Raises:
            RetryError: the disk is full or failed.
        """
        others = tuple(other for other in self._quarantine().items if other.identity != item.identity)
        self._write(self.folder / "quarantine.json", _Quarantine((*others, item)[-QUARANTINED:]))

    def pardon(self, identity: str) -> None:
        """Let a deployment be tried once more: its device's owner says so."""
        others = tuple(other for other in self._quarantine().items if other.identity != identity)
        self._write(self.folder / "quarantine.json", _Quarantine(others))

    def _quarantine(self) -> _Quarantine:
        return self._read(self.folder / "quarantine.json", _Quarantine) or _Quarantine()

    # --- whom to trust -------------------------------------------------------------------------------------

    def trust(self, of_device: tuple[TrustAnchor, ...]) -> tuple[TrustAnchor, ...]:
        """The keys that hold: the device file's, or those that a signed deployment put in their place since."""
        found = self._read(self.folder / "trust.json", Trust, strict=True)
        if not of_device or found is None or found.replaces != _ids(of_device) or not found.anchors:
            return of_device
        return found.anchors

    def rotate(self, of_device: tuple[TrustAnchor, ...], anchors: tuple[TrustAnchor, ...]) -> None:
        """Trust other keys from now on.

        Raises:
            RetryError: the disk is full or failed.
        """
        self._write(self.folder / "trust.json", Trust(anchors, _ids(of_device)))

    # --- files ---------------------------------------------------------------------------------------------

    def _read(self, path: Path, kind: type[T], *, strict: bool = False) -> T | None:
        try:
            value = json.loads(path.read_bytes())
            return from_json(kind, value)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            if strict:
                raise StopError(
                    "a record of deployments is damaged, and going on without it could let an old one in",
                    where=str(path),
                    got=str(error),
                    remedy="check the disk; then remove the file, if you trust what the broker holds",
                ) from error
            log.error("%s is damaged and is not used: %s", path, error)
            return None

    def _write(self, path: Path, value: object) -> None:
        data = (json.dumps(to_json(value), indent=2) + "\n").encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
            write_durably(path, data)
        except OSError as error:
            if _holds(path, data):
                # Whoever asked must not believe that the old one holds: a start would read this one.
                log.error("%s is written, and may not survive a power cut: %s", path, error.strerror)
                return
            raise RetryError(
                "a record of deployments cannot be written",
                where=str(path),
                got=error.strerror or str(error),
                remedy="check the disk and its free space",
            ) from error


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _ids(anchors: tuple[TrustAnchor, ...]) -> tuple[str, ...]:
    return tuple(sorted(anchor.key_id for anchor in anchors))
