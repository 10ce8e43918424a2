"""Where the keys come from: endpoints for containers and AWS IoT, files, environment; the store checks signatures."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.brokers import Certificates, free_port
from tests.fixtures.hostile_http import HostileServer, Talk, server_tls
from tests.fixtures.swift_server import ACCESS_KEY, REGION, SECRET_KEY, SwiftServer

from mli.config.redaction import redact
from mli.config.settings import ModelSource, StoreSettings, TlsSettings
from mli.errors import MliError, RetryError, StopError
from mli.models.fetching.download import Patience
from mli.models.fetching.fetcher import Fetcher

QUICK = Patience(attempts=2, first_pause_s=0.01, longest_pause_s=0.05)
DATA = b"a model archive"
TOKEN = "token-that-nobody-may-see"
MakeServer = Callable[..., HostileServer]


def in_minutes(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def container_answer(minutes: float = 60, token: str = TOKEN) -> dict[str, str]:
    return {
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "Token": token,
        "Expiration": in_minutes(minutes),
    }


def make(store: StoreSettings, environ: dict[str, str] | None = None, tls: TlsSettings | None = None) -> Fetcher:
    return Fetcher(store, None, tls, "thing-1", environ=environ or {}, patience=QUICK)


@pytest.fixture
def source(swift: SwiftServer) -> ModelSource:
    return ModelSource(swift.put("secured.zip", DATA))


@pytest.fixture
def store(swift: SwiftServer) -> StoreSettings:
    """The store without any keys."""
    return swift.settings(region=REGION, access_key_id=None, secret_access_key=None, credentials="auto")


def comes(fetcher: Fetcher, source: ModelSource, folder: Path) -> str:
    """Fetch it, and give what was told about where it came from."""
    fetched = fetcher.fetch(source, folder)
    assert fetched.path.read_bytes() == DATA
    assert SECRET_KEY not in fetched.told + fetcher.credentials_told()
    assert TOKEN not in fetched.told + fetcher.credentials_told()
    return str(fetched.told)


# --- which ones ------------------------------------------------------------------------------------------------


def test_keys_of_the_environment(store: StoreSettings, source: ModelSource, tmp_path: Path) -> None:
    environ = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "eu-central-1"}
    told = comes(make(store, environ), source, tmp_path)
    assert f"keys of the environment ({ACCESS_KEY})" in told
    assert "eu-central-1" in told


@pytest.mark.parametrize("by", ["setting", "environment", "default"])
def test_profile_of_the_aws_files(store: StoreSettings, source: ModelSource, tmp_path: Path, by: str) -> None:
    name = "default" if by == "default" else "edge"
    (tmp_path / "credentials").write_text(
        f"[{name}]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    environ = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "HOME": str(tmp_path)}
    if by == "environment":
        environ["AWS_PROFILE"] = "edge"
    profile = "edge" if by == "setting" else None
    settings = StoreSettings(endpoint=store.endpoint, profile=profile)
    assert f"profile {name} of {tmp_path / 'credentials'}" in comes(make(settings, environ), source, tmp_path / "d")


def test_profile_of_the_config_file(store: StoreSettings, source: ModelSource, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        f"[profile edge]\nregion = eu-central-1\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n"
    )
    settings = StoreSettings(endpoint=store.endpoint, credentials="profile", profile="edge")
    assert "region eu-central-1" in comes(make(settings, {"HOME": str(tmp_path)}), source, tmp_path / "d")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no such profile"),
        ("[edge]\nregion = eu-central-1\n", "no keys"),
        ("[edge]\nsso_session = x\n", "sso_session, which mli does not use"),
        ("[edge]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = y\n", "role_arn, which mli does not use"),
    ],
)
def test_profile_without_keys_is_told(
    store: StoreSettings, source: ModelSource, tmp_path: Path, text: str, found: str
) -> None:
    (tmp_path / "credentials").write_text(text)
    settings = StoreSettings(endpoint=store.endpoint, profile="edge")
    with pytest.raises(StopError, match="profile edge gives no keys") as caught:
        make(settings, {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}).fetch(source, tmp_path)
    assert caught.value.got == found


def test_broken_aws_file_is_told(store: StoreSettings, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("aws_secret_access_key = the-secret\n")
    with pytest.raises(StopError, match="cannot be read") as caught:
        make(store, {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}).credentials_told()
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["keys", "environment", "container", "iot"])
def test_named_credentials_that_are_not_there_are_told(store: StoreSettings, kind: Any) -> None:
    with pytest.raises(StopError, match=f"kind that store.credentials names: {kind}"):
        make(StoreSettings(endpoint=store.endpoint, credentials=kind)).credentials_told()


def test_auto_takes_the_first_for_which_there_are_settings(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = P\naws_secret_access_key = p\n")
    environ = {
        "AWS_ACCESS_KEY_ID": "E",
        "AWS_SECRET_ACCESS_KEY": "e",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/get",
    }
    settings: dict[str, Any] = {
        "access_key_id": "K",
        "secret_access_key": "k",
        "role_alias": "a",
        "credentials_endpoint": "x.credentials.iot.eu-central-1.amazonaws.com",
    }
    expected = [
        ("keys of the device's settings (K)", ["access_key_id"]),
        ("keys of the environment (E)", ["AWS_ACCESS_KEY_ID"]),
        ("profile default", ["AWS_SHARED_CREDENTIALS_FILE"]),
        ("container credentials of http://127.0.0.1:1/get", ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]),
        (
            "AWS IoT credentials provider x.credentials.iot.eu-central-1.amazonaws.com, role alias a",
            ["role_alias"],
        ),
        ("no credentials (anonymous)", []),
    ]
    for told, taken_away in expected:
        assert make(StoreSettings(**settings), environ).credentials_told().startswith(told)
        for name in taken_away:
            settings.pop(name, None)
            environ.pop(name, None)


# --- containers ------------------------------------------------------------------------------------------------


def test_container_credentials_with_the_token_of_the_environment(
    make_server: MakeServer, store: StoreSettings, source: ModelSource, tmp_path: Path
) -> None:
    server = make_server(lambda talk: talk.json(container_answer()))
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.port}/2016-11-01/credentialprovider/",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": TOKEN,
        "http_proxy": f"http://127.0.0.1:{free_port()}",
        "no_proxy": "127.0.0.1:" + str(store.endpoint).rpartition(":")[2],
    }
    assert "container credentials" in comes(make(store, environ), source, tmp_path)
    (talk,) = server.talks
    assert talk.headers["authorization"] == TOKEN
    assert talk.target == "/2016-11-01/credentialprovider/"


def test_container_credentials_with_a_token_file_that_is_read_again(
    make_server: MakeServer, store: StoreSettings, source: ModelSource, tmp_path: Path
) -> None:
    server = make_server(lambda talk: talk.json(container_answer(minutes=2)))
    (tmp_path / "token").write_text("one\n")
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://localhost:{server.port}/get",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "another",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
    }
    fetcher = make(store, environ)
    comes(fetcher, source, tmp_path / "1")
    (tmp_path / "token").write_text("two")
    comes(fetcher, source, tmp_path / "2")
    assert [talk.headers["authorization"] for talk in server.talks] == ["one", "two"]


def test_credentials_are_asked_for_again_before_they_expire_and_no_earlier(
    make_server: MakeServer, store: StoreSettings, source: ModelSource, tmp_path: Path
) -> None:
    for minutes, asked in ((4.9, 2), (6, 1)):
        server = make_server(lambda talk, minutes=minutes: talk.json(container_answer(minutes)))
        environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.port}/get"}
        fetcher = make(store, environ)
        comes(fetcher, source, tmp_path / f"{minutes}-1")
        comes(fetcher, source, tmp_path / f"{minutes}-2")
        assert len(server.talks) == asked


def test_credentials_that_the_store_calls_expired_are_renewed_once(make_server: MakeServer, tmp_path: Path) -> None:
    endpoint = make_server(lambda talk: talk.json(container_answer(token=f"token-{talk.number}")))

    def store_script(talk: Talk) -> None:
        if talk.headers["x-amz-security-token"] == "token-1":
            talk.part(DATA)
        else:
            talk.answer(400, b"<Error><Code>ExpiredToken</Code><Message>Expired.</Message></Error>")

    store = make_server(store_script)
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{endpoint.port}/get"}
    comes(make(StoreSettings(endpoint=store.url), environ), ModelSource("s3://models/a.zip"), tmp_path)
    assert len(endpoint.talks) == 2


def test_temporary_secrets_are_hidden_from_every_log(
    make_server: MakeServer, store: StoreSettings, source: ModelSource, tmp_path: Path
) -> None:
    server = make_server(lambda talk: talk.json(container_answer(token="a-token-of-this-test-alone")))
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.port}/get"}
    comes(make(store, environ), source, tmp_path)
    assert "a-token-of-this-test-alone" not in redact("it was a-token-of-this-test-alone")


@pytest.mark.parametrize(
    "uri",
    ["http://192.0.2.7/get", "http://metadata.example/get", "ftp://127.0.0.1/get", "https://u:p@x/", "https://"],
)
def test_container_endpoint_that_others_could_read_is_not_asked(uri: str) -> None:
    with pytest.raises(StopError, match="endpoint for container credentials") as caught:
        make(StoreSettings(), {"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri}).credentials_told()
    assert "u:p" not in str(caught.value)


def test_relative_uri_is_the_one_of_ecs() -> None:
    told = make(StoreSettings(), {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"}).credentials_told()
    assert told == "container credentials of http://169.254.170.2/v2/credentials/x"


def test_container_endpoint_over_https_is_checked(
    make_server: MakeServer, certificates: Certificates, store: StoreSettings, source: ModelSource, tmp_path: Path
) -> None:
    tls = server_tls(certificates.server, certificates.server_key)
    server = make_server(lambda talk: talk.json(container_answer()), tls)
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"https://localhost:{server.port}/get"}
    trusting = StoreSettings(endpoint=store.endpoint, ca_path=str(certificates.ca))
    comes(make(trusting, environ), source, tmp_path)
    with pytest.raises(StopError, match="not trusted"):
        make(store, environ).fetch(source, tmp_path / "other")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, "no JSON", RetryError),
        (200, "[]", RetryError),
        (200, '{"AccessKeyId": "A"}', RetryError),
        (200, '{"AccessKeyId": 1, "SecretAccessKey": "s"}', RetryError),
        (200, '{"AccessKeyId": "A\\r\\nX: y", "SecretAccessKey": "s"}', RetryError),
        (200, '{"AccessKeyId": "A", "SecretAccessKey": "s", "Expiration": "soon"}', RetryError),
        (401, '{"message": "no token"}', StopError),
        (404, "", StopError),
        (500, "", RetryError),
        (429, "", RetryError),
    ],
)
def test_answers_of_a_container_endpoint(
    make_server: MakeServer,
    store: StoreSettings,
    source: ModelSource,
    tmp_path: Path,
    status: int,
    body: str,
    kind: type[MliError],
) -> None:
    server = make_server(lambda talk: talk.answer(status, body.encode()))
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.port}/get"}
    with pytest.raises(kind, match="credentials for the model store"):
        make(store, environ).fetch(source, tmp_path)
    assert len(server.talks) == (QUICK.attempts if kind is RetryError else 1)


def test_container_endpoint_that_is_away_is_told(store: StoreSettings, source: ModelSource, tmp_path: Path) -> None:
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{free_port()}/get"}
    with pytest.raises(RetryError, match="credentials for the model store cannot be fetched"):
        make(store, environ).fetch(source, tmp_path)


# --- AWS IoT ---------------------------------------------------------------------------------------------------


@pytest.fixture
def iot_tls(certificates: Certificates) -> ssl.SSLContext:
    return server_tls(certificates.server, certificates.server_key, client_ca=certificates.ca)


def device_tls(certificates: Certificates) -> TlsSettings:
    return TlsSettings(str(certificates.ca), str(certificates.client), str(certificates.client_key))


def iot_answer(talk: Talk) -> None:
    if talk.headers.get("x-amzn-iot-thingname") != "thing-1":
        talk.json({"message": "Invalid thing name passed"}, 400)
    elif talk.target != "/role-aliases/mli-models/credentials":
        talk.json({"message": "Role alias does not exist"}, 404)
    else:
        keys = {"accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY, "sessionToken": TOKEN}
        talk.json({"credentials": {**keys, "expiration": in_minutes(60)}})


def iot_store(store: StoreSettings, server: HostileServer, alias: str = "mli-models") -> StoreSettings:
    return StoreSettings(endpoint=store.endpoint, role_alias=alias, credentials_endpoint=f"localhost:{server.port}")


def test_device_certificate_is_exchanged_for_keys(
    make_server: MakeServer,
    iot_tls: ssl.SSLContext,
    certificates: Certificates,
    store: StoreSettings,
    source: ModelSource,
    tmp_path: Path,
) -> None:
    server = make_server(iot_answer, iot_tls)
    told = comes(make(iot_store(store, server), {}, device_tls(certificates)), source, tmp_path)
    assert "AWS IoT credentials provider localhost, role alias mli-models" in told
    assert len(server.talks) == 1


def test_unknown_role_alias_is_told(
    make_server: MakeServer,
    iot_tls: ssl.SSLContext,
    certificates: Certificates,
    store: StoreSettings,
    source: ModelSource,
    tmp_path: Path,
) -> None:
    server = make_server(iot_answer, iot_tls)
    with pytest.raises(StopError, match="credentials for the model store were refused") as caught:
        make(iot_store(store, server, "other"), {}, device_tls(certificates)).fetch(source, tmp_path)
    assert "Role alias does not exist" in (caught.value.got or "")
    assert "store.role_alias" in (caught.value.remedy or "")


def test_certificate_that_the_provider_does_not_know_is_told(
    make_server: MakeServer,
    certificates: Certificates,
    store: StoreSettings,
    source: ModelSource,
    tmp_path: Path,
) -> None:
    strict = server_tls(certificates.server, certificates.server_key, client_ca=certificates.other_ca)
    server = make_server(iot_answer, strict)
    with pytest.raises(StopError, match="does not accept this device's certificate") as caught:
        make(iot_store(store, server), {}, device_tls(certificates)).fetch(source, tmp_path)
    assert "unknown ca" in (caught.value.got or "")
    assert not server.talks


def test_device_without_a_certificate_is_told(
    make_server: MakeServer, iot_tls: ssl.SSLContext, store: StoreSettings, source: ModelSource, tmp_path: Path
) -> None:
    server = make_server(iot_answer, iot_tls)
    with pytest.raises(StopError, match="this one has none"):
        make(iot_store(store, server)).fetch(source, tmp_path)


def test_key_of_another_certificate_is_told(
    make_server: MakeServer,
    iot_tls: ssl.SSLContext,
    certificates: Certificates,
    store: StoreSettings,
    source: ModelSource,
    tmp_path: Path,
) -> None:
    server = make_server(iot_answer, iot_tls)
    tls = TlsSettings(str(certificates.ca), str(certificates.client), str(certificates.server_key))
    with pytest.raises(StopError, match="certificate file") as caught:
        make(iot_store(store, server), {}, tls).fetch(source, tmp_path)
    assert "mismatch" in (caught.value.got or "").lower()
