"""A CloudFormation template of Greengrass V1 to mli's files."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.greengrass_v1 import CERTIFICATE_ID, CORE, MODEL, TEMPLATE, THING, changed, template

from mli.cloud.migration.findings import Finding
from mli.cloud.migration.models import Choices
from mli.cloud.migration.planning import Plan, plan
from mli.cloud.migration.reading import read_setup
from mli.cloud.migration.writing import write
from mli.errors import UsageError

GIVEN = {"ModelS3Uri": MODEL, "CertIdParam": CERTIFICATE_ID}


def planned(folder: Path, text: str = TEMPLATE, given: dict[str, str] = GIVEN, **choices: Any) -> Plan:
    setup = read_setup(template(folder, text), given, choices.get("core_name"))
    return plan(setup, Choices(**choices))


def about(made: Plan, part: str) -> list[Finding]:
    """Findings whose subject begins so."""
    return [item for item in made.findings if item.about.startswith(part)]


def only(made: Plan, part: str) -> Finding:
    (finding,) = about(made, part)
    return finding


def test_the_accelerators_template_becomes_the_same_predictions_on_the_same_topic(tmp_path: Path) -> None:
    made = planned(tmp_path)
    assert not made.missing
    assert (made.thing, made.core_name) == (THING, CORE)
    assert made.deployment == {
        "models": {"inception-bn": {"uri": MODEL}},
        "pipelines": {
            "main": {
                "source": {"uri": "images", "interval": "5s"},
                "model": "inception-bn",
                "preprocess": {
                    "resize": "stretch",
                    "interpolation": "bilinear",
                    "color": "RGB",
                    "layout": "NCHW",
                },
                "publish": {"topic": f"mli/predictions/{CORE}", "image_name": True},
                "limits": {"memory": "500000KB", "frame_timeout": "15s"},
                "isolation": "auto",
            }
        },
    }
    assert made.parameters == {
        "CoreName": CORE,
        "CertIdParam": CERTIFICATE_ID,
        "ModelS3Uri": MODEL,
        "Adopt": "true",
    }
    assert made.device is None  # config.json says all there is to say


def test_the_same_template_as_json_means_the_same(tmp_path: Path) -> None:
    from mli.cloud.migration.bounded_text import parse

    text = json.dumps(parse(TEMPLATE, "x"), indent=1)
    assert planned(tmp_path, text).deployment == planned(tmp_path).deployment


def test_the_name_of_the_core_may_be_said_once_for_parameter_thing_and_topic(tmp_path: Path) -> None:
    made = planned(tmp_path, core_name="belt-3")
    assert made.thing == "belt-3_Core"
    assert made.deployment["pipelines"]["main"]["publish"]["topic"] == "mli/predictions/belt-3"


def test_what_no_parameter_gives_is_told_with_the_option_that_gives_it_and_not_guessed(tmp_path: Path) -> None:
    text = TEMPLATE.replace("CoreName: {Type: String, Default: line-7}", "CoreName: {Type: String}")
    made = planned(tmp_path, text, {})
    assert "CoreName (--parameter CoreName=…)" in made.missing
    assert "ModelS3Uri (--parameter ModelS3Uri=…)" in made.missing


def test_a_certificate_that_is_not_known_leaves_its_parameter_out(tmp_path: Path) -> None:
    made = planned(tmp_path, given={"ModelS3Uri": MODEL})
    assert not made.missing
    assert made.parameters is not None
    assert "CertIdParam" not in made.parameters
    assert only(made, "certificate").fate == "open"


def test_a_parameter_that_the_template_has_not_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ModelS3Uri"):
        planned(tmp_path, given={"ModelS3Url": MODEL})


def test_the_digest_of_an_archive_goes_into_deployment_and_parameters(tmp_path: Path) -> None:
    digest = "ab" * 32
    made = planned(tmp_path, model_sha256=digest)
    assert made.deployment["models"]["inception-bn"]["sha256"] == digest
    assert made.parameters is not None
    assert made.parameters["ModelSha256"] == digest
    assert not about(made, "digest")


def test_memory_with_which_the_model_was_killed_is_raised_and_told(tmp_path: Path) -> None:
    made = planned(tmp_path, changed("MemorySize: 500000", "MemorySize: 120000"))
    assert made.deployment["pipelines"]["main"]["limits"]["memory"] == "500MB"
    assert only(made, "memory").fate == "changed"
    assert only(made, "memory").was == "120,000 KB"


def test_no_container_stays_none_and_its_memory_was_never_enforced(tmp_path: Path) -> None:
    made = planned(tmp_path, changed("{IsolationMode: GreengrassContainer}", "{IsolationMode: NoContainer}"))
    pipeline = made.deployment["pipelines"]["main"]
    assert pipeline["isolation"] == "none"
    assert pipeline["limits"]["memory"] == "500MB"


def test_the_groups_default_isolation_and_user_hold_where_a_function_says_none(tmp_path: Path) -> None:
    text = changed("                Execution: {IsolationMode: GreengrassContainer}\n", "").replace(
        "      Name: functions\n      InitialVersion:\n",
        "      Name: functions\n      InitialVersion:\n        DefaultConfig:\n          Execution:\n"
        "            IsolationMode: NoContainer\n            RunAs: {Uid: '0', Gid: '0'}\n",
    )
    made = planned(tmp_path, text)
    assert made.deployment["pipelines"]["main"]["isolation"] == "none"
    assert "nothing of mli runs as root" in only(made, "user of").todo


@pytest.mark.parametrize(
    ("variable", "interval"),
    [
        ("INTERVAL: '2'", "2s"),
        ("CAPTURE_INTERVAL_MS: 250", "250ms"),
        ("POLL_PERIOD: 1m", "1m"),
        ("INTERVAL: soon", "5s"),
        ("INTERVAL: 0", "5s"),
        ("MY_INTERVALS: 3", "5s"),
    ],
)
def test_an_interval_is_taken_from_the_environment_where_it_can_only_be_one(
    tmp_path: Path, variable: str, interval: str
) -> None:
    made = planned(tmp_path, changed("MXNET_ENGINE_TYPE: NaiveEngine", variable))
    assert made.deployment["pipelines"]["main"]["source"]["interval"] == interval


def test_two_variables_that_could_be_the_interval_decide_nothing(tmp_path: Path) -> None:
    text = changed("MXNET_ENGINE_TYPE: NaiveEngine", "A_INTERVAL: 1\n                  B_INTERVAL: 2")
    made = planned(tmp_path, text)
    assert made.deployment["pipelines"]["main"]["source"]["interval"] == "5s"
    assert "A_INTERVAL, B_INTERVAL" in only(made, "interval").todo


def test_every_variable_is_told_and_secrets_are_not_shown(tmp_path: Path) -> None:
    text = changed(
        "MXNET_ENGINE_TYPE: NaiveEngine",
        "DB_PASSWORD: sesame-1\n                  STORE: https://me:sesame-2@host/x\n"
        "                  MIN_CONFIDENCE: 0.4",
    )
    made = planned(tmp_path, text)
    assert only(made, "variable DB_PASSWORD").fate == "open"
    assert "min_confidence" in only(made, "variable MIN_CONFIDENCE").todo
    assert "sesame" not in "".join(str(item) for item in made.findings)


def test_the_code_the_handler_of_the_thing_and_each_resource_are_told(tmp_path: Path) -> None:
    made = planned(tmp_path)
    assert "long_run.handler" in only(made, "code of").was
    assert THING in only(made, "resource IoTThing").was
    assert "deletes the thing" in only(made, "resource IoTThing").todo
    assert {item.about for item in about(made, "resource ")} >= {"resource GroupRole", "resource MakeThing"}
    assert only(made, "variable MXNET_ENGINE_TYPE").fate == "gone"


def test_only_definitions_that_the_group_uses_are_read(tmp_path: Path) -> None:
    other = """\
  OldFunctions:
    Type: AWS::Greengrass::FunctionDefinition
    Properties:
      Name: old
      InitialVersion: {Functions: [{Id: old, FunctionArn: "arn:x", FunctionConfiguration: {Timeout: 3}}]}
