"""An export of the Greengrass API to mli's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from tests.fixtures.greengrass_v1 import (
    CERTIFICATE_ID,
    CORE,
    FUNCTION,
    MODEL,
    MODEL_RESOURCE,
    PREDICTIONS,
    THING,
    WORKER,
    answers,
    definitions,
    export,
    template,
)

from mli.cloud.migration.findings import Finding
from mli.cloud.migration.models import Choices
from mli.cloud.migration.planning import Plan, plan
from mli.cloud.migration.reading import read_setup
from mli.cloud.migration.writing import write
from mli.errors import UsageError


def planned(path: Path, **choices: Any) -> Plan:
    return plan(read_setup(path, {}), Choices(**choices))


def about(made: Plan, part: str) -> list[Finding]:
    return [item for item in made.findings if item.about.startswith(part)]


def function(id_: str, *, access: tuple[str, ...] = (), **settings: Any) -> dict[str, Any]:
    environment = {"ResourceAccessPolicies": [{"ResourceId": name, "Permission": "rw"} for name in access]}
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{id_}:1"
    return {"Id": id_, "FunctionArn": arn, "FunctionConfiguration": {"Environment": environment, **settings}}


def local(id_: str, kind: str, source: str, destination: str | None = None) -> dict[str, Any]:
    data = {"SourcePath": source, "GroupOwnerSetting": {"AutoAddGroupOwner": True}}
    if destination is not None:
        data["DestinationPath"] = destination
    return {"Id": id_, "Name": id_, "ResourceDataContainer": {f"Local{kind}ResourceData": data}}


def with_access(*ids: str) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(FUNCTION))
    policies = changed["FunctionConfiguration"]["Environment"]["ResourceAccessPolicies"]
    policies += [{"ResourceId": id_, "Permission": "ro"} for id_ in ids]
    return changed


def test_the_answers_of_these_tests_have_the_shape_of_aws_own_model() -> None:
    model = botocore.session.get_session().get_service_model("greengrass")
    for name, answer in answers().items():
        kind = name.removesuffix("s.json").removesuffix("-version.json").capitalize()
        shape = f"Get{kind}VersionResponse" if kind == "Group" else f"Get{kind}DefinitionVersionResponse"
        report = ParamValidator().validate(answer, model.shape_for(shape))
        assert not report.has_errors(), f"{name}: {report.generate_report()}"
        assert set(answer) <= set(model.shape_for(shape).members)


def test_an_export_gives_what_the_template_gave(tmp_path: Path) -> None:
    made = planned(export(tmp_path))
    assert (made.thing, made.core_name) == (THING, CORE)
    assert made.deployment["models"] == {"inception-bn": {"uri": MODEL}}
    pipeline = made.deployment["pipelines"]["main"]
    assert pipeline["publish"] == {"topic": f"mli/predictions/{CORE}", "image_name": True}
    assert pipeline["limits"] == {"memory": "500000KB", "frame_timeout": "15s"}
    assert made.parameters is not None
    assert made.parameters["CertIdParam"] == CERTIFICATE_ID
    assert made.parameters["Adopt"] == "true"
    assert not about(made, "not understood")


@pytest.mark.parametrize("form", ["list", "object", "one after the other"])
def test_an_export_may_be_one_file(tmp_path: Path, form: str) -> None:
    found = list(answers().values())
    text = {
        "list": json.dumps(found),
        "object": json.dumps(answers()),
        "one after the other": "\n".join(json.dumps(item, indent=2) for item in found),
    }[form]
    path = tmp_path / "group.json"
    path.write_text(text)
    assert planned(path).deployment == planned(export(tmp_path)).deployment


def test_of_several_versions_the_one_that_the_group_uses_counts(tmp_path: Path) -> None:
    folder = export(tmp_path)
    old = answers()["functions.json"]
    old["Arn"] = old["Arn"].replace("function-version", "older")
    old["Definition"] = {"Functions": [function("old", access=("model",), Timeout=3)]}
    (folder / "old.json").write_text(json.dumps(old))
    made = planned(folder)
    assert made.deployment["pipelines"]["main"]["limits"]["frame_timeout"] == "15s"
    assert "older" in about(made, "not understood")[0].was
    (folder / "group-version.json").unlink()
    with pytest.raises(UsageError, match="several definitions of functions"):
        planned(folder)


def test_a_definition_that_is_not_there_is_told_with_the_call_that_gives_it(tmp_path: Path) -> None:
    folder = export(tmp_path)
    (folder / "loggers.json").unlink()
    (finding,) = about(planned(folder), "not understood")
    assert "get-logger-definition-version" in finding.was


def test_an_answer_that_goes_on_is_told(tmp_path: Path) -> None:
    folder = export(tmp_path)
    answer = answers()["subscriptions.json"] | {"NextToken": "abc"}
    (folder / "subscriptions.json").write_text(json.dumps(answer))
    assert "NextToken" in about(planned(folder), "not understood")[0].was


def test_everything_without_a_counterpart_is_told_with_what_takes_its_place(tmp_path: Path) -> None:
    divert, camera = function("divert"), function("photographer", access=("cam",))
    pointless = {"Id": "d", "FunctionArn": "arn:aws:lambda:::function:GGIPDetector:1", "FunctionConfiguration": {}}
    subscriptions = [
        PREDICTIONS,
        {"Id": "act", "Source": WORKER, "Subject": "mli/local", "Target": divert["FunctionArn"]},
        {"Id": "shadow", "Source": "GGShadowService", "Subject": "$aws/things/x/shadow", "Target": WORKER},
        {"Id": "order", "Source": "cloud", "Subject": "orders", "Target": WORKER},
        {"Id": "dev", "Source": "arn:aws:iot:eu-west-1:1:thing/sensor", "Subject": "s", "Target": WORKER},
    ]
    secret = {
        "Id": "s",
        "Name": "door",
        "ResourceDataContainer": {"SecretsManagerSecretResourceData": {"ARN": "arn:aws:secretsmanager:x:1:secret:d"}},
    }
    connector = {
        "Id": "fb",
        "ConnectorArn": "arn:aws:greengrass:eu-west-1::/connectors/MLFeedback/versions/1",
        "Parameters": {"RequestLimit": "10"},
    }
    device = {"Id": "sensor", "ThingArn": "arn:aws:iot:eu-west-1:1:thing/sensor", "CertificateArn": "x"}
    made = planned(
        export(
            tmp_path,
            function={"Functions": [FUNCTION, divert, camera, pointless]},
            subscription={"Subscriptions": subscriptions},
            resource={"Resources": [MODEL_RESOURCE, secret, local("cam", "Device", "/dev/video0")]},
            connector={"Connectors": [connector]},
            device={"Devices": [device]},
        )
    )
    told = {item.about: item for item in made.findings}
    assert "an action" in told["function divert"].todo
    assert "a source" in told["function photographer"].todo
    assert told["function GGIPDetector"].fate == "gone"
    assert "deployment" in told["subscription shadow"].todo
    assert "mli deploy" in told["subscription order"].todo
    assert "no broker" in told["subscription dev"].todo
    assert "secrets/" in told["secret door"].todo
    assert "--camera" in told["device cam"].todo
    assert "MLFeedback" in told["connector fb"].was
    assert told["connector fb"].todo
    assert "mosquitto" in told["device sensor"].todo
    assert not about(made, "not understood")


def test_a_volume_with_photos_becomes_the_source_and_is_allowed(tmp_path: Path) -> None:
    volumes = [local("photos", "Volume", "/srv/line", "/images"), local("all", "Volume", "/etc", "/host")]
    path = export(
        tmp_path,
        function={"Functions": [with_access("photos", "all")]},
        resource={"Resources": [MODEL_RESOURCE, *volumes]},
    )
    made = planned(path)
    assert made.deployment["pipelines"]["main"]["source"]["uri"] == "/srv/line"
    assert made.device == {"thing": THING, "allow": {"paths": ["images", "/srv/line"]}}
    assert made.parameters is not None
    assert made.parameters["Source"] == "/srv/line"
    assert about(made, "volume all")[0].fate == "gone"


def test_two_models_of_one_function_become_two_pipelines_with_a_topic_each(tmp_path: Path) -> None:
    second: dict[str, Any] = json.loads(json.dumps(MODEL_RESOURCE))
    second |= {"Id": "two", "Name": "bottles"}
    second["ResourceDataContainer"]["S3MachineLearningModelResourceData"]["S3Uri"] = "s3://bucket/bottles.tar.gz"
    path = export(
        tmp_path,
        function={"Functions": [with_access("two")]},
        resource={"Resources": [MODEL_RESOURCE, second]},
    )
    made = planned(path)
    topics = {name: item["publish"]["topic"] for name, item in made.deployment["pipelines"].items()}
    assert topics == {
        "inception": f"mli/predictions/{CORE}",
        "bottles": f"mli/predictions/{CORE}/bottles",
    }
    setup = read_setup(path, {})
    write(setup, made, tmp_path / "out")  # and mli's own reader takes it
    with pytest.raises(UsageError, match="several models"):
        planned(path, model_sha256="ab" * 32)


@pytest.mark.parametrize(
    ("address", "entry"),
    [
        (
            "https://s3-us-west-2.amazonaws.com/models/a%20b.zip",
            {"uri": "s3://models/a b.zip", "region": "us-west-2"},
        ),
        ("https://s3.amazonaws.com/models/a.zip", {"uri": "s3://models/a.zip"}),
        ("https://models.s3.eu-west-1.amazonaws.com/a.zip", {"uri": "s3://models/a.zip", "region": "eu-west-1"}),
        ("https://models.s3.cn-north-1.amazonaws.com.cn/a.zip", {"uri": "s3://models/a.zip", "region": "cn-north-1"}),
    ],
)
def test_s3_addresses_of_the_console_become_those_of_mli(tmp_path: Path, address: str, entry: dict[str, str]) -> None:
    model: dict[str, Any] = json.loads(json.dumps(MODEL_RESOURCE))
    model["ResourceDataContainer"]["S3MachineLearningModelResourceData"]["S3Uri"] = address
    made = planned(export(tmp_path, resource={"Resources": [model]}))
    assert list(made.deployment["models"].values()) == [entry]


@pytest.mark.parametrize("subject", ["mli/predictions/#", "mli/+/line", "mli/status/line-7", "$aws/x"])
def test_a_subject_that_nobody_can_publish_on_gives_way_to_the_accelerators(tmp_path: Path, subject: str) -> None:
    made = planned(export(tmp_path, subscription={"Subscriptions": [PREDICTIONS | {"Subject": subject}]}))
    assert made.deployment["pipelines"]["main"]["publish"]["topic"] == f"mli/predictions/{CORE}"
    assert about(made, "topic")[0].was == subject


def test_a_topic_that_the_stacks_policy_does_not_grant_is_told(tmp_path: Path) -> None:
    made = planned(export(tmp_path, subscription={"Subscriptions": [PREDICTIONS | {"Subject": "plant/line/7"}]}))
    assert made.deployment["pipelines"]["main"]["publish"]["topic"] == "plant/line/7"
    assert about(made, "right to publish")[0].fate == "open"


def test_a_thing_of_another_name_has_no_stack_that_could_take_it_over(tmp_path: Path) -> None:
    core = {"Id": "1", "ThingArn": "arn:aws:iot:eu-west-1:1:thing/belt"}
    made = planned(export(tmp_path, core={"Cores": [core]}), core_name=CORE)
    assert made.parameters is None
    assert about(made, "the device's stack")[0].fate == "open"


def test_loggers_become_the_log_of_the_device(tmp_path: Path) -> None:
    loggers = [
        {"Component": "Lambda", "Id": "1", "Level": "DEBUG", "Space": 40000, "Type": "FileSystem"},
        {"Component": "GreengrassSystem", "Id": "2", "Level": "FATAL", "Type": "FileSystem"},
        {"Component": "Lambda", "Id": "3", "Level": "INFO", "Type": "AWSCloudWatch"},
    ]
    made = planned(export(tmp_path, logger={"Loggers": loggers}))
    assert made.device == {"thing": THING, "log": {"level": "debug", "max_size": "10000KB", "kept": 3}}


def test_several_cores_need_a_choice(tmp_path: Path) -> None:
    cores = [definitions()["core"]["Cores"][0], {"Id": "2", "ThingArn": "arn:aws:iot:x:1:thing/other_Core"}]
    path = export(tmp_path, core={"Cores": cores})
    with pytest.raises(UsageError, match="several cores"):
        planned(path)
    assert planned(path, core_name="other").thing == "other_Core"


def test_a_folder_with_one_template_is_that_template(tmp_path: Path) -> None:
    folder = tmp_path / "cfn"
    folder.mkdir()
    template(folder)
    assert read_setup(folder, {"ModelS3Uri": MODEL}).form == "template"
