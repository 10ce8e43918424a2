"""Who may do what, and above all what not: each policy of the templates against lists of actions and resources.

Three devices share the account: ``belt``, whose rights are looked at, ``belt2``, whose name begins like its, and
``oven``.
"""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
from tests.fixtures.cfn_resolve import ACCOUNT, PARTITION, REGION
from tests.fixtures.cloud_policies import ALIAS, OWN_BUCKETS, connection, device, of_kind, shared
from tests.fixtures.ec2_stack import SECRET
from tests.fixtures.policy_evaluator import Dialect, Request, decide, may_assume

WAYS = [("core", False), ("core", True), ("greengrass", False), ("greengrass", True)]
MODELS = shared().outputs["ModelBucket"]
ARTIFACTS = shared().outputs["ArtifactBucket"]
LOGS = f"arn:{PARTITION}:logs:{REGION}:{ACCOUNT}:log-group:{shared().outputs['LogGroup']}"


def s3(bucket: str, key: str | None = None) -> str:
    return f"arn:{PARTITION}:s3:::{bucket}" + ("" if key is None else f"/{key}")


# --- On AWS IoT Core, with its certificate. {T} is its thing.

DEVICE_MAY = [
    ("iot:Connect", "client/{T}"),
    ("iot:Publish", "topic/mli/predictions/{T}"),
    ("iot:Publish", "topic/mli/predictions/{T}/dropped"),
    ("iot:Publish", "topic/mli/predictions/{T}/line/left"),
    ("iot:Publish", "topic/mli/actions/{T}"),
    ("iot:Publish", "topic/mli/actions/{T}/open"),
    ("iot:Publish", "topic/mli/status/{T}"),
    ("iot:RetainPublish", "topic/mli/status/{T}"),
    ("iot:Publish", "topic/mli/status/{T}/deployment"),
    ("iot:RetainPublish", "topic/mli/status/{T}/deployment"),
    ("iot:Subscribe", "topicfilter/mli/deployments/{T}"),
    ("iot:Receive", "topic/mli/deployments/{T}"),
    ("iot:AssumeRoleWithCertificate", ALIAS),
]
ACROSS_DEVICES = [
    ("iot:Connect", "client/oven"),
    ("iot:Connect", "client/oven_Core"),
    ("iot:Connect", "client/belt2"),
    ("iot:Connect", "client/belt2_Core"),
    ("iot:Connect", "client/oven-mli"),
    ("iot:Connect", "client/*"),
    ("iot:Publish", "topic/mli/predictions/oven"),
    ("iot:Publish", "topic/mli/predictions/belt2"),
    ("iot:Publish", "topic/mli/predictions/belt2_Core"),
    ("iot:Publish", "topic/mli/predictions/oven/{T}"),
    ("iot:Publish", "topic/mli/actions/oven/open"),
    ("iot:Publish", "topic/mli/status/oven"),
    ("iot:Publish", "topic/mli/status/oven/deployment"),
    ("iot:RetainPublish", "topic/mli/status/oven"),
    ("iot:RetainPublish", "topic/mli/status/belt2/deployment"),
    ("iot:RetainPublish", "topic/mli/predictions/oven"),
    ("iot:Publish", "topic/mli/deployments/oven"),
    ("iot:RetainPublish", "topic/mli/deployments/oven"),
    ("iot:Subscribe", "topicfilter/mli/deployments/oven"),
    ("iot:Subscribe", "topicfilter/mli/deployments/belt2"),
    ("iot:Subscribe", "topicfilter/mli/deployments/+"),
    ("iot:Subscribe", "topicfilter/mli/deployments/#"),
    ("iot:Subscribe", "topicfilter/mli/predictions/oven"),
    ("iot:Subscribe", "topicfilter/mli/predictions/#"),
    ("iot:Subscribe", "topicfilter/mli/status/+"),
    ("iot:Subscribe", "topicfilter/#"),
    ("iot:Receive", "topic/mli/deployments/oven"),
    ("iot:Receive", "topic/mli/predictions/oven"),
    ("iot:Publish", "topic/$aws/things/oven/shadow/update"),
    ("iot:Publish", "topic/$aws/things/oven/jobs/1/update"),
    ("iot:Subscribe", "topicfilter/$aws/things/oven/jobs/#"),
    ("iot:Subscribe", "topicfilter/$aws/things/belt2/shadow/name/AWSManagedGreengrassV2Deployment/update/delta"),
    ("iot:Publish", "topic/$aws/things/oven/greengrassv2/health/json"),
    ("iot:UpdateThing", "thing/oven"),
    ("iot:UpdateThingShadow", "thing/oven"),
    ("iot:GetThingShadow", "thing/oven"),
    ("iot:DeleteThingShadow", "thing/oven"),
    ("iot:DeleteThing", "thing/oven"),
]
NOT_EVEN_ITS_OWN = [
    ("iot:Publish", "topic/mli/deployments/{T}"),  # nobody deploys to itself
    ("iot:RetainPublish", "topic/mli/deployments/{T}"),
    ("iot:RetainPublish", "topic/mli/predictions/{T}"),
    ("iot:Publish", "topic/mli/status/{T}/other"),
    ("iot:Publish", "topic/mli/predictions"),
    ("iot:Publish", "topic/mli/predictions/"),
    ("iot:Subscribe", "topicfilter/mli/predictions/{T}"),
    ("iot:Receive", "topic/mli/status/{T}"),
    ("iot:Publish", "topic/$aws/things/{T}/shadow/update"),
    ("iot:Publish", "topic/$aws/rules/any/mli/predictions/{T}"),
    ("iot:Publish", "topic/$aws/certificates/create/json"),
    ("iot:Publish", "topic/$aws/provisioning-templates/any/provision/json"),
    ("iot:UpdateThing", "thing/{T}"),
    ("iot:DeleteThing", "thing/{T}"),
    ("iot:UpdateCertificate", "cert/" + "a" * 64),
    ("iot:AttachPolicy", "cert/" + "a" * 64),
    ("iot:CreateKeysAndCertificate", "*"),
    ("iot:CreatePolicyVersion", "policy/any"),
    ("iot:AssumeRoleWithCertificate", "rolealias/other"),
    ("iot:AssumeRoleWithCertificate", "rolealias/mli-device-admin"),
    ("iot:AssumeRoleWithCertificate", f"arn:{PARTITION}:iot:{REGION}:999999999999:rolealias/mli-device"),
    ("iot:AssumeRoleWithCertificate", f"arn:{PARTITION}:iot:us-east-1:{ACCOUNT}:rolealias/mli-device"),
    ("iot:Publish", f"arn:{PARTITION}:iot:us-east-1:{ACCOUNT}:topic/mli/predictions/{{T}}"),
    ("iot:Publish", f"arn:{PARTITION}:iot:{REGION}:999999999999:topic/mli/predictions/{{T}}"),
    ("iot:OpenTunnel", "*"),
    ("greengrass:CreateDeployment", f"arn:{PARTITION}:greengrass:{REGION}:{ACCOUNT}:deployments"),
    ("greengrass:CreateComponentVersion", f"arn:{PARTITION}:greengrass:{REGION}:{ACCOUNT}:components"),
    ("greengrass:DeleteCoreDevice", f"arn:{PARTITION}:greengrass:{REGION}:{ACCOUNT}:coreDevices:{{T}}"),
]


