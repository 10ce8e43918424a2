"""An AWS account as a workstation sees it: credentials, region, partition, clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config

from mli.cloud.troubles import asking
from mli.errors import UsageError
from mli.nearest import nearest

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, _ATTEMPTS = 10, 60, 5


@dataclass(frozen=True, slots=True)
class Aws:
    """Credentials that were proved to work, and where they are used.

    Attributes:
        region: such as ``eu-west-1``.
        account: 12 digits.
        partition: ``aws``, ``aws-cn``, ``aws-us-gov``.
        identity: ARN of who asks.
        domain: of the region's hosts, ``amazonaws.com`` or ``amazonaws.com.cn``.
    """

    region: str
    account: str
    partition: str
    identity: str
    domain: str
    session: Any = field(repr=False)

    def client(self, service: str, region: str | None = None, **options: Any) -> Any:
        """A boto3 client; retries what is worth it."""
        return self.session.client(service, region_name=region or self.region, config=client_config(), **options)

    def arn(self, service: str, resource: str) -> str:
        """ARN of a resource of this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


def client_config(**more: Any) -> Config:
    """For a boto3 client that waits for a bounded time, and retries what is worth it."""
    return Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        **more,
    )


def open_aws(profile: str | None = None, region: str | None = None) -> Aws:
    """Find credentials and a region as the AWS CLI does, and ask who they belong to.

    Endpoints of one's own are taken from ``AWS_ENDPOINT_URL`` and ``AWS_ENDPOINT_URL_<SERVICE>``.

    Raises:
        UsageError: no such profile or region, or none is named.
        StopError: no credentials, or they are not valid (any more).
        RetryError: AWS cannot be reached.
    """
    with asking("who these credentials belong to"):
        session = boto3.Session(profile_name=profile, region_name=region)
        chosen = session.region_name
        if not chosen:
            raise UsageError(
                "no AWS region is named",
                expected="such as eu-west-1",
                remedy="--region REGION, or AWS_REGION, or `aws configure set region REGION`",
            )
        if chosen not in session.get_available_regions("iot", session.get_partition_for_region(chosen)):
            known = session.get_available_regions("iot")
            raise UsageError(
                "AWS IoT Core knows no such region",
                expected="such as eu-west-1",
                got=repr(chosen) + nearest(chosen, known),
                remedy="--region REGION",
            )
        caller = session.client("sts", region_name=chosen).get_caller_identity()
    partition = session.get_partition_for_region(chosen)
    domain = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    return Aws(chosen, caller["Account"], partition, caller["Arn"], domain, session)
