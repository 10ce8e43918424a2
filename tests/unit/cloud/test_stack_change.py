"""What would change is asked first; nothing of the question stays."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.stubbed_aws import ANY, StubbedAws

from mli.cloud.stack_change import Change, ChangeSet, Request, discard, execute, propose
from mli.cloud.stack_state import Stack
from mli.cloud.stack_wanted import greengrass_is_known
from mli.errors import RefusedError, RetryError, StopError

STACK = "arn:aws:cloudformation:eu-central-1:123456789012:stack/mli-a/1"
PLAN = "arn:aws:cloudformation:eu-central-1:123456789012:changeSet/mli-x/1"
REQUEST = Request("mli-a", "Resources: {}", {"CoreName": "a"}, {"mli:stack": "device"})
THERE = Stack("mli-a", STACK, "CREATE_COMPLETE")
DESCRIBE = {"ChangeSetName": PLAN}


def no_pause(_: float) -> None:
    """Waits for nothing."""


def change(action: str, name: str, replacement: str | None = None) -> dict[str, Any]:
    told = {"Action": action, "LogicalResourceId": name, "ResourceType": "AWS::IoT::Thing"}
    return {
        "Type": "Resource",
        "ResourceChange": told if replacement is None else {**told, "Replacement": replacement},
    }


def asked(aws: StubbedAws, kind: str) -> None:
    expected = {
        "StackName": "mli-a",
        "ChangeSetName": ANY,
        "ChangeSetType": kind,
        "TemplateBody": "Resources: {}",
        "Parameters": [{"ParameterKey": "CoreName", "ParameterValue": "a"}],
        "Tags": [{"Key": "mli:stack", "Value": "device"}],
        "Capabilities": [],
    }
    aws.on("cloudformation").add_response("create_change_set", {"Id": PLAN, "StackId": STACK}, expected)


def forgotten(aws: StubbedAws) -> None:
    aws.on("cloudformation").add_response("delete_change_set", {}, DESCRIBE)


def test_each_kind_of_change_is_told_and_every_page_is_read(stubbed_aws: StubbedAws) -> None:
    asked(stubbed_aws, "UPDATE")
    stub = stubbed_aws.on("cloudformation")
    stub.add_response("describe_change_set", {"Status": "CREATE_IN_PROGRESS"}, DESCRIBE)
    first = [change("Add", "New"), change("Modify", "Same", "False"), change("Modify", "Other", "True")]
    stub.add_response(
        "describe_change_set", {"Status": "CREATE_COMPLETE", "Changes": first, "NextToken": "2"}, DESCRIBE
    )
    last = [change("Modify", "Perhaps", "Conditional"), change("Remove", "Old")]
    stub.add_response(
        "describe_change_set", {"Status": "CREATE_COMPLETE", "Changes": last}, {**DESCRIBE, "NextToken": "2"}
    )
    found = propose(stubbed_aws.account, REQUEST, THERE, no_pause)
    assert found is not None
    assert [(item.logical_id, item.what) for item in found.changes] == [
        ("New", "add"),
        ("Same", "change"),
        ("Other", "replace"),
        ("Perhaps", "may replace"),
        ("Old", "remove"),
    ]
    assert not found.makes


@pytest.mark.parametrize(
    "reason",
    [
        "The submitted information didn't contain changes. Submit different information to create a change set.",
        "No updates are to be performed.",
    ],
)
def test_no_change_is_none_and_its_change_set_goes(stubbed_aws: StubbedAws, reason: str) -> None:
    asked(stubbed_aws, "UPDATE")
    stubbed_aws.on("cloudformation").add_response(
        "describe_change_set", {"Status": "FAILED", "StatusReason": reason}, DESCRIBE
    )
    forgotten(stubbed_aws)
    assert propose(stubbed_aws.account, REQUEST, THERE, no_pause) is None


def test_what_cloudformation_does_not_take_is_told_and_leaves_no_stack(stubbed_aws: StubbedAws) -> None:
    asked(stubbed_aws, "CREATE")
    stub = stubbed_aws.on("cloudformation")
    reason = "No export named mli-shared:RoleAliasArn found. Rollback requested by user."
    stub.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": reason}, DESCRIBE)
    forgotten(stubbed_aws)
    review = {"StackName": "mli-a", "StackStatus": "REVIEW_IN_PROGRESS", "CreationTime": "2026-11-29T00:00:00Z"}
    stub.add_response("describe_stacks", {"Stacks": [review]}, {"StackName": STACK})
    stub.add_response("list_change_sets", {"Summaries": []}, {"StackName": STACK})
    stub.add_response("delete_stack", {}, {"StackName": STACK})
    with pytest.raises(RefusedError) as caught:
        propose(stubbed_aws.account, REQUEST, None, no_pause)
    assert caught.value.got == reason


def test_a_plan_that_an_interrupted_run_left_is_forgotten_first(stubbed_aws: StubbedAws) -> None:
    stub = stubbed_aws.on("cloudformation")
    left = [
        {"ChangeSetName": "mli-old", "ChangeSetId": "arn:mine", "StackId": STACK},
        {"ChangeSetName": "somebody-elses", "ChangeSetId": "arn:other", "StackId": STACK},
    ]
    stub.add_response("list_change_sets", {"Summaries": left}, {"StackName": "mli-a"})
    stub.add_response("delete_change_set", {}, {"ChangeSetName": "arn:mine"})
    asked(stubbed_aws, "CREATE")
    stub.add_response("describe_change_set", {"Status": "CREATE_COMPLETE", "Changes": []}, DESCRIBE)
    found = propose(stubbed_aws.account, REQUEST, Stack("mli-a", STACK, "REVIEW_IN_PROGRESS"), no_pause)
    assert found == ChangeSet("mli-a", PLAN, STACK, makes=True, changes=())


@pytest.mark.parametrize(
    ("code", "said", "remedy"),
    [
        ("ValidationError", "Unrecognized resource types: [AWS::GreengrassV2::ComponentVersion]", "--runtime core"),
        ("LimitExceededException", "Limit exceeded: 2000 stacks", "quota"),
    ],
)
def test_what_is_refused_at_once_has_its_remedy(stubbed_aws: StubbedAws, code: str, said: str, remedy: str) -> None:
    stubbed_aws.on("cloudformation").add_client_error("create_change_set", code, said)
    with pytest.raises(RefusedError) as caught:
        propose(stubbed_aws.account, REQUEST, None, no_pause)
    assert remedy in str(caught.value.remedy)


def test_a_session_that_ended_before_is_told_as_one(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("cloudformation").add_client_error("create_change_set", "ExpiredToken", "The token is expired")
    with pytest.raises(StopError, match="session has expired"):
        propose(stubbed_aws.account, REQUEST, None, no_pause)


def test_a_region_without_greengrass_is_seen_before_anything_is_made(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("cloudformation").add_client_error(
        "validate_template",
        "ValidationError",
        "Template format error: Unrecognized resource types: [AWS::GreengrassV2::Deployment]",
    )
    with pytest.raises(RefusedError) as caught:
        greengrass_is_known(stubbed_aws.account)
    assert "--runtime core" in str(caught.value.remedy)


def test_a_session_that_ends_while_it_is_asked_is_told(stubbed_aws: StubbedAws) -> None:
    asked(stubbed_aws, "UPDATE")
    stub = stubbed_aws.on("cloudformation")
    stub.add_client_error("describe_change_set", "ExpiredToken", "The security token is expired")
    stub.add_client_error("delete_change_set", "ExpiredToken", "The security token is expired")
    with pytest.raises(StopError, match="expired"):
        propose(stubbed_aws.account, REQUEST, THERE, no_pause)


@pytest.mark.parametrize("others", [True, False])
def test_a_plan_of_somebody_else_keeps_its_stack(stubbed_aws: StubbedAws, others: bool) -> None:
    stub = stubbed_aws.on("cloudformation")
    forgotten(stubbed_aws)
    review = {"StackName": "mli-a", "StackStatus": "REVIEW_IN_PROGRESS", "CreationTime": "2026-11-29T00:00:00Z"}
    stub.add_response("describe_stacks", {"Stacks": [review]})
    stub.add_response("list_change_sets", {"Summaries": [{"ChangeSetName": "x", "StackId": STACK}] if others else []})
    if not others:
        stub.add_response("delete_stack", {}, {"StackName": STACK})
    discard(stubbed_aws.account, ChangeSet("mli-a", PLAN, STACK, makes=True, changes=(Change("add", "T", "X"),)))


def test_to_execute_names_the_change_set_and_its_stack(stubbed_aws: StubbedAws) -> None:
    stubbed_aws.on("cloudformation").add_response(
        "execute_change_set", {}, {"ChangeSetName": PLAN, "StackName": STACK}
    )
    execute(stubbed_aws.account, ChangeSet("mli-a", PLAN, STACK, makes=False, changes=()))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ValidationError", f"Stack:{STACK} is in UPDATE_IN_PROGRESS state and can not be updated."),
        ("AlreadyExistsException", "Stack [mli-a] already exists and cannot be created again."),
        ("ValidationError", "Stack [mli-a] does not exist"),
    ],
)
def test_somebody_else_at_the_same_stack_is_told_as_that(stubbed_aws: StubbedAws, code: str, said: str) -> None:
    stubbed_aws.on("cloudformation").add_client_error("create_change_set", code, said)
    with pytest.raises(RetryError, match="Somebody else is making or changing the stack mli-a") as caught:
        propose(stubbed_aws.account, REQUEST, THERE, no_pause)
    assert caught.value.got == said
    assert "the same command again" in str(caught.value.remedy)


def test_a_plan_that_somebody_else_took_away_is_told_as_that(stubbed_aws: StubbedAws) -> None:
    asked(stubbed_aws, "UPDATE")
    gone = f"ChangeSet [{PLAN}] does not exist"
    stubbed_aws.on("cloudformation").add_client_error("describe_change_set", "ChangeSetNotFound", gone)
    forgotten(stubbed_aws)
    with pytest.raises(RetryError, match="Somebody else"):
        propose(stubbed_aws.account, REQUEST, THERE, no_pause)


@pytest.mark.parametrize("code", ["ChangeSetNotFound", "InvalidChangeSetStatus"])
def test_who_is_faster_makes_a_plan_worthless(stubbed_aws: StubbedAws, code: str) -> None:
    stubbed_aws.on("cloudformation").add_client_error("execute_change_set", code, "not in its current status")
    with pytest.raises(RetryError, match="Somebody else"):
        execute(stubbed_aws.account, ChangeSet("mli-a", PLAN, STACK, makes=False, changes=()))
