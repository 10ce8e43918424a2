"""The broker that a workstation's command talks to: one's own, or AWS IoT Core by an AWS profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from mli.errors import UsageError

if TYPE_CHECKING:
    from mli.cloud.aws import Aws
    from mli.config.settings import MqttSettings
    from mli.delivery.websocket import WebSocketAccess

OnAws = Annotated[bool, typer.Option("--aws", help="AWS IoT Core, with your AWS profile; no certificate is needed.")]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint", help="With --aws: HOST[:PORT] [default: the account's in the region]")
]


_AWS = (".amazonaws.com", ".amazonaws.com.cn")


@dataclass(frozen=True, slots=True)
class Reach:
    """How to connect.

    Attributes:
        access: for AWS IoT Core through WebSockets.
        account: that of the AWS profile; None for other brokers, which cannot be asked what they know.
    """

    settings: MqttSettings
    access: WebSocketAccess | None = None
    account: Aws | None = None

    @property
    def is_aws(self) -> bool:
        """Whether AWS IoT Core's limits hold."""
        return self.access is not None or self.settings.host.endswith(_AWS)


def reach_aws(
    profile: str | None, region: str | None, endpoint: str | None, ca: str | None, needless: Mapping[str, object]
) -> Reach:
    """AWS IoT Core, by an AWS profile.

    Args:
        needless: options that are for other brokers, and what was given for them.

    Raises:
        UsageError: options that contradict each other; no such profile, region or endpoint.
        MliError: see ``aws_account`` and ``open_iot``.
    """
    given = [option for option, value in needless.items() if value is not None]
    if given:
        raise UsageError(
            "--aws connects to AWS IoT Core with an AWS profile alone",
            got=", ".join(given),
            remedy="leave out --aws, or the others",
        )
    from mli.cli.aws_account import aws_account

    aws = aws_account(profile, region)
    from mli.cloud.iot_websocket import open_iot

    return Reach(*open_iot(aws, endpoint, ca), aws)


def refuse_aws_options(given: Mapping[str, object]) -> None:
    """Without --aws these say nothing."""
    found = [option for option, value in given.items() if value is not None]
    if found:
        raise UsageError("this is for AWS IoT Core", got=", ".join(found), remedy="say --aws as well")
