"""The rights of those who deploy: enough for every call and every resource of the templates, and no more."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import boto3
import pytest
from botocore import xform_name
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from tests.fixtures.cfn_resolve import ACCOUNT, PARTITION, REGION, load_template, resolve
from tests.fixtures.cloud_policies import template
from tests.fixtures.operator_rights import (
    CALLS,
    DEVICE_ROLE,
    MACHINE,
    NO_RIGHT_NEEDED,
    OTHERWISE,
    RESOURCES,
    UNUSED,
    Right,
)
from tests.fixtures.policy_evaluator import Policy, Request, decide, listed, statements

import mli

SOURCE = Path(mli.__file__).parent
SERVICES = sorted({service for service, _ in set(CALLS) | NO_RIGHT_NEEDED})
TRANSFERS = {"upload_file", "upload_fileobj", "download_file", "download_fileobj"}
"""Methods that boto3 adds to S3's client."""
WORK = ("create", "read", "update", "delete")
LARGEST_POLICY = 6144
"""Characters without white space, of a managed policy."""
CONTEXT = {
    "iam:PassedToService": "credentials.iot.amazonaws.com",
    "aws:ResourceTag/aws:cloudformation:stack-name": "mli-ec2-belt",
}


@cache
def policies(*names: str) -> tuple[Policy, ...]:
    """Some of the policies of operator.yaml, or all."""
    made = resolve(template("operator")).of_type("AWS::IAM::ManagedPolicy")
    return tuple(made[name].properties["PolicyDocument"] for name in names or made)


def may(right: Right, *names: str, **context: str) -> bool:
    return decide(Request(*right, {**CONTEXT, **context}), policies(*names)).allowed


@cache
def operations() -> dict[str, set[str]]:
    """The services that have a method, of those that mli speaks to."""
    session, found = boto3.Session("key", "secret", region_name=REGION), dict[str, set[str]]()
    for service in SERVICES:
        for name in session.client(service).meta.service_model.operation_names:
            found.setdefault(xform_name(name), set()).add(service)
    return found | {name: {"s3"} for name in TRANSFERS}