@pytest.mark.parametrize(("runtime", "adopt"), WAYS)
class TestADevice:
    def test_may_speak_for_itself(self, runtime: str, adopt: bool) -> None:
        line = connection("belt", runtime, adopt)
        refused = [one for one in DEVICE_MAY if not line.may(one[0], one[1].replace("{T}", line.things[0]))]
        assert refused == []

    def test_may_not_touch_another_device(self, runtime: str, adopt: bool) -> None:
        line = connection("belt", runtime, adopt)
        asked = [(action, resource.replace("{T}", line.things[0])) for action, resource in ACROSS_DEVICES]
        assert len(set(asked)) >= 20
        assert [one for one in asked if line.may(*one)] == []

    def test_may_do_nothing_else(self, runtime: str, adopt: bool) -> None:
        line = connection("belt", runtime, adopt)
        asked = [(action, resource.replace("{T}", line.things[0])) for action, resource in NOT_EVEN_ITS_OWN]
        assert [one for one in asked if line.may(*one)] == []

    def test_with_another_device_s_certificate_is_nobody(self, runtime: str, adopt: bool) -> None:
        """The rights hang on the certificate: oven's say nothing of belt."""
        thief = connection("oven", runtime, adopt, client="belt")
        thing = "belt_Core" if adopt else "belt"
        asked = [(action, resource.replace("{T}", thing)) for action, resource in DEVICE_MAY if "{T}" in resource]
        assert [one for one in asked if thief.may(*one)] == []

    def test_the_adopted_topic_is_granted_to_who_adopted_it_alone(self, runtime: str, adopt: bool) -> None:
        line = connection("belt", runtime, adopt)
        assert line.may("iot:Publish", "topic/mli/predictions/belt")
        assert line.may("iot:Publish", "topic/mli/predictions/belt_Core") is adopt
        assert not line.may("iot:Publish", "topic/mli/predictions/belt_Core2")
        if adopt:
            assert line.may("iot:Publish", "topic/mli/predictions/belt/dropped")
            assert not line.may("iot:Publish", "topic/mli/predictions/belt/other")
            assert not line.may("iot:Publish", "topic/mli/status/belt")
            assert not line.may("iot:Subscribe", "topicfilter/mli/deployments/belt")

    def test_the_doctor_may_log_in_beside_it_and_do_nothing(self, runtime: str, adopt: bool) -> None:
        thing = "belt_Core" if adopt else "belt"
        own = f"{thing}-doctor" if runtime == "core" else f"{thing}-mli-doctor"
        doctor = connection("belt", runtime, adopt, client=own)
        assert doctor.may("iot:Connect", f"client/{own}")
        assert not doctor.may("iot:Connect", "client/oven-doctor")
        if runtime == "core":  # with Greengrass the same topics hold for each connection of the device
            allowed = {(action, resource) for action, resource in DEVICE_MAY if doctor.may(action, resource)}
            assert not [action for action, _ in allowed if action != "iot:AssumeRoleWithCertificate"]


