"""``Fetcher``: a model's source to an archive on this disk, whose digest is known."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from mli.config.settings import AllowSettings, ModelSource, StoreSettings, TlsSettings
from mli.errors import MliError
from mli.models.fetching.addresses import FileAddress, HttpsAddress, S3Address, parse_address
from mli.models.fetching.credential_sources import choose
from mli.models.fetching.credentials import CachedCredentials
from mli.models.fetching.download import PATIENCE, Download, Patience, Progress, Trouble, digest_refusal
from mli.models.fetching.environment import read_environment
from mli.models.fetching.in_place import hash_in_place, size_in_place
from mli.models.fetching.network import Network
from mli.models.fetching.partial import Partial
from mli.models.fetching.probing import ProbeReport, look_at
from mli.models.fetching.s3 import FIRST_REGION, S3Object
from mli.models.fetching.url import shown_uri
from mli.models.fetching.watch import FetchCancelled, Watch
from mli.models.fetching.web import WebFile
from mli.models.opened import FileStamp


@dataclass(frozen=True, slots=True)
class Fetched:
    """An archive that is on this disk.

    Attributes:
        path: of the archive; a ``file://`` one stays where it is, and is not the caller's to remove.
        sha256: of its bytes, hexadecimal; the expected one where there was one.
        stamp: of the file when that was known, so that ``Repository.install`` need not hash it again.
        etag: of the store, where it gave a strong one.
        resumed_from_bytes: so many had come in earlier attempts of other fetches.
        told: where it came from, and with which credentials.
    """

    path: Path
    sha256: str
    stamp: FileStamp
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
        on_trouble: Trouble = lambda _: None,
    ) -> Fetched:
        """Bring the archive. After a kill or an error the same call goes on with the bytes that are in ``folder``.

        Args:
            folder: for downloads; each gets a folder of its own in it.
            progress: called with bytes that are there and the total, None while nobody told it.
            cancelled: asked every quarter of a second.
            on_size: called with the size before the first byte is kept; may raise, which ends the fetch.
            on_trouble: called with why an attempt failed, before the pause in front of the next one.

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
            return self._take_in_place(address.path, expected, watch, progress, on_size)
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
                on_trouble=on_trouble,
            )
            sha256 = download.run()
            path = partial.finish()
            return Fetched(
                path,
                sha256,
                FileStamp.of(path.stat()),
                partial.size_bytes,
                partial.origin.etag,
                download.resumed_from_bytes,
                self._told(remote),
            )

    def size_of(self, source: ModelSource, *, cancelled: Callable[[], bool] = lambda: False) -> int | None:
        """Bytes of the archive, without fetching it; None where nobody says. One attempt.

        Raises:
            RetryError, RefusedError, StopError, FetchCancelled: as ``fetch``.
        """
        address = parse_address(source, self._allow)
        if isinstance(address, FileAddress):
            return size_in_place(address.path)
        return look_at(self._remote(address), Watch(cancelled, shown_uri(source.uri))).size_bytes

    def probe(self, source: ModelSource, *, cancelled: Callable[[], bool] = lambda: False) -> ProbeReport:
        """Whether the archive could be fetched now, and how. One attempt; errors are in the report.

        Raises:
            FetchCancelled: alone.
        """
        shown = shown_uri(source.uri)
        kind: Literal["file", "s3", "https"] = "file"
        if source.uri.startswith(("s3://", "https://")):
            kind = "s3" if source.uri.startswith("s3://") else "https"
        report = ProbeReport(shown, kind)
        try:
            address = parse_address(source, self._allow)
            if isinstance(address, FileAddress):
                return replace(report, size_bytes=size_in_place(address.path))
            remote = self._remote(address)
            report = self._describe(report, remote)
            seen = look_at(remote, Watch(cancelled, shown))
        except FetchCancelled:
            raise
        except MliError as error:
            return replace(report, error=error)
        return replace(
            self._describe(report, remote),
            size_bytes=seen.size_bytes,
            etag=seen.etag,
            clock_ahead_s=seen.clock_ahead_s,
        )

    def _describe(self, report: ProbeReport, remote: S3Object | WebFile) -> ProbeReport:
        """How the remote is asked, as far as it is known now."""
        proxy = self._network.proxy_for(remote.url)
        report = replace(report, host=remote.url.authority, proxy=proxy.shown if proxy else None)
        if isinstance(remote, WebFile):
            return report
        return replace(
            report,
            credentials=self._chosen().told,
            region_asked=report.region_asked or remote.region,
            region=remote.region,
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

    def _remote(self, address: S3Address | HttpsAddress) -> S3Object | WebFile:
        if isinstance(address, HttpsAddress):
            return WebFile(address.url, self._allow, self._network)
        region = address.region or self._store.region or self._environment.region or FIRST_REGION
        return S3Object(address, self._store, region, self._chosen(), self._network, self._now)

    def _told(self, remote: S3Object | WebFile) -> str:
        if isinstance(remote, S3Object):
            return f"{remote.shown} at {remote.url.authority}, region {remote.region}, {self._chosen().told}"
        return remote.shown

    def _take_in_place(
        self,
        path: Path,
        expected: str | None,
        watch: Watch,
        progress: Progress,
        on_size: Callable[[int], None] | None,
    ) -> Fetched:
        sha256, found = hash_in_place(path, self._store.max_bytes, watch, progress, on_size)
        if expected is not None and sha256 != expected:
            raise digest_refusal(str(path), expected, sha256)
        return Fetched(path, sha256, FileStamp.of(found), found.st_size, None, 0, str(path))
