"""Of a stack that failed, the first cause is told and what to do; not the cascade after it."""

from __future__ import annotations

import pytest

from mli.cloud.stack_failures import Event, explained, first_failure, stack_failed
from mli.errors import RefusedError, StopError

DENIED = (
    'Resource handler returned message: "User: arn:aws:iam::123456789012:user/op is not authorized to perform: '
    "iot:CreateThing on resource: arn:aws:iot:eu-central-1:123456789012:thing/a because no identity-based policy "
    'allows the iot:CreateThing action"'
)


def event(name: str, status: str, reason: str = "", kind: str = "AWS::IoT::Thing") -> Event:
    return Event(f"{name}-{status}", name, kind, status, reason)


CASCADE = [
    event("mli-a", "CREATE_IN_PROGRESS", "User Initiated", "AWS::CloudFormation::Stack"),
    event("Policy", "CREATE_FAILED", "Resource creation cancelled"),
    event("Thing", "CREATE_FAILED", DENIED),
    event("Role", "CREATE_FAILED", "Resource creation cancelled"),
    event("mli-a", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed: [X].", "AWS::CloudFormation::Stack"),
]  # fmt: skip


def test_the_cause_is_the_first_failure_that_is_no_cancellation() -> None:
    found = first_failure(CASCADE)
    assert found is not None
    assert found.logical_id == "Thing"


def test_where_all_is_cascade_its_first_line_is_better_than_nothing() -> None:
    found = first_failure(CASCADE[:2])
    assert found is not None
    assert found.logical_id == "Policy"
    assert first_failure(CASCADE[:1]) is None


def test_a_missing_right_in_a_stacks_log_is_told_as_one() -> None:
    error = stack_failed("mli-a", first_failure(CASCADE), "ROLLBACK_COMPLETE", "", "what it had made is removed")
    assert isinstance(error, StopError)
    assert error.what == "A right is missing: iot:CreateThing."
    assert error.expected == (
        "arn:aws:iam::123456789012:user/op may iot:CreateThing on arn:aws:iot:eu-central-1:123456789012:thing/a"
    )
    assert "Thing (AWS::IoT::Thing) of the stack mli-a, now ROLLBACK_COMPLETE" in str(error.where)
    assert "what it had made is removed" in str(error.remedy)


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("Resource of type 'AWS::IoT::Thing' with identifier 'a' already exists.", "another name"),
        ("No export named mli-shared:RoleAliasArn found. Rollback requested by user.", "mli stack deploy --shared"),
        ("Export mli-shared:LogGroup cannot be deleted as it is in use by mli-a, mli-b", "mli stack destroy"),
        ("Cannot exceed quota for RolesPerAccount: 1000", "quota"),
        ("The bucket you tried to delete is not empty", "empty it"),
        ("The policy cannot be deleted as the policy is attached to one or more principals (name=P)", "five minutes"),
        ("Cannot delete. Thing belt is still attached to one or more principals", "five minutes"),
        ("The security token included in the request is expired", "log in again"),
        ("Unrecognized resource types: [AWS::GreengrassV2::Deployment]", "--runtime core"),
    ],
)
def test_known_reasons_have_their_remedy(reason: str, remedy: str) -> None:
    error = explained("mli-a", reason)
    assert isinstance(error, RefusedError)
    assert error.got == reason
    assert remedy in str(error.remedy)


def test_an_unknown_reason_is_told_as_it_is() -> None:
    assert explained("mli-a", "Internal Failure") is None
    error = stack_failed(
        "mli-a", event("Thing", "CREATE_FAILED", "Internal Failure"), "ROLLBACK_COMPLETE", "", "left"
    )
    assert (error.got, error.remedy) == ("Internal Failure", "left")


def test_without_a_log_the_state_is_told() -> None:
    error = stack_failed("mli-a", None, "UPDATE_ROLLBACK_FAILED", "broken", "left")
    assert error.got == "UPDATE_ROLLBACK_FAILED: broken"