Outputs:
"""
    made = planned(tmp_path, changed("Outputs:\n", other))
    assert list(made.deployment["pipelines"]) == ["main"]
    assert "Resources.OldFunctions" in only(made, "not understood").was


def test_a_function_behind_an_alias_of_plain_lambda_is_found(tmp_path: Path) -> None:
    plain = """\
  LookAtBeltFunction:
    Type: AWS::Lambda::Function
    Properties: {Handler: long_run.handler, Runtime: python3.7, Code: {S3Bucket: b, S3Key: k}}
  LookAlias:
    Type: AWS::Lambda::Alias
    Properties: {FunctionName: !Ref LookAtBeltFunction, Name: live}
"""
    start, end = TEMPLATE.index("  LookAtBeltFunction:"), TEMPLATE.index("  Subscriptions:\n")
    text = (TEMPLATE[:start] + plain + TEMPLATE[end:]).replace("!Ref LookAtBeltFunction.Alias", "!Ref LookAlias")
    made = planned(tmp_path, text)
    assert "long_run.handler" in only(made, "code of").was
    assert made.deployment["pipelines"]["main"]["publish"]["topic"] == f"mli/predictions/{CORE}"


def test_a_resource_whose_condition_is_false_is_not_there(tmp_path: Path) -> None:
    text = (
        changed("    Type: Custom::IoTThing\n", "    Type: Custom::IoTThing\n    Condition: Makes\n")
        + 'Conditions:\n  Makes: !Not [!Equals [!Ref CoreName, "line-7"]]\n'
    )
    made = planned(tmp_path, text)
    assert not about(made, "resource IoTThing")
    assert any("its condition Makes is false" in item.was for item in about(made, "not understood"))


def test_unknown_keys_and_types_are_listed_and_never_dropped(tmp_path: Path) -> None:
    text = changed("EncodingType: json", "EncodingType: json\n              WarmStart: 3").replace(
        "Outputs:\n", "  Odd: {Type: 'AWS::Greengrass::TeleportDefinition', Properties: {Name: x}}\nOutputs:\n"
    )
    told = [item.was for item in about(planned(tmp_path, text), "not understood")]
    assert any("WarmStart: 3" in was for was in told)
    assert any("TeleportDefinition" in was for was in told)


def test_a_template_with_two_groups_says_what_to_do(tmp_path: Path) -> None:
    text = changed("Outputs:\n", "  Other: {Type: 'AWS::Greengrass::Group', Properties: {Name: x}}\nOutputs:\n")
    with pytest.raises(UsageError) as refused:
        planned(tmp_path, text)
    assert "mli migrate /greengrass" in str(refused.value)


def test_a_model_of_a_training_job_needs_its_address(tmp_path: Path) -> None:
    text = changed("S3MachineLearningModelResourceData", "SageMakerMachineLearningModelResourceData").replace(
        "S3Uri: !Ref ModelS3Uri", "SageMakerJobArn: arn:aws:sagemaker:eu-west-1:123456789012:training-job/bottles"
    )
    made = planned(tmp_path, text)
    assert "training-job/bottles" in made.missing[0]
    assert "--model-uri" in made.missing[0]
    made = planned(tmp_path, text, model_uri="s3://bucket/job/output/model.tar.gz")
    assert made.deployment["models"] == {"model": {"uri": "s3://bucket/job/output/model.tar.gz"}}


def test_the_parameters_are_such_as_the_templates_of_the_stack_take(tmp_path: Path) -> None:
    import re

    from mli.cloud.migration.bounded_text import parse
    from mli.cloud.template_text import template_text

    declared = parse(template_text("device"), "device.yaml")["Parameters"]
    made = planned(tmp_path, model_sha256="ab" * 32)
    assert made.parameters is not None
    for name, value in made.parameters.items():
        allowed = declared[name].get("AllowedPattern", ".*")
        assert re.search(allowed, value), name
        assert value in declared[name].get("AllowedValues", [value])
    odd = planned(tmp_path, model_uri='s3://bucket/a "model".zip')
    assert odd.parameters is not None
    assert "ModelS3Uri" not in odd.parameters
    assert only(odd, "ModelS3Uri of the stack").fate == "open"


def test_what_cloudformation_gives_of_a_stack_becomes_a_template_that_keeps_everything(tmp_path: Path) -> None:
    resources = {
        "Group": {"Type": "AWS::Greengrass::Group", "Properties": {"Name": "line-7"}},
        "Core": {
            "Type": "AWS::Greengrass::CoreDefinition",
            "Properties": {"InitialVersion": {"Cores": [{"Id": "1", "ThingArn": f"arn:aws:iot:x:1:thing/{THING}"}]}},
        },
        "IoTThing": {
            "Type": "Custom::IoTThing",
            "DeletionPolicy": "Delete",
            "Properties": {"Retries": 3, "On": True},
        },
    }
    body = {"Parameters": {"CoreName": {"Type": "String", "Default": CORE}}, "Resources": resources}
    source, out = tmp_path / "stack.json", tmp_path / "out"
    for text in (
        json.dumps({"TemplateBody": body}),
        json.dumps({"TemplateBody": json.dumps(body)}),
        json.dumps(body),
    ):
        source.write_text(text)
        setup = read_setup(source, {})
        write(setup, plan(setup, Choices(model_uri=MODEL)), out, overwrite=True)
        kept = json.loads((out / "retain.json").read_text())
        assert stat.S_IMODE((out / "retain.json").stat().st_mode) == 0o600, "a function's variables are in it"
        assert kept["Parameters"] == body["Parameters"]
        assert kept["Resources"].pop("MliRetains") == {"Type": "AWS::CloudFormation::WaitConditionHandle"}
        for name, item in kept["Resources"].items():
            assert item.pop("DeletionPolicy") == item.pop("UpdateReplacePolicy") == "Retain"
            before = {key: value for key, value in resources[name].items() if key != "DeletionPolicy"}
            assert item == before


def test_a_template_that_no_stack_has_gets_none(tmp_path: Path) -> None:
    setup = read_setup(template(tmp_path), GIVEN)
    write(setup, plan(setup, Choices()), tmp_path / "out")
    assert not (tmp_path / "out" / "retain.json").exists()