@pytest.mark.parametrize("adopt", [False, True])
class TestACertificateThatIsNotAttached:
    def test_of_a_core_can_do_nothing(self, adopt: bool) -> None:
        line = connection("belt", "core", adopt, things=())
        own = [(action, resource.replace("{T}", line.client)) for action, resource in DEVICE_MAY]
        allowed = [one for one in own if line.may(*one)]
        # Not bound to the thing: the role alias, and the topic that was taken over. Both need a connection first.
        assert {action for action, _ in allowed} <= {"iot:AssumeRoleWithCertificate"}

    def test_cannot_even_connect_where_its_name_were_known(self, adopt: bool) -> None:
        """IsAttached is asked beside the name."""
        thing = "belt_Core" if adopt else "belt"
        known = {"iot:ClientId": thing, "iot:Connection.Thing.ThingName": thing}
        arn = f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:client/{thing}"
        policies = of_kind("device", device("belt", "core", adopt), "iot")
        for attached, expected in ({"true": True, "false": False}).items():
            request = Request("iot:Connect", arn, known | {"iot:Connection.Thing.IsAttached": attached})
            assert decide(request, policies, dialect=Dialect.IOT).allowed is expected
        assert not decide(Request("iot:Connect", arn, known), policies, dialect=Dialect.IOT)

    def test_to_this_thing_speaks_for_its_own_thing_alone(self, adopt: bool) -> None:
        line = connection("belt", "core", adopt, client="oven", things=("oven",))
        assert line.may("iot:Publish", "topic/mli/predictions/oven")
        assert not line.may("iot:Connect", "client/belt")
        assert not line.may("iot:Publish", "topic/mli/status/belt")


