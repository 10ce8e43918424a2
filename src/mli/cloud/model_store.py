"""Where models are kept: S3 in an AWS account, or a store of one's own that speaks S3 and knows access keys alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.exceptions as aws_errors

from mli.cloud.aws import Aws, client_config
from mli.cloud.troubles import asking, code_of, is_busy, message_of
from mli.errors import MliError, RefusedError, RetryError, StopError, UsageError

_AWS = (".amazonaws.com", ".amazonaws.com.cn")
_ANY_REGION = "us-east-1"
"""Where nobody says one; a store that has another answers with its name, and boto3 signs once more for that one."""
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the store, or --profile"


@dataclass(frozen=True, slots=True)
class ModelStore:
    """A client of S3, and what is known of who asks.

    Attributes:
        owner: what every request says of the bucket's owner; a store of one's own cannot be asked for it.
        identity: ARN of who asks; empty where access keys are of no account.
        endpoint: URL of a store of one's own; None for AWS.
    """

    s3: Any = field(repr=False)
    owner: Mapping[str, str]
    identity: str = ""
    endpoint: str | None = None

    def asking(self, what: str) -> AbstractContextManager[None]:
        """Translate what the store's client raises inside; ``what`` ends the sentence "it was asked …"."""
        return asking(what, self.identity) if self.endpoint is None else _asking_own(what, self.endpoint)


def store_of(aws: Aws) -> ModelStore:
    """S3 in an AWS account: only buckets of its own are taken."""
    return ModelStore(aws.client("s3"), {"ExpectedBucketOwner": aws.account}, aws.identity)


def own_store(profile: str | None, region: str | None, endpoint: str | None) -> ModelStore | None:
    """A store that is not AWS; nobody is asked for an account.

    Args:
        endpoint: its URL; None takes that of ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL`` or the profile.

    Returns:
        None where no other store than AWS is named.

    Raises:
        UsageError: no such profile, or ``endpoint`` is AWS.
        StopError: no access keys.
    """
    with asking("which store this profile names"):
        session = boto3.Session(profile_name=profile, region_name=region)
        # As devices ask: few stores have a host name for each bucket.
        config = client_config(s3={"addressing_style": "path"})
        client = session.client(
            "s3", region_name=session.region_name or _ANY_REGION, endpoint_url=endpoint, config=config
        )
        url = str(client.meta.endpoint_url)
        if (urlsplit(url).hostname or "").endswith(_AWS):
            if endpoint is not None:
                raise UsageError("--endpoint is for stores that are not AWS", got=endpoint, remedy="leave it out")
            return None
        if session.get_credentials() is None:
            raise StopError("There are no access keys for this store.", where=url, expected=_KEYS)
    return ModelStore(client, {}, endpoint=url)


def check_own_bucket(store: ModelStore, bucket: str) -> None:
    """Refuse a bucket that is not there.

    Raises:
        MliError: so, or the store did not answer or does not take these keys.
    """
    with store.asking(f"for the bucket {bucket}"):
        try:
            store.s3.list_objects_v2(Bucket=bucket, MaxKeys=1)  # a HEAD would be refused without a word
        except aws_errors.ClientError as error:
            if code_of(error) != "NoSuchBucket":
                raise
            raise RefusedError(
                f"There is no bucket {bucket}.",
                where=f"s3://{bucket} at {store.endpoint}",
                remedy="check its name, or make it",
            ) from error


@contextmanager
def _asking_own(what: str, endpoint: str) -> Iterator[None]:
    try:
        yield
    except (aws_errors.BotoCoreError, aws_errors.ClientError) as error:
        raise _own_trouble(error, f"asking {what} at {endpoint}") from error


def _own_trouble(error: Exception, where: str) -> MliError:
    said = message_of(error)
    if isinstance(error, aws_errors.SSLError):
        return RefusedError(
            "The connection to the store is not trusted.",
            where=where,
            got=said,
            remedy="name the authority of its certificate: AWS_CA_BUNDLE=FILE.pem",
        )
    if not isinstance(error, aws_errors.ClientError):
        return RetryError(
            "The store cannot be reached.",
            where=where,
            got=said,
            remedy="check its address and the network; then the same command again",
        )
    got = f"{code_of(error)}: {said}"
    if is_busy(error):
        return RetryError("The store is busy.", where=where, got=got, remedy="the same command again, in a minute")
    return StopError("The store refuses.", where=where, got=got, remedy=f"check {_KEYS}, and what they may do there")
