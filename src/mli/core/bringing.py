"""Models from where a deployment names them into the repository: room first, then the bytes, then their proof."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mli.config.settings import DeviceSettings, ModelSource
from mli.core.deployment_store import Origin
from mli.core.root import Root
from mli.core.status import ModelState
from mli.errors import ArchiveRefused, MliError, RetryError
from mli.models.repository import Repository
from mli.types import ModelSpec

if TYPE_CHECKING:
    from mli.models.fetching.fetcher import Fetcher

log = logging.getLogger(__name__)

UNPACKED = 2.0
"""About so many times its archive's size takes a model, unpacked and optimised; the archive itself comes on top."""
SPARE_BYTES = 64 * 1024 * 1024
"""Stay free for the queue and the logs."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A model that is in the repository."""

    spec: ModelSpec
    state: ModelState


class Bringer:
    """Brings models, one at a time."""

    def __init__(self, device: DeviceSettings, root: Root, repository: Repository) -> None:
        self._device = device
        self._root = root
        self._repository = repository
        self._fetchers: dict[Origin, Fetcher] = {}

    def installed(self, source: ModelSource, known: ModelState | None) -> Brought | None:
        """The model, if it is in the repository and intact.

        Args:
            known: what an earlier attempt of the same deployment found.
        """
        sha256 = source.sha256 or (known.sha256 if known else None)
        if sha256 is None:
            return None
        try:
            spec = self._repository.load(sha256)
        except ArchiveRefused as error:
            log.debug("%s", error)
            return None
        return Brought(spec, ModelState(sha256, pinned=source.sha256 is None))

    def bring(
        self,
        source: ModelSource,
        known: ModelState | None,
        origin: Origin,
        *,
        progress: Callable[[int, int | None], None],
        verifying: Callable[[], None] = lambda: None,
        cancelled: Callable[[], bool] = lambda: False,
        trouble: Callable[[MliError], None] = lambda _: None,
    ) -> Brought:
        """Fetch and install one model.

        Args:
            verifying: called when the bytes are here.
            trouble: called with why an attempt failed, where there is another one.

        Raises:
            RefusedError: the archive is not what it should be, or may not be fetched.
            RetryError: not now: no network, no room.
            StopError: this device's settings do not allow it.
        """
        pinned = source.sha256 is None
        if pinned and known is not None:
            source = ModelSource(source.uri, known.sha256, source.region)
        self._root.downloads.mkdir(parents=True, exist_ok=True)
        fetched = self._fetcher(origin).fetch(
            source,
            self._root.downloads,
            progress=progress,
            cancelled=cancelled,
            on_size=self._check_room,
            on_trouble=trouble,
        )
        verifying()
        if pinned:
            log.warning(
                "the deployment names no sha256 of %s; from now on it is %s, as it came first",
                fetched.told,
                fetched.sha256,
            )
        spec = self._repository.install(fetched.path, fetched.sha256, hashed=fetched.stamp)
        self.clean_up(fetched.path)
        return Brought(spec, ModelState(fetched.sha256, pinned))

    def clean_up(self, path: Path) -> None:
        """Remove an archive that was fetched; one that lies elsewhere is not ours."""
        if self._root.downloads in path.parents:
            shutil.rmtree(path.parent, ignore_errors=True)  # each has a folder of its own, with a record beside it

    def forget_downloads(self) -> None:
        """Remove what is left of downloads; none is under way."""
        shutil.rmtree(self._root.downloads, ignore_errors=True)

    def _fetcher(self, origin: Origin) -> Fetcher:
        if origin not in self._fetchers:
            from mli.models.fetching.fetcher import Fetcher

            device = self._device
            tls = None if device.mqtt is None else device.mqtt.tls
            allow = None if origin == "file" else device.allow
            self._fetchers[origin] = Fetcher(device.store, allow, tls, device.thing)
        return self._fetchers[origin]

    def _check_room(self, archive_bytes: int) -> None:
        """The old version stays until the new one is proved, so both must fit."""
        free = shutil.disk_usage(self._root.path).free
        needed = round(archive_bytes * (1 + UNPACKED)) + SPARE_BYTES
        if free < needed:
            raise RetryError(
                "there is no room on the disk for the new model beside the old one",
                where=str(self._root.path),
                expected=f"{needed / 1e6:.0f} MB free, for an archive of {archive_bytes / 1e6:.0f} MB",
                got=f"{free / 1e6:.0f} MB free",
                remedy="free some space; the deployment goes on by itself then",
            )