@pytest.mark.parametrize("adopt", [False, True])
class TestTheNucleus:
    MAY = (
        ("iot:Connect", "client/{T}"),
        ("iot:Connect", "client/{T}#2"),
        ("iot:Connect", "client/{T}-mli"),
        ("iot:Publish", "topic/$aws/things/{T}/greengrassv2/health/json"),
        ("iot:Publish", "topic/$aws/things/{T}/jobs/$next/get"),
        ("iot:Publish", "topic/$aws/things/{T}/jobs/1234/update"),
        ("iot:Subscribe", "topicfilter/$aws/things/{T}/jobs/notify-next"),
        ("iot:Subscribe", "topicfilter/$aws/things/{T}/jobs/+/update/accepted"),
        ("iot:Receive", "topic/$aws/things/{T}/jobs/1234/update/accepted"),
        ("iot:Publish", "topic/$aws/things/{T}/shadow/name/AWSManagedGreengrassV2Deployment/get"),
        (
            "iot:Subscribe",
            "topicfilter/$aws/things/{T}/shadow/name/AWSManagedGreengrassV2Deployment/update/delta",
        ),
        ("greengrass:GetComponentVersionArtifact", "*"),
        ("greengrass:ResolveComponentCandidates", "*"),
        ("greengrass:GetDeploymentConfiguration", "*"),
        ("greengrass:ListThingGroupsForCoreDevice", "*"),
    )

    def test_may_what_its_documentation_asks_for(self, adopt: bool) -> None:
        line = connection("belt", "greengrass", adopt)
        asked = [(action, self.arn(resource.replace("{T}", line.client))) for action, resource in self.MAY]
        assert [one for one in asked if not line.may(*one)] == []

    @staticmethod
    def arn(resource: str) -> str:
        return f"arn:{PARTITION}:greengrass:{REGION}:{ACCOUNT}:components:any" if resource == "*" else resource

    def test_and_its_further_connections_publish_as_the_first_does(self, adopt: bool) -> None:
        for suffix in ("#2", "-mli"):
            thing = "belt_Core" if adopt else "belt"
            line = connection("belt", "greengrass", adopt, client=f"{thing}{suffix}")
            assert line.may("iot:Publish", f"topic/mli/predictions/{thing}")
            assert line.may("iot:RetainPublish", f"topic/mli/status/{thing}")
            assert not line.may("iot:Publish", "topic/mli/predictions/oven")
            assert not line.may("iot:Connect", f"client/oven{suffix}")

    def test_nothing_of_it_is_there_for_a_core_without_greengrass(self, adopt: bool) -> None:
        line = connection("belt", "core", adopt)
        asked = [(action, self.arn(resource.replace("{T}", line.client))) for action, resource in self.MAY[1:]]
        assert [one for one in asked if line.may(*one)] == []


# --- With the role that it gets for its certificate.