def calls() -> Iterator[tuple[str, str, str]]:
    """Service, method and place of each call to AWS in the source, also through a paginator or a waiter."""
    for path in sources():
        tree = ast.parse(path.read_text())
        services = {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in SERVICES
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            method = node.func.attr
            if method in ("get_paginator", "get_waiter") and isinstance(node.args[0], ast.Constant):
                method = str(node.args[0].value)
            known = operations().get(method, set())
            handed_in = known if len(known) == 1 and "client" in ast.unparse(node.func) else set[str]()
            for service in known & services or handed_in:
                yield service, method, f"{path.relative_to(SOURCE.parent)}:{node.lineno}"


def sources() -> list[Path]:
    return sorted([*(SOURCE / "cloud").rglob("*.py"), *(SOURCE / "cli").rglob("*.py")])


def test_no_presigned_url_is_made() -> None:
    assert [path for path in sources() if "generate_presigned" in path.read_text()] == []


def test_every_service_of_the_source_is_looked_at() -> None:
    found = {
        node.args[0].value
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "client"
        if node.args and isinstance(node.args[0], ast.Constant)
    }
    assert found
    assert found <= set(SERVICES)


def test_every_call_of_the_source_has_its_rights_listed() -> None:
    places: dict[tuple[str, str], list[str]] = {}
    for service, method, where in calls():
        places.setdefault((service, method), []).append(where)
    missing = [
        f"{where[0]} calls {service}.{method}"
        for (service, method), where in places.items()
        if (service, method) not in set(CALLS) | NO_RIGHT_NEEDED
    ]
    assert not missing, "not in tests/fixtures/operator_rights.py (and so, perhaps, not in operator.yaml)"
    assert sorted(set(CALLS) - set(places)) == [], "listed there, and called nowhere any more"


@pytest.mark.parametrize("call", sorted(CALLS), ids="-".join)
def test_every_call_is_allowed(call: tuple[str, str]) -> None:
    assert [right for right in CALLS[call] if not may(right)] == []


@pytest.mark.parametrize("what", sorted(OTHERWISE))
def test_what_is_done_without_boto3_is_allowed(what: str) -> None:
    assert [right for right in OTHERWISE[what] if not may(right)] == []


def types() -> list[str]:
    names = ("shared", "device-greengrass", "component", "ec2")
    found = {resource["Type"] for name in names for resource in load_template(template(name))["Resources"].values()}
    return sorted(found)


@pytest.mark.parametrize("kind", types())
def test_every_resource_of_the_templates_can_be_made_changed_and_deleted(kind: str) -> None:
    """By the rights that CloudFormation's own schema of the type says its handlers need."""
    handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema["handlers"]
    needed = {right for name in WORK for right in handlers.get(name, {}).get("permissions", ())}
    unused = UNUSED.get(kind, frozenset())
    assert unused <= needed, f"no right of {kind}: {sorted(unused - needed)}"
    service = {"iam:PassedToService": "ec2.amazonaws.com"} if kind.startswith(("AWS::EC2", "AWS::IAM::Inst")) else {}
    missing = [
        action
        for action in sorted(needed - unused)
        if not any(may((action, resource), **service) for resource in RESOURCES[kind])
    ]
    assert missing == []


def test_nothing_is_allowed_that_nobody_needs() -> None:
    needed = {action for rights in [*CALLS.values(), *OTHERWISE.values()] for action, _ in rights}
    for kind in types():
        handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema["handlers"]
        needed |= {right for handler in handlers.values() for right in handler["permissions"]} - UNUSED.get(
            kind, set()
        )
    by_hand = {
        # docs/ec2.md: a session, the console's output, another bundle; the images of the template.
        *("ssm:StartSession", "ssm:GetParameters", "ec2:GetConsoleOutput", "ec2:StartInstances", "ec2:StopInstances"),
        *("secretsmanager:DeleteSecret", "secretsmanager:DescribeSecret", "secretsmanager:PutSecretValue"),
        # The Session Manager plugin, for the session that it began.
        *("ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"),
    }
    granted = {
        action for policy in policies() for statement in statements(policy) for action in listed(statement["Action"])
    }
    assert sorted(granted - needed - by_hand) == []


EVERYBODY_MAY_NOT = [
    ("iam:CreateUser", f"arn:{PARTITION}:iam::{ACCOUNT}:user/any"),
    ("iam:CreateRole", f"arn:{PARTITION}:iam::{ACCOUNT}:role/admin"),
    ("iam:PutRolePolicy", f"arn:{PARTITION}:iam::{ACCOUNT}:role/mli-admin"),
    ("iam:AttachRolePolicy", DEVICE_ROLE),
    ("iam:AttachUserPolicy", f"arn:{PARTITION}:iam::{ACCOUNT}:user/any"),
    ("iam:CreatePolicyVersion", f"arn:{PARTITION}:iam::{ACCOUNT}:policy/any"),
    ("iam:PassRole", f"arn:{PARTITION}:iam::{ACCOUNT}:role/admin"),
    ("sts:AssumeRole", DEVICE_ROLE),
    ("cloudformation:DeleteStack", f"arn:{PARTITION}:cloudformation:{REGION}:{ACCOUNT}:stack/another/1"),
    ("cloudformation:CreateChangeSet", f"arn:{PARTITION}:cloudformation:{REGION}:{ACCOUNT}:stack/another/1"),
    ("s3:GetObject", f"arn:{PARTITION}:s3:::another/a"),
    ("s3:PutBucketPolicy", f"arn:{PARTITION}:s3:::another"),
    ("s3:DeleteBucket", f"arn:{PARTITION}:s3:::another"),
    ("s3:ListAllMyBuckets", "*"),
    ("iot:Publish", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:topic/mli/predictions/belt"),
    ("iot:Publish", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:topic/mli/status/belt"),
    ("iot:Connect", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:client/belt"),
    ("iot:Subscribe", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:topicfilter/#"),
    ("iot:CreatePolicy", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:policy/any"),
    ("iot:AssumeRoleWithCertificate", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:rolealias/mli-device"),
    ("iot:CreateRoleAlias", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:rolealias/other"),
    ("iot:CreateTopicRule", f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:rule/any"),
    ("iot:RegisterCACertificate", "*"),
    ("greengrass:CreateComponentVersion", f"arn:{PARTITION}:greengrass:{REGION}:{ACCOUNT}:components:other"),
    ("logs:DeleteLogGroup", f"arn:{PARTITION}:logs:{REGION}:{ACCOUNT}:log-group:/other"),
    ("lambda:CreateFunction", f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:any"),
    ("secretsmanager:GetSecretValue", f"arn:{PARTITION}:secretsmanager:{REGION}:{ACCOUNT}:secret:mli/belt-1a2b3c"),
    ("secretsmanager:DeleteSecret", f"arn:{PARTITION}:secretsmanager:{REGION}:{ACCOUNT}:secret:other-1a2b3c"),
    ("ec2:AuthorizeSecurityGroupIngress", f"arn:{PARTITION}:ec2:{REGION}:{ACCOUNT}:security-group/sg-1"),
]


def test_nobody_gets_what_is_not_mli_s() -> None:
    assert [right for right in EVERYBODY_MAY_NOT if may(right)] == []


def test_the_daily_work_can_make_no_role_and_change_nothing_that_is_shared() -> None:
    daily = ("Devices", "Greengrass")
    granted = {
        action for one in policies(*daily) for statement in statements(one) for action in listed(statement["Action"])
    }
    assert not [action for action in granted if action.startswith(("iam:", "secretsmanager:", "ec2:"))]
    for right in [
        ("s3:PutBucketPolicy", RESOURCES["AWS::S3::Bucket"][0]),
        ("s3:DeleteObject", f"{RESOURCES['AWS::S3::Bucket'][0]}/a"),
        ("s3:PutObject", f"{RESOURCES['AWS::S3::Bucket'][1]}/components/mli.zip"),
        ("iot:UpdateRoleAlias", RESOURCES["AWS::IoT::RoleAlias"][0]),
        ("logs:DeleteLogGroup", RESOURCES["AWS::Logs::LogGroup"][0]),
    ]:
        assert not may(right, *daily)


@pytest.mark.parametrize("service", ["ec2.amazonaws.com", "lambda.amazonaws.com", "ecs-tasks.amazonaws.com"])
def test_the_device_role_is_passed_to_aws_iot_alone(service: str) -> None:
    assert may(("iam:PassRole", DEVICE_ROLE))
    assert not may(("iam:PassRole", DEVICE_ROLE), **{"iam:PassedToService": service})


def test_a_machine_s_role_is_passed_to_ec2_alone() -> None:
    role = f"arn:{PARTITION}:iam::{ACCOUNT}:role/mli-ec2-belt-InstanceRole-1A2B3C"
    assert may(("iam:PassRole", role), **{"iam:PassedToService": "ec2.amazonaws.com"})
    assert not may(("iam:PassRole", role))


def test_machines_of_others_are_left_alone() -> None:
    tag = "aws:ResourceTag/aws:cloudformation:stack-name"
    for action in ("ec2:TerminateInstances", "ssm:StartSession", "ec2:GetConsoleOutput"):
        assert may((action, MACHINE))
        assert not may((action, MACHINE), **{tag: "another"})
        assert not decide(Request(action, MACHINE), policies())


def test_a_prefix_of_things_bounds_the_daily_work() -> None:
    made = resolve(template("operator"), {"ThingPrefix": "line1-"}).of_type("AWS::IAM::ManagedPolicy")
    bounded = [made[name].properties["PolicyDocument"] for name in ("Devices", "Greengrass")]
    for action, kind in (
        ("iot:CreateThing", "thing/"),
        ("iot:Publish", "topic/mli/deployments/"),
        ("iot:UpdateThingShadow", "thing/"),
    ):
        arn = f"arn:{PARTITION}:iot:{REGION}:{ACCOUNT}:{kind}"
        assert decide(Request(action, f"{arn}line1-belt"), bounded)
        assert not decide(Request(action, f"{arn}line2-belt"), bounded)


def test_each_policy_is_short_enough() -> None:
    for policy in policies():
        assert len(json.dumps(policy, separators=(",", ":"))) <= LARGEST_POLICY
