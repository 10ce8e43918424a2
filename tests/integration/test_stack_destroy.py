"""``mli stack destroy`` and ``status`` against moto: what was made goes, what is the user's stays."""

from __future__ import annotations

import json

import pytest
from tests.fixtures.stack_rig import MODELS, Rig

SHARED = "mli-shared"


def say(rig: Rig, topic: str, document: object) -> None:
    rig.client("iot-data").publish(topic=topic, qos=1, retain=True, payload=json.dumps(document).encode())


def keeps(rig: Rig, topic: str) -> bool:
    client = rig.client("iot-data")
    try:
        client.get_retained_message(topic=topic)
    except client.exceptions.ResourceNotFoundException:
        return False
    return True


def test_a_device_goes_and_its_certificate_and_model_stay(stack_rig: Rig) -> None:
    stack_rig.deploy("line-1")
    topics = ["mli/deployments/line-1", "mli/status/line-1", "mli/status/line-1/deployment"]
    for topic in topics:
        say(stack_rig, topic, {"state": "online"})
    say(stack_rig, "mli/status/line-2", {"state": "online"})

    dry = stack_rig.stack("destroy", "line-1", "--dry-run")
    assert (dry.exit_code, stack_rig.status("mli-line-1")) == (0, "CREATE_COMPLETE")
    assert "Thing  AWS::IoT::Thing  line-1" in dry.out
    assert stack_rig.certificate[:12] in dry.out.split("stays:")[1]
    assert f"s3://{MODELS}/m.zip" in dry.out.split("stays:")[1]

    unasked = stack_rig.stack("destroy", "line-1")
    assert (unasked.exit_code, "nobody is here to agree" in unasked.err) == (2, True)

    assert stack_rig.stack("destroy", "line-1", "--yes").exit_code == 0
    assert (stack_rig.status("mli-line-1"), stack_rig.things(), stack_rig.policies()) == (None, [], [])
    assert [keeps(stack_rig, topic) for topic in topics] == [False] * 3
    assert keeps(stack_rig, "mli/status/line-2")
    told = stack_rig.client("iot").describe_certificate(certificateId=stack_rig.certificate)
    assert told["certificateDescription"]["status"] == "ACTIVE"
    stack_rig.client("s3").head_object(Bucket=MODELS, Key="m.zip")

    again = stack_rig.stack("destroy", "line-1", "--yes")
    assert (again.exit_code, again.out) == (0, "mli-line-1: there is no such stack; nothing to remove\n")


def test_messages_that_an_interrupted_run_left_are_cleared(stack_rig: Rig) -> None:
    say(stack_rig, "mli/deployments/line-1", {"revision": 3})
    assert stack_rig.stack("destroy", "line-1", "--yes").exit_code == 0
    assert not keeps(stack_rig, "mli/deployments/line-1")


def test_what_all_share_goes_last_and_the_models_stay_for_the_next_stack(stack_rig: Rig) -> None:
    stack_rig.deploy("line-1")
    refused = stack_rig.stack("destroy", "--shared", "--yes")
    assert refused.error is not None
    assert (refused.exit_code, refused.error.got) == (1, "mli-line-1")

    outputs = stack_rig.stack("outputs", "line-1", "--json").json
    s3 = stack_rig.client("s3")
    for body in (b"1", b"2"):
        s3.put_object(Bucket=outputs["ArtifactBucket"], Key="components/x.zip", Body=body)
    s3.delete_object(Bucket=outputs["ArtifactBucket"], Key="components/x.zip")
    stack_rig.put_model("models/m.zip", outputs["ModelBucket"])

    stack_rig.stack("destroy", "line-1", "--yes")
    ran = stack_rig.stack("destroy", "--shared", "--yes")
    assert (ran.exit_code, stack_rig.status(SHARED)) == (0, None)
    assert f"the bucket {outputs['ModelBucket']}" in ran.out.split("stays:")[1]
    left = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert sorted(left) == sorted([MODELS, outputs["ModelBucket"]])

    again = stack_rig.stack("deploy", "--shared")
    assert f"the bucket {outputs['ModelBucket']} of an earlier stack is used again" in again.err
    assert stack_rig.stack("deploy", "--shared").out == "mli-shared: nothing to change\n"
    stack_rig.deploy("line-1")
    assert stack_rig.stack("outputs", "line-1", "--output", "ModelBucket").out.strip() == outputs["ModelBucket"]


def test_an_artifact_bucket_that_an_interrupted_run_left_goes_with_the_next(stack_rig: Rig) -> None:
    stack_rig.stack("deploy", "--shared")
    stack_rig.client("cloudformation").delete_stack(StackName=SHARED)
    buckets = [bucket["Name"] for bucket in stack_rig.client("s3").list_buckets()["Buckets"]]
    assert any("artifact" in name for name in buckets)
    assert stack_rig.stack("destroy", "--shared", "--yes").exit_code == 0
    left = [bucket["Name"] for bucket in stack_rig.client("s3").list_buckets()["Buckets"]]
    assert not any("artifact" in name for name in left)
    assert any("model" in name for name in left)


