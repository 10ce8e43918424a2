"""What AWS says becomes what a person can act on."""

from __future__ import annotations

import botocore.exceptions as aws_errors
import pytest

from mli.cloud.troubles import asking, trouble
from mli.errors import MliError, RefusedError, RetryError, StopError, UsageError


def answered(code: str, message: str = "") -> aws_errors.ClientError:
    return aws_errors.ClientError({"Error": {"Code": code, "Message": message}}, "DescribeThing")


def test_a_missing_right_is_named_with_who_lacks_it_and_where() -> None:
    said = (
        "User: arn:aws:iam::123456789012:user/op is not authorized to perform: iot:DescribeThing "
        "on resource: arn:aws:iot:eu-west-1:123456789012:thing/a because no identity-based policy allows it"
    )
    error = trouble(answered("AccessDeniedException", said), "for the thing")
    assert isinstance(error, StopError)
    assert error.what == "A right is missing: iot:DescribeThing."
    assert error.expected == (
        "arn:aws:iam::123456789012:user/op may iot:DescribeThing on arn:aws:iot:eu-west-1:123456789012:thing/a"
    )


def test_a_denial_without_details_names_the_operation() -> None:
    assert "DescribeThing" in trouble(answered("AccessDenied", "Access Denied"), "for the thing").what


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (answered("ExpiredToken", "it is over"), StopError, "expired"),
        (answered("UnrecognizedClientException", "invalid token"), StopError, "know"),
        (answered("SignatureDoesNotMatch"), StopError, "signature"),
        (answered("ThrottlingException", "Rate exceeded"), RetryError, "busy"),
        (answered("ValidationException", "Bad"), RefusedError, "refused"),
        (aws_errors.NoCredentialsError(), StopError, "no AWS credentials"),
        (aws_errors.ProfileNotFound(profile="x"), UsageError, "profile"),
        (aws_errors.EndpointConnectionError(endpoint_url="https://h"), RetryError, "reached"),
        (aws_errors.ConnectTimeoutError(endpoint_url="https://h"), RetryError, "reached"),
        (aws_errors.SSLError(endpoint_url="https://h", error="self-signed"), RefusedError, "trusted"),
        (aws_errors.UnauthorizedSSOTokenError(), StopError, "session"),
    ],
)  # fmt: skip
def test_each_failure_says_what_the_caller_can_do(error: Exception, kind: type[MliError], says: str) -> None:
    told = trouble(error, "for the thing")
    assert type(told) is kind
    assert says in told.what


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_s_own_trouble_is_tried_again_and_its_page_is_cut(status: int) -> None:
    """What stands before a service answers with a page, of which botocore makes a message and a number for a code."""
    page = {"Code": str(status), "Message": "<p>oops\n" * 100_000}
    answer = {"Error": page, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = aws_errors.ClientError(answer, "CreateCertificateFromCsr")
    told = trouble(error, "to sign")
    assert type(told) is RetryError
    assert told.remedy is not None
    assert f"{status}: <p>oops" in str(told)
    assert len(str(told)) < 3000


def test_our_own_errors_pass_through() -> None:
    with pytest.raises(UsageError, match="mine"), asking("anything"):
        raise UsageError("mine")


def test_what_came_is_kept_as_the_cause() -> None:
    with pytest.raises(StopError) as caught, asking("for the thing"):
        raise answered("ExpiredToken")
    assert isinstance(caught.value.__cause__, aws_errors.ClientError)
