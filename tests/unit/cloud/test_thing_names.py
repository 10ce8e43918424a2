"""Names of things: what nobody has is sent nothing, and what nobody may look at stops nobody."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.fixtures.stubbed_aws import REGION, StubbedAws

from mli.cloud.thing_names import must_be_free, must_be_there
from mli.errors import RefusedError, StopError

STACK = "mli-gg-mli-accel-15104ab3"
DENIED = "User: arn:aws:iam::123456789012:user/op is not authorized to perform: iot:DescribeThing"


def thing(aws: StubbedAws, name: str, there: bool) -> None:
    stub = aws.on("iot")
    if there:
        stub.add_response("describe_thing", {"thingName": name}, {"thingName": name})
    else:
        stub.add_client_error(
            "describe_thing", "ResourceNotFoundException", "no", expected_params={"thingName": name}
        )


def denied(aws: StubbedAws, name: str) -> None:
    aws.on("iot").add_client_error("describe_thing", "AccessDenied", DENIED, expected_params={"thingName": name})


def test_the_thing_that_was_meant_is_named_also_an_adopted_one(stubbed_aws: StubbedAws) -> None:
    thing(stubbed_aws, "gg_mli_acel_Core", there=False)
    stub = stubbed_aws.on("cloudformation")
    stub.add_response("list_imports", {"Imports": ["mli-line-1", STACK]}, {"ExportName": "mli-shared:RoleAlias"})
    outputs = [{"OutputKey": "ThingName", "OutputValue": "gg_mli_accel_Core"}]
    told = {"StackName": STACK, "StackId": "x", "StackStatus": "CREATE_COMPLETE", "CreationTime": datetime.now(UTC)}
    stub.add_response("describe_stacks", {"Stacks": [{**told, "Outputs": outputs}]}, {"StackName": STACK})
    with pytest.raises(RefusedError, match=f"There is no thing gg_mli_acel_Core in {REGION}") as caught:
        must_be_there(stubbed_aws.account, ["gg_mli_acel_Core"])
    assert caught.value.got == "gg_mli_acel_Core; did you mean 'gg_mli_accel_Core'?"


def test_where_the_stacks_cannot_be_asked_it_is_told_without(stubbed_aws: StubbedAws) -> None:
    thing(stubbed_aws, "belt", there=False)
    stubbed_aws.on("cloudformation").add_client_error("list_imports", "AccessDenied", "no")
    with pytest.raises(RefusedError) as caught:
        must_be_there(stubbed_aws.account, ["belt"])
    assert caught.value.got == "belt"


def test_who_may_not_look_is_warned_and_asks_no_more(stubbed_aws: StubbedAws) -> None:
    thing(stubbed_aws, "belt", there=True)
    denied(stubbed_aws, "line")
    caution = must_be_there(stubbed_aws.account, ["belt", "line", "other"])
    assert caution == "nobody looked whether there is a thing line: A right is missing: iot:DescribeThing."


def test_a_name_is_free_though_nobody_may_look_at_those_beside_it(stubbed_aws: StubbedAws) -> None:
    thing(stubbed_aws, "belt", there=False)
    for further in ("belt-doctor", "belt-mli", "belt-mli-doctor"):
        denied(stubbed_aws, further)
    must_be_free(stubbed_aws.account, "belt")


def test_whether_the_name_itself_is_free_must_be_known(stubbed_aws: StubbedAws) -> None:
    denied(stubbed_aws, "belt")
    with pytest.raises(StopError, match="A right is missing: iot:DescribeThing"):
        must_be_free(stubbed_aws.account, "belt")
