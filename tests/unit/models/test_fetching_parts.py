"""The small parts of fetching: signatures, addresses, what is shown of them, proxies, the environment, patience."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mli.config.proxies import parse_proxy
from mli.config.settings import AllowSettings, ModelSource
from mli.errors import RefusedError
from mli.models.fetching.addresses import HttpsAddress, S3Address, archive_name, parse_address
from mli.models.fetching.credentials import Credentials
from mli.models.fetching.download import Patience
from mli.models.fetching.environment import Environment, read_environment
from mli.models.fetching.file_digest import FileDigest
from mli.models.fetching.proxies import choose_proxy
from mli.models.fetching.signing import signed_headers
from mli.models.fetching.troubles import broken_line
from mli.models.fetching.url import parse_url, shown_uri
from mli.models.fetching.watch import FetchCancelled, Watch

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def test_signature_is_the_one_of_the_s3_reference() -> None:
    """Its example "GET Object"."""
    headers = signed_headers(
        "GET",
        "examplebucket.s3.amazonaws.com",
        "/test.txt",
        Credentials("AKIAIOSFODNN7EXAMPLE", SECRET),
        "us-east-1",
        {"range": "bytes=0-9"},
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_token_of_temporary_credentials_is_signed_too() -> None:
    headers = signed_headers("GET", "h", "/k", Credentials("A", "s", "token"), "r")
    assert headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in headers["authorization"]


def test_credentials_show_no_secret() -> None:
    assert "the-secret" not in repr(Credentials("A", "the-secret", "the-secret-token"))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://models/a/b c?#%20.zip", S3Address("models", "a/b c?#%20.zip", None)),
        (
            "s3://123456789012-us-east-1-greengrass-ml/x.zip",
            S3Address("123456789012-us-east-1-greengrass-ml", "x.zip", None),
        ),
        ("https://Example.ORG/a.zip", HttpsAddress(parse_url("https://example.org/a.zip"))),
    ],
)
def test_addresses(uri: str, expected: object) -> None:
    assert parse_address(ModelSource(uri), None) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a.zip",
        "./a.zip",
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/folder/",
        "s3:///key",
        "s3://a.zip",
        "s3://evil.example:80#/key",
        "s3://buck..et/key",
        "s3://user@bucket/key",
        "http://example.org/a.zip",
        "https://user:word@example.org/a.zip",
        "https:///a.zip",
        "https://example.org/a b.zip",
        "https://example.org/a\r\nx: y",
        "https://example.org:99999/a.zip",
        "ftp://example.org/a.zip",
        "file://host/a.zip",
        "file:///a.zip?x",
        "file://a.zip",
    ],
)
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(RefusedError, match="no address of a model archive") as caught:
        parse_address(ModelSource(uri), None)
    assert "user:word" not in str(caught.value)


def test_region_that_could_be_a_host_is_refused() -> None:
    with pytest.raises(RefusedError):
        parse_address(ModelSource("s3://models/a.zip", region="evil.example/"), None)


@pytest.mark.parametrize(
    ("host", "patterns", "allowed"),
    [
        ("example.org", ("example.org",), True),
        ("EXAMPLE.org", ("Example.ORG",), True),
        ("a.example.org", ("*.example.org",), True),
        ("a.b.example.org", ("*.example.org",), True),
        ("example.org", ("*.example.org",), False),
        ("evilexample.org", ("*.example.org",), False),
        ("example.org.evil", ("example.org",), False),
        ("a.example.org", ("example.org",), False),
        ("example.org", (), False),
    ],
)
def test_hosts_that_are_allowed(host: str, patterns: tuple[str, ...], allowed: bool) -> None:
    source, allow = ModelSource(f"https://{host}/a.zip"), AllowSettings(hosts=patterns)
    if allowed:
        parse_address(source, allow)
    else:
        with pytest.raises(RefusedError, match=r"allow|does not fetch"):
            parse_address(source, allow)


def test_without_an_allow_list_the_owner_wrote_the_deployment(tmp_path: Path) -> None:
    parse_address(ModelSource(str(tmp_path / "a.zip")), None)
    parse_address(ModelSource("https://example.org/a.zip"), None)
    with pytest.raises(RefusedError):
        parse_address(ModelSource(str(tmp_path / "a.zip")), AllowSettings())


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://u:p@h/a?X-Amz-Signature=s#f", "https://h/a?…"),
        ("https://h/a@b", "https://h/a@b"),
        ("ftp://u:p@h/a", "ftp://h/a"),
        ("s3://b/k?v@w", "s3://b/k?v@w"),
        ("/a/b", "/a/b"),
        ("s3://b/\x1b[31m", "s3://b/�[31m"),
    ],
)
def test_what_is_shown_of_an_address(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


def test_long_addresses_are_shown_shortened() -> None:
    assert len(shown_uri("s3://b/" + "k" * 1000)) < 300


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://b/models/inception-bn.zip", "inception-bn.zip"),
        ("https://h/a%20b.tar.gz?x=/y.zip", "a_b.tar.gz"),
        ("s3://b/..", "model"),
        ("s3://b/.part", "part"),
        ("s3://b/ä/ö", "_"),
        ("https://h", "h"),
        ("https://h/", "model"),
        ("s3://b/" + "x" * 300 + ".zip", "x" * 96 + ".zip"),
    ],
)
def test_name_of_the_archive_on_disk(uri: str, name: str) -> None:
    assert archive_name(ModelSource(uri)) == name


def test_environment_is_read_as_other_tools_do() -> None:
    found = read_environment(
        {
            "AWS_ACCESS_KEY_ID": " A ",
            "AWS_SESSION_TOKEN": "",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "HOME": "/home/u",
            "HTTPS_PROXY": "http://p:1",
            "no_proxy": "a.example, .b.example ,",
        }
    )
    assert (found.access_key_id, found.session_token, found.region) == ("A", None, "eu-west-1")
    assert found.credentials_file == Path("/home/u/.aws/credentials")
    assert (found.proxies, found.no_proxy) == ({"https": "http://p:1"}, ("a.example", ".b.example"))


@pytest.mark.parametrize(
    ("url", "no_proxy", "goes"),
    [
        ("https://a.example/x", "", True),
        ("https://a.example/x", "*", False),
        ("https://a.example/x", "a.example", False),
        ("https://b.a.example/x", "a.example", False),
        ("https://b.a.example/x", ".a.example", False),
        ("https://b.a.example/x", "*.a.example", False),
        ("https://ba.example/x", "a.example", True),
        ("https://a.example:8443/x", "a.example:8443", False),
        ("https://a.example/x", "a.example:8443", True),
        ("https://10.1.2.3/x", "10.0.0.0/8", False),
        ("https://11.1.2.3/x", "10.0.0.0/8", True),
        ("https://[::1]/x", "::1", False),
        ("https://[::1]/x", "[::1]:443", True),
    ],
)
def test_hosts_that_need_no_proxy(url: str, no_proxy: str, goes: bool) -> None:
    environment = read_environment({"https_proxy": "http://p.example:3128", "no_proxy": no_proxy})
    proxy = choose_proxy(parse_url(url), None, environment)
    assert (proxy is not None) == goes


def test_proxy_of_the_settings_comes_first_and_shows_no_password() -> None:
    environment = Environment(proxies={"https": "http://other:1"})
    proxy = choose_proxy(parse_url("https://h/"), "http://u:p%40q@p.example:3128", environment)
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.authorization) == ("p.example", 3128, "Basic dTpwQHE=")
    assert "dTpw" not in repr(proxy)
    assert proxy.shown == "http://p.example:3128"


def test_pauses_double_and_are_half_chance() -> None:
    patience = Patience(attempts=9, first_pause_s=1.0, longest_pause_s=10.0)
    for failures, full in ((0, 1.0), (1, 1.0), (2, 2.0), (3, 4.0), (5, 10.0), (60, 10.0)):
        pauses = [patience.pause_s(failures, 0.0) for _ in range(200)]
        assert full / 2 <= min(pauses) < max(pauses) <= full
    assert patience.pause_s(1, 5.0) == 5.0
    assert patience.pause_s(1, 5000.0) == 10.0


# --- the digest that follows a file ----------------------------------------------------------------------------


def never() -> Watch:
    return Watch(lambda: False, "a test")


def test_digest_follows_a_growing_file(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    path = tmp_path / "file"
    path.write_bytes(data[:1_234_567])
    with path.open("r+b", buffering=0) as file:
        digest = FileDigest(file.fileno(), 1_234_567)
        file.seek(0, os.SEEK_END)
        for start in range(1_234_567, len(data), 700_001):
            file.write(data[start : start + 700_001])
            digest.grow(data[start : start + 700_001])
        assert digest.sha256(never()) == hashlib.sha256(data).hexdigest()
        file.truncate(0)
        file.seek(0)
        digest.restart()
        assert digest.sha256(never()) == hashlib.sha256(b"").hexdigest()
        file.write(b"other")
        digest.grow(b"other")
        assert digest.sha256(never()) == hashlib.sha256(b"other").hexdigest()
        digest.close()


def test_digest_that_falls_behind_reads_the_file(tmp_path: Path) -> None:
    pieces = [bytes([number]) * 1000 for number in range(100)]
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        digest = FileDigest(file.fileno(), 0)
        for piece in pieces:  # too little to wake it, too many to be kept
            file.write(piece)
            digest.grow(piece)
        assert digest.sha256(never()) == hashlib.sha256(b"".join(pieces)).hexdigest()
        digest.close()


def test_digest_that_is_begun_anew_while_it_works_forgets_the_old_bytes(tmp_path: Path) -> None:
    old = os.urandom(1_100_000)
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        digest = FileDigest(file.fileno(), 0)
        for number in range(100):
            file.write(old)
            digest.grow(old)
            file.truncate(0)
            file.seek(0)
            digest.restart()
            new = b"%d" % number
            file.write(new)
            digest.grow(new)
            assert digest.sha256(never()) == hashlib.sha256(new).hexdigest()
            file.truncate(0)
            file.seek(0)
            digest.restart()
        digest.close()


def test_digest_of_a_file_that_lost_bytes_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    with path.open("r+b", buffering=0) as file:
        digest = FileDigest(file.fileno(), 10)
        with pytest.raises(OSError, match="shorter"):
            digest.sha256(never())
        digest.restart()
        digest.grow(b"1234")
        assert digest.sha256(never()) == hashlib.sha256(b"1234").hexdigest()
        digest.close()


def test_waiting_for_a_digest_can_be_cancelled(tmp_path: Path) -> None:
    cancelled = threading.Event()
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        digest = FileDigest(file.fileno(), 0)
        file.write(bytes(20_000_000))
        digest.grow(bytes(20_000_000))
        cancelled.set()
        with pytest.raises(FetchCancelled):
            digest.sha256(Watch(cancelled.is_set, "a test"))
        digest.close()


def test_who_refused_the_connection_is_named_in_the_remedy() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert "the store runs" in str(broken_line(refused, "https://h/a.zip", None).remedy)
    assert "the proxy runs" in str(broken_line(refused, "https://h/a.zip", parse_proxy("http://p:3128")).remedy)
