"""What a device's stack makes, by its meaning."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.cfn_resolve import Resolved, Unresolvable, load_template, resolve
from tests.fixtures.device_stacks import (
    CERTIFICATE,
    CORE,
    NEEDED,
    PLACES,
    VERSION,
    device_stack,
    endpoints,
    policy_documents,
    shared_stack,
)

from mli.cloud.component_recipe import recipe
from mli.cloud.template_text import template_text
from mli.config.component import ComponentEnvironment, read_component
from mli.config.settings import NucleusSettings

PRINCIPAL = f"arn:aws:iot:eu-west-1:123456789012:cert/{CERTIFICATE}"
IOT = "arn:aws:iot:eu-west-1:123456789012:"
ME = "${iot:Connection.Thing.ThingName}"
ALIAS = f"{IOT}rolealias/mli-device"


def granted(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Each action with each resource that a document allows."""
    pairs = set()
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        actions, resources = (
            [item] if isinstance(item, str) else item for item in (statement["Action"], statement["Resource"])
        )
        pairs |= {(action, resource.removeprefix(IOT)) for action in actions for resource in resources}
    return pairs


def own_topics(thing: str) -> set[tuple[str, str]]:
    publish = (f"{kind}/{thing}{below}" for kind in ("predictions", "actions") for below in ("", "/*"))
    status = (f"topic/mli/status/{thing}{below}" for below in ("", "/deployment"))
    return {
        *(("iot:Publish", f"topic/mli/{topic}") for topic in publish),
        *((action, topic) for topic in status for action in ("iot:Publish", "iot:RetainPublish")),
        ("iot:Subscribe", f"topicfilter/mli/deployments/{thing}"),
        ("iot:Receive", f"topic/mli/deployments/{thing}"),
    }


def merged(stack: Resolved) -> dict[str, Any]:
    """The configuration that the deployment gives to the component."""
    update = stack.resources["Deployment"].properties["Components"]["mli.core"]["ConfigurationUpdate"]
    assert update["Reset"] == ["/deployment"]
    found: dict[str, Any] = json.loads(update["Merge"])
    return found


def test_the_accelerator_s_three_parameters_are_enough() -> None:
    stack = device_stack()
    assert {name: made.type for name, made in stack.resources.items()} == {
        "Thing": "AWS::IoT::Thing",
        "ThingCertificate": "AWS::IoT::ThingPrincipalAttachment",
        "DevicePolicy": "AWS::IoT::Policy",
        "DevicePolicyCertificate": "AWS::IoT::PolicyPrincipalAttachment",
    }
    assert stack.resources["Thing"].properties == {"ThingName": CORE}
    assert stack.resources["ThingCertificate"].properties == {"ThingName": CORE, "Principal": PRINCIPAL}
    assert stack.resources["DevicePolicyCertificate"].properties == {
        "PolicyName": stack.outputs["PolicyName"],
        "Principal": PRINCIPAL,
    }


def test_a_device_without_greengrass_speaks_as_itself_and_for_itself() -> None:
    document = policy_documents(device_stack())["DevicePolicy"]
    assert granted(document) == own_topics(ME) | {
        ("iot:Connect", f"client/{ME}"),
        ("iot:Connect", f"client/{CORE}-doctor"),
        ("iot:AssumeRoleWithCertificate", "rolealias/mli-device"),
    }
    (connect,) = (item for item in document["Statement"] if item["Sid"] == "Connect")
    assert connect["Condition"] == {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}


