"""Which certificates a thing has, and which things a certificate."""

from __future__ import annotations

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.near_core import near_core
from mli.cloud.troubles import asking, code_of
from mli.errors import RefusedError


def certificates_of(aws: Aws, thing: str) -> tuple[str, ...]:
    """Ids of the certificates of a thing, whatever their status.

    Raises:
        RefusedError: there is no such thing.
        MliError: AWS did not answer, or a right is missing.
    """
    with asking(f"for the certificates of the thing {thing}"):
        pages = aws.client("iot").get_paginator("list_thing_principals").paginate(thingName=thing)
        try:
            principals = [name for page in pages for name in page["principals"]]
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            raise RefusedError(
                f"There is no thing {thing} in {aws.region}.",
                where=f"account {aws.account}",
                got=thing + near_core(aws, thing),
                remedy="--region REGION for another region; mli stack deploy CORE_NAME makes a thing",
            ) from error
    return tuple(name.rpartition("/")[2] for name in principals if ":cert/" in name)


def things_of(aws: Aws, arn: str) -> tuple[str, ...]:
    """Names of the things that a certificate belongs to.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    with asking("what the certificate belongs to"):
        pages = aws.client("iot").get_paginator("list_principal_things").paginate(principal=arn)
        return tuple(name for page in pages for name in page["things"])
