"""What is emptied, cleared and kept when stacks end, where moto is too kind."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.fixtures.stubbed_aws import StubbedAws

from mli.cloud.stack_change import Change
from mli.cloud.stack_destroy import DeviceEnd, end_device, remove_bucket
from mli.cloud.stack_failures import Event
from mli.cloud.stack_messages import last_word, revision_wanted
from mli.errors import RefusedError, StopError

BUCKET = {"Bucket": "artifacts"}


class Notes:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def event(self, stack_name: str, event: Event) -> None:
        raise AssertionError((stack_name, event))

    def agree(self, stack_name: str, makes: bool, changes: Sequence[Change]) -> bool:
        raise AssertionError((stack_name, makes, changes))


def test_every_version_and_marker_and_upload_goes_before_the_bucket(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("s3")
    first = {
        "Versions": [{"Key": "a", "VersionId": "1"}, {"Key": "a", "VersionId": "2"}],
        "DeleteMarkers": [{"Key": "a", "VersionId": "3"}],
        "IsTruncated": True,
        "NextKeyMarker": "a",
        "NextVersionIdMarker": "3",
    }
    stub.add_response("list_object_versions", first, BUCKET)
    gone = [{"Key": "a", "VersionId": version} for version in ("1", "2", "3")]
    stub.add_response("delete_objects", {}, {**BUCKET, "Delete": {"Objects": gone, "Quiet": True}})
    last = {"Versions": [{"Key": "b", "VersionId": "null"}], "IsTruncated": False}
    stub.add_response("list_object_versions", last, {**BUCKET, "KeyMarker": "a", "VersionIdMarker": "3"})
    more = {"Objects": [{"Key": "b", "VersionId": "null"}], "Quiet": True}
    stub.add_response("delete_objects", {}, {**BUCKET, "Delete": more})
    stub.add_response("list_multipart_uploads", {"Uploads": [{"Key": "c", "UploadId": "u"}]}, BUCKET)
    stub.add_response("abort_multipart_upload", {}, {**BUCKET, "Key": "c", "UploadId": "u"})
    stub.add_response("delete_bucket", {}, BUCKET)
    remove_bucket(stubbed_aws.account, "artifacts")


def test_an_object_that_cannot_be_deleted_is_named_and_the_bucket_stays(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("s3")
    stub.add_response("list_object_versions", {"Versions": [{"Key": "a", "VersionId": "1"}]})
    stub.add_response(
        "delete_objects", {"Errors": [{"Key": "a", "Code": "AccessDenied", "Message": "Access Denied"}]}
    )
    with pytest.raises(RefusedError, match="artifacts cannot be emptied") as caught:
        remove_bucket(stubbed_aws.account, "artifacts")
    assert (caught.value.where, "AccessDenied" in str(caught.value.got)) == ("a", True)


def test_a_bucket_that_is_gone_is_fine(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("s3").add_client_error("list_object_versions", "NoSuchBucket")
    remove_bucket(stubbed_aws.account, "artifacts")


def test_the_right_to_empty_it_is_named_with_who_lacks_it(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("s3").add_client_error("list_object_versions", "AccessDenied", "Access Denied")
    with pytest.raises(StopError) as caught:
        remove_bucket(stubbed_aws.account, "artifacts")
    assert caught.value.expected == "arn:aws:iam::123456789012:user/op may s3:ListBucketVersions"


def kept(aws: StubbedAws, topic: str, payload: bytes | None) -> None:
    stub = aws.on("iot-data")
    if payload is None:
        stub.add_client_error("get_retained_message", "ResourceNotFoundException", expected_params={"topic": topic})
        return
    told = {"topic": topic, "payload": payload, "qos": 1, "lastModifiedTime": 1_790_000_000_000}
    stub.add_response("get_retained_message", told, {"topic": topic})


def test_a_message_that_may_not_be_cleared_is_told_and_the_others_go(stubbed_aws: StubbedAws) -> None:
    topics = ("mli/deployments/a", "mli/status/a", "mli/status/a/deployment")
    for topic in topics:
        kept(stubbed_aws, topic, b"{}")
    stub = stubbed_aws.on("iot-data")
    cleared = {"qos": 1, "retain": True, "payload": b""}
    stub.add_response("publish", {}, {"topic": topics[0], **cleared})
    said = "User: arn:aws:iam::1:user/op is not authorized to perform: iot:RetainPublish on resource: arn:x"
    stub.add_client_error("publish", "ForbiddenException", said, expected_params={"topic": topics[1], **cleared})
    stub.add_response("publish", {}, {"topic": topics[2], **cleared})
    notes = Notes()
    end_device(stubbed_aws.account, DeviceEnd(None, "a", (), (), topics), notes)
    (note,) = notes.said
    assert note.startswith("the message on mli/status/a stays: A right is missing: iot:RetainPublish. (expected: ")
    assert "arn:aws:iam::1:user/op may iot:RetainPublish" in note


@pytest.mark.parametrize(
    ("payload", "revision"),
    [
        (b'{"revision": 7}', 7),
        (b"revision: 8\nmodels: {}\n", 8),
        (b'{"schema": "mli.envelope/1", "revision": 9, "payload": "x"}', 9),
        (None, 0),
        (b"", 0),
        (b"a: [", 0),
        (b"[1]", 0),
        (b'{"revision": "7"}', 0),
        (b'{"revision": -1}', 0),
        (b"\xff\xfe\x00", 0),
    ],
)
def test_the_revision_that_was_sent_is_read_of_what_can_be_read(
    stubbed_aws: StubbedAws, payload: bytes | None, revision: int
) -> None:
    kept(stubbed_aws, "mli/deployments/a", payload)
    assert revision_wanted(stubbed_aws.account, "a") == revision


@pytest.mark.parametrize("payload", [None, b"", b"no JSON", b"[]", b"3"])
def test_what_is_no_status_is_nothing(stubbed_aws: StubbedAws, payload: bytes | None) -> None:
    kept(stubbed_aws, "mli/status/a", payload)
    assert last_word(stubbed_aws.account, "a") is None
