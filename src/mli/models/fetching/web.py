"""An archive on a web server: redirects are followed by hand, to hosts that this device allows."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin

from mli.config.settings import AllowSettings
from mli.errors import MliError, RefusedError
from mli.models.fetching.addresses import check_host
from mli.models.fetching.exchange import Answer
from mli.models.fetching.network import Network
from mli.models.fetching.troubles import TransferError
from mli.models.fetching.url import Url, parse_url, shown_uri
from mli.models.fetching.watch import Watch

_USABLE = frozenset({200, 206, 412, 416})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({408, 425, 429})
MOST_REDIRECTS = 5


class WebFile:
    """One archive behind ``https://``."""

    def __init__(self, url: Url, allow: AllowSettings | None, network: Network) -> None:
        self.shown = url.shown
        self.url = url
        self._allow = allow
        self._network = network

    def ask(self, headers: Mapping[str, str], watch: Watch) -> Answer:
        """The answer to a GET: 200, 206, 412 or 416.

        Raises:
            TransferError: may work later.
            RefusedError: it is not there, not for this device, or behind a host that is not allowed.
            StopError: see ``exchange``.
        """
        url = self.url
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._network.ask_store(url, headers, watch)
            if answer.status in _USABLE:
                return answer
            with answer:
                if answer.status not in _REDIRECTS:
                    raise _refused(answer, url)
                url = self._next(url, answer.header("location"))
        raise RefusedError(
            "The model archive's address redirects in a circle.",
            where=self.shown,
            expected=f"at most {MOST_REDIRECTS} redirects",
            got=f"one more, to {url.shown}",
            remedy="give the address that the redirects end at",
        )

    def _next(self, url: Url, location: str | None) -> Url:
        try:
            following = parse_url(urljoin(url.whole, location or ""))
            if not location or following.scheme != "https":
                raise ValueError("http://, which anybody on the way could change" if location else "no address")
        except ValueError as error:
            raise RefusedError(
                "The model archive's address redirects to where it cannot be followed.",
                where=url.shown,
                expected="a redirect to https://",
                got=f"{error}: {shown_uri(location or '')}".rstrip(": "),
                remedy="give an https address that the archive itself is at",
            ) from error
        if following.host != self.url.host:
            check_host(following, self._allow, self.shown, redirected_from=url.authority)
        return following


def _refused(answer: Answer, url: Url) -> MliError:
    status, where = answer.status, url.shown
    if status >= 500 or status in _BUSY:
        busy = TransferError(
            "The model archive's server cannot answer now.",
            where=where,
            got=f"HTTP status {status}",
            remedy="it is tried again later",
        )
        after = answer.header("retry-after") or ""
        busy.wait_s = float(after) if after.isdigit() else 0.0
        return busy
    remedies = {
        401: "give an address that needs no login: a signed URL, or an S3 store with store.credentials",
        403: "check the server's permissions; a signed URL may have expired",
        404: "upload the archive, or correct the model's uri",
        410: "the archive was removed: correct the model's uri",
    }
    return RefusedError(
        "There is no such model archive." if status in (404, 410) else "The server does not give the model archive.",
        where=where,
        expected="HTTP status 200 or 206",
        got=f"HTTP status {status}",
        remedy=remedies.get(status, "check the model's uri"),
    )
