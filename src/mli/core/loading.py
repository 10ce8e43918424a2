"""A deployment of the history, made ready to run again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mli.config.settings import DeploymentSettings, DeviceSettings
from mli.core.deployed import Deployed, prepare_models
from mli.core.deployment_store import DeploymentRecord
from mli.core.isolation.isolator import Isolator
from mli.core.root import Root
from mli.core.wanted import Listener, Wanted
from mli.errors import StopError, UsageError
from mli.models.repository import Repository
from mli.types import ModelSpec

log = logging.getLogger(__name__)


class Loader:
    """Loads from this device's own disk: it needs no network."""

    def __init__(self, device: DeviceSettings, root: Root, repository: Repository, isolator: Isolator) -> None:
        self.isolator = isolator
        self._device = device
        self._root = root
        self._repository = repository

    def settings(self, record: DeploymentRecord) -> DeploymentSettings:
        """What it says, checked against what the device allows now.

        Raises:
            UsageError: the device does not allow it any more.
        """
        from mli.config.deployment import parse_deployment

        return parse_deployment(
            record.text.encode(),
            self._device,
            origin=record.origin,
            folder=Path(record.folder),
            name=record.name,
            check_files=False,
        )

    def wanted_again(self, record: DeploymentRecord, revision: int | None) -> Wanted:
        """The deployment, to be applied once more from its beginning."""
        settings = self.settings(record)
        models = {
            name: replace(source, sha256=record.models[name].sha256) if name in record.models else source
            for name, source in settings.models.items()
        }
        settings = replace(settings, models=models, identity=record.identity)
        return Wanted(settings, record.text, record.origin, record.folder, record.name, revision, record.signed_by)

    def wanted_from_file(self, text: bytes, path: Path, listener: Listener | None = None) -> Wanted:
        """A deployment of this machine's owner.

        Raises:
            UsageError: everything that is wrong with it.
        """
        from mli.config.deployment import parse_deployment

        settings = parse_deployment(text, self._device, origin="file", folder=path.parent, name=path.name)
        if settings.trust is not None:
            raise UsageError(
                f"{path.name}: a deployment of this machine cannot change whom the device trusts",
                remedy="change `trust` in device.yaml, and start the core again",
            )
        settings = _with_digests(settings)
        folder, name = str(path.parent), path.name
        return Wanted(settings, text.decode(), "file", folder, name, settings.revision, listener=listener)

    def load(self, record: DeploymentRecord, cancelled: Callable[[], bool] = lambda: False) -> Deployed:
        """Its models, compared byte by byte with what was installed, and prepared.

        Raises:
            JobCancelled: ``cancelled`` while a model was prepared.
            MliError: a model is damaged or gone, or cannot be used any more (a runtime was removed, say).
        """
        settings = self.settings(record)
        installed = {}
        for name in settings.models:
            if name not in record.models:
                raise StopError(f"the record of the deployment {record.identity[:12]} names no digest of {name}")
            installed[name] = self._repository.load(record.models[name].sha256)
        return self.prepare(settings, installed, cancelled)

    def prepare(
        self,
        settings: DeploymentSettings,
        installed: Mapping[str, ModelSpec],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Deployed:
        """See ``prepare_models``."""
        return prepare_models(settings, installed, self._device, self._root, log.info, self.isolator, cancelled)


def _with_digests(settings: DeploymentSettings) -> DeploymentSettings:
    """A file of this machine may change while its path does not: its digest then makes another deployment."""
    digests = {}
    for name, source in settings.models.items():
        path = Path(source.uri)
        if source.sha256 is None and path.is_absolute():
            try:
                with path.open("rb") as file:
                    digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise StopError(
                    f"the model archive of {name} cannot be read", where=source.uri, got=error.strerror
                ) from error
    if not digests:
        return settings
    models = {
        name: replace(source, sha256=digests.get(name, source.sha256)) for name, source in settings.models.items()
    }
    identity = hashlib.sha256(json.dumps([settings.identity, digests], sort_keys=True).encode()).hexdigest()
    return replace(settings, models=models, identity=identity)