def test_with_greengrass_the_nucleus_gets_what_it_needs_under_the_thing_s_written_out_name() -> None:
    stack = device_stack(Runtime="greengrass")
    documents = policy_documents(stack)
    assert granted(documents["DevicePolicy"]) == own_topics(CORE)
    assert granted(documents["NucleusPolicy"]) == {
        ("iot:Connect", f"client/{CORE}"),
        ("iot:Connect", f"client/{CORE}#*"),
        ("iot:Connect", f"client/{CORE}-mli"),
        ("iot:Connect", f"client/{CORE}-mli-doctor"),
        ("iot:AssumeRoleWithCertificate", "rolealias/mli-device"),
        ("greengrass:GetComponentVersionArtifact", "*"),
        ("greengrass:GetDeploymentConfiguration", "*"),
        ("greengrass:ListThingGroupsForCoreDevice", "*"),
        ("greengrass:ResolveComponentCandidates", "*"),
    }
    below = f"$aws/things/{CORE}"
    both = ("jobs/*", "shadow/name/AWSManagedGreengrassV2Deployment/*")
    topics = (*both, "greengrass/health/json", "greengrassv2/health/json")
    assert granted(documents["NucleusTopicsPolicy"]) == {
        *((action, f"topic/{below}/{topic}") for topic in topics for action in ("iot:Publish", "iot:Receive")),
        *(("iot:Subscribe", f"topicfilter/{below}/{topic}") for topic in both),
    }
    # Thing policy variables do not hold for a nucleus' second connection, nor for its calls over HTTPS.
    assert "${" not in json.dumps(documents)


@pytest.mark.parametrize("runtime", ["core", "greengrass"])
def test_every_policy_is_attached_to_the_certificate(runtime: str) -> None:
    stack = device_stack(Runtime=runtime, Adopt="true")
    attached = {
        made.properties["PolicyName"]: made.properties["Principal"]
        for made in stack.of_type("AWS::IoT::PolicyPrincipalAttachment").values()
    }
    assert attached == {made.physical: PRINCIPAL for made in stack.of_type("AWS::IoT::Policy").values()}


@pytest.mark.parametrize("runtime", ["core", "greengrass"])
def test_an_adopted_thing_is_neither_made_nor_attached_and_keeps_its_topic(runtime: str) -> None:
    stack = device_stack(Adopt="true", Runtime=runtime)
    assert not {"Thing", "ThingCertificate"} & set(stack.resources)
    assert stack.outputs["ThingName"] == f"{CORE}_Core"
    assert stack.outputs["ThingArn"] == f"{IOT}thing/{CORE}_Core"
    assert stack.outputs["PredictionTopic"] == f"mli/predictions/{CORE}"
    documents = policy_documents(stack)
    assert granted(documents["AdoptedTopicPolicy"]) == {
        ("iot:Publish", f"topic/mli/predictions/{CORE}"),
        ("iot:Publish", f"topic/mli/predictions/{CORE}/dropped"),
    }
    assert granted(documents["DevicePolicy"]) >= own_topics(ME if runtime == "core" else f"{CORE}_Core")
    assert "AdoptedTopicPolicy" not in device_stack(Runtime=runtime).resources


def test_attachments_go_before_what_they_attach() -> None:
    resources = device_stack(Runtime="greengrass", Adopt="false").resources
    assert resources["ThingCertificate"].after == {"Thing"}
    for policy in ("DevicePolicy", "NucleusPolicy", "NucleusTopicsPolicy"):
        assert resources[f"{policy}Certificate"].after == {policy}


def test_the_deployment_comes_after_its_target_and_the_rights_to_fetch_it() -> None:
    attachments = {f"{policy}Certificate" for policy in ("DevicePolicy", "NucleusPolicy", "NucleusTopicsPolicy")}
    assert device_stack(Runtime="greengrass").resources["Deployment"].after == attachments | {"Thing"}
    assert device_stack(Runtime="greengrass", Adopt="true").resources["Deployment"].after == attachments


def test_greengrass_deploys_the_same_document_to_the_thing() -> None:
    stack = device_stack(Runtime="greengrass", Revision="7")
    made = stack.resources["Deployment"].properties
    assert made["TargetArn"] == stack.outputs["ThingArn"]
    assert made["Components"]["mli.core"]["ComponentVersion"] == VERSION
    assert merged(stack)["deployment"] == json.loads(stack.outputs["Deployment"])
    policies = made["DeploymentPolicies"]
    assert policies["FailureHandlingPolicy"] == "ROLLBACK"
    assert policies["ComponentUpdatePolicy"] == {"Action": "NOTIFY_COMPONENTS", "TimeoutInSeconds": 60}


