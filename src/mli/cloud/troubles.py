"""What AWS and botocore say when a call fails, as errors that tell what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import botocore.exceptions as aws_errors
from botocore.parsers import ResponseParserError

from mli.errors import MliError, RefusedError, RetryError, StopError, UsageError

_DENIED = frozenset(
    {
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "ForbiddenException",
        "NotAuthorized",
        "UnauthorizedException",
        "UnauthorizedOperation",
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_UNKNOWN_KEYS = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "AuthFailure"}
)
_WRONG_SIGNATURE = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"})
_BUSY = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "SlowDown",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "InternalFailure",
        "InternalFailureException",
        "InternalError",
    }
)
_SERVER_ERROR = 500
_LONGEST_MESSAGE = 2000
_MISSING = re.compile(
    r"(?P<who>arn:\S+) is not authorized to perform: (?P<action>[a-z0-9-]+:\w+)(?: on resource: (?P<resource>\S+))?"
)
_ACTIONS = {
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "ListObjectsV2": "s3:ListBucket",
    "ListObjectVersions": "s3:ListBucketVersions",
    "DeleteObjects": "s3:DeleteObject and s3:DeleteObjectVersion",
}
_RIGHTS = "docs/security.md lists what the person who deploys may do"
_LOG_IN = "aws configure, or aws sso login, or AWS_PROFILE; then the same command again"


class MissingRight(StopError):
    """AWS knows who asks, and that person may not."""


@contextmanager
def asking(what: str, who: str = "") -> Iterator[None]:
    """Translate what AWS's library raises inside; ``what`` ends the sentence "AWS was asked …".

    Args:
        who: ARN of who asks, for a service that does not say whom it refuses, such as S3.

    Raises:
        MliError: see ``trouble``; errors of our own pass through.
    """
    try:
        yield
    except (aws_errors.BotoCoreError, aws_errors.ClientError, ResponseParserError) as error:
        raise trouble(error, what, who) from error


def code_of(error: Exception) -> str:
    """AWS's error code, such as ``AccessDenied``; empty where there is none."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def is_busy(error: aws_errors.ClientError) -> bool:
    """Whether the same request may work later."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code_of(error) in _BUSY or status >= _SERVER_ERROR


def message_of(error: Exception) -> str:
    """What AWS said, in one line."""
    said = getattr(error, "response", {}).get("Error", {}).get("Message") or str(error)
    text = " ".join(str(said).split())
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"  # a whole page of a proxy's


def trouble(error: Exception, what: str, who: str = "") -> MliError:
    """The error that a person is told.

    Args:
        error: of botocore or boto3.
        what: what AWS was asked, as a clause: ``who these credentials belong to``.
        who: ARN of who asks; empty where AWS says it.

    Returns:
        StopError for credentials and rights, RetryError for lines and busy services, UsageError for a wrong profile,
        else RefusedError.
    """
    if isinstance(error, aws_errors.ClientError):
        return _answered(error, what, who)
    where = f"asking {what}"
    if isinstance(error, aws_errors.ProfileNotFound):
        return UsageError(
            "there is no such AWS profile", where=where, got=str(error), remedy="aws configure list-profiles"
        )
    if isinstance(error, aws_errors.UnknownRegionError | aws_errors.InvalidRegionError):
        return UsageError("this is no AWS region", where=where, expected="such as eu-west-1", got=str(error))
    if isinstance(error, aws_errors.NoCredentialsError | aws_errors.PartialCredentialsError):
        return StopError("There are no AWS credentials here.", where=where, got=str(error), remedy=_LOG_IN)
    if isinstance(error, aws_errors.TokenRetrievalError | aws_errors.SSOError | aws_errors.UnauthorizedSSOTokenError):
        return StopError(
            "The AWS session has ended.", where=where, got=str(error), remedy="aws sso login; then again"
        )
    if isinstance(error, aws_errors.CredentialRetrievalError):
        return StopError("The AWS credentials cannot be had.", where=where, got=str(error), remedy=_LOG_IN)
    if isinstance(error, aws_errors.SSLError):
        return RefusedError(
            "The connection to AWS is not trusted.",
            where=where,
            got=str(error),
            remedy="behind an inspecting proxy, name its authority: AWS_CA_BUNDLE=FILE.pem",
        )
    if isinstance(error, ResponseParserError):
        return RetryError(
            "What came back is no answer of AWS.",
            where=where,
            got=" ".join(str(error).split())[:200],
            remedy="is a proxy or a captive portal in between? Otherwise the same command again",
        )
    if isinstance(error, aws_errors.HTTPClientError | aws_errors.ConnectionError):
        return RetryError(
            "AWS cannot be reached.",
            where=where,
            got=" ".join(str(error).split()),
            remedy="check the network, HTTPS_PROXY and the region; then the same command again",
        )
    return RefusedError(f"AWS was asked {what}, and that did not work.", got=" ".join(str(error).split()))


def _answered(error: aws_errors.ClientError, what: str, who: str) -> MliError:
    code, said, where = code_of(error), message_of(error), f"asking {what}"
    if code in _EXPIRED or "security token included in the request is expired" in said:
        return StopError("The AWS session has expired.", where=where, got=said, remedy=_LOG_IN)
    if code in _UNKNOWN_KEYS:
        return StopError(
            "AWS does not know these credentials.",
            where=where,
            got=f"{code}: {said}",
            remedy=f"are they of this partition, and not deleted? {_LOG_IN}",
        )
    if code in _WRONG_SIGNATURE:
        return StopError(
            "AWS does not take the signature.",
            where=where,
            got=f"{code}: {said}",
            remedy="check the secret key (a character lost in copying?) and this machine's clock",
        )
    if code in _DENIED or "not authorized to perform" in said:
        return _denied(code, said, where, error.operation_name, who)
    kind = RetryError if is_busy(error) else RefusedError
    return kind(
        f"AWS was asked {what}, and refused." if kind is RefusedError else "AWS is busy.",
        where=error.operation_name,
        got=f"{code}: {said}" if code else said,
        remedy=None if kind is RefusedError else "the same command again, in a minute",
    )


def missing_right(said: str, where: str) -> MissingRight | None:
    """Which right is missing, and for whom, where AWS says so in words; None where it does not.

    Args:
        said: a message of AWS, or a reason in the log of a stack.
        where: what was being done.
    """
    found = _MISSING.search(said)
    if found is None:
        return None
    on = f" on {found['resource'].rstrip('.,')}" if found["resource"] else ""
    return MissingRight(
        f"A right is missing: {found['action']}.",
        where=where,
        expected=f"{found['who']} may {found['action']}{on}",
        got=said,
        remedy=f"{_RIGHTS}; have it granted, then the same command again",
    )


def _denied(code: str, said: str, where: str, operation: str, who: str) -> MissingRight:
    """S3 does not say who may not do what: its operations are named by the right that they need."""
    told = missing_right(said, where)
    if told is not None:
        return told
    action = _ACTIONS.get(operation, operation)
    return MissingRight(
        f"A right is missing: {action}.",
        where=where,
        expected=f"{who} may {action}" if who else None,
        got=f"{code}: {said}",
        remedy=f"{_RIGHTS}; have it granted, then the same command again",
    )
