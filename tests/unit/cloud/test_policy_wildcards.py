"""No wildcard action, and no wildcard resource but those that docs/security.md lists with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.cfn_resolve import load_template, resolve
from tests.fixtures.cloud_policies import Document, all_documents, documents, template
from tests.fixtures.policy_evaluator import listed, statements

SECURITY = Path(__file__).resolve().parents[3] / "docs" / "security.md"
_ROW = re.compile(r"^\| `(?P<place>[a-z0-9]+\.yaml/\w+/\w+)` \| (?P<what>[^|]+) \| (?P<why>[^|]+) \|$", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{[^}]*\}")
TEMPLATES = ("shared", "device", "device-greengrass", "component", "ec2", "operator")
ON_EVERYTHING = {
    "device.yaml/NucleusPolicy/Deployments",
    "ec2.yaml/InstanceRole/HoldSessions",
    "operator.yaml/Devices/WithoutResource",
    "operator.yaml/Ec2/About",
    "operator.yaml/Greengrass/Deployments",
    "operator.yaml/Shared/AboutLogGroups",
}
"""Where the whole resource is ``*``: for actions that know no resource, or of which AWS documents none."""


def every_document() -> Iterator[Document]:
    yield from all_documents()
    yield from documents("operator", resolve(template("operator"), {"ModelBucketPrefix": "my-models"}))


def allowing() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each statement that allows something, and where it stands."""
    for document in every_document():
        for statement in statements(document.policy):
            if statement["Effect"] == "Allow":
                yield f"{document.where}/{statement.get('Sid', '?')}", dict(statement)


def is_wild(resource: str) -> bool:
    return bool({"*", "?"} & set(_VARIABLE.sub("", resource)))


def reviewed() -> dict[str, str]:
    """Place and reason of the table in docs/security.md."""
    return {row["place"]: row["why"].strip() for row in _ROW.finditer(SECURITY.read_text())}


def test_the_lint_sees_every_policy_of_the_templates() -> None:
    seen = {document.where for document in every_document()}
    for name in TEMPLATES:
        for logical, resource in load_template(template(name))["Resources"].items():
            if "PolicyDocument" in resource.get("Properties", {}) or resource["Type"] == "AWS::IAM::Role":
                assert f"{name.removesuffix('-greengrass')}.yaml/{logical}" in seen
    found = {path.stem for path in Path(str(SECURITY.parents[1] / "src/mli/cloud/templates")).glob("*.yaml")}
    assert found == set(TEMPLATES)


def test_both_templates_of_a_device_hold_the_same_policies() -> None:
    one, other = (load_template(template(name))["Resources"] for name in ("device", "device-greengrass"))
    assert {name: resource for name, resource in other.items() if name != "Deployment"} == one


def test_no_action_has_a_wildcard_where_something_is_allowed() -> None:
    wild = [
        (where, action)
        for where, found in allowing()
        for action in listed(found.get("Action", "*"))
        if is_wild(action)
    ]
    assert wild == []


def test_nothing_is_allowed_by_leaving_out() -> None:
    assert [where for where, found in allowing() if {"NotAction", "NotResource", "NotPrincipal"} & set(found)] == []


def test_every_statement_has_a_name_of_its_own() -> None:
    for document in every_document():
        if document.kind != "trust":
            names = [statement.get("Sid") for statement in statements(document.policy)]
            assert None not in names, document.where
            assert len(names) == len(set(names)), document.where


def test_every_wildcard_resource_is_reviewed() -> None:
    wild = {where for where, found in allowing() if any(is_wild(one) for one in listed(found.get("Resource", [])))}
    assert sorted(wild - set(reviewed())) == [], "without a row in docs/security.md"
    assert sorted(set(reviewed()) - wild) == [], "in docs/security.md, though nothing is wild there"
    assert all(reviewed().values())


def test_the_page_names_tests_that_are_there() -> None:
    tests = {path.name for path in Path(__file__).resolve().parents[2].rglob("test_*.py")}
    named = set(re.findall(r"test_\w+\.py", SECURITY.read_text()))
    assert len(named) > 5
    assert named <= tests


def test_everything_is_the_resource_of_few_statements() -> None:
    assert {where for where, found in allowing() if "*" in listed(found.get("Resource", []))} == ON_EVERYTHING


@pytest.mark.parametrize(
    "document", [one for one in all_documents() if one.kind == "trust"], ids=lambda one: one.where
)
def test_a_role_trusts_one_service_for_one_source(document: Document) -> None:
    (statement,) = statements(document.policy)
    assert set(statement["Principal"]) == {"Service"}
    assert isinstance(statement["Principal"]["Service"], str)
    if statement["Principal"]["Service"].startswith("ec2."):
        return  # an instance profile can be given to instances of its own account only; EC2 names no source
    keys = {key for block in statement["Condition"].values() for key in block}
    assert keys == {"aws:SourceAccount", "aws:SourceArn"}


def test_nothing_of_the_templates_runs_code_in_the_account() -> None:
    kinds = {
        resource["Type"] for name in TEMPLATES for resource in load_template(template(name))["Resources"].values()
    }
    code = ("Custom::", "AWS::CloudFormation::CustomResource", "AWS::Lambda::", "AWS::CloudFormation::Macro")
    assert not [kind for kind in kinds if kind.startswith(code)]
    assert not [name for name in TEMPLATES if "Transform" in load_template(template(name))]


def test_a_bucket_policy_only_denies() -> None:
    buckets = [document for document in all_documents() if document.kind == "bucket"]
    assert buckets
    for document in buckets:
        assert {statement["Effect"] for statement in statements(document.policy)} == {"Deny"}
