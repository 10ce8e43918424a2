"""Templates read without an account: the resources that parameters would make, as the tests' resolver has them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures import cfn_resolve

from mli.cloud.stack_template import read_template, refused_values, resources_made, with_defaults
from mli.cloud.template_text import Template, template_text

DEVICE = {"CoreName": "a", "CertIdParam": "0" * 64, "ModelS3Uri": "s3://models/m.zip"}
CASES: list[tuple[Template, dict[str, str]]] = [
    ("shared", {}),
    ("shared", {"ExistingModelBucket": "mine"}),
    ("device", DEVICE),
    ("device", {**DEVICE, "Adopt": "true"}),
    ("device-greengrass", {**DEVICE, "Runtime": "greengrass", "ComponentVersion": "1.0.0"}),
    ("device-greengrass", {**DEVICE, "Runtime": "greengrass", "ComponentVersion": "1.0.0", "Adopt": "true"}),
]


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_what_a_template_would_make_is_what_a_full_resolver_says(name: Template, parameters: dict[str, str]) -> None:
    text = template_text(name)
    exports = {f"mli-shared:{key}": key for key in ("RoleAlias", "RoleAliasArn", "ModelBucket", "ArtifactBucket")}
    resolved = cfn_resolve.resolve(text, parameters, exports=exports)
    assert dict(resources_made(read_template(text), parameters)) == {
        key: told.type for key, told in resolved.resources.items()
    }


def test_values_that_a_template_does_not_take_are_named_with_what_it_takes() -> None:
    device = read_template(template_text("device"))
    assert refused_values(device, {**DEVICE, "OfAnOlderTemplate": "'"}) == []
    ((name, value, expected),) = refused_values(device, {**DEVICE, "Source": "it's"})
    assert (name, value) == ("Source", "it's")
    assert "without quotes" in expected


def test_parameters_get_their_defaults_and_strangers_are_left_out() -> None:
    found = with_defaults(read_template(template_text("device")), {**DEVICE, "OfAnOlderTemplate": "x"})
    assert found["Runtime"] == "core"
    assert found["SharedStack"] == "mli-shared"
    assert "OfAnOlderTemplate" not in found


def with_condition(condition: Any) -> dict[str, Any]:
    return {"Conditions": {"C": condition}, "Resources": {"R": {"Type": "T", "Condition": "C"}}}


@pytest.mark.parametrize(
    ("condition", "made"),
    [
        ({"Fn::Equals": ["a", "a"]}, True),
        ({"Fn::Not": [{"Fn::Equals": ["a", "a"]}]}, False),
        ({"Fn::And": [{"Fn::Equals": ["a", "a"]}, {"Fn::Equals": ["a", "b"]}]}, False),
        ({"Fn::Or": [{"Fn::Equals": ["a", "a"]}, {"Fn::Equals": ["a", "b"]}]}, True),
        ({"Fn::Equals": [{"Fn::Join": ["", ["a", "b"]]}, "ab"]}, True),
        ({"Fn::Equals": [True, "true"]}, True),
    ],
)
def test_conditions(condition: Any, made: bool) -> None:
    assert bool(resources_made(with_condition(condition), {})) is made


def test_a_function_that_conditions_do_not_take_is_an_error() -> None:
    with pytest.raises(ValueError, match="Sub"):
        resources_made(with_condition({"Fn::Equals": [{"Fn::Sub": "a"}, "a"]}), {})


@pytest.mark.parametrize("text", ["", "a: [", "[1]", "Resources: 3", "a: b"])
def test_what_is_no_template_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        read_template(text)
