"""What can be done with a stack, and whose it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fixtures.stubbed_aws import StubbedAws

from mli.cloud.stack_owner import must_be_ours, must_be_usable
from mli.cloud.stack_state import Contents, Stack, contents_of, importers_of, look_at_stack, state_of
from mli.errors import RefusedError, StopError

ID = "arn:aws:cloudformation:eu-central-1:123456789012:stack/mli-a/1"


def stack(status: str = "CREATE_COMPLETE", **more: Any) -> Stack:
    return Stack("mli-a", ID, status, **more)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("CREATE_COMPLETE", "settled"),
        ("UPDATE_ROLLBACK_COMPLETE", "settled"),
        ("UPDATE_FAILED", "settled"),
        ("IMPORT_COMPLETE", "settled"),
        ("CREATE_IN_PROGRESS", "moving"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "moving"),
        ("ROLLBACK_IN_PROGRESS", "moving"),
        ("DELETE_IN_PROGRESS", "moving"),
        ("REVIEW_IN_PROGRESS", "review"),
        ("ROLLBACK_COMPLETE", "never_up"),
        ("ROLLBACK_FAILED", "never_up"),
        ("CREATE_FAILED", "never_up"),
        ("UPDATE_ROLLBACK_FAILED", "stuck"),
        ("DELETE_FAILED", "undeleted"),
    ],
)
def test_each_status_says_what_can_be_done(status: str, state: str) -> None:
    assert state_of(status) == state


def test_a_stack_that_is_not_there_is_no_error(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("cloudformation").add_client_error(
        "describe_stacks", "ValidationError", "Stack with id mli-a does not exist"
    )
    assert look_at_stack(stubbed_aws.account, "mli-a") is None


def test_another_refusal_is_one(stubbed_aws: StubbedAws) -> None:
    said = "User: arn:aws:iam::123456789012:user/op is not authorized to perform: cloudformation:DescribeStacks"
    stubbed_aws.on("cloudformation").add_client_error("describe_stacks", "AccessDenied", said)
    with pytest.raises(StopError, match="cloudformation:DescribeStacks"):
        look_at_stack(stubbed_aws.account, "mli-a")


def test_the_metadata_of_a_template_come_as_text(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("cloudformation").add_response(
        "get_template_summary",
        {"Metadata": json.dumps({"mli": {"template": "device"}}), "ResourceTypes": ["AWS::IoT::Thing"]},
        {"StackName": "mli-a"},
    )
    found = contents_of(stubbed_aws.account, stack())
    assert (found.metadata, found.types) == ({"template": "device"}, ("AWS::IoT::Thing",))


@pytest.mark.parametrize("metadata", [None, "no JSON", "[1]", '{"mli": 3}'])
def test_other_metadata_are_not_ours(stubbed_aws: StubbedAws, metadata: str | None) -> None:
    told = {"ResourceTypes": []} if metadata is None else {"Metadata": metadata, "ResourceTypes": []}
    stubbed_aws.on("cloudformation").add_response("get_template_summary", told)
    assert contents_of(stubbed_aws.account, stack()).metadata == {}


@pytest.mark.parametrize(
    "kind",
    [
        "AWS::Greengrass::Group",
        "AWS::Greengrass::CoreDefinitionVersion",
        "AWS::Serverless::Function",
        "Custom::GreengrassCertificate",
        "AWS::CloudFormation::CustomResource",
        "AWS::Lambda::Function",
    ],
)
def test_the_v1_stack_is_refused_with_the_reason_even_where_it_says_that_it_is_ours(kind: str) -> None:
    contents = Contents({"template": "device"}, ("AWS::IoT::Thing", kind))
    with pytest.raises(RefusedError) as caught:
        must_be_ours(stack(tags={"mli:stack": "device"}), contents, "device")
    assert kind in str(caught.value.got)
    assert "deletes the thing" in str(caught.value.remedy)


def test_greengrass_v2_is_not_v1() -> None:
    contents = Contents({"template": "device"}, ("AWS::GreengrassV2::Deployment", "AWS::IoT::Thing"))
    must_be_ours(stack(), contents, "device")


def test_a_stack_of_the_aws_cli_is_ours_by_its_template_and_one_of_another_template_by_its_tag() -> None:
    must_be_ours(stack(), Contents({"template": "shared"}, ()), "shared")
    must_be_ours(stack(tags={"mli:stack": "shared"}), Contents({}, ()), "shared")


@pytest.mark.parametrize("metadata", [{}, {"template": "shared"}])
def test_a_stack_of_somebody_else_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match="not mli's device stack"):
        must_be_ours(stack(), Contents(metadata, ("AWS::SQS::Queue",)), "device")


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name mli-a --region eu-central-1"),
        ("DELETE_FAILED", "mli stack destroy line-1"),
    ],
)
def test_what_a_person_must_mend_is_told(stubbed_aws: StubbedAws, status: str, remedy: str) -> None:
    stubbed_aws.on("cloudformation").add_response("get_template_summary", {"ResourceTypes": []})
    with pytest.raises(RefusedError) as caught:
        must_be_usable(
            stubbed_aws.account, stack(status, tags={"mli:stack": "device", "mli:core": "line-1"}), "device"
        )
    assert remedy in str(caught.value.remedy)


def resources(*told: tuple[str, str]) -> dict[str, Any]:
    listed = [
        {
            "LogicalResourceId": name,
            "PhysicalResourceId": name.lower(),
            "ResourceType": "AWS::S3::Bucket",
            "ResourceStatus": status,
            "LastUpdatedTimestamp": "2026-11-29T00:00:00Z",
        }
        for name, status in told
    ]
    return {"StackResourceSummaries": listed}


def test_a_stack_that_never_came_up_and_holds_nothing_can_be_made_anew(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("cloudformation")
    stub.add_response("get_template_summary", {"ResourceTypes": []})
    stub.add_response("list_stack_resources", resources(("Thing", "DELETE_COMPLETE"), ("Policy", "CREATE_FAILED")))
    must_be_usable(stubbed_aws.account, stack("ROLLBACK_COMPLETE", tags={"mli:stack": "device"}), "device")


def test_one_that_holds_something_is_left_to_a_person(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("cloudformation")
    stub.add_response("get_template_summary", {"ResourceTypes": []})
    stub.add_response("list_stack_resources", resources(("ModelBucket", "DELETE_SKIPPED"), ("X", "DELETE_COMPLETE")))
    with pytest.raises(RefusedError) as caught:
        must_be_usable(stubbed_aws.account, stack("ROLLBACK_COMPLETE", tags={"mli:stack": "device"}), "device")
    assert "ModelBucket" in str(caught.value.remedy)
    assert "delete-stack" in str(caught.value.remedy)


def test_importers_are_asked_for_this_stacks_exports_alone(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("cloudformation")
    exports = [
        {"Name": name, "ExportingStackId": where, "Value": ""} for name, where in (("a", ID), ("b", "x"), ("c", ID))
    ]
    stub.add_response("list_exports", {"Exports": exports})
    stub.add_response("list_imports", {"Imports": ["mli-2", "mli-1"]}, {"ExportName": "a"})
    stub.add_client_error(
        "list_imports",
        "ValidationError",
        "Export 'c' is not imported by any stack.",
        expected_params={"ExportName": "c"},
    )
    assert importers_of(stubbed_aws.account, stack()) == ("mli-1", "mli-2")
