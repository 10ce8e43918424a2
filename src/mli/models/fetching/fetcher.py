"""``Fetcher``: a model's source to an archive on this disk, whose digest is known."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mli.config.settings import AllowSettings, ModelSource, StoreSettings, TlsSettings
from mli.errors import RefusedError, RetryError
from mli.models.fetching.addresses import FileAddress, HttpsAddress, S3Address, parse_address
from mli.models.fetching.credential_sources import choose
from mli.models.fetching.credentials import CachedCredentials
from mli.models.fetching.download import PATIENCE, Download, Patience, Progress, Remote, digest_refusal
from mli.models.fetching.environment import read_environment
from mli.models.fetching.network import Network
from mli.models.fetching.partial import Partial
from mli.models.fetching.s3 import FIRST_REGION, S3Object
from mli.models.fetching.url import shown_uri
from mli.models.fetching.watch import Watch
from mli.models.fetching.web import WebFile
from mli.models.members import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Fetched:
    """An archive that is on this disk.

    Attributes:
        path: of the archive; a ``file://`` one stays where it is, and is not the caller's to remove.
        sha256: of its bytes, hexadecimal; the expected one where there was one.
        etag: of the store, where it gave a strong one.
        resumed_from_bytes: so many had come in earlier attempts of other fetches.
        told: where it came from, and with which credentials.
    """

    path: Path
    sha256: str
    size_bytes: int
    etag: str | None
    resumed_from_bytes: int
    told: str


class Fetcher:
    """Fetches model archives, one at a time.

    Args:
        allow: what deployments from the network may use; None for one that the device's owner wrote.
        tls: the device's certificate, for the credentials provider of AWS IoT.
        environ: the process environment; it is read here, once.
        patience: how often it tries by itself.
        now: moment of a signature; None is the system's clock.
    """

    def __init__(
        self,
        store: StoreSettings,
        allow: AllowSettings | None,
        tls: TlsSettings | None,
        thing: str,
        *,
        environ: Mapping[str, str] = os.environ,
        patience: Patience = PATIENCE,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._store = store
        self._allow = allow
        self._thing = thing
        self._environment = read_environment(environ)
        self._network = Network(store, tls, self._environment)
        self._patience = patience
        self._now = now
        self._credentials: CachedCredentials | None = None

    def fetch(
        self,
        source: ModelSource,
        folder: Path,
        *,
        progress: Progress = lambda *_: None,
        cancelled: Callable[[], bool] = lambda: False,
        on_size: Callable[[int], None] | None = None,
    ) -> Fetched:
        """Bring the archive. After a kill or an error the same call goes on with the bytes that are in ``folder``.

        Args:
            folder: for downloads; each gets a folder of its own in it.
            progress: called with bytes that are there and the total, None while nobody told it.
            cancelled: asked every quarter of a second.
            on_size: called with the size before the first byte is kept; may raise, which ends the fetch.

        Raises:
            RetryError: may work later: no network, a busy store, a full disk, a wrong clock.
            RefusedError: this source never will: no such object, another digest, too large, not allowed.
            StopError: the device's settings are wrong: credentials, region, certificates, proxy.
            FetchCancelled: what came so far stays in ``folder``.
        """
        address = parse_address(source, self._allow)
        watch = Watch(cancelled, shown_uri(source.uri))
        watch.check()
        expected = source.sha256.lower() if source.sha256 is not None else None
        if isinstance(address, FileAddress):
            return self._take_in_place(address, expected, watch, progress, on_size)
        remote = self._remote(address)
        with Partial(folder, source, watch) as partial:
            download = Download(
                remote,
                partial,
                expected_sha256=expected,
                max_bytes=self._store.max_bytes,
                patience=self._patience,
                watch=watch,
                progress=progress,
                on_size=on_size,
            )
            sha256 = download.run()
            return Fetched(
                partial.finish(),
                sha256,
                partial.size_bytes,
                partial.origin.etag,
                download.resumed_from_bytes,
                self._told(remote),
            )

    def credentials_told(self) -> str:
        """Which credentials are used for S3; for status and messages.

        Raises:
            StopError: those that the settings name are not there.
        """
        return self._chosen().told

    def _chosen(self) -> CachedCredentials:
        if self._credentials is None:
            network = self._network
            source = choose(self._store, self._environment, self._thing, network.ask_near, network.ask_iot)
            self._credentials = CachedCredentials(source)
        return self._credentials

    def _remote(self, address: S3Address | HttpsAddress) -> Remote:
        if isinstance(address, HttpsAddress):
            return WebFile(address.url, self._allow, self._network)
        region = address.region or self._store.region or self._environment.region or FIRST_REGION
        return S3Object(address, self._store, region, self._chosen(), self._network, self._now)

    def _told(self, remote: Remote) -> str:
        if isinstance(remote, S3Object):
            return f"{remote.shown} at {remote.url.authority}, region {remote.region}, {self._chosen().told}"
        return remote.shown

    def _take_in_place(
        self,
        address: FileAddress,
        expected: str | None,
        watch: Watch,
        progress: Progress,
        on_size: Callable[[int], None] | None,
    ) -> Fetched:
        path, digest, done = address.path, hashlib.sha256(), 0
        buffer = memoryview(bytearray(CHUNK_BYTES))
        try:
            # O_NONBLOCK: opening a named pipe must not wait for a writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise _no_file(path, error.strerror) from error
        with open(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _no_file(path, "it is not a file")
            if found.st_size > self._store.max_bytes:
                raise RefusedError(
                    "The model archive is too large for this device.",
                    where=str(path),
                    expected=f"at most {self._store.max_bytes} bytes",
                    got=f"{found.st_size} bytes",
                    remedy="make it smaller, or raise store.max_size of the device",
                )
            if on_size is not None:
                on_size(found.st_size)
            try:
                while count := file.readinto(buffer):
                    watch.check()
                    digest.update(buffer[:count])
                    done += count
                    progress(done, found.st_size)
            except OSError as error:
                raise RetryError(
                    "The model archive cannot be read.",
                    where=str(path),
                    got=error.strerror,
                    remedy="check the disk",
                ) from error
        if expected is not None and digest.hexdigest() != expected:
            raise digest_refusal(str(path), expected, digest.hexdigest())
        return Fetched(path, digest.hexdigest(), done, None, 0, str(path))


def _no_file(path: Path, found: str | None) -> RefusedError:
    return RefusedError(
        "There is no model archive at this path.",
        where=str(path),
        expected="a readable file",
        got=found,
        remedy="check the path, and that the core's user may read it",
    )