def test_the_component_s_answer_comes_before_greengrass_stops_waiting(tmp_path: Path) -> None:
    stack = device_stack(Runtime="greengrass")
    component = ComponentEnvironment(CORE, NucleusSettings("socket", "token"))
    found = read_component(merged(stack), component, tmp_path)
    assert json.loads(found.deployment) == json.loads(stack.outputs["Deployment"])
    policies = stack.resources["Deployment"].properties["DeploymentPolicies"]
    patience_s = policies["ConfigurationValidationPolicy"]["TimeoutInSeconds"]
    assert patience_s - 60 <= found.validate_within_s < patience_s
    assert patience_s >= 600  # a model takes minutes


@pytest.mark.parametrize(("adopt", "thing"), [("false", CORE), ("true", f"{CORE}_Core")])
def test_a_nucleus_that_replaces_no_variables_publishes_all_the_same(adopt: str, thing: str) -> None:
    """Nucleus classic, as it is by default, takes the recipe's {iot:thingName} as it stands."""
    stack = device_stack(Runtime="greengrass", Adopt=adopt)
    access = merged(stack)["accessControl"]["aws.greengrass.ipc.mqttproxy"]
    rule = access["mli.core:thing"]
    assert rule["operations"] == ["aws.greengrass#PublishToIoTCore"]
    recipe_s = recipe("1.0.0", "d" * 64)["ComponentConfiguration"]["DefaultConfiguration"]["accessControl"]
    ((name, of_recipe),) = recipe_s["aws.greengrass.ipc.mqttproxy"].items()
    assert rule["resources"] == [text.replace("{iot:thingName}", thing) for text in of_recipe["resources"]]
    assert name not in access, "the recipe's own rule stays, for all things of a group"
    words = shlex.split(stack.outputs["CommandToDeployGroup"])
    sent = json.loads(words[words.index("--components") + 1])["mli.core"]["configurationUpdate"]["merge"]
    assert json.loads(sent) == merged(stack)


def test_a_component_of_an_adopted_thing_may_use_the_adopted_topic() -> None:
    configuration = merged(device_stack(Runtime="greengrass", Adopt="true"))
    rule = configuration["accessControl"]["aws.greengrass.ipc.mqttproxy"]["mli.core:adopted"]
    assert rule["operations"] == ["aws.greengrass#PublishToIoTCore"]
    assert rule["resources"] == [f"mli/predictions/{CORE}", f"mli/predictions/{CORE}/dropped"]


def test_the_component_s_version_is_imported_unless_it_is_said() -> None:
    exports = {**shared_stack().exports}
    given = {**NEEDED, "Runtime": "greengrass"}
    with pytest.raises(Unresolvable, match="no stack exports mli-component:ComponentVersion"):
        resolve(template_text("device-greengrass"), given, exports)
    stack = resolve(template_text("device-greengrass"), {**given, "ComponentVersion": "1.2.3"}, exports)
    assert stack.resources["Deployment"].properties["Components"]["mli.core"]["ComponentVersion"] == "1.2.3"


def test_nucleus_lite_is_reached_through_a_group() -> None:
    stack = device_stack(Runtime="greengrass", ThingGroup="line-7")
    assert stack.resources["Deployment"].properties["TargetArn"] == f"{IOT}thinggroup/line-7"
    assert f"--target-arn '{IOT}thinggroup/line-7'" in stack.outputs["CommandToDeployGroup"]


def test_the_two_templates_differ_in_the_deployment_alone() -> None:
    plain, greengrass = (load_template(template_text(name)) for name in ("device", "device-greengrass"))
    assert greengrass["Resources"].pop("Deployment")["Type"] == "AWS::GreengrassV2::Deployment"
    assert plain == greengrass
    lines = template_text("device-greengrass").splitlines()
    assert [line for line in template_text("device").splitlines() if line not in set(lines)] == []


