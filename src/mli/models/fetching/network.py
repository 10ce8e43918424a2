"""How this device reaches others: whose certificates it trusts, with which of its own, and through which proxy."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from mli.config.proxies import Proxy
from mli.config.settings import StoreSettings, TlsSettings
from mli.errors import StopError
from mli.models.fetching.environment import Environment
from mli.models.fetching.exchange import Answer, Call, exchange
from mli.models.fetching.proxies import choose_proxy
from mli.models.fetching.url import Url
from mli.models.fetching.watch import Watch


class Network:
    """Asks URLs; each of its three ways trusts and shows something else.

    Args:
        tls: the device's own certificate and the authority of its broker; only AWS IoT gets to see the certificate.
    """

    def __init__(self, store: StoreSettings, tls: TlsSettings | None, environment: Environment) -> None:
        self._store = store
        self._tls = tls
        self._environment = environment
        self._store_context: ssl.SSLContext | None = None
        self._iot_context: ssl.SSLContext | None = None

    def ask_store(self, url: Url, headers: Mapping[str, str], watch: Watch, shown: str | None = None) -> Answer:
        """A store or web server; see ``exchange`` for what is raised."""
        return self._ask(url, headers, watch, shown, self._context_for_store(url), self.proxy_for(url))

    def ask_near(self, url: Url, headers: Mapping[str, str], watch: Watch) -> Answer:
        """A credentials endpoint on or beside this machine: never through a proxy."""
        return self._ask(url, headers, watch, None, self._context_for_store(url), None)

    def ask_iot(self, url: Url, headers: Mapping[str, str], watch: Watch) -> Answer:
        """The credentials provider of AWS IoT, with the device's certificate."""
        if self._iot_context is None:
            self._iot_context = _iot_context(self._tls)
        return self._ask(url, headers, watch, None, self._iot_context, self.proxy_for(url))

    def proxy_for(self, url: Url) -> Proxy | None:
        """The proxy on the way to a URL."""
        return choose_proxy(url, self._store.proxy, self._environment)

    def _ask(
        self,
        url: Url,
        headers: Mapping[str, str],
        watch: Watch,
        shown: str | None,
        tls: ssl.SSLContext | None,
        proxy: Proxy | None,
    ) -> Answer:
        store = self._store
        call = Call(url, shown or url.shown, headers, tls, proxy, store.connect_timeout_s, store.stall_timeout_s)
        return exchange(call, watch)

    def _context_for_store(self, url: Url) -> ssl.SSLContext | None:
        if url.scheme == "http":
            return None
        if self._store_context is None:
            self._store_context = _context(self._store.ca_path)
        return self._store_context


def _context(ca_path: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_path)
    except (OSError, ValueError) as error:
        raise _unusable(ca_path or "the system's trust store", "store.ca", error) from error


def _iot_context(tls: TlsSettings | None) -> ssl.SSLContext:
    if tls is None or tls.certificate_path is None or tls.private_key_path is None:
        raise StopError(
            "AWS IoT gives credentials to devices with a certificate, and this one has none.",
            where="the device's settings",
            expected="certificate and private key of the MQTT connection",
            got="none",
            remedy="set them (mqtt.tls), or choose other credentials in store.credentials",
        )
    context = _context(None)
    if tls.ca_path is not None:
        try:
            context.load_verify_locations(cafile=tls.ca_path)
        except (OSError, ValueError) as error:
            raise _unusable(tls.ca_path, "mqtt.tls.ca", error) from error
    try:
        context.load_cert_chain(tls.certificate_path, tls.private_key_path)
    except (OSError, ValueError) as error:
        raise _unusable(f"{tls.certificate_path}, {tls.private_key_path}", "mqtt.tls", error) from error
    return context


def _unusable(path: str, setting: str, error: Exception) -> StopError:
    words = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
    return StopError(
        "A certificate file for fetching models cannot be used.",
        where=path,
        expected="PEM files that belong together, readable by the core",
        got=words or getattr(error, "reason", None) or str(error),
        remedy=f"check the file and its permissions, and {setting} of the device",
    )