ROLE_MAY = [
    ("s3:GetObject", s3(MODELS, "models/abc/belt.zip")),
    ("s3:GetObject", s3(MODELS, "inception-bn.zip")),
    *(("s3:GetObject", s3(bucket, "any/key.zip")) for bucket in OWN_BUCKETS),
    ("s3:GetObject", s3(ARTIFACTS, "components/mli.core/0.1.0/mli.zip")),
    ("s3:GetBucketLocation", s3(ARTIFACTS)),
    ("logs:CreateLogGroup", f"{LOGS}:*"),
    ("logs:DescribeLogStreams", f"{LOGS}:log-stream:"),
    ("logs:CreateLogStream", f"{LOGS}:log-stream:/2026/11/29/thing/belt"),
    ("logs:PutLogEvents", f"{LOGS}:log-stream:/2026/11/29/thing/belt"),
]
ROLE_MAY_NOT = [
    ("s3:PutObject", s3(MODELS, "models/abc/belt.zip")),
    ("s3:DeleteObject", s3(MODELS, "models/abc/belt.zip")),
    ("s3:DeleteObjectVersion", s3(MODELS, "models/abc/belt.zip")),
    ("s3:PutObjectAcl", s3(MODELS, "models/abc/belt.zip")),
    ("s3:ListBucket", s3(MODELS)),
    ("s3:PutBucketPolicy", s3(MODELS)),
    ("s3:PutObject", s3(OWN_BUCKETS[0], "a.zip")),
    ("s3:ListBucket", s3(OWN_BUCKETS[0])),
    ("s3:ListAllMyBuckets", "*"),
    ("s3:GetObject", s3(MODELS + "-of-others", "a.zip")),
    ("s3:GetObject", s3(OWN_BUCKETS[0] + "2", "a.zip")),
    ("s3:GetObject", s3("another", "a.zip")),
    ("s3:ListBucket", s3("another")),
    ("s3:ListBucket", s3(ARTIFACTS)),
    ("s3:GetObject", s3(ARTIFACTS, "templates/shared.yaml")),
    ("s3:GetObject", s3(ARTIFACTS, "bundles/oven/greengrass-setup.zip")),
    ("s3:GetObject", s3(ARTIFACTS, "components")),
    ("s3:PutObject", s3(ARTIFACTS, "components/mli.core/0.1.0/mli.zip")),
    ("logs:CreateLogStream", f"{LOGS}:log-stream:/2026/11/29/thing/oven"),
    ("logs:PutLogEvents", f"{LOGS}:log-stream:/2026/11/29/thing/oven"),
    ("logs:PutLogEvents", f"{LOGS}:log-stream:/2026/11/29/thing/belt2"),
    ("logs:PutLogEvents", f"{LOGS}:log-stream:/2026/11/29/thing/belt/oven"),
    ("logs:PutLogEvents", LOGS.replace(shared().outputs["LogGroup"], "/other") + ":log-stream:a/thing/belt"),
    ("logs:GetLogEvents", f"{LOGS}:log-stream:/2026/11/29/thing/oven"),
    ("logs:DeleteLogStream", f"{LOGS}:log-stream:/2026/11/29/thing/belt"),
    ("logs:DeleteLogGroup", f"{LOGS}:*"),
    ("logs:PutRetentionPolicy", f"{LOGS}:*"),
    ("iam:CreateRole", f"arn:{PARTITION}:iam::{ACCOUNT}:role/any"),
    ("iam:AttachRolePolicy", f"arn:{PARTITION}:iam::{ACCOUNT}:role/any"),
    ("iam:PassRole", f"arn:{PARTITION}:iam::{ACCOUNT}:role/any"),
    ("sts:AssumeRole", f"arn:{PARTITION}:iam::{ACCOUNT}:role/any"),
    ("iot:Publish", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:topic/mli/deployments/oven"),
    ("iot:UpdateThing", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:thing/oven"),
    ("iot:UpdateThingShadow", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:thing/belt"),
    ("iot:AttachPolicy", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:cert/{'a' * 64}"),
    ("greengrass:CreateDeployment", f"arn:{PARTITION}:greengrass:{REGION}:{ACCOUNT}:deployments"),
    ("secretsmanager:GetSecretValue", SECRET),
    ("ssm:GetParameter", f"arn:{PARTITION}:ssm:{REGION}:{ACCOUNT}:parameter/any"),
    ("kms:Decrypt", f"arn:{PARTITION}:kms:{REGION}:{ACCOUNT}:key/any"),
    ("ec2:RunInstances", "*"),
    ("lambda:InvokeFunction", f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:any"),
    ("cloudformation:DescribeStacks", f"arn:{PARTITION}:cloudformation:{REGION}:{ACCOUNT}:stack/mli-shared/1"),
]


class TestTheDeviceRole:
    BELT: ClassVar = {"credentials-iot:ThingName": "belt", "aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}

    def may(self, action: str, resource: str, context: dict[str, str] | None = None) -> bool:
        buckets = of_kind("shared", shared(), "bucket")
        identity = of_kind("shared", shared(), "identity")
        return decide(Request(action, resource, self.BELT if context is None else context), identity, buckets).allowed

    def test_reads_models_and_components_and_writes_its_own_log(self) -> None:
        assert [one for one in ROLE_MAY if not self.may(*one)] == []

    def test_does_nothing_else(self) -> None:
        assert [one for one in ROLE_MAY_NOT if self.may(*one)] == []

    def test_writes_no_log_for_a_device_without_a_name(self) -> None:
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            assert not self.may(action, f"{LOGS}:log-stream:/2026/11/29/thing/belt", {})
            assert not self.may(action, f"{LOGS}:log-stream:/2026/11/29/thing/", {})

    def test_reads_no_other_account_s_bucket_that_does_not_let_it(self) -> None:
        identity = of_kind("shared", shared(), "identity")
        request = Request("s3:GetObject", s3(OWN_BUCKETS[0], "a.zip"), self.BELT)
        assert not decide(request, identity, cross_account=True)

    @pytest.mark.parametrize(
        ("context", "expected"),
        [
            ({"aws:SecureTransport": "true", "s3:TlsVersion": "1.2"}, True),
            ({"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}, True),
            ({"aws:SecureTransport": "true", "s3:TlsVersion": "1.1"}, False),
            ({"aws:SecureTransport": "false"}, False),
        ],
    )
    @pytest.mark.parametrize("bucket", [MODELS, ARTIFACTS])
    def test_reads_over_tls_only(self, bucket: str, context: dict[str, str], expected: bool) -> None:
        assert self.may("s3:GetObject", s3(bucket, "components/a"), context) is expected

    @pytest.mark.parametrize("bucket", [MODELS, ARTIFACTS])
    def test_no_bucket_lets_a_stranger_in(self, bucket: str) -> None:
        for action, resource in (("s3:GetObject", s3(bucket, "a")), ("s3:ListBucket", s3(bucket))):
            context = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}
            stranger = Request(action, resource, context, "arn:aws:iam::999999999999:role/any")
            assert not decide(stranger, [], of_kind("shared", shared(), "bucket"))

    def test_is_given_by_the_credentials_provider_for_this_alias_alone(self) -> None:
        (trust,) = of_kind("shared", shared(), "trust")
        provider = "credentials.iot.amazonaws.com"
        source = {"aws:SourceAccount": ACCOUNT, "aws:SourceArn": ALIAS}
        assert may_assume(trust, provider, source)
        assert not may_assume(trust, provider)
        assert not may_assume(trust, provider, {"aws:SourceAccount": ACCOUNT})
        assert not may_assume(trust, provider, {"aws:SourceArn": ALIAS})
        assert not may_assume(trust, provider, source | {"aws:SourceAccount": "999999999999"})
        for other in ("rolealias/other", "rolealias/mli-device2"):
            assert not may_assume(trust, provider, source | {"aws:SourceArn": ALIAS.rpartition(":")[0] + f":{other}"})
        for service in ("iot.amazonaws.com", "greengrass.amazonaws.com", "lambda.amazonaws.com", "ec2.amazonaws.com"):
            assert not may_assume(trust, service, source)
        for account in (ACCOUNT, "999999999999"):
            assert not may_assume(trust, f"arn:aws:iam::{account}:role/any", source)


def test_no_policy_of_a_device_is_longer_than_aws_iot_takes() -> None:
    """2,048 characters, in which white space does not count, with the longest name that a thing can have."""
    for runtime, adopt in WAYS:
        for policy in of_kind("device", device("x" * 123, runtime, adopt), "iot"):
            assert len(json.dumps(policy, separators=(",", ":"))) <= 2048
