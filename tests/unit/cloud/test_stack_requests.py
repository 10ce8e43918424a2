"""What the stacks are asked to be, where AWS tells more than is there."""

from __future__ import annotations

import pytest
from tests.fixtures.stubbed_aws import StubbedAws

from mli.cloud.stack_requests import retained_buckets, shared_request

OLD, LATER = "mli-shared-modelbucket-a1", "mli-shared-modelbucket-b2"


def tagged(aws: StubbedAws, *names: str) -> None:
    found = [{"ResourceARN": f"arn:aws:s3:::{name}"} for name in names]
    aws.on("resourcegroupstaggingapi").add_response("get_resources", {"ResourceTagMappingList": found})


def test_a_bucket_that_was_deleted_a_while_ago_is_not_taken_up(stubbed_aws: StubbedAws) -> None:
    tagged(stubbed_aws, LATER, OLD)
    stubbed_aws.on("s3").add_client_error("head_bucket", "404", http_status_code=404)
    stubbed_aws.on("s3").add_response("head_bucket", {})
    assert shared_request(stubbed_aws.account, None, None).parameters["ExistingModelBucket"] == LATER


@pytest.mark.parametrize("purpose", ["model-bucket", "artifact-bucket"])
def test_only_buckets_of_this_stack_count(stubbed_aws: StubbedAws, purpose: str) -> None:
    word = purpose.replace("-", "")
    own = f"mli-shared-{word}-1a2b"
    tagged(stubbed_aws, f"mli-shared-b-{word}-1", f"team-{word}-1", own)
    assert retained_buckets(stubbed_aws.account, purpose) == (own,)
