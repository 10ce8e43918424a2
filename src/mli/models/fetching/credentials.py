"""Keys for S3, and what gives them; ``choose`` says which source a device uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from mli.config.redaction import hide
from mli.models.fetching.watch import Watch

_REFRESH_BEFORE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs a request.

    Attributes:
        token: of temporary credentials.
        expires: UTC; None for lasting ones.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


class CredentialSource(Protocol):
    """One way to get credentials."""

    @property
    def told(self) -> str:
        """Which source this is, for status and messages: no secret, and no guess."""

    def get(self, watch: Watch) -> Credentials | None:
        """New credentials; None for anonymous requests.

        Raises:
            RetryError: its endpoint is away.
            StopError: the device's settings cannot work.
        """


class CachedCredentials:
    """Asks a source again before what it gave expires; one thread."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source
        self._cached: Credentials | None = None

    @property
    def told(self) -> str:
        return self._source.told

    def get(self, watch: Watch) -> Credentials | None:
        """Valid for at least some minutes, where the source can do that."""
        if self._cached is None or _is_old(self._cached):
            self._cached = self._source.get(watch)
            if self._cached is not None:
                secrets = [self._cached.secret_access_key, self._cached.token or ""]
                hide(filter(None, secrets), passing=self._cached.expires is not None)
        return self._cached

    def forget(self) -> bool:
        """The store says that they are expired or unknown.

        Returns:
            whether new ones may come: lasting ones would be the same.
        """
        was_temporary = self._cached is not None and self._cached.token is not None
        self._cached = None
        return was_temporary


def _is_old(credentials: Credentials) -> bool:
    return credentials.expires is not None and datetime.now(UTC) > credentials.expires - _REFRESH_BEFORE