def test_buckets_of_a_shared_stack_of_another_name_are_left_alone(stack_rig: Rig) -> None:
    """``SharedStack`` may be any; its template, and so its buckets' tags, are the same."""
    s3 = stack_rig.client("s3")
    others = {f"team-b-{purpose.replace('-', '')}-1": purpose for purpose in ("artifact-bucket", "model-bucket")}
    place = {"LocationConstraint": s3.meta.region_name}
    for name, purpose in others.items():
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=place)
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "mli", "Value": purpose}]})
        s3.put_object(Bucket=name, Key="in-use", Body=b"x")
    stack_rig.deploy("line-1")
    assert stack_rig.stack("outputs", "line-1", "--output", "ModelBucket").out.strip() not in others
    stack_rig.stack("destroy", "line-1", "--yes")
    ran = stack_rig.stack("destroy", "--shared", "--yes")
    assert ran.exit_code == 0, ran.err
    assert "team-b" not in ran.out
    for name in others:
        s3.head_object(Bucket=name, Key="in-use")


def test_a_stack_of_somebody_else_is_not_deleted(stack_rig: Rig) -> None:
    queue = json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}})
    stack_rig.client("cloudformation").create_stack(StackName="mli-line-1", TemplateBody=queue)
    ran = stack_rig.stack("destroy", "line-1", "--yes")
    assert (ran.exit_code, stack_rig.status("mli-line-1")) == (1, "CREATE_COMPLETE")
    assert "not mli's device stack" in ran.err


def test_without_its_stacks_name_a_living_device_keeps_its_deployment(stack_rig: Rig) -> None:
    stack_rig.deploy("line-1", "--stack-name", "mli-mine")
    say(stack_rig, "mli/deployments/line-1", {"revision": 1})
    ran = stack_rig.stack("destroy", "line-1", "--yes")
    assert (ran.exit_code, "--stack-name says what its stack is called" in ran.out) == (0, True)
    assert keeps(stack_rig, "mli/deployments/line-1")
    stack_rig.stack("destroy", "line-1", "--yes", "--stack-name", "mli-mine")
    assert not keeps(stack_rig, "mli/deployments/line-1")


def test_a_stack_of_another_core_is_not_deleted(stack_rig: Rig) -> None:
    stack_rig.deploy("line-2")
    ran = stack_rig.stack("destroy", "line-1", "--stack-name", "mli-line-2", "--yes")
    assert (ran.exit_code, stack_rig.status("mli-line-2")) == (1, "CREATE_COMPLETE")
    assert ran.error is not None
    assert (ran.error.expected, ran.error.got) == ("CoreName line-1", "CoreName line-2")


def test_a_stack_that_never_came_up_can_be_removed(stack_rig: Rig) -> None:
    stack_rig.stack("deploy", "--shared")
    stack_rig.deploy("line-1", "--dry-run")
    client = stack_rig.client("cloudformation")
    client.create_change_set(
        StackName="mli-line-1",
        ChangeSetName="by-hand",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps(
            {"Metadata": {"mli": {"template": "device"}}, "Resources": {"Q": {"Type": "X::Y::Z"}}}
        ),
    )
    assert stack_rig.status("mli-line-1") == "REVIEW_IN_PROGRESS"
    assert stack_rig.stack("destroy", "line-1", "--yes").exit_code == 0
    assert stack_rig.status("mli-line-1") is None


def test_the_status_says_what_is_there_and_what_the_device_said_last(stack_rig: Rig) -> None:
    before = stack_rig.stack("status", "line-1")
    assert before.exit_code == 1
    assert "mli-line-1  not there; mli stack deploy line-1 makes it" in before.out

    stack_rig.deploy("line-1")
    say(stack_rig, "mli/status/line-1", {"state": "online", "version": "1.2\u001b[2J"})
    ran = stack_rig.stack("status", "line-1")
    assert ran.exit_code == 0
    assert "mli-line-1  CREATE_COMPLETE  template: this mli's" in ran.out
    assert "certificate  ACTIVE" in ran.out
    assert "component" not in ran.out, "a device with a core of its own needs none"
    assert "line-1 online" in ran.out
    assert "\u001b" not in ran.out
    found = stack_rig.stack("status", "line-1", "--json").json
    assert (found["good"], found["device"]["status"]["state"]) == (True, "online")

    stack_rig.client("iot").update_certificate(certificateId=stack_rig.certificate, newStatus="INACTIVE")
    off = stack_rig.stack("status", "line-1")
    assert (off.exit_code, "certificate  INACTIVE" in off.out) == (1, True)


def test_a_stack_of_another_version_is_seen(stack_rig: Rig) -> None:
    stack_rig.stack("deploy", "--shared")
    client = stack_rig.client("cloudformation")
    body = client.get_template(StackName=SHARED)["TemplateBody"].replace(
        "mli: what all", "mli (another version): what all"
    )
    client.update_stack(StackName=SHARED, TemplateBody=body, Capabilities=["CAPABILITY_IAM"])
    stack_rig.client("iot").create_thing(thingName="x")
    assert f"{SHARED}  UPDATE_COMPLETE  template: another version's" in stack_rig.stack("status", "line-1").out
    assert stack_rig.stack("deploy", "--shared").out == "mli-shared: updated\n"


@pytest.mark.parametrize(
    "arguments", [["destroy"], ["destroy", "a", "--shared"], ["deploy"], ["deploy", "a", "--shared"]]
)
def test_either_a_device_or_what_all_share(stack_rig: Rig, arguments: list[str]) -> None:
    assert stack_rig.stack(*arguments).exit_code == 2
