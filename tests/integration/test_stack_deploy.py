"""``mli stack`` against moto's control plane (corrected: see tests/fixtures/moto_corrections.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.fixtures.moto_server import REGION
from tests.fixtures.stack_rig import MODELS, Rig, make_rig

from mli.cloud import stack_wanted
from mli.config.accelerator import read_accelerator

SHARED = "mli-shared"


def test_a_device_is_deployed_and_a_second_run_changes_nothing(stack_rig: Rig) -> None:
    ran = stack_rig.deploy("line-1")
    assert (ran.exit_code, ran.out.splitlines()[:2]) == (0, ["mli-shared: made", "mli-line-1: made"])
    assert stack_rig.things() == ["line-1"]
    assert len(stack_rig.policies()) == 1
    assert "nobody says the sha256" in ran.err
    assert "mli stack outputs line-1 --output CommandToDeployGroup | sh " in ran.out

    again = stack_rig.deploy("line-1")
    assert again.out.splitlines()[:2] == ["mli-shared: nothing to change", "mli-line-1: nothing to change"]
    assert stack_rig.change_sets() == []

    alone = stack_rig.stack("deploy", "line-1", "--json")
    assert [one["did"] for one in alone.json["stacks"]] == ["nothing", "nothing"]
    assert alone.json["outputs"]["PredictionTopic"] == "mli/predictions/line-1"


def test_what_comes_next_can_be_copied(stack_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    ran = stack_rig.deploy("line-1", "--stack-name", "mli-mine", "--region", REGION)
    lines = ran.out.partition("Next:\n")[2].splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["mli", "device", "bundle"],
        ["mli", "stack", "outputs"],
        ["mli", "stack", "status"],
    ]
    for line in lines[1:]:
        again = stack_rig.mli(*line.partition("|")[0].split()[1:])
        assert again.exit_code == 0, again
    # Its stack is found: only the files are missing.
    assert "needs --cert, --ca, --key" in stack_rig.mli(*lines[0].partition("--certs")[0].split()[1:]).err
    assert (
        f"mli stack deploy --region {REGION} line-9" in stack_rig.stack("outputs", "line-9", "--region", REGION).err
    )


def test_the_outputs_are_complete_and_the_config_can_be_written(stack_rig: Rig, tmp_path: Path) -> None:
    stack_rig.deploy("line-1")
    file = tmp_path / "config" / "config.json"
    file.parent.mkdir()
    ran = stack_rig.stack("outputs", "line-1", "--config", str(file))
    assert ran.exit_code == 0
    core = json.loads(file.read_text())["coreThing"]
    assert core["thingArn"] == f"arn:aws:iot:{REGION}:123456789012:thing/line-1"
    assert core["iotHost"] == stack_rig.stack("outputs", "line-1", "--output", "IotEndpoint").out.strip()
    found = read_accelerator(tmp_path)
    assert found is not None
    assert found.section["thing"] == "line-1"
    assert "is there already" in stack_rig.stack("outputs", "line-1", "--config", str(file)).err
    wrong = stack_rig.stack("outputs", "line-1", "--output", "GreengrasConfig")
    assert (wrong.exit_code, "did you mean 'GreengrassConfig'?" in wrong.err) == (2, True)
    assert set(stack_rig.stack("outputs", "line-1", "--json").json) >= {"GreengrassConfig", "CommandToDeployGroup"}


def test_a_dry_run_says_what_would_be_and_nothing_stays(stack_rig: Rig) -> None:
    ran = stack_rig.deploy("line-1", "--dry-run")
    assert ran.exit_code == 0
    assert "mli-shared: would make" in ran.out
    assert "mli-line-1: would make" in ran.out
    assert "add  Thing  AWS::IoT::Thing" in ran.out
    assert (stack_rig.status(SHARED), stack_rig.status("mli-line-1"), stack_rig.change_sets()) == (None, None, [])

    stack_rig.deploy("line-1")
    stack_rig.deploy("line-2", "--dry-run")
    assert (stack_rig.status("mli-line-2"), stack_rig.change_sets()) == (None, [])
    update = stack_rig.stack("deploy", "line-1", "--source", "pictures", "--dry-run", "--json").json["stacks"][1]
    assert update["did"] == "would update"
    assert (
        stack_rig.stack("outputs", "line-1", "--output", "Deployment").json["pipelines"]["main"]["source"]["uri"]
        == "images"
    )


def test_the_shared_stack_learns_the_buckets_of_all_devices_and_forgets_none(stack_rig: Rig) -> None:
    stack_rig.client("s3").create_bucket(Bucket="others", CreateBucketConfiguration={"LocationConstraint": REGION})
    uri = stack_rig.put_model("o.zip", "others")
    stack_rig.deploy("line-1")
    stack_rig.add_certificate()
    assert stack_rig.deploy("line-2").out.startswith("mli-shared: nothing to change")
    assert stack_rig.stack("deploy", "line-2", "--model", uri).out.startswith("mli-shared: updated")
    stacks = stack_rig.client("cloudformation").describe_stacks(StackName=SHARED)["Stacks"][0]["Parameters"]
    assert {"ParameterKey": "ModelBuckets", "ParameterValue": f"{MODELS},others"} in stacks


def test_a_new_model_is_a_new_revision_and_the_digest_of_the_upload_is_named(stack_rig: Rig) -> None:
    stack_rig.deploy("line-1")
    uri = stack_rig.put_model(f"models/{'ab' * 32}/m.zip", sha256="ab" * 32)
    ran = stack_rig.stack("deploy", "line-1", "--model", uri, "--json")
    deployment = json.loads(ran.json["outputs"]["Deployment"])
    assert (deployment["revision"], deployment["models"]["main"]["sha256"]) == (2, "ab" * 32)
    assert ran.json["model"]["sha256_from"] == "upload"
    assert "nobody says" not in ran.err

    # Another command sent revision 7 meanwhile: the next one must be above it.
    stack_rig.client("iot-data").publish(
        topic="mli/deployments/line-1", qos=1, retain=True, payload=b"revision: 7\nmodels: {}\n"
    )
    assert stack_rig.stack("deploy", "line-1").out.splitlines()[1] == "mli-line-1: nothing to change"
    again = stack_rig.stack("deploy", "line-1", "--source", "pictures", "--json")
    assert json.loads(again.json["outputs"]["Deployment"])["revision"] == 8


def test_a_digest_that_was_said_once_holds_for_the_same_model(stack_rig: Rig) -> None:
    stack_rig.deploy("line-1", "--sha256", "cd" * 32)
    ran = stack_rig.deploy("line-1")
    assert ran.out.splitlines()[1] == "mli-line-1: nothing to change"
    assert "nobody says" not in ran.err
    other = stack_rig.put_model("other.zip")
    again = stack_rig.stack("deploy", "line-1", "--model", other, "--json")
    assert "sha256" not in json.loads(again.json["outputs"]["Deployment"])["models"]["main"]


def test_a_model_in_the_shared_bucket_needs_no_bucket_of_ones_own(stack_rig: Rig) -> None:
    assert stack_rig.stack("deploy", "--shared").out == "mli-shared: made\n"
    outputs = stack_rig.client("cloudformation").describe_stacks(StackName=SHARED)["Stacks"][0]["Outputs"]
    (bucket,) = [item["OutputValue"] for item in outputs if item["OutputKey"] == "ModelBucket"]
    uri = stack_rig.put_model("models/m.zip", bucket)
    ran = stack_rig.stack("deploy", "line-1", "--certificate", stack_rig.certificate, "--model", uri)
    assert ran.out.splitlines()[0] == "mli-shared: nothing to change"


@pytest.mark.parametrize(
    ("prepare", "arguments", "says"),
    [
        ("", ["--certificate", "ab" * 32], "There is no certificate abababababab…"),
        ("inactive", [], "is not active"),
        ("", ["--model", "s3://my-models/n.zip"], "did you mean 'm.zip'?"),
        ("", ["--model", "s3://no-such-bucket/m.zip"], "There is no bucket no-such-bucket."),
        ("text", ["--model", "s3://my-models/text.zip"], "The model is no archive."),
        ("empty", ["--model", "s3://my-models/empty.zip"], "an empty object"),
        ("", ["--model", "s3://BUCKET/models/SHA256/m.zip"], "lower case letters"),
        ("", ["--thing-group", "lines"], "only a deployment of Greengrass goes to a group"),
        ("", ["--sha256", "abc"], "--sha256 is no sha256"),
        ("", ["--source", "it's"], "--source cannot stand in a stack"),
        ("thing", [], "A thing line-1 exists that this stack did not make."),
        ("alias", [], "A role alias mli-device exists that no stack of ours made."),
        ("", ["--adopt"], "There is no thing line-1_Core to adopt."),
        ("foreign", [], "A stack mli-line-1 exists that is not mli's device stack."),
        ("foreign shared", [], "A stack mli-shared exists that is not mli's shared stack."),
        ("v1", [], "is the accelerator on Greengrass V1; mli does not touch it."),
    ],
)
def test_bad_input_is_told_before_anything_is_made(
    stack_rig: Rig, prepare: str, arguments: list[str], says: str
) -> None:
    make_trouble(stack_rig, prepare)
    before = sorted(stack["StackName"] for stack in stack_rig.client("cloudformation").describe_stacks()["Stacks"])
    ran = stack_rig.deploy("line-1", *arguments)
    assert ran.exit_code in (1, 2)
    assert says in ran.err
    after = sorted(stack["StackName"] for stack in stack_rig.client("cloudformation").describe_stacks()["Stacks"])
    assert (after, stack_rig.policies(), stack_rig.change_sets()) == (before, [], [])


def make_trouble(rig: Rig, kind: str) -> None:
    iot, s3, stacks = rig.client("iot"), rig.client("s3"), rig.client("cloudformation")
    queue = json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}})
    v1 = json.dumps({"Resources": {"G": {"Type": "AWS::Greengrass::Group", "Properties": {"Name": "g"}}}})
    if kind == "inactive":
        iot.update_certificate(certificateId=rig.certificate, newStatus="INACTIVE")
    elif kind == "text":
        s3.put_object(Bucket=MODELS, Key="text.zip", Body=b"<html>")
    elif kind == "empty":
        s3.put_object(Bucket=MODELS, Key="empty.zip", Body=b"")
    elif kind == "thing":
        iot.create_thing(thingName="line-1")
    elif kind == "alias":
        iot.create_role_alias(roleAlias="mli-device", roleArn="arn:aws:iam::123456789012:role/other")
    elif kind in ("foreign", "v1"):
        stacks.create_stack(StackName="mli-line-1", TemplateBody=v1 if kind == "v1" else queue)
    elif kind == "foreign shared":
        stacks.create_stack(StackName=SHARED, TemplateBody=queue)


def test_a_certificate_of_another_region_is_found_there(stack_rig: Rig) -> None:
    elsewhere = stack_rig.moto.client("iot", "us-west-2").create_keys_and_certificate(setAsActive=True)
    ran = stack_rig.deploy("line-1", "--certificate", elsewhere["certificateId"])
    assert "it is in us-west-2" in ran.err
    assert "--region us-west-2" in ran.err


def test_a_name_that_is_taken_while_it_is_made_rolls_back_and_the_next_run_makes_it_anew(stack_rig: Rig) -> None:
    stack_rig.stack("deploy", "--shared")
    made = stack_rig.client("iot").create_thing
    # Between the look and the creation somebody makes the thing: moto's stack fails as AWS' does.
    from mli.cloud import thing_names

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thing_names, "thing_exists", lambda *_: bool(made(thingName="line-1")) and False)
        ran = stack_rig.deploy("line-1")
    assert (ran.exit_code, stack_rig.status("mli-line-1")) == (1, "ROLLBACK_COMPLETE")
    assert "Thing (AWS::IoT::Thing) of the stack mli-line-1, now ROLLBACK_COMPLETE" in ran.err
    assert "already exists" in ran.err
    assert stack_rig.policies() == []

    assert "A thing line-1 exists" in stack_rig.deploy("line-1").err
    stack_rig.client("iot").delete_thing(thingName="line-1")
    refused = stack_rig.deploy("line-1")
    assert (refused.exit_code, "nobody is here to agree" in refused.err) == (2, True)
    again = stack_rig.deploy("line-1", "--yes")
    assert again.exit_code == 0
    assert "mli-line-1 never came up (ROLLBACK_COMPLETE)" in again.err
    assert stack_rig.status("mli-line-1") == "CREATE_COMPLETE"


def test_a_stack_at_work_is_followed_and_a_dry_run_does_not_wait(stack_rig: Rig) -> None:
    stack_rig.stack("deploy", "--shared")
    stack_rig.moto.slow_stacks(4)
    stack_rig.client("cloudformation").create_change_set(
        StackName=SHARED,
        ChangeSetName="by-hand",
        ChangeSetType="UPDATE",
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "LogDays", "ParameterValue": "7"}],
    )
    stack_rig.client("cloudformation").execute_change_set(StackName=SHARED, ChangeSetName="by-hand")
    dry = stack_rig.deploy("line-1", "--dry-run")
    assert (dry.exit_code, "is at work (UPDATE_IN_PROGRESS)" in dry.err) == (1, True)
    ran = stack_rig.deploy("line-1")
    assert ran.exit_code == 0
    assert "mli-shared is UPDATE_IN_PROGRESS: followed to its end first" in ran.err
    kept = stack_rig.client("cloudformation").describe_stacks(StackName=SHARED)["Stacks"][0]["Parameters"]
    assert {"ParameterKey": "LogDays", "ParameterValue": "7"} in kept


@pytest.mark.parametrize("name", ["under_score", "1st", "a" * 129, ""])
def test_a_name_that_no_stack_can_have_is_wrong_usage(stack_rig: Rig, name: str) -> None:
    ran = stack_rig.deploy("line-1", "--stack-name", name)
    assert (ran.exit_code, "no name for a stack" in ran.err) == (2, True)


def test_a_stack_for_another_core_is_refused(stack_rig: Rig) -> None:
    stack_rig.deploy("line-1", "--stack-name", "mine")
    assert stack_rig.status("mine") == "CREATE_COMPLETE"
    assert "is for another core" in stack_rig.deploy("line-2", "--stack-name", "mine").err


def test_a_certificate_of_another_device_is_refused_and_one_that_is_shared_already_told(stack_rig: Rig) -> None:
    stack_rig.deploy("line-1")
    refused = stack_rig.deploy("line-2")
    assert (refused.exit_code, stack_rig.status("mli-line-2")) == (1, None)
    assert "it belongs to line-1" in refused.err
    assert "mli device cert line-2 makes a new one" in refused.err

    stack_rig.client("iot").create_thing(thingName="old")
    stack_rig.client("iot").attach_thing_principal(thingName="old", principal=stack_rig.certificate_arn)
    again = stack_rig.deploy("line-1")
    assert again.exit_code == 0
    assert "the certificate also belongs to old" in again.err
    assert "mli device replace line-1 gives this device one of its own" in again.err


@pytest.mark.parametrize(
    ("there", "core"),
    [("line-1", "line-1-doctor"), ("line-1", "line-1-mli"), ("line-1-mli", "line-1"), ("a", "a-mli-doctor")],
)
def test_a_name_that_another_things_connections_have_is_refused(stack_rig: Rig, there: str, core: str) -> None:
    stack_rig.client("iot").create_thing(thingName=there)
    ran = stack_rig.deploy(core)
    assert (ran.exit_code, stack_rig.status(SHARED)) == (1, None)
    assert f"{core} and {there} would throw each other off AWS IoT" in ran.err
    assert f"{min(core, there, key=len)} also connects as {max(core, there, key=len)}" in ran.err


def test_a_shared_stack_that_somebody_makes_meanwhile_is_no_foreign_log_group(
    stack_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mli.cloud import stack_deploy

    stack_rig.stack("deploy", "--shared")
    absent = stack_wanted.Stacks(None, None, None)
    monkeypatch.setattr(stack_deploy, "look_at_stacks", lambda *_: absent)
    assert "Somebody else is making or changing the stack mli-shared" in stack_rig.deploy("line-1").err


def test_a_misspelled_core_is_told_with_the_nearest(stack_rig: Rig) -> None:
    stack_rig.deploy("line_1_left")
    stack_rig.deploy("belt", "--stack-name", "mli-belt-2", "--certificate", stack_rig.add_certificate())
    near = "did you mean 'line_1_left'?"
    for command in (
        "stack outputs",
        "stack status",
        "stack destroy --yes",
        "stack deploy --detach-old",
        "device bundle --stack",
        "device replace",
        "device cert --rotate",
    ):
        ran = stack_rig.mli(*command.split(), "line_1_lft")
        assert near in ran.out + ran.err, (command, ran)
    assert "the stack of belt is called mli-belt-2" in stack_rig.stack("outputs", "belt").err
    assert "did you mean" not in stack_rig.stack("outputs", "quite-another").err


def test_in_china_hosts_and_arns_are_its_own(stack_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    region = "cn-north-1"
    for name, value in stack_rig.moto.environment(region).items():
        monkeypatch.setenv(name, value)
    stack_rig = make_rig(stack_rig.moto, region)
    assert stack_rig.certificate_arn.startswith("arn:aws-cn:")
    assert stack_rig.deploy("line-1").exit_code == 0
    outputs = stack_rig.stack("outputs", "line-1", "--json").json
    assert outputs["ThingArn"] == f"arn:aws-cn:iot:{region}:123456789012:thing/line-1"
    assert f"greengrass-ats.iot.{region}.amazonaws.com.cn" in outputs["GreengrassConfig"]
    assert len(stack_rig.policies()) == 1
    other = stack_rig.deploy("line-2", "--certificate", stack_rig.certificate_arn.replace("aws-cn", "aws"))
    assert "another" in other.err
    assert stack_rig.stack("destroy", "line-1", "--yes").exit_code == 0
