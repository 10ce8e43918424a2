"""What an S3 store says when it does not give the object, and what a person can do about it.

Source of the codes: "Error responses" of the Amazon S3 API reference.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from mli.errors import MliError, RefusedError, RetryError, StopError
from mli.models.fetching.addresses import S3Address
from mli.models.fetching.exchange import Answer
from mli.models.fetching.troubles import TransferError

_REGION_CODES = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "TemporaryRedirect",
        "IllegalLocationConstraintException",
        "InvalidRegion",
    }
)
_CREDENTIAL_CODES = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_BUSY_CODES = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted"})
_KEY_REMEDIES = {
    "InvalidAccessKeyId": "check the access key id: the store does not know it",
    "SignatureDoesNotMatch": "check the secret access key: it does not belong to the access key id",
}


@dataclass(frozen=True, slots=True)
class S3Refusal:
    """An answer that is not the object.

    Attributes:
        code, message: of the store's XML; empty where there is none.
        region: of the bucket, where the store says it; not checked.
        location: host that a redirect points to.
        clock_ahead_s: this device's clock minus the store's; None where the store does not say its time.
        wait_s: as ``Retry-After`` asks for.
    """

    status: int
    code: str
    message: str
    region: str | None
    location: str | None
    clock_ahead_s: float | None
    wait_s: float

    @property
    def is_about_region(self) -> bool:
        """The request went to another region than the bucket's."""
        return self.code in _REGION_CODES or self.status in (301, 302, 307, 308)

    @property
    def wants_other_credentials(self) -> bool:
        """The temporary ones are over."""
        return self.code in _CREDENTIAL_CODES

    @property
    def said(self) -> str:
        """Status, code and the store's own sentence."""
        return " ".join(filter(None, [f"HTTP status {self.status}", self.code])) + (
            f": {self.message}" if self.message else ""
        )


def refusal_of(answer: Answer) -> S3Refusal:
    """Read what the store says; of its XML only code, message and region, as the rest repeats the signature."""
    text = answer.text()
    message = _element(text, "Message")
    expecting = re.search(r"expecting '([a-z0-9-]{1,40})'", message)
    region = answer.header("x-amz-bucket-region") or _element(text, "Region") or (expecting and expecting[1])
    location = urlsplit(answer.header("location") or "").hostname
    after = answer.header("retry-after") or ""
    return S3Refusal(
        status=answer.status,
        code=_element(text, "Code"),
        message=message,
        region=region or _region_of_host(location or _element(text, "Endpoint")),
        location=location,
        clock_ahead_s=clock_ahead_s(answer),
        wait_s=float(after) if after.isdigit() else 0.0,
    )


def clock_ahead_s(answer: Answer) -> float | None:
    """This device's clock minus the other end's, as its ``Date`` header has it."""
    try:
        theirs = parsedate_to_datetime(answer.header("date") or "")
    except ValueError:
        return None
    return (datetime.now(UTC) - theirs).total_seconds() if theirs.tzinfo else None


def wrong_region(found: S3Refusal, where: str, asked: str, followed: str) -> StopError:
    """The bucket's region could not be followed."""
    own = found.region or (followed if followed != asked else None)
    target = f", which points to {found.location}" if found.location else ""
    return StopError(
        f"The bucket of the model archive is in another region than {asked}.",
        where=where,
        expected=f"the bucket's own region{f', {own}' if own else ', which the store does not name'}",
        got=f"a request in {followed}; {found.said}{target}",
        remedy=f"set region: {own or '<the bucket’s region>'} of the model in the deployment, or store.region of the "
        "device",
    )


def refused(found: S3Refusal, address: S3Address, where: str, credentials: str) -> MliError:
    """The error for every other answer."""
    if found.status >= 500 or found.status == 429 or found.code in _BUSY_CODES:
        busy = TransferError(
            "The model store cannot answer now.", where=where, got=found.said, remedy="it is tried again later"
        )
        busy.wait_s = found.wait_s
        return busy
    if found.code == "RequestTimeTooSkewed":
        return _skewed(found, where)
    if found.status == 404:
        return _missing(found, address, where)
    if found.code in _KEY_REMEDIES or found.wants_other_credentials:
        return StopError(
            "The model store does not accept this device's credentials.",
            where=where,
            expected=credentials,
            got=found.said,
            remedy=_KEY_REMEDIES.get(found.code, "renew them; check the device's clock"),
        )
    if found.status in (401, 403):
        return _denied(found, address, where, credentials)
    return RefusedError(
        "The model store does not give the archive.",
        where=where,
        expected="HTTP status 200 or 206",
        got=found.said,
        remedy="check the model's uri, and that store.endpoint is an S3 store",
    )


def _denied(found: S3Refusal, address: S3Address, where: str, credentials: str) -> RefusedError:
    return RefusedError(
        "The model archive may not be read with this device's credentials.",
        where=where,
        expected=f"access to {address.shown} with {credentials}",
        got=found.said,
        remedy=f"allow s3:GetObject on arn:aws:s3:::{address.bucket}/{address.key} to them, or choose others in "
        "store.credentials; without s3:ListBucket, a key that does not exist gets this answer too",
    )


def _missing(found: S3Refusal, address: S3Address, where: str) -> RefusedError:
    bucket = found.code == "NoSuchBucket"
    return RefusedError(
        f"There is no bucket {address.bucket}." if bucket else "There is no such model archive in the bucket.",
        where=where,
        expected="a bucket of this store" if bucket else f"an object {address.key}",
        got=found.said,
        remedy="correct the model's uri, or store.endpoint" if bucket else "upload it, or correct the model's uri",
    )


def _skewed(found: S3Refusal, where: str) -> RetryError:
    ahead = found.clock_ahead_s
    off = "more than 15 minutes off"
    if ahead is not None and abs(ahead) > 60:
        off = f"{abs(ahead) / 60:,.0f} minutes {'ahead of' if ahead > 0 else 'behind'} the store's"
    return RetryError(
        "This device's clock is wrong, so the model store refuses its signature.",
        where=where,
        expected="a clock within 15 minutes of the store's",
        got=off,
        remedy="set the clock, and keep it right with NTP",
    )


def _region_of_host(host: str | None) -> str | None:
    """``s3.REGION.amazonaws.com`` and ``BUCKET.s3-REGION.amazonaws.com`` name it."""
    found = re.search(r"(?:^|\.)s3[.-]([a-z]{2}-[a-z0-9-]+-\d)\.amazonaws\.com(?:\.cn)?$", host or "")
    return found[1] if found else None


def _element(text: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]{{0,500}})</{name}>", text)
    return "".join(c if c.isprintable() else " " for c in html.unescape(found[1])).strip() if found else ""
