"""What S3 answers where a store of our own cannot play it: owners, regions, rights."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from botocore.response import StreamingBody
from tests.fixtures.stubbed_aws import ACCOUNT, ANY, REGION, StubbedAws

from mli.cloud.stack_model import check_bucket, find_model
from mli.errors import MliError, RefusedError, StopError, UsageError

SHA = "cd" * 32
OWNED = {"Bucket": "models", "ExpectedBucketOwner": ACCOUNT}


def body(data: bytes) -> dict[str, Any]:
    return {"Body": StreamingBody(BytesIO(data), len(data))}


def stored(aws: StubbedAws, key: str = "m.zip", **metadata: str) -> None:
    stub = aws.on("s3")
    stub.add_response("head_bucket", {"BucketRegion": aws.region}, OWNED)
    stub.add_response(
        "head_object", {"ContentLength": 9, "ETag": '"e"', "Metadata": metadata}, {"Bucket": "models", "Key": key}
    )
    stub.add_response(
        "get_object", body(b"PK\x03\x04"), {"Bucket": "models", "Key": key, "Range": "bytes=0-3", "IfMatch": '"e"'}
    )


@pytest.mark.parametrize(
    ("key", "metadata", "said", "source"),
    [
        ("m.zip", {"sha256": SHA}, None, "upload"),
        ("m.zip", {"sha256": SHA.upper()}, SHA, "said"),
        (f"models/{SHA}/m.zip", {}, None, "key"),
        (f"a/b/models/{SHA}/m.zip", {"sha256": SHA}, SHA.upper(), "said"),
    ],
)
def test_who_says_the_digest_is_known(
    stubbed_aws: StubbedAws, key: str, metadata: dict[str, str], said: str | None, source: str
) -> None:
    stored(stubbed_aws, key, **metadata)
    found = find_model(stubbed_aws.account, f"s3://models/{key}", said)
    assert (found.sha256, found.sha256_from, found.size_bytes) == (SHA, source, 9)


@pytest.mark.parametrize(
    ("key", "metadata"),
    [
        ("m.zip", {}),
        ("m.zip", {"sha256": "of another form"}),
        (f"models/{SHA}/deeper/m.zip", {}),
        (f"{SHA}/m.zip", {}),
    ],
)
def test_a_digest_that_nobody_says_is_not_made_up(
    stubbed_aws: StubbedAws, key: str, metadata: dict[str, str]
) -> None:
    stored(stubbed_aws, key, **metadata)
    found = find_model(stubbed_aws.account, f"s3://models/{key}")
    assert (found.sha256, found.sha256_from) == ("", "nobody")


def test_digests_that_differ_are_refused(stubbed_aws: StubbedAws) -> None:
    stored(stubbed_aws, sha256="ef" * 32)
    with pytest.raises(RefusedError, match="digests differ") as caught:
        find_model(stubbed_aws.account, "s3://models/m.zip", SHA)
    assert "--sha256 says cd" in str(caught.value.got)
    assert "the upload says ef" in str(caught.value.got)


@pytest.mark.parametrize("uri", ["m.zip", "https://h/m.zip", "s3://models", "s3://models/", "s3://Models/m.zip"])
def test_what_names_no_object_is_wrong_usage(stubbed_aws: StubbedAws, uri: str) -> None:
    with pytest.raises(UsageError, match="no object in S3"):
        find_model(stubbed_aws.account, uri)


def test_a_sha256_of_another_form_is_wrong_usage(stubbed_aws: StubbedAws) -> None:
    with pytest.raises(UsageError, match="--sha256"):
        find_model(stubbed_aws.account, "s3://models/m.zip", "abc")


def refused(error: type[MliError], aws: StubbedAws) -> MliError:
    with pytest.raises(error) as caught:
        check_bucket(aws.account, "models")
    return caught.value


def test_a_bucket_of_another_region_names_both_regions_and_the_fix(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("s3").add_response("head_bucket", {"BucketRegion": "us-west-2"}, OWNED)
    error = refused(RefusedError, stubbed_aws)
    assert error.what == f"The bucket is in us-west-2, the devices' stack in {REGION}."
    assert "mli model push" in str(error.remedy)
    assert "--region us-west-2" in str(error.remedy)


def test_the_region_is_also_seen_in_a_refusal(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("s3").add_client_error(
        "head_bucket",
        "403",
        http_status_code=403,
        response_meta={"HTTPHeaders": {"x-amz-bucket-region": "us-west-2"}},
    )
    assert "us-west-2" in refused(RefusedError, stubbed_aws).what


def test_a_refusal_without_a_word_is_asked_for_the_region(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("s3")
    stub.add_client_error("head_bucket", "400", http_status_code=400)
    stub.add_response("get_bucket_location", {"LocationConstraint": "us-west-2"}, {"Bucket": "models"})
    assert "us-west-2" in refused(RefusedError, stubbed_aws).what


def test_a_bucket_of_another_account_answers_only_without_the_owner(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("s3")
    stub.add_client_error("head_bucket", "403", http_status_code=403, expected_params=OWNED)
    stub.add_response("head_bucket", {"BucketRegion": REGION}, {"Bucket": "models"})
    assert refused(RefusedError, stubbed_aws).what == "The bucket models is of another account."


def test_a_bucket_that_never_answers_lacks_a_right(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("s3")
    stub.add_client_error("head_bucket", "403", "Forbidden", http_status_code=403, expected_params=OWNED)
    stub.add_client_error("head_bucket", "403", "Forbidden", http_status_code=403)
    error = refused(StopError, stubbed_aws)
    assert error.what == "A right is missing: s3:ListBucket."
    assert error.expected == "arn:aws:iam::123456789012:user/op may s3:ListBucket"


def test_a_bucket_that_is_not_there_is_told(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("s3").add_client_error("head_bucket", "404", http_status_code=404)
    assert refused(RefusedError, stubbed_aws).what == "There is no bucket models."


def test_an_object_that_may_not_be_read_lacks_a_right(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("s3")
    stub.add_response("head_bucket", {}, OWNED)
    stub.add_client_error("head_object", "403", "Forbidden", http_status_code=403)
    with pytest.raises(StopError, match="s3:GetObject"):
        find_model(stubbed_aws.account, "s3://models/m.zip")


def test_a_key_that_may_not_be_listed_is_still_told_as_missing(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("s3")
    stub.add_response("head_bucket", {}, OWNED)
    stub.add_client_error("head_object", "404", http_status_code=404)
    stub.add_client_error(
        "list_objects_v2", "AccessDenied", http_status_code=403, expected_params={"Bucket": ANY, "MaxKeys": ANY}
    )
    with pytest.raises(RefusedError, match="not in its bucket"):
        find_model(stubbed_aws.account, "s3://models/m.zip")
