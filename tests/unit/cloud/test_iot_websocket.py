"""Signed paths of AWS IoT Core, checked by a server's side of its own; and what a refusal at its door means."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.stub import Stubber
from tests.fixtures.iot_signatures import Keys, Refusal, asker_of_headers, asker_of_query

from mli.cloud.aws import Aws
from mli.cloud.iot_websocket import IotWebSocket, open_iot
from mli.errors import RefusedError, RetryError, StopError, UsageError

REGION, SERVICE = "eu-central-1", "iotdevicegateway"
HOST = f"abcdefghijklm-ats.iot.{REGION}.amazonaws.com"
KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TOKEN = "a token/with+what=must be encoded"


class Session:
    """A boto3 session whose clients answer from a list, and check what they are asked against AWS's own models."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.stubbed: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def client(self, service: str, **_: Any) -> Any:
        return self.stubbed[service]

    def stub(self, service: str) -> Stubber:
        client = boto3.Session("a", "b", region_name=REGION).client(service)
        self.stubbed[service] = client
        stubber = Stubber(client)
        stubber.activate()
        return stubber


def account(token: str | None = None, keys: Keys = KEYS) -> tuple[Aws, Session]:
    session = Session(boto3.Session(keys.access_key, keys.secret_key, token, region_name=REGION))
    return Aws(REGION, "123456789012", "aws", "arn:aws:iam::123456789012:user/me", "amazonaws.com", session), session


def test_the_servers_side_agrees_with_aws_own_example() -> None:
    """``get-vanilla`` of AWS's test suite for signatures."""
    signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    headers = {
        "host": "example.amazonaws.com",
        "x-amz-date": "20150830T123600Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}",
    }
    now = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    assert asker_of_headers("GET", "/", headers, b"", [KEYS], "us-east-1", "service", now) == KEYS
    with pytest.raises(Refusal, match="does not match"):
        asker_of_headers("GET", "/?a=b", headers, b"", [KEYS], "us-east-1", "service", now)


