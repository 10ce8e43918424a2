"""AWS's own names, reached through a proxy: buckets as hosts, TLS, a bucket in another region (the old FAQ 1).

Behind the names is the real store, which checks the signature over the host that it was asked for.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.fixtures.brokers import Certificates, free_port
from tests.fixtures.hostile_http import ForwardProxy, HostileServer, Talk, TlsFront, amazon_tls
from tests.fixtures.swift_server import ACCESS_KEY, SECRET_KEY, SwiftServer

from mli.config.settings import ModelSource, StoreSettings
from mli.errors import RetryError, StopError
from mli.models.fetching.download import Patience
from mli.models.fetching.fetcher import Fetcher

QUICK = Patience(attempts=2, first_pause_s=0.01, longest_pause_s=0.05)
DATA = bytes(range(256)) * 5000
LOGIN = "Basic " + base64.b64encode(b"device:pass:word").decode()
VIRGINIA, FRANKFURT = (f"models.s3.{region}.amazonaws.com:443" for region in ("us-east-1", "eu-central-1"))


def moved(talk: Talk) -> None:
    """What us-east-1 says of a bucket in Frankfurt."""
    body = b"<Error><Code>PermanentRedirect</Code><Message>Use the endpoint.</Message></Error>"
    talk.answer(301, body, x_amz_bucket_region="eu-central-1")


def moved_by_location(talk: Talk) -> None:
    talk.answer(307, location="https://models.s3.eu-central-1.amazonaws.com/far/a.zip")


def malformed(talk: Talk) -> None:
    message = b"the region 'us-east-1' is wrong; expecting 'eu-central-1'"
    talk.answer(400, b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>" + message + b"</Message></Error>")


@dataclass
class Aws:
    """Two regions behind one proxy."""

    proxy: ForwardProxy
    virginia: HostileServer
    settings: StoreSettings

    def fetcher(self, environ: dict[str, str] | None = None, **changes: Any) -> Fetcher:
        return Fetcher(replace(self.settings, **changes), None, None, "t", environ=environ or {}, patience=QUICK)


@pytest.fixture
def make_aws(
    swift: SwiftServer,
    make_server: Callable[..., HostileServer],
    make_proxy: Callable[..., ForwardProxy],
    certificates: Certificates,
) -> Iterator[Callable[..., Aws]]:
    tls = amazon_tls(certificates)
    swift.put("far/a.zip", DATA)
    front = TlsFront(tls, int(swift.endpoint.rpartition(":")[2]))

    def make(script: Callable[[Talk], None] = moved, authorization: str | None = None) -> Aws:
        virginia = make_server(script, tls)
        hosts = {
            VIRGINIA: virginia.port,
            "s3.us-east-1.amazonaws.com:443": virginia.port,
            FRANKFURT: front.port,
            urlsplit(swift.endpoint).netloc: int(swift.endpoint.rpartition(":")[2]),
        }
        proxy = make_proxy(hosts, authorization)
        settings = StoreSettings(
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            ca_path=str(certificates.ca),
            proxy=f"http://127.0.0.1:{proxy.port}",
        )
        return Aws(proxy, virginia, settings)

    yield make
    front.stop()


SOURCE = ModelSource("s3://models/far/a.zip")


@pytest.mark.parametrize("script", [moved, moved_by_location, malformed])
def test_bucket_in_another_region_is_followed(
    make_aws: Callable[..., Aws], tmp_path: Path, script: Callable[[Talk], None]
) -> None:
    aws = make_aws(script)
    fetched = aws.fetcher().fetch(SOURCE, tmp_path)
    assert fetched.path.read_bytes() == DATA
    assert aws.proxy.asked == [f"CONNECT {VIRGINIA}", f"CONNECT {FRANKFURT}"]
    assert "region eu-central-1" in fetched.told


@pytest.mark.parametrize("where", ["deployment", "settings", "environment"])
def test_region_that_is_told_is_asked_at_once(make_aws: Callable[..., Aws], tmp_path: Path, where: str) -> None:
    aws = make_aws()
    source = replace(SOURCE, region="eu-central-1") if where == "deployment" else SOURCE
    environ = {"AWS_DEFAULT_REGION": "eu-central-1"} if where == "environment" else {}
    region = {"deployment": "us-east-1", "settings": "eu-central-1", "environment": None}[where]
    aws.fetcher(environ, region=region).fetch(source, tmp_path)
    assert aws.proxy.asked == [f"CONNECT {FRANKFURT}"]


def test_region_that_aws_does_not_name_is_told_with_the_fix(make_aws: Callable[..., Aws], tmp_path: Path) -> None:
    aws = make_aws(lambda talk: talk.answer(301, b"<Error><Code>PermanentRedirect</Code></Error>"))
    with pytest.raises(StopError, match="another region than us-east-1") as caught:
        aws.fetcher().fetch(SOURCE, tmp_path)
    assert "the store does not name" in (caught.value.expected or "")
    assert "region:" in (caught.value.remedy or "")


def test_bucket_with_a_dot_is_asked_for_by_its_path(make_aws: Callable[..., Aws], tmp_path: Path) -> None:
    aws = make_aws(lambda talk: talk.part(DATA))
    aws.fetcher().fetch(ModelSource("s3://my.models/a.zip"), tmp_path)
    assert aws.virginia.talks[0].target == "/my.models/a.zip"
    assert aws.virginia.talks[0].headers["host"] == "s3.us-east-1.amazonaws.com"


def test_proxy_gets_its_login_and_nobody_else_does(make_aws: Callable[..., Aws], tmp_path: Path) -> None:
    aws = make_aws(lambda talk: talk.part(DATA), authorization=LOGIN)
    proxy = f"http://device:pass%3Aword@127.0.0.1:{aws.proxy.port}"
    fetcher = aws.fetcher(proxy=proxy)
    fetcher.fetch(SOURCE, tmp_path)
    assert "proxy-authorization" not in aws.virginia.talks[0].headers
    assert fetcher.probe(SOURCE).proxy == f"http://127.0.0.1:{aws.proxy.port}"


@pytest.mark.parametrize("plain", [False, True])
def test_proxy_that_wants_a_login_is_told(
    make_aws: Callable[..., Aws], swift: SwiftServer, tmp_path: Path, plain: bool
) -> None:
    aws = make_aws(authorization=LOGIN)
    proxy = f"http://device:wrong-word@127.0.0.1:{aws.proxy.port}"
    with pytest.raises(StopError, match="proxy does not let") as caught:
        aws.fetcher(proxy=proxy, endpoint=swift.endpoint if plain else None).fetch(SOURCE, tmp_path)
    assert "407" in (caught.value.got or "")
    assert "store.proxy" in (caught.value.remedy or "")
    assert "wrong-word" not in str(caught.value)


def test_plain_store_is_reached_through_the_proxy_of_the_environment(
    make_aws: Callable[..., Aws], swift: SwiftServer, tmp_path: Path
) -> None:
    aws = make_aws()
    environ = {"http_proxy": f"http://127.0.0.1:{aws.proxy.port}"}
    aws.fetcher(environ, proxy=None, endpoint=swift.endpoint, region="eu-central-1").fetch(SOURCE, tmp_path)
    assert aws.proxy.asked == [f"GET {urlsplit(swift.endpoint).netloc}"]


def test_plain_store_is_reached_through_a_proxy_with_its_login(
    make_aws: Callable[..., Aws], swift: SwiftServer, tmp_path: Path
) -> None:
    aws = make_aws(authorization=LOGIN)
    proxy = f"http://device:pass%3Aword@127.0.0.1:{aws.proxy.port}"
    fetched = aws.fetcher(proxy=proxy, endpoint=swift.endpoint, region="eu-central-1").fetch(SOURCE, tmp_path)
    assert fetched.path.read_bytes() == DATA


def test_no_proxy_of_the_environment_is_kept(
    make_aws: Callable[..., Aws], swift: SwiftServer, tmp_path: Path
) -> None:
    aws = make_aws()
    environ = {"NO_PROXY": "localhost, 127.0.0.0/8"}
    aws.fetcher(environ, endpoint=swift.endpoint).fetch(SOURCE, tmp_path)
    assert not aws.proxy.asked


@pytest.mark.parametrize(("authority", "says"), [("nowhere", "502"), ("away", "refused")])
def test_proxy_that_does_not_help_may_help_later(
    make_aws: Callable[..., Aws], tmp_path: Path, authority: str, says: str
) -> None:
    aws = make_aws()
    proxy = f"http://127.0.0.1:{free_port()}" if authority == "away" else aws.settings.proxy
    with pytest.raises(RetryError) as caught:
        aws.fetcher(proxy=proxy).fetch(ModelSource("s3://elsewhere/a.zip"), tmp_path)
    assert says in (caught.value.got or "")
    assert "through the proxy" in (caught.value.where or "")


def test_proxy_that_is_none_is_told(make_aws: Callable[..., Aws], tmp_path: Path) -> None:
    with pytest.raises(StopError, match="proxy for model archives cannot be used") as caught:
        make_aws().fetcher(proxy="socks5://me:secret-word@127.0.0.1:1").fetch(SOURCE, tmp_path)
    assert "secret-word" not in str(caught.value)


# --- looking without fetching ----------------------------------------------------------------------------------


def test_probe_tells_all_that_a_fetch_would_find(make_aws: Callable[..., Aws]) -> None:
    report = make_aws().fetcher().probe(SOURCE)
    assert report.error is None
    assert (report.kind, report.shown, report.size_bytes) == ("s3", SOURCE.uri, len(DATA))
    assert (report.region_asked, report.region) == ("us-east-1", "eu-central-1")
    assert report.host == "models.s3.eu-central-1.amazonaws.com"
    assert report.credentials == f"keys of the device's settings ({ACCESS_KEY})"
    assert report.etag
    assert report.clock_ahead_s is not None
    assert abs(report.clock_ahead_s) < 60


def test_probe_has_the_error_with_what_was_known_before_it(swift: SwiftServer) -> None:
    fetcher = Fetcher(swift.settings(secret_access_key="no"), None, None, "t", environ={}, patience=QUICK)
    report = fetcher.probe(ModelSource("s3://models/none.zip"))
    assert isinstance(report.error, StopError)
    assert report.credentials == f"keys of the device's settings ({ACCESS_KEY})"
    assert report.size_bytes is None


def test_probe_of_a_path_and_of_no_address(swift: SwiftServer, tmp_path: Path) -> None:
    fetcher = Fetcher(swift.settings(), None, None, "t", environ={})
    (tmp_path / "a.zip").write_bytes(DATA)
    assert fetcher.probe(ModelSource(str(tmp_path / "a.zip"))).size_bytes == len(DATA)
    assert fetcher.probe(ModelSource(str(tmp_path))).error is not None
    assert fetcher.probe(ModelSource("gopher://x")).error is not None


def test_size_is_told_without_fetching(swift: SwiftServer, tmp_path: Path) -> None:
    fetcher = Fetcher(swift.settings(), None, None, "t", environ={})
    assert fetcher.size_of(ModelSource(swift.put("sized.zip", DATA))) == len(DATA)
    assert fetcher.size_of(ModelSource(swift.put("nothing.zip", b""))) == 0
    (tmp_path / "a.zip").write_bytes(DATA)
    assert fetcher.size_of(ModelSource(str(tmp_path / "a.zip"))) == len(DATA)
