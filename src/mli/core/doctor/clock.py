"""The clock: certificates and signatures of requests depend on it."""

from __future__ import annotations

import ctypes
import http.client
import ssl
import sys
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from mli.core.doctor.finding import Verdict, fail, ok, warn
from mli.core.doctor.patient import Patient

S3_ALLOWS = timedelta(minutes=15)
_NOTICEABLE = timedelta(seconds=30)
_WAIT_S = 5.0
_SET_IT = (
    "let the system keep the time: `timedatectl set-ntp true`, and let NTP (UDP port 123) out; check its battery"
)
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_AWS_STORE = "https://s3.amazonaws.com"


def check_clock(patient: Patient) -> Verdict:
    """Against the store's or a web server's Date, the certificate's beginning, and what the system says of NTP."""
    now = datetime.fromtimestamp(patient.now(), UTC)
    made = _certificate_made(patient)
    if made is not None and now < made:
        return fail(
            f"this clock says {_text(now)}, and the device's certificate was made for {_text(made)} and later",
            _SET_IT,
        )
    kept = kept_by_ntp()
    url = time_source(patient)
    told = None if url is None else ask_time(url)
    if told is not None and url is not None:
        return judge_clock(now, told, urlsplit(url).hostname or url)
    shown = f"this clock says {_text(now)}"
    if kept is False:
        return warn(f"{shown}; nothing keeps it, and nobody here could be asked for the time", _SET_IT)
    return ok(f"{shown}{'; NTP keeps it' if kept else ''}; no store or web server could be asked")


def judge_clock(now: datetime, told: datetime, host: str) -> Verdict:
    """See ``check_clock``."""
    ahead = now - told
    shown = (
        f"this clock is {abs(ahead).total_seconds():.0f} s {'ahead of' if ahead > timedelta() else 'behind'} {host}"
    )
    if abs(ahead) >= S3_ALLOWS:
        return fail(f"{shown}: S3 refuses requests that are 15 minutes off, and certificates seem invalid", _SET_IT)
    if abs(ahead) >= _NOTICEABLE:
        return warn(f"{shown}: the times of predictions are wrong by that", _SET_IT)
    return ok(f"right within {max(1.0, abs(ahead).total_seconds()):.0f} s of {host}")


def time_source(patient: Patient) -> str | None:
    """Who can be asked: the store that models come from, or a host of their addresses."""
    if patient.device is not None and patient.device.store.endpoint is not None:
        return patient.device.store.endpoint
    uris = [] if patient.deployment is None else [model.uri for model in patient.deployment.models.values()]
    if any(uri.startswith("s3://") for uri in uris):
        return _AWS_STORE
    found = next((uri for uri in uris if uri.startswith("https://")), None)
    if found is not None:
        parts = urlsplit(found)
        return f"https://{parts.netloc.rpartition('@')[2]}"
    broker = patient.broker()
    return _AWS_STORE if broker is not None and broker.host.endswith(".amazonaws.com") else None


def ask_time(url: str) -> datetime | None:
    """The Date of a web server's answer; None where it does not give one.

    Its certificate is not checked: with a wrong clock it could not be, and nothing is sent.
    """
    parts = urlsplit(url)
    if parts.hostname is None:
        return None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=_WAIT_S, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_WAIT_S)
    try:
        connection.request("HEAD", "/", headers={"user-agent": "mli"})
        found = connection.getresponse().getheader("date")
        return None if found is None else parsedate_to_datetime(found).astimezone(UTC)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def kept_by_ntp() -> bool | None:
    """Whether the kernel says that something keeps the clock right; None where it does not tell."""
    if not sys.platform.startswith("linux"):
        return None
    buffer = ctypes.create_string_buffer(512)  # struct timex, all zero: only read
    state = ctypes.CDLL(None).adjtimex(buffer)
    return None if state < 0 else state != _TIME_ERROR


def _certificate_made(patient: Patient) -> datetime | None:
    broker = patient.broker()
    if broker is None or broker.tls is None or broker.tls.certificate_path is None:
        return None
    from mli.core.certificates import read_certificates
    from mli.errors import UsageError

    try:
        return read_certificates(Path(broker.tls.certificate_path))[0].not_valid_before_utc
    except UsageError:
        return None  # the check of the certificate tells


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