@pytest.mark.parametrize("runtime", ["core", "greengrass"])
@pytest.mark.parametrize("partition", PLACES)
def test_everything_is_of_the_partition(partition: str, runtime: str) -> None:
    region, domain = PLACES[partition]
    stack = device_stack(partition, Runtime=runtime, Adopt="true", **endpoints(partition))
    text = json.dumps([[made.properties for made in stack.resources.values()], stack.outputs])
    assert f"arn:{partition}:iot:{region}:123456789012:" in text
    others = {f"arn:{other}:" for other in PLACES if other != partition}
    assert not [other for other in others if other in text]
    assert f"greengrass-ats.iot.{region}.{domain}" in stack.outputs["GreengrassConfig"]


@pytest.mark.parametrize("runtime", ["core", "greengrass"])
@pytest.mark.parametrize("adopt", ["false", "true"])
def test_policies_have_room_for_the_longest_names(runtime: str, adopt: str) -> None:
    """AWS IoT takes documents of at most 2,048 characters, white space not counted."""
    stack = device_stack("aws-us-gov", CoreName="N" * 128, Runtime=runtime, Adopt=adopt)
    for name, document in policy_documents(stack).items():
        assert len(json.dumps(document, separators=(",", ":"))) <= 2048, name


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("CoreName", ""),
        ("CoreName", "N" * 129),
        ("CoreName", "a/b"),
        ("CoreName", "a*"),
        ("CoreName", "a+b"),
        ("CoreName", "a b"),
        ("CoreName", "${x}"),
        ("CertIdParam", "3F" * 32),
        ("CertIdParam", "3f" * 31),
        ("CertIdParam", f"arn:aws:iot:eu-west-1:123456789012:cert/{CERTIFICATE}"),
        ("ModelS3Uri", "s3://bucket"),
        ("ModelS3Uri", "s3://bucket/"),
        ("ModelS3Uri", "s3://bucket/folder/"),
        ("ModelS3Uri", "https://bucket.s3.amazonaws.com/x.zip"),
        ("ModelS3Uri", "s3://bucket/it's.zip"),
        ("ModelS3Uri", 's3://bucket/a".zip'),
        ("ModelS3Uri", "s3://bucket/a\\.zip"),
        ("ModelS3Uri", "s3://bucket/a b.zip"),
        ("ModelS3Uri", "s3://bucket/{iot:thingName}.zip"),
        ("ModelS3Uri", "s3://bucket/a.zip\n"),
        ("ModelSha256", "9F" * 32),
        ("ModelSha256", "0"),
        ("IotEndpoint", "https://a-ats.iot.eu-west-1.amazonaws.com"),
        ("IotEndpoint", "a.example:8883"),
        ("IotEndpoint", "a.example/"),
        ("CredentialsEndpoint", '$(reboot)"'),
        ("Runtime", "Core"),
        ("Adopt", "yes"),
        ("Source", "it's"),
        ("Source", ""),
        ("Source", " images"),
        ("Revision", "0"),
        ("Revision", "01"),
        ("Revision", "1.5"),
        ("SharedStack", "mli:shared"),
        ("ComponentVersion", "latest"),
        ("ComponentVersion", "1.0.0 "),
        ("ThingGroup", "a*"),
    ],
)
def test_what_would_break_a_text_or_widen_a_policy_is_refused(parameter: str, value: str) -> None:
    with pytest.raises(Unresolvable, match=f"parameter {parameter}"):
        device_stack(**{parameter: value})


@pytest.mark.parametrize("only", ["IotEndpoint", "CredentialsEndpoint"])
def test_one_endpoint_without_the_other_is_refused(only: str) -> None:
    with pytest.raises(Unresolvable, match="needs both endpoints"):
        device_stack(**{only: endpoints()[only]})


def test_without_a_shared_stack_there_is_no_device() -> None:
    with pytest.raises(Unresolvable, match="no stack exports other:RoleAliasArn"):
        device_stack(SharedStack="other")
