"""What the machine of an EC2 core may do with its role, and what not."""

from __future__ import annotations

from typing import ClassVar

from tests.fixtures.cfn_resolve import ACCOUNT, PARTITION, REGION
from tests.fixtures.cloud_policies import of_kind
from tests.fixtures.ec2_stack import BUCKET, KEY, SECRET, ec2_stack
from tests.fixtures.policy_evaluator import Policy, Request, decide, may_assume


def s3(bucket: str, key: str | None = None) -> str:
    return f"arn:{PARTITION}:s3:::{bucket}" + ("" if key is None else f"/{key}")


STACK = f"arn:{PARTITION}:cloudformation:{REGION}:{ACCOUNT}:stack/a-stack/1"
INSTANCE = f"arn:{PARTITION}:ec2:{REGION}:{ACCOUNT}:instance/i-1"
MAY = [
    ("secretsmanager:GetSecretValue", SECRET),
    ("s3:GetObject", s3(BUCKET, KEY)),
    ("cloudformation:SignalResource", STACK),
    ("ssm:UpdateInstanceInformation", INSTANCE),
    ("ssmmessages:CreateControlChannel", "*"),
    ("ssmmessages:CreateDataChannel", "*"),
    ("ssmmessages:OpenControlChannel", "*"),
    ("ssmmessages:OpenDataChannel", "*"),
]
MAY_NOT = [
    ("secretsmanager:GetSecretValue", SECRET.replace("belt", "oven")),
    ("secretsmanager:GetSecretValue", SECRET + "x"),
    ("secretsmanager:PutSecretValue", SECRET),
    ("secretsmanager:DeleteSecret", SECRET),
    ("secretsmanager:ListSecrets", "*"),
    ("s3:GetObject", s3(BUCKET, "components/other.zip")),
    ("s3:GetObject", s3(BUCKET, KEY + ".more")),
    ("s3:PutObject", s3(BUCKET, KEY)),
    ("s3:ListBucket", s3(BUCKET)),
    ("s3:GetObject", s3("another", KEY)),
    ("cloudformation:SignalResource", STACK.replace("a-stack", "another")),
    ("cloudformation:UpdateStack", STACK),
    ("cloudformation:DeleteStack", STACK),
    ("ssm:SendCommand", INSTANCE),
    ("ssm:StartSession", INSTANCE),
    ("ssm:GetParameter", f"arn:{PARTITION}:ssm:{REGION}:{ACCOUNT}:parameter/any"),
    ("ec2:RunInstances", "*"),
    ("ec2:ModifyInstanceMetadataOptions", INSTANCE),
    ("ec2:AuthorizeSecurityGroupIngress", "*"),
    ("iam:PassRole", f"arn:{PARTITION}:iam::{ACCOUNT}:role/any"),
    ("sts:AssumeRole", f"arn:{PARTITION}:iam::{ACCOUNT}:role/any"),
    ("iot:Publish", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:topic/mli/predictions/belt"),
]


class TestTheEc2Machine:
    STACK_OF_A_CORE: ClassVar = {"ArtifactKey": KEY, "ArtifactSha256": "a" * 64}

    def policies(self, **parameters: str) -> list[Policy]:
        made = ec2_stack(**(parameters or self.STACK_OF_A_CORE))
        return of_kind("ec2", made, "identity")

    def test_may_set_itself_up_and_hold_sessions(self) -> None:
        identity = self.policies()
        assert [one for one in MAY if not decide(Request(*one), identity)] == []

    def test_may_do_nothing_else(self) -> None:
        identity = self.policies()
        assert [one for one in MAY_NOT if decide(Request(*one), identity)] == []

    def test_with_greengrass_it_reads_no_bucket_at_all(self) -> None:
        nucleus = {"Runtime": "greengrass", "NucleusUrl": "https://example.com/n.zip", "NucleusSha256": "a" * 64}
        assert not decide(Request("s3:GetObject", s3(BUCKET, KEY)), self.policies(**nucleus))

    def test_its_role_is_ec2_s_alone(self) -> None:
        (trust,) = of_kind("ec2", ec2_stack(**self.STACK_OF_A_CORE), "trust")
        assert may_assume(trust, "ec2.amazonaws.com")
        assert not may_assume(trust, "ssm.amazonaws.com")
        assert not may_assume(trust, f"arn:aws:iam::{ACCOUNT}:role/any")
