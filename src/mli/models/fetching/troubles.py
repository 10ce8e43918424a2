"""What goes wrong on the line, in words; nothing here shows a secret."""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl

from mli.config.proxies import Proxy
from mli.errors import MliError, RetryError, StopError


class TransferError(RetryError):
    """The line or the other end failed; the fetcher itself tries again a few times, its caller later.

    Attributes:
        wait_s: the other end wants to be left alone for so long.
    """

    wait_s = 0.0


_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


def broken_line(error: OSError | http.client.HTTPException | ValueError, shown: str, proxy: Proxy | None) -> MliError:
    """The error for a connection that could not be made, broke, or spoke no HTTP."""
    where = shown if proxy is None else f"{shown} through the proxy {proxy.shown}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, where)
    if isinstance(error, socket.gaierror):
        return TransferError(
            "The name of the model archive's host cannot be looked up.",
            where=where,
            got=error.strerror or str(error),
            remedy="check the network and its DNS, and that the host's name is right",
        )
    if isinstance(error, ssl.SSLError) and re.search("ALERT_.*(CERTIFICATE|UNKNOWN_CA|ACCESS)", error.reason or ""):
        return StopError(
            "The server does not accept this device's certificate.",
            where=where,
            expected="a certificate that it knows",
            got=_tls_words(error),
            remedy="check that the device's certificate is active there and has not expired",
        )
    if isinstance(error, ssl.SSLError):
        return TransferError(
            "The TLS connection for the model archive failed.",
            where=where,
            expected="a server that speaks TLS 1.2 or newer",
            got=_tls_words(error),
            remedy="check that the address is one of https, and its port",
        )
    if isinstance(error, OSError) and not isinstance(error, http.client.RemoteDisconnected):
        return TransferError(
            "The connection for the model archive failed.",
            where=where,
            got=_os_words(error),
            remedy=_os_remedy(error, proxy),
        )
    return TransferError(
        "The answer for the model archive is no HTTP.",
        where=where,
        expected="an HTTP server",
        got=_http_words(error),
        remedy="check host and port; a proxy or a login page of the network may stand in between",
    )


def _tls_words(error: ssl.SSLError) -> str:
    said = error.reason or error.strerror or str(error)
    return re.sub(r" *\(_ssl.*", "", said).replace("_", " ").lower()


def _os_remedy(error: OSError, proxy: Proxy | None) -> str:
    if error.errno != errno.ECONNREFUSED:
        return "check the network; it is tried again"
    if proxy is None:
        return "check that the store runs and that host and port are right"
    return "check that the proxy runs, and its host and port in store.proxy or the environment's https_proxy"


def _os_words(error: OSError) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return str(error)
    return error.strerror or str(error) or type(error).__name__


def _http_words(error: Exception) -> str:
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was closed in the middle of a chunk"
    return f"{type(error).__name__}: {str(error)[:100]!r}"


def _untrusted(error: ssl.SSLCertVerificationError, where: str) -> MliError:
    """A certificate that is not valid yet is a matter of the clock, which may be set in a minute."""
    early = error.verify_code == _NOT_YET_VALID
    kind = RetryError if early else StopError
    remedy = "name the file with the certificate of its authority in `store: {ca: …}` of device.yaml"
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        remedy = "set the device's clock (NTP); if it is right, the server needs a new certificate"
    elif "ostname mismatch" in error.verify_message or "IP address mismatch" in error.verify_message:
        remedy = "use the name that the server's certificate has"
    return kind(
        "The server of the model archive is not trusted.",
        where=where,
        expected="a certificate from an authority that this device trusts, for this host",
        got=error.verify_message,
        remedy=remedy,
    )