@pytest.mark.parametrize("authority", [HOST, "localhost:8443"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_path_is_signed_for_this_host_and_these_keys(authority: str, token: str | None) -> None:
    known = Keys(KEYS.access_key, KEYS.secret_key, token=token)
    path = IotWebSocket(account(token)[0], authority).path()
    assert path.startswith("/mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert asker_of_query(authority, path, [known], REGION, SERVICE) == known
    for other in ("elsewhere", f"{authority}:1"):
        with pytest.raises(Refusal, match="does not match"):
            asker_of_query(other, path, [known], REGION, SERVICE)
    with pytest.raises(Refusal, match="scoped"):
        asker_of_query(authority, path, [known], "us-east-1", SERVICE)
    with pytest.raises(Refusal, match="does not match"):
        asker_of_query(authority, path, [Keys(KEYS.access_key, "another", token=token)], REGION, SERVICE)


def test_a_path_holds_for_minutes_and_the_token_stands_behind_the_signature() -> None:
    path = IotWebSocket(account(TOKEN)[0], HOST).path()
    assert path.index("X-Amz-Signature=") < path.index(
        "X-Amz-Security-Token=a%20token%2Fwith%2Bwhat%3Dmust%20be%20encoded"
    )
    known = Keys(KEYS.access_key, KEYS.secret_key, token=TOKEN)
    later = datetime.now(UTC) + timedelta(seconds=250)
    assert asker_of_query(HOST, path, [known], REGION, SERVICE, later) == known
    with pytest.raises(Refusal, match="expired"):
        asker_of_query(HOST, path, [known], REGION, SERVICE, later + timedelta(seconds=60))


def test_keys_that_another_tool_wrote_into_the_files_meanwhile_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(secret: str) -> None:
        text = f"[edge]\naws_access_key_id=AKIDEXAMPLE\naws_secret_access_key={secret}\n"
        (tmp_path / "credentials").write_text(text)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    write("first")
    aws = Aws(REGION, "123456789012", "aws", "me", "amazonaws.com", boto3.Session(profile_name="edge"))
    access = IotWebSocket(aws, HOST)
    first, second = Keys("AKIDEXAMPLE", "first"), Keys("AKIDEXAMPLE", "second")
    assert asker_of_query(HOST, access.path(), [first], REGION, SERVICE) == first
    write("second")
    assert asker_of_query(HOST, access.path(), [second], REGION, SERVICE) == second


def test_keys_that_expire_are_got_anew_for_the_next_path() -> None:
    aws, session = account()
    got: list[str] = []

    def refresh() -> dict[str, str]:
        got.append(f"secret-{len(got)}")
        soon = datetime.now(UTC) + timedelta(seconds=1)  # within the time in which they must be got anew
        return {
            "access_key": "AKIDEXAMPLE",
            "secret_key": got[-1],
            "token": "t",
            "expiry_time": soon.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    session.real._session._credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "sso")
    access = IotWebSocket(aws, HOST)
    for _ in range(2):
        path = access.path()
        asker_of_query(HOST, path, [Keys("AKIDEXAMPLE", got[-1], token="t")], REGION, SERVICE)
    assert len(got) >= 3


# --- refusals --------------------------------------------------------------------------------------------------


def test_credentials_that_aws_takes_elsewhere_lack_the_right_to_connect() -> None:
    aws, session = account()
    session.stub("sts").add_response("get_caller_identity", {"Account": "123456789012"})
    error = IotWebSocket(aws, HOST).refusal(403, "ForbiddenException: Forbidden", time.time())
    assert isinstance(error, StopError)
    expected = f"arn:aws:iam::123456789012:user/me may iot:Connect on arn:aws:iot:{REGION}:123456789012:client/mli-*"
    assert error.expected == expected
    assert "ForbiddenException" in str(error)
    assert REGION in (error.remedy or "")


def test_an_expired_session_is_told_as_such() -> None:
    aws, session = account(TOKEN)
    said = "The security token included in the request is expired"
    session.stub("sts").add_client_error("get_caller_identity", "ExpiredToken", said)
    error = IotWebSocket(aws, HOST).refusal(403, "Forbidden", None)
    assert "session has expired" in error.what
    assert "aws sso login" in (error.remedy or "")


@pytest.mark.parametrize(("off_s", "told"), [(600, "10 minutes fast"), (-600, "10 minutes slow")])
def test_a_wrong_clock_is_told_by_how_much(off_s: float, told: str) -> None:
    error = IotWebSocket(account()[0], HOST).refusal(403, "Forbidden", time.time() - off_s)
    assert "clock" in error.what
    assert told in (error.got or "")


def test_a_busy_service_and_another_kind_of_server() -> None:
    access = IotWebSocket(account()[0], HOST)
    assert isinstance(access.refusal(503, "", None), RetryError)
    assert isinstance(access.refusal(429, "", None), RetryError)
    error = access.refusal(404, "", None)
    assert isinstance(error, RefusedError)
    assert "describe-endpoint" in (error.remedy or "")


# --- the endpoint ----------------------------------------------------------------------------------------------


def test_the_endpoint_is_asked_for() -> None:
    aws, session = account()
    asked = session.stub("iot")
    asked.add_response("describe_endpoint", {"endpointAddress": HOST}, {"endpointType": "iot:Data-ATS"})
    settings, access = open_iot(aws)
    assert (settings.host, settings.port, access.authority) == (HOST, 443, HOST)
    assert settings.tls is not None
    asked.assert_no_pending_responses()


def test_who_may_not_ask_for_the_endpoint_hears_which_right_is_missing() -> None:
    aws, session = account()
    said = "User: arn:aws:iam::123456789012:user/me is not authorized to perform: iot:DescribeEndpoint on resource: *"
    session.stub("iot").add_client_error("describe_endpoint", "AccessDeniedException", said)
    with pytest.raises(StopError, match="iot:DescribeEndpoint"):
        open_iot(aws)


def test_an_endpoint_may_have_a_port_and_authorities_of_its_own() -> None:
    settings, access = open_iot(account()[0], "localhost:8443", "/ca.pem")
    assert (settings.host, settings.port, access.authority) == ("localhost", 8443, "localhost:8443")
    assert settings.tls is not None
    assert settings.tls.ca_path == "/ca.pem"


def test_authorities_come_from_where_the_aws_cli_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/bundle.pem")
    settings, _ = open_iot(account()[0], "localhost")
    assert settings.tls is not None
    assert settings.tls.ca_path == "/bundle.pem"


@pytest.mark.parametrize("endpoint", ["https://x", "host:0", "host:70000", "a b", ""])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(UsageError, match="no endpoint"):
        open_iot(account()[0], endpoint)


@pytest.mark.parametrize("domain", ["amazonaws.com", "amazonaws.com.cn"])
def test_an_endpoint_of_another_region_is_seen_before_anything_is_sent(domain: str) -> None:
    with pytest.raises(UsageError, match="another region") as caught:
        open_iot(account()[0], f"abc-ats.iot.us-east-1.{domain}")
    assert caught.value.remedy == "--region us-east-1"


WRONG_PROXIES = ["socks5://me:h%2Fsh@p:1", "http://me:h%2Fsh@p:x", "http://me:h%2Fsh@", "http://[h%2Fsh@"]


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"HTTPS_PROXY": "http://me:h%2Fsh@p:1"}, ("p", 1)),
        ({"https_proxy": "p:1"}, ("p", 1)),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.org, .amazonaws.com"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.org"}, ("p", 1)),
    ],
)
def test_the_proxy_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: tuple[str, int] | None
) -> None:
    set_proxies(monkeypatch, variables)
    _, access = open_iot(account()[0], HOST)
    assert (access.proxy and (access.proxy.host, access.proxy.port)) == proxy
    assert "h%2Fsh" not in repr(access)


@pytest.mark.parametrize("written", WRONG_PROXIES)
def test_a_proxy_that_is_none_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    set_proxies(monkeypatch, {"HTTPS_PROXY": written})
    with pytest.raises(UsageError, match="HTTPS_PROXY names no proxy") as caught:
        open_iot(account()[0], HOST)
    assert "h%2Fsh" not in str(caught.value)
    assert "h/sh" not in str(caught.value)


def set_proxies(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
