"""What a look at an archive's address finds, without fetching it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mli.errors import MliError
from mli.models.fetching.download import Remote
from mli.models.fetching.s3_answers import clock_ahead_s
from mli.models.fetching.watch import Watch


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """A look at one model's source, for ``mli doctor``; whatever is unknown is None.

    Attributes:
        shown: the source's address, without secrets.
        host: who was asked.
        proxy: address of the proxy in between.
        credentials: which ones were used.
        region_asked, region: of the bucket: where the look began, and where the bucket is.
        clock_ahead_s: this device's clock minus the other end's, to the second.
        error: why the archive could not be fetched now; None when it could.
    """

    shown: str
    kind: Literal["file", "s3", "https"]
    host: str | None = None
    proxy: str | None = None
    credentials: str | None = None
    region_asked: str | None = None
    region: str | None = None
    size_bytes: int | None = None
    etag: str | None = None
    clock_ahead_s: float | None = None
    error: MliError | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one byte of a remote archive tells."""

    size_bytes: int | None
    etag: str | None
    clock_ahead_s: float | None


def look_at(remote: Remote, watch: Watch) -> Seen:
    """Ask for the first byte: it needs the same permission as all of them, and errors come with their reasons.

    Raises:
        MliError: as the remote's ``ask``.
    """
    with remote.ask({"range": "bytes=0-0", "accept-encoding": "identity", "user-agent": "mli"}, watch) as answer:
        size = answer.length
        if answer.status == 416:
            size = 0  # no first byte
        elif answer.status == 206:
            found = re.fullmatch(r"bytes 0-0/(\d+)", (answer.header("content-range") or "").strip())
            size = int(found[1]) if found else None
        return Seen(size, answer.header("etag"), clock_ahead_s(answer))
