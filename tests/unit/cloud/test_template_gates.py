"""Gates for every template of the package: cfn-lint, sizes, native resources. Wildcards: test_policy_wildcards.py."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

import boto3
import cfnlint
import pytest
from cfnlint.api import ManualArgs, lint
from tests.fixtures.cfn_resolve import load_template

from mli.cloud.component_recipe import component_version, recipe_text
from mli.cloud.template_text import LARGEST_BODY_BYTES, component_template

FOLDER = files("mli.cloud") / "templates"
NAMES = sorted(place.name for place in FOLDER.iterdir() if place.name.endswith(".yaml"))
ONLY_WITH_GREENGRASS = {"component.yaml", "device-greengrass.yaml"}
WITHOUT_GREENGRASS = "eu-north-1"
"""A region that has AWS IoT Core, and no resources of Greengrass V2."""
_SCHEMAS = Path(cfnlint.__file__).parent / "data" / "schemas" / "providers"


def text_of(name: str) -> str:
    if name == "component.yaml":  # as it is used, with a recipe
        digest = "0123456789abcdef" * 4
        return component_template(recipe_text(component_version("0.1.0", digest), digest))
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def regions_of(service: str) -> list[str]:
    """Regions in which botocore and cfn-lint know the service."""
    session = boto3.Session()
    known = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions(service, partition)
    ]
    return [region for region in known if (_SCHEMAS / f"{region}.json").exists()]


@cache
def schemas_in(region: str) -> dict[str, str]:
    """For each type of resource the id of its schema in that region."""
    found: dict[str, str] = json.loads((_SCHEMAS / f"{region}.json").read_text())
    return found


def alike(name: str) -> dict[tuple[str | None, ...], list[str]]:
    """The regions in which a template is to work, together where all of its types have the same schemas."""
    types = sorted({item["Type"] for item in load_template(text_of(name))["Resources"].values()})
    groups: dict[tuple[str | None, ...], list[str]] = {}
    for region in regions_of("greengrassv2" if name in ONLY_WITH_GREENGRASS else "iot"):
        groups.setdefault(tuple(schemas_in(region).get(kind) for kind in types), []).append(region)
    return groups


@pytest.mark.parametrize("name", NAMES)
def test_cfn_lint_finds_nothing_in_any_region(name: str) -> None:
    """A region of each kind here; every region one by one in ``make audit``."""
    groups = alike(name)
    assert sum(map(len, groups.values())) > 15
    for regions in groups.values():
        found = lint(text_of(name), config=ManualArgs(regions=regions[:1]))
        assert [str(item) for item in found] == []


@pytest.mark.parametrize("name", sorted(ONLY_WITH_GREENGRASS))
def test_a_type_that_a_region_does_not_know_is_found(name: str) -> None:
    found = lint(text_of(name), config=ManualArgs(regions=[WITHOUT_GREENGRASS]))
    assert [item.rule.id for item in found] == ["E3006"]


def test_a_core_alone_works_wherever_aws_iot_core_is() -> None:
    for name in ("shared.yaml", "device.yaml"):
        assert {"eu-north-1", "us-west-1", "cn-northwest-1", "us-gov-east-1"} <= {
            region for regions in alike(name).values() for region in regions
        }
        assert not [key for key in alike(name) if None in key]


@pytest.mark.parametrize("name", NAMES)
def test_a_template_can_be_sent_with_a_request(name: str) -> None:
    assert len(text_of(name).encode()) <= LARGEST_BODY_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_resources_are_native(name: str) -> None:
    """No Lambda of ours answers for a resource, so none can answer wrong when a stack is changed or deleted."""
    for resource in load_template(text_of(name))["Resources"].values():
        assert resource["Type"].startswith("AWS::")
        assert not resource["Type"].startswith(("AWS::Lambda::", "AWS::CloudFormation::CustomResource"))


@pytest.mark.parametrize("name", ["shared.yaml", "device.yaml", "device-greengrass.yaml", "component.yaml"])
def test_texts_for_people_are_there(name: str) -> None:
    template = load_template(text_of(name))
    assert len(template["Description"].encode()) <= 1024
    for kind in ("Parameters", "Outputs"):
        for key, item in template.get(kind, {}).items():
            assert item.get("Description"), f"{kind}.{key}"
