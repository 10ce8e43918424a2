"""A stack is followed until it stands, and its log says so; its first failure is what is told."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.stubbed_aws import StubbedAws

from mli.cloud.stack_failures import Event
from mli.cloud.stack_follow import Mark, follow, mark
from mli.errors import RefusedError, RetryError, StopError

STACK = "arn:aws:cloudformation:eu-central-1:123456789012:stack/mli-a/1"
AT = "2026-11-29T00:00:00Z"
WHOLE = "AWS::CloudFormation::Stack"


class Log:
    """Answers of CloudFormation, look by look; newest events first, as it gives them."""

    def __init__(self, aws: StubbedAws) -> None:
        self.aws = aws
        self.events: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.pauses: list[float] = []

    def happens(self, name: str, status: str, reason: str = "", kind: str = "AWS::IoT::Thing") -> None:
        event = {
            "StackId": STACK,
            "StackName": "mli-a",
            "EventId": f"{len(self.events)}",
            "LogicalResourceId": name,
            "PhysicalResourceId": STACK if kind == WHOLE else name,
            "ResourceType": kind,
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
            "Timestamp": AT,
        }
        self.events.insert(0, event)

    def look(self, status: str | None) -> None:
        """The next look finds this status and all that happened so far."""
        if status is None:
            self.aws.on("cloudformation").add_client_error("describe_stacks", "ValidationError", "it does not exist")
            return
        told = {"StackName": "mli-a", "StackId": STACK, "StackStatus": status, "CreationTime": AT}
        self.aws.on("cloudformation").add_response("describe_stacks", {"Stacks": [told]}, {"StackName": STACK})
        self.read()

    def read(self) -> None:
        self.aws.on("cloudformation").add_response("describe_stack_events", {"StackEvents": list(self.events)})

    def follow(self, since: str | None = None) -> Any:
        def tell(event: Event) -> None:
            self.told.append(f"{event.logical_id} {event.status}")

        return follow(self.aws.account, STACK, "mli-a", Mark(since), tell, self.pauses.append)


@pytest.fixture
def log(stubbed_aws: StubbedAws) -> Log:
    return Log(stubbed_aws)


def test_the_state_from_before_the_request_is_not_believed(log: Log) -> None:
    log.happens("mli-a", "UPDATE_COMPLETE", kind=WHOLE)
    log.look("UPDATE_COMPLETE")
    log.happens("mli-a", "UPDATE_IN_PROGRESS", "User Initiated", WHOLE)
    log.look("UPDATE_IN_PROGRESS")
    log.happens("Thing", "CREATE_COMPLETE")
    log.happens("mli-a", "UPDATE_COMPLETE", kind=WHOLE)
    log.look("UPDATE_COMPLETE")
    found = log.follow(since="0")
    assert found.status == "UPDATE_COMPLETE"
    assert log.told == ["mli-a UPDATE_IN_PROGRESS", "Thing CREATE_COMPLETE", "mli-a UPDATE_COMPLETE"]
    assert len(log.pauses) == 2


def test_a_plan_that_was_just_executed_is_waited_for(log: Log) -> None:
    log.happens("mli-a", "REVIEW_IN_PROGRESS", kind=WHOLE)
    log.look("REVIEW_IN_PROGRESS")
    log.happens("mli-a", "CREATE_COMPLETE", kind=WHOLE)
    log.look("CREATE_COMPLETE")
    assert log.follow().status == "CREATE_COMPLETE"


def test_a_deleted_stack_is_gone(log: Log) -> None:
    log.happens("mli-a", "DELETE_IN_PROGRESS", kind=WHOLE)
    log.look("DELETE_IN_PROGRESS")
    log.look(None)
    assert log.follow() is None


def test_a_creation_that_failed_says_its_first_cause_and_that_nothing_is_left(log: Log) -> None:
    log.happens("Thing", "CREATE_FAILED", "an old one, of an earlier attempt")
    log.happens("mli-a", "CREATE_IN_PROGRESS", "User Initiated", WHOLE)
    log.happens("Policy", "CREATE_FAILED", "Resource creation cancelled")
    log.happens("Thing", "CREATE_FAILED", "Resource of type 'AWS::IoT::Thing' with identifier 'a' already exists.")
    log.happens("mli-a", "ROLLBACK_COMPLETE", kind=WHOLE)
    log.look("ROLLBACK_COMPLETE")
    log.read()
    with pytest.raises(RefusedError) as caught:
        log.follow()
    assert "already exists" in str(caught.value.got)
    assert "Thing" in str(caught.value.where)
    assert "makes it anew" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("UPDATE_ROLLBACK_COMPLETE", "as it was before"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name mli-a"),
        ("DELETE_FAILED", "deletes the rest"),
    ],
)
def test_each_bad_end_says_how_to_go_on(log: Log, status: str, remedy: str) -> None:
    log.happens("Thing", "UPDATE_FAILED", "Internal Failure")
    log.happens("mli-a", status, kind=WHOLE)
    log.look(status)
    log.read()
    with pytest.raises(RefusedError) as caught:
        log.follow()
    assert caught.value.got == "Internal Failure"
    assert remedy in str(caught.value.remedy)


def test_a_session_that_ends_in_the_middle_does_not_end_the_stack(log: Log) -> None:
    log.happens("mli-a", "CREATE_IN_PROGRESS", kind=WHOLE)
    log.look("CREATE_IN_PROGRESS")
    log.aws.on("cloudformation").add_client_error("describe_stacks", "ExpiredToken", "The token is expired")
    with pytest.raises(StopError) as caught:
        log.follow()
    assert caught.value.what == "The AWS session has expired."
    assert "CloudFormation goes on" in str(caught.value.where)
    assert "goes on from there" in str(caught.value.remedy)


def test_a_line_that_is_lost_is_one_to_retry(log: Log) -> None:
    log.aws.on("cloudformation").add_client_error("describe_stacks", "ServiceUnavailable", "")
    with pytest.raises(RetryError, match="busy"):
        log.follow()


def test_patience_ends(log: Log) -> None:
    log.happens("mli-a", "CREATE_IN_PROGRESS", kind=WHOLE)
    for _ in range(1000):
        log.look("CREATE_IN_PROGRESS")
    with pytest.raises(RetryError, match="after an hour"):
        log.follow()
    assert sum(log.pauses) > 3600
    log.aws.on("cloudformation")._queue.clear()


def test_a_log_without_its_last_line_is_believed_after_a_while(log: Log) -> None:
    for _ in range(100):
        log.look("CREATE_COMPLETE")
    assert log.follow().status == "CREATE_COMPLETE"
    assert sum(log.pauses) > 30
    log.aws.on("cloudformation")._queue.clear()


def test_the_mark_is_the_newest_line_of_the_log(log: Log) -> None:
    log.happens("mli-a", "CREATE_COMPLETE", kind=WHOLE)
    log.happens("mli-a", "UPDATE_COMPLETE", kind=WHOLE)
    log.read()
    assert mark(log.aws.account, STACK) == Mark("1")
    assert mark(log.aws.account, None) == Mark(None)
