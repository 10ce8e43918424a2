"""Addresses of archives, stores and proxies: what is taken, and what of them is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mli.config.uris import (
    check_authority,
    check_endpoint,
    check_host_pattern,
    check_model_uri,
    check_proxy,
    file_path,
    host_of,
    is_loopback,
    is_open,
    shown_uri,
)


@pytest.mark.parametrize(
    "uri",
    [
        "model.zip",
        "../models/a b.zip",
        "file:///srv/m.zip",
        "file://localhost/srv/m.zip",
        "s3://123456789012-us-east-1-greengrass-ml/inception-bn.zip",
        "s3://bucket/a/b?c#d.zip",
        "https://models.example.org/m.zip",
        "https://models.example.org:8443/m.zip?X-Amz-Signature=abc",
        "https://[2001:db8::1]/m.zip",
    ],
)
def test_addresses_that_are_taken(uri: str) -> None:
    assert check_model_uri(uri) == uri


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("http://models.example.org/m.zip", "http:// is not taken: whoever is on the way"),
        ("ftp://host/m.zip", "expected a path, file:///PATH, s3://BUCKET/KEY or https://HOST/PATH, found 'ftp://host/m.zip'"),
        ("S3://bucket/m.zip", "expected a path, file:///PATH"),
        ("arn:aws:s3:::bucket/m.zip", "write s3://bucket/m.zip"),
        ("s3://bucket", "the key of one archive"),
        ("s3://bucket/", "the key of one archive"),
        ("s3://bucket/folder/", "the key of one archive"),
        ("s3://bucket/a\nb", "the key of one archive"),
        ("s3:///m.zip", "a bucket of 3 to 255"),
        ("s3://ab/m.zip", "a bucket of 3 to 255"),
        ("s3://a..b/m.zip", "a bucket of 3 to 255"),
        ("s3://AKIA:hush@bucket/m.zip", "access keys stand in the device's `store`"),
        ("https://host", "expected https://HOST/PATH of an archive"),
        ("https://host/", "expected https://HOST/PATH of an archive"),
        ("https://host/m.zip#part", "expected https://HOST/PATH of an archive"),
        ("https:///m.zip", "expected an address with a host"),
        ("https://host:0/m.zip", "expected an address with a host"),
        ("https://host:99999/m.zip", "expected an address with a host"),
        ("https://host/a b", "expected an address with a host"),
        ("https://[::1/m.zip", "expected an address with a host"),
        ("https://me:hush@host/m.zip", "without user and password, found 'https://***@host/m.zip'"),
        ("file://server/share/m.zip", "an absolute path of this machine"),
        ("file://m.zip", "an absolute path of this machine"),
        ("file:///m.zip?x", "an absolute path of this machine"),
        ("file:///m%00.zip", "without NUL"),
    ],
)  # fmt: skip
def test_addresses_that_are_refused_say_why_and_show_no_secret(uri: str, told: str) -> None:
    with pytest.raises(ValueError) as refusal:
        check_model_uri(uri)
    assert told in str(refusal.value)
    assert "hush" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://s3.example.org",
        "https://s3.local:9000/",
        "http://localhost:8080",
        "http://127.1.2.3",
        "http://[::1]:9000",
        "http://10.0.0.1:9000",
    ],
)
def test_endpoints_that_are_taken(url: str) -> None:
    assert check_endpoint(url) == url


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3.example.org", "expected https://HOST"),
        ("https://", "expected an address with a host"),
        ("https://a:hush@s3.example.org", "access keys are keys of `store`"),
        ("https://s3.example.org/?x=1", "without user, query and fragment"),
    ],
)
def test_endpoints_that_are_refused(url: str, told: str) -> None:
    with pytest.raises(ValueError) as refusal:
        check_endpoint(url)
    assert told in str(refusal.value)
    assert "hush" not in str(refusal.value)


def test_a_proxy_is_an_address_and_is_never_repeated() -> None:
    assert check_proxy("http://u:p@proxy:3128/") == "http://u:p@proxy:3128/"
    for wrong in (
        "proxy:3128",
        "https://u:hush@proxy",
        "http://u:hush@proxy/path",
        "http://u:hush@",
        "http://u:hush@h:x",
    ):
        with pytest.raises(ValueError) as refusal:
            check_proxy(wrong)
        assert "hush" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Models.Example.org", "models.example.org"),
        ("*.example.org", "*.example.org"),
        ("example.org.", "example.org"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_hosts_that_may_be_allowed(text: str, host: str) -> None:
    assert check_host_pattern(text) == host


@pytest.mark.parametrize(
    "text", ["", "*", "*.", "a.*.org", "*example.org", "https://example.org", "example.org:443", "a b", "a/b", "-x"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match="expected a host such as"):
        check_host_pattern(text)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("c3x.credentials.iot.eu-west-1.amazonaws.com", "c3x.credentials.iot.eu-west-1.amazonaws.com"),
        ("https://c3x.example.org/", "c3x.example.org"),
        ("localhost:8443", "localhost:8443"),
    ],
)
def test_the_credentials_endpoint_is_a_host(text: str, authority: str) -> None:
    assert check_authority(text) == authority


@pytest.mark.parametrize("text", ["", "host/path", "host?x", "u@host", "http://host", "host:x"])
def test_what_is_no_credentials_endpoint(text: str) -> None:
    with pytest.raises(ValueError):
        check_authority(text)


def test_file_addresses_are_decoded() -> None:
    assert file_path("file:///srv/my%20models/m.zip") == Path("/srv/my models/m.zip")


def test_hosts_are_compared_in_one_spelling() -> None:
    assert host_of("https://U@Models.Example.ORG.:443/x") == "models.example.org"
    assert host_of("s3://bucket/x") is None


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("http://s3.example.org", True),
        ("http://localhost.example.org", True),
        ("http://10.0.0.1:9000", True),
        ("http://127.0.0.1:9000", False),
        ("https://s3.example.org", False),
    ],
)
def test_a_store_is_open_where_others_could_change_what_comes(url: str, answer: bool) -> None:
    assert is_open(url) is answer


def test_only_this_machine_is_loopback() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(host) for host in ("", "0.0.0.0", "10.0.0.1", "localhost.example.org", "::2"))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("models/a@b.zip", "models/a@b.zip"),
        ("s3://bucket/a.zip", "s3://bucket/a.zip"),
        ("s3://key:hush@bucket/a.zip", "s3://key:***@bucket/a.zip"),
        ("mqtt://me:hush@host:1", "mqtt://me:***@host:1"),
        ("https://host/a.zip", "https://host/a.zip"),
        ("https://host/a.zip?X-Amz-Signature=hush", "https://host/a.zip?***"),
        ("https://host/a.zip#hush", "https://host/a.zip?***"),
        ("https://me:hush@host/a.zip", "https://***@host/a.zip"),
        ("https://hushtoken@host/a.zip", "https://***@host/a.zip"),
        ("https://me:hu/sh@host/a.zip", "https://***@host/a.zip"),
        ("HTTPS://me:hush@host/a.zip", "HTTPS://***@host/a.zip"),
        ("https://me:hu?sh@host/a.zip", "https://***"),
        ("https://host/a.zip?mail=hush@b", "https://***"),
    ],
)
def test_what_is_shown_of_an_address(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


@given(
    st.sampled_from(["https", "http", "s3", "mqtt"]),
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=0, max_size=12),
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=0, max_size=12),
)
def test_no_password_is_shown_however_odd_it_is(scheme: str, before: str, after: str) -> None:
    password = f"{before}hush{after}".replace("\\", "")
    assert "hush" not in shown_uri(f"{scheme}://me:{password}@host/a.zip")
