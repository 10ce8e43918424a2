"""AWS IoT Core from a workstation: MQTT through WebSockets, let in by the credentials of an AWS profile.

Each connection needs a path of its own, signed with AWS Signature Version 4: it says whose credentials ask, and
holds for some minutes. Source: "Device communication protocols" of the AWS IoT Core Developer Guide.
"""

from __future__ import annotations

import http
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import boto3
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import get_environ_proxies

from mli.cloud.aws import Aws
from mli.cloud.troubles import asking
from mli.config.proxies import Proxy, parse_proxy
from mli.config.redaction import hide
from mli.config.settings import MqttSettings, TlsSettings
from mli.errors import MliError, RefusedError, RetryError, StopError, UsageError

PORT = 443
MOST_SUBSCRIPTIONS = 50
"""A connection that has more is ended."""
_SERVICE, _PATH = "iotdevicegateway", "/mqtt"
_EXPIRES_S = 300
_CLOCK_TOLERANCE_S = 300
_FILES = ("shared-credentials-file", "config-file")
_ENDPOINT = re.compile(r"(?P<host>[A-Za-z0-9.-]{1,253})(?::(?P<port>\d{1,5}))?")
_REGION = re.compile(r"\.iot\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$")


@dataclass(frozen=True, slots=True)
class IotWebSocket:
    """Signs the handshakes of connections to one endpoint.

    Attributes:
        authority: host, with its port where that is not 443.
        proxy: what connections go through.
    """

    aws: Aws
    authority: str
    proxy: Proxy | None = None

    def path(self) -> str:
        """Path and query of the next handshake. Credentials that expire are got anew where they can be.

        Raises:
            MliError: there are none, or not any more.
        """
        with asking("for credentials to sign the connection with"):
            keys = self._keys()
        request = AWSRequest("GET", f"https://{self.authority}{_PATH}")
        lasting = Credentials(keys.access_key, keys.secret_key)
        SigV4QueryAuth(lasting, _SERVICE, self.aws.region, _EXPIRES_S).add_auth(request)
        signed = str(request.url).removeprefix(f"https://{self.authority}")
        if keys.token is None:
            return signed
        # AWS IoT Core wants the token beside what is signed, not in it.
        hide([keys.token], passing=True)
        return f"{signed}&X-Amz-Security-Token={quote(keys.token, safe='')}"

    def _keys(self) -> Any:
        found = self.aws.session.get_credentials()
        if found is not None and found.method in _FILES:
            # Other tools write new keys into these files, and a session reads them only once.
            found = boto3.Session(profile_name=self.aws.session.profile_name).get_credentials()
        if found is None:
            raise StopError("There are no AWS credentials here any more.", remedy="aws configure, or aws sso login")
        return found.get_frozen_credentials()

    def refusal(self, status: int, said: str, server_time_s: float | None) -> MliError:
        """Why AWS IoT Core made no WebSocket; it says little itself, so credentials and clock are tried elsewhere."""
        where, got = f"wss://{self.authority}{_PATH}", f"HTTP {status}" + (f": {said}" if said else "")
        if status == http.HTTPStatus.TOO_MANY_REQUESTS or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            return RetryError(
                "AWS IoT Core is busy.", where=where, got=got, remedy="the same command again, in a minute"
            )
        if status != http.HTTPStatus.FORBIDDEN:
            return RefusedError(
                "This endpoint does not speak MQTT through WebSockets.",
                where=where,
                expected="the answer of AWS IoT Core's data endpoint",
                got=got,
                remedy="aws iot describe-endpoint --endpoint-type iot:Data-ATS",
            )
        off_s = 0.0 if server_time_s is None else time.time() - server_time_s
        if abs(off_s) > _CLOCK_TOLERANCE_S:
            return StopError(
                "This machine's clock is wrong, so AWS IoT Core does not take the signature.",
                where=where,
                got=f"{abs(off_s) / 60:.0f} minutes {'fast' if off_s > 0 else 'slow'}; {got}",
                remedy="set the clock (timedatectl set-ntp true)",
            )
        try:
            with asking("whether these credentials still hold"):
                self.aws.client("sts").get_caller_identity()
        except MliError as error:
            return error
        return StopError(
            "AWS IoT Core does not let these credentials connect.",
            where=where,
            expected=f"{self.aws.identity} may iot:Connect on {self.aws.arn('iot', 'client/mli-*')}",
            got=f"{got}; the same credentials are good for AWS STS",
            remedy="have the right granted (docs/security.md), and check that the endpoint is of "
            f"{self.aws.region} and of account {self.aws.account}",
        )


def open_iot(aws: Aws, endpoint: str | None = None, ca_path: str | None = None) -> tuple[MqttSettings, IotWebSocket]:
    """Where AWS IoT Core is for this account and region, and what lets connections in.

    Args:
        endpoint: host, or host:port, instead of asking for it.
        ca_path: authorities that may sign its certificate [default: AWS_CA_BUNDLE, else the system's].

    Raises:
        UsageError: no endpoint, or one of another region.
        MliError: AWS does not say where it is.
    """
    if endpoint is None:
        with asking("where AWS IoT Core is"):
            endpoint = aws.client("iot").describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    found = _ENDPOINT.fullmatch(endpoint)
    port = PORT if found is None or found["port"] is None else int(found["port"])
    if found is None or not 1 <= port <= 65_535:
        raise UsageError(
            "this is no endpoint", expected="PREFIX-ats.iot.REGION.amazonaws.com, or HOST:PORT", got=endpoint
        )
    region = _REGION.search(found["host"].lower())
    if region is not None and region["region"] != aws.region:
        raise UsageError(
            "this endpoint is of another region",
            expected=f"one of {aws.region}",
            got=endpoint,
            remedy=f"--region {region['region']}",
        )
    bundle = aws.session._session.get_config_variable("ca_bundle")  # boto3 has no other way to ask for it
    settings = MqttSettings(host=found["host"], port=port, tls=TlsSettings(ca_path or bundle))
    authority = found["host"] if port == PORT else f"{found['host']}:{port}"
    return settings, IotWebSocket(aws, authority, _proxy(authority))


def _proxy(authority: str) -> Proxy | None:
    """As boto3 itself chooses it: HTTPS_PROXY, unless NO_PROXY names the host."""
    text = get_environ_proxies(f"https://{authority}").get("https")
    if not text:
        return None
    try:
        return parse_proxy(text)
    except ValueError as error:
        raise UsageError(
            "HTTPS_PROXY names no proxy that can be used",
            expected="http://[user:password@]HOST:PORT",
            got=f"{error} (the rest is not shown)",
            remedy="correct it, or name the host in NO_PROXY",
        ) from error
