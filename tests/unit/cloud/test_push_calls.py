"""What an upload asks of S3, checked against its own model; and what becomes of it where S3 refuses in the middle."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from mli.cloud import model_push
from mli.cloud.aws import Aws
from mli.cloud.model_push import Archive, Place, key_of, parse_destination, upload
from mli.cloud.model_store import store_of
from mli.errors import MliError, RetryError, StopError, UsageError

ACCOUNT = "123456789012"
WHERE = {"Bucket": "models", "Key": "key", "ExpectedBucketOwner": ACCOUNT}
PLACE = Place("models", "key")


@dataclass
class OneClient:
    """A session whose S3 says what a test wants."""

    s3: Any

    def client(self, *_: Any, **__: Any) -> Any:
        return self.s3


@pytest.fixture
def stubbed() -> Iterator[Stubber]:
    with Stubber(boto3.Session("key", "secret", region_name="eu-west-1").client("s3")) as stubber:
        yield stubber


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    path = tmp_path / "a.zip"
    path.write_bytes(b"abcdefgh")
    return Archive(path, hashlib.sha256(b"abcdefgh").hexdigest(), 8)


def account(stubber: Stubber) -> Aws:
    session = OneClient(stubber.client)
    return Aws("eu-west-1", ACCOUNT, "aws", f"arn:aws:iam::{ACCOUNT}:user/op", "amazonaws.com", session)


def checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def in_parts(stubber: Stubber, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two parts of four bytes, one after the other."""
    monkeypatch.setattr(model_push, "_PART_BYTES", 4)
    monkeypatch.setattr(model_push, "_AT_ONCE", 1)
    upload_of = {**WHERE, "UploadId": "u"}
    stubber.add_response(
        "create_multipart_upload",
        {"UploadId": "u"},
        {**WHERE, "Metadata": {"sha256": archive.sha256}, "ChecksumAlgorithm": "SHA256"},
    )
    return upload_of


def part(upload_of: dict[str, Any], number: int, data: bytes) -> dict[str, Any]:
    return {**upload_of, "PartNumber": number, "Body": ANY, "ChecksumSHA256": checksum(data)}


def test_only_the_accounts_own_bucket_gets_it_with_its_digest(stubbed: Stubber, archive: Archive) -> None:
    data, metadata = b"abcdefgh", {"sha256": archive.sha256}
    stubbed.add_response(
        "put_object", {}, {**WHERE, "Body": data, "Metadata": metadata, "ChecksumSHA256": checksum(data)}
    )
    stubbed.add_response("head_object", {"ContentLength": 8, "Metadata": metadata}, WHERE)
    seen: list[tuple[int, int]] = []
    upload(store_of(account(stubbed)), PLACE, archive, lambda *counts: seen.append(counts))
    stubbed.assert_no_pending_responses()
    assert seen == [(8, 8)]


def test_each_part_has_its_own_digest(stubbed: Stubber, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_of = in_parts(stubbed, archive, monkeypatch)
    named = []
    for number, data in ((1, b"abcd"), (2, b"efgh")):
        stubbed.add_response("upload_part", {"ETag": f"e{number}"}, part(upload_of, number, data))
        named.append({"PartNumber": number, "ETag": f"e{number}", "ChecksumSHA256": checksum(data)})
    stubbed.add_response("complete_multipart_upload", {}, {**upload_of, "MultipartUpload": {"Parts": named}})
    head = {"ContentLength": 8, "Metadata": {"sha256": archive.sha256}}
    stubbed.add_response("head_object", head, WHERE)
    upload(store_of(account(stubbed)), PLACE, archive, lambda *_: None)
    stubbed.assert_no_pending_responses()


@pytest.mark.parametrize(("code", "kind"), [("AccessDenied", StopError), ("SlowDown", RetryError)])
def test_what_was_sent_is_taken_back_where_a_part_is_refused(
    stubbed: Stubber, archive: Archive, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[MliError]
) -> None:
    upload_of = in_parts(stubbed, archive, monkeypatch)
    stubbed.add_client_error("upload_part", code, expected_params=part(upload_of, 1, b"abcd"))
    stubbed.add_response("abort_multipart_upload", {}, upload_of)
    with pytest.raises(kind):
        upload(store_of(account(stubbed)), PLACE, archive, lambda *_: None)
    stubbed.assert_no_pending_responses()


def test_an_abort_that_fails_does_not_hide_why(
    stubbed: Stubber, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_of = in_parts(stubbed, archive, monkeypatch)
    stubbed.add_client_error("upload_part", "AccessDenied", expected_params=part(upload_of, 1, b"abcd"))
    stubbed.add_client_error("abort_multipart_upload", "InternalError", expected_params=upload_of)
    with pytest.raises(StopError, match="s3:PutObject"):
        upload(store_of(account(stubbed)), PLACE, archive, lambda *_: None)


@pytest.mark.parametrize("head", [{"ContentLength": 7}, {"ContentLength": 8, "Metadata": {"sha256": "0" * 64}}])
def test_what_did_not_arrive_whole_is_told(stubbed: Stubber, archive: Archive, head: dict[str, Any]) -> None:
    stubbed.add_response("put_object", {})
    stubbed.add_response("head_object", head, WHERE)
    with pytest.raises(RetryError, match="did not arrive"):
        upload(store_of(account(stubbed)), PLACE, archive, lambda *_: None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket.with.dots/a/b/", ("bucket.with.dots", "a/b")),
    ],
)
def test_a_place_is_a_bucket_and_a_prefix(text: str, found: tuple[str, str]) -> None:
    assert parse_destination(text) == found


@pytest.mark.parametrize("text", ["bucket", "s3://", "s3://B", "s3://bucket/a//b", "s3://bucket/a\nb", "https://x/y"])
def test_what_is_no_place_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="no place in S3"):
        parse_destination(text)


@pytest.mark.parametrize("prefix", ["a\tb", "a b", "it's", '"', "a\\b", "{iot:thingName}", "a\x9bb", "p" * 601])
def test_what_no_stack_could_name_is_told_before_anything_is_sent(prefix: str) -> None:
    with pytest.raises(UsageError, match="could not name"):
        parse_destination(f"s3://bucket/{prefix}")


def test_the_key_says_the_digest_and_the_name(archive: Archive) -> None:
    assert key_of("", archive) == f"models/{archive.sha256}/a.zip"
    odd = Archive(Path("/x/my model #1.tar.gz"), "ab", 1)
    assert key_of("p/q", odd) == "p/q/models/ab/my-model-1.tar.gz"
