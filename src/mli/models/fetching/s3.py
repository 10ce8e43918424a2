"""An object in S3 or in a store like it: where it is, how it is asked for, in which region."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from urllib.parse import quote

from mli.config.settings import StoreSettings
from mli.errors import MliError, StopError
from mli.models.fetching.addresses import REGION, S3Address
from mli.models.fetching.credentials import CachedCredentials
from mli.models.fetching.exchange import Answer
from mli.models.fetching.network import Network
from mli.models.fetching.s3_answers import S3Refusal, refusal_of, refused, wrong_region
from mli.models.fetching.signing import signed_headers
from mli.models.fetching.url import Url, parse_url, shown_uri
from mli.models.fetching.watch import Watch

log = logging.getLogger(__name__)

FIRST_REGION = "us-east-1"
USABLE = frozenset({200, 206, 412, 416})
_MOST_TURNS = 4
_HOST_NAME = re.compile(r"[a-z0-9-]+")


class S3Object:
    """One object; remembers the region in which it was found.

    Args:
        region: the first one to ask in; the bucket's own is followed from there.
        now: moment of a signature; None is the system's clock.
    """

    def __init__(
        self,
        address: S3Address,
        store: StoreSettings,
        region: str,
        credentials: CachedCredentials,
        network: Network,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.region = region
        self.first_region = region
        self.shown = address.shown
        self._address = address
        self._endpoint = _endpoint(store)
        self._credentials = credentials
        self._network = network
        self._now = now

    def ask(self, headers: Mapping[str, str], watch: Watch) -> Answer:
        """The answer to a GET: 200, 206, 412 or 416.

        Raises:
            TransferError, RetryError: may work later.
            RefusedError: the object or bucket is not there, or not for these credentials.
            StopError: credentials, region or endpoint of the device are wrong.
        """
        renewed = False
        for _ in range(_MOST_TURNS):
            answer = self._send(headers, watch)
            if answer.status in USABLE:
                return answer
            with answer:
                found = refusal_of(answer)
            if found.region is not None and found.region != self.region:
                self._move(found)
            elif found.wants_other_credentials and not renewed and self._credentials.forget():
                renewed = True
            else:
                raise self._error(found)
        raise self._error(found)

    @property
    def url(self) -> Url:
        """Where the object is, in the region known so far."""
        bucket, key = self._address.bucket, quote(self._address.key, safe="/-_.~")
        if self._endpoint is not None:
            return self._endpoint.at(f"{self._endpoint.target.rstrip('/')}/{bucket}/{key}")
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        if not _HOST_NAME.fullmatch(bucket):  # a certificate's wildcard covers one name, without dots
            return Url("https", f"s3.{self.region}.{suffix}", 443, f"/{bucket}/{key}")
        return Url("https", f"{bucket}.s3.{self.region}.{suffix}", 443, f"/{key}")

    def _send(self, headers: Mapping[str, str], watch: Watch) -> Answer:
        credentials, url = self._credentials.get(watch), self.url
        if credentials is not None:
            now = self._now() if self._now is not None else None
            headers = signed_headers("GET", url.authority, url.target, credentials, self.region, headers, now=now)
        return self._network.ask_store(url, headers, watch, f"{self.shown} at {url.authority}")

    def _move(self, found: S3Refusal) -> None:
        assert found.region is not None
        if not REGION.fullmatch(found.region) or self.region != self.first_region:
            raise self._error(found)
        log.info("%s lies in the region %s, not in %s; it is followed", self.shown, found.region, self.region)
        self.region = found.region

    def _error(self, found: S3Refusal) -> MliError:
        where = f"{self.shown} at {self.url.authority}"
        if found.is_about_region:
            return wrong_region(found, where, self.first_region, self.region)
        return refused(found, self._address, where, self._credentials.told)


def _endpoint(store: StoreSettings) -> Url | None:
    if store.endpoint is None:
        return None
    try:
        return parse_url(store.endpoint)
    except ValueError as error:
        raise StopError(
            "The endpoint of the model store cannot be used.",
            where=shown_uri(store.endpoint),
            expected="https://HOST[:PORT] or http://HOST[:PORT]",
            got=str(error),
            remedy="correct store.endpoint of the device",
        ) from error
