"""The component's template: the recipe comes out of it as it went in, with the artifact's place."""

from __future__ import annotations

import json

import pytest
from tests.fixtures.cfn_resolve import Resolved, Unresolvable, load_template, resolve

from mli.cloud.component_recipe import artifact_key, component_version, recipe, recipe_text
from mli.cloud.template_text import LARGEST_RECIPE_BYTES, component_template, template_text

DIGEST = "0123456789abcdef" * 4
VERSION = component_version("0.1.0", DIGEST)
KEY = artifact_key(VERSION)
EXPORTS = {"mli-shared:ArtifactBucket": "mli-shared-artifactbucket-1"}


def component(recipe_json: str, **parameters: str) -> Resolved:
    return resolve(
        component_template(recipe_json), {"ArtifactKey": KEY, **parameters}, EXPORTS, stack="mli-component"
    )


def inlined(stack: Resolved) -> str:
    text: str = stack.resources["Component"].properties["InlineRecipe"]
    return text


def test_the_recipe_names_the_artifact_in_the_shared_bucket() -> None:
    stack = component(recipe_text(VERSION, DIGEST))
    place = f"s3://mli-shared-artifactbucket-1/{KEY}"
    assert json.loads(inlined(stack)) == recipe(VERSION, DIGEST, place)


def test_the_artifact_may_lie_in_another_bucket() -> None:
    assert "s3://my-artifacts/components/" in inlined(
        component(recipe_text(VERSION, DIGEST), ArtifactBucket="my-artifacts")
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "${HOME} ${X:-y} $(id) ${AWS::Region} ${!Z} {artifacts:path}/x {iot:thingName}"}',
        '{\n "a": {\n  "b": "# no comment: \\n \'quoted\' \\"twice\\" \\\\ %",\n\n  "c": [1, true, null]\n }\n}\n',
        json.dumps({"Run": "set -eu\n\tcd {work:path}\nexec python3 -m mli\n", "ü": "→"}, ensure_ascii=False),
        '{"---": "...", "!Sub": "&a *a | > -", "k": ": ", "l": "  # x"}',
    ],
)
def test_nothing_else_of_a_recipe_means_anything_to_yaml_or_cloudformation(text: str) -> None:
    assert json.loads(inlined(component(text))) == json.loads(text)


def test_versions_before_stay_and_the_last_one_goes_with_its_stack() -> None:
    stack = component(recipe_text(VERSION, DIGEST))
    made = stack.resources["Component"]
    assert made.type == "AWS::GreengrassV2::ComponentVersion"
    assert (made.deletion_policy, made.update_replace_policy) == ("Delete", "Retain")
    assert set(stack.exports) == {"mli-component:ComponentArn", "mli-component:ComponentVersion"}


def test_without_its_recipe_greengrass_refuses_the_component() -> None:
    text = template_text("component")
    with pytest.raises(json.JSONDecodeError):
        json.loads(inlined(resolve(text, {"ArtifactKey": KEY}, EXPORTS)))
    filled = load_template(component_template("{}"))
    plain = load_template(text)
    assert filled.pop("Resources") != plain.pop("Resources")
    assert filled == plain


@pytest.mark.parametrize(
    "key", ["mli.zip", "components/", "components/a b.zip", "components/${x}", 'components/"', "components/{a}.zip"]
)
def test_a_key_that_devices_may_not_read_or_that_breaks_the_recipe_is_refused(key: str) -> None:
    with pytest.raises(Unresolvable, match="parameter ArtifactKey"):
        component("{}", ArtifactKey=key)


@pytest.mark.parametrize("text", ["[]", "no json", json.dumps({"a": "x" * LARGEST_RECIPE_BYTES})])
def test_what_no_nucleus_reads_is_no_recipe(text: str) -> None:
    with pytest.raises(ValueError):
        component_template(text)
