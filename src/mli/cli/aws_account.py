"""The AWS account that a command works in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mli.errors import StopError

if TYPE_CHECKING:
    from mli.cloud.aws import Aws

Profile = Annotated[str | None, typer.Option("--profile", help="AWS profile [default: as the AWS CLI finds it]")]
Region = Annotated[str | None, typer.Option("--region", help="AWS region [default: the profile's]")]


def aws_account(profile: str | None, region: str | None) -> Aws:
    """Credentials that work, and where.

    Raises:
        StopError: the AWS parts are not installed, or there are no valid credentials.
        UsageError: no such profile or region.
        RetryError: AWS cannot be reached.
    """
    need_cloud()
    from mli.cloud.aws import open_aws

    return open_aws(profile, region)


def need_cloud() -> None:
    """Raise StopError where what the AWS commands import is not installed."""
    from importlib.util import find_spec

    if find_spec("boto3") is None:
        raise StopError(
            "The AWS commands need boto3, which is not installed.",
            remedy="install mli with its AWS parts: pip install 'mli[cloud]', in a checkout pip install '.[cloud]'",
        )
