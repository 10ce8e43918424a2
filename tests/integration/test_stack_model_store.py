"""The look at a model, on a real S3 store: signatures, regions and ranges as a store has them."""

from __future__ import annotations

import hashlib

import boto3
import pytest
from tests.fixtures.swift_server import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, SwiftServer

from mli.cloud.aws import Aws
from mli.cloud.stack_model import find_model
from mli.errors import MliError, RefusedError, StopError

SECRET_OF_GUEST = "guest-secret"


def account(region: str = REGION, key: str = ACCESS_KEY, secret: str = SECRET_KEY) -> Aws:
    session = boto3.Session(key, secret, region_name=region)
    return Aws(region, "123456789012", "aws", "arn:aws:iam::123456789012:user/op", "amazonaws.com", session)


@pytest.fixture
def store(swift: SwiftServer, monkeypatch: pytest.MonkeyPatch) -> SwiftServer:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", swift.endpoint)
    return swift


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x1f\x8b\x08\x00"])
def test_an_archive_is_known_by_its_first_bytes(store: SwiftServer, start: bytes) -> None:
    data = start + b"x" * 5000
    uri = store.put("looked/at.zip", data)
    found = find_model(account(), uri, hashlib.sha256(data).hexdigest())
    assert (found.bucket, found.key, found.size_bytes, found.sha256_from) == (BUCKET, "looked/at.zip", 5004, "said")


@pytest.mark.usefixtures("store")
def test_the_digest_that_an_upload_said_is_read() -> None:
    client = account().client("s3")
    client.put_object(Bucket=BUCKET, Key="said.zip", Body=b"PK\x03\x04", Metadata={"sha256": "ab" * 32})
    assert find_model(account(), f"s3://{BUCKET}/said.zip").sha256 == "ab" * 32


@pytest.mark.parametrize(
    ("data", "got"), [(b"<html>", "text that begins with"), (b"\x00\x01\x02\x03", "00 01 02 03")]
)
def test_what_is_no_archive_is_refused(store: SwiftServer, data: bytes, got: str) -> None:
    uri = store.put("no.zip", data)
    with pytest.raises(RefusedError, match="no archive") as caught:
        find_model(account(), uri)
    assert got in str(caught.value.got)


def test_an_empty_object_is_refused(store: SwiftServer) -> None:
    with pytest.raises(RefusedError, match="no archive") as caught:
        find_model(account(), store.put("empty.zip", b""))
    assert "empty" in str(caught.value.got)


def test_a_key_that_is_not_there_is_told_with_the_nearest(store: SwiftServer) -> None:
    store.put("inception-bn.zip", b"PK\x03\x04")
    with pytest.raises(RefusedError, match="not in its bucket") as caught:
        find_model(account(), f"s3://{BUCKET}/inceptoin-bn.zip")
    assert "did you mean 'inception-bn.zip'?" in str(caught.value.got)


@pytest.mark.usefixtures("store")
def test_a_bucket_that_is_not_there_is_told() -> None:
    with pytest.raises(RefusedError, match="There is no bucket no-such-bucket"):
        find_model(account(), "s3://no-such-bucket/m.zip")


def test_a_bucket_of_another_region_names_both(store: SwiftServer) -> None:
    uri = store.put("m.zip", b"PK\x03\x04")
    with pytest.raises(MliError) as caught:
        find_model(account(region="us-west-2"), uri)
    assert caught.value.what == f"The bucket is in {REGION}, the devices' stack in us-west-2."


def test_who_may_not_read_the_bucket_is_told_which_right_is_missing(store: SwiftServer) -> None:
    uri = store.put("m.zip", b"PK\x03\x04")
    with pytest.raises(StopError, match="s3:ListBucket"):
        find_model(account(key="test:guest", secret=SECRET_OF_GUEST), uri)


def test_a_wrong_secret_is_told_as_one(store: SwiftServer) -> None:
    uri = store.put("m.zip", b"PK\x03\x04")
    with pytest.raises(StopError):
        find_model(account(secret="wrong"), uri)
