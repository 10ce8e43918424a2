"""Hosts of AWS IoT Core: which service and region a name stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_AWS = re.compile(
    r"(?P<name>[a-z0-9]+)(?P<ats>-ats)?(?P<service>\.[a-z]+)?\.iot\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d+)"
    r"(?P<domain>\.amazonaws\.com(?:\.cn)?)"
)

Service = Literal["data", "legacy-data", "credentials", "other"]
"""``data`` is MQTT with Amazon's own authorities, ``legacy-data`` with one that nobody trusts any more."""


@dataclass(frozen=True, slots=True)
class AwsHost:
    """What the name of an AWS IoT host says.

    Attributes:
        greengrass: host of the Greengrass V1 service beside it, which the accelerator's file names too.
    """

    service: Service
    region: str
    greengrass: str


def aws_host(host: str) -> AwsHost | None:
    """What ``host`` stands for; None where it is not of AWS IoT, such as a broker of one's own or a custom domain."""
    found = _AWS.fullmatch(host.lower())
    if found is None:
        return None
    greengrass = f"greengrass-ats.iot.{found['region']}{found['domain']}"
    return AwsHost(_service(found), found["region"], greengrass)


def _service(found: re.Match[str]) -> Service:
    if found["name"] == "greengrass":
        return "other"
    if found["service"] is None:
        return "data" if found["ats"] else "legacy-data"
    return "credentials" if found["service"] == ".credentials" else "other"
