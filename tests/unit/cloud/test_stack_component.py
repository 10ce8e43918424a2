"""The component's stack, and versions that Greengrass has already: it never lets one be made twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.fixtures.stubbed_aws import StubbedAws

from mli.cloud.component_package import ComponentPackage
from mli.cloud.component_recipe import artifact_key, recipe_text
from mli.cloud.stack_component import bring_component
from mli.cloud.stack_failures import Event
from mli.cloud.stack_state import Stack
from mli.errors import RefusedError

BUCKET, VERSION = "mli-shared-artifactbucket-1", "0.1.0-b0000000a"
ARN = f"arn:aws:greengrass:eu-central-1:123456789012:components:mli.core:versions:{VERSION}"
SHARED = Stack("mli-shared", "arn:shared", "CREATE_COMPLETE", outputs={"ArtifactBucket": BUCKET})
NEWER = Stack("mli-component", "arn:component", "UPDATE_COMPLETE", outputs={"ComponentVersion": "0.2.0-b0000000b"})


class Told:
    """A watcher that agrees to nothing."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def event(self, stack_name: str, event: Event) -> None:
        raise AssertionError(stack_name, event)

    def agree(self, stack_name: str, makes: bool, changes: Sequence[object]) -> bool:
        raise AssertionError(stack_name, makes, changes)


def package() -> ComponentPackage:
    told = SimpleNamespace(
        recipe=recipe_text(VERSION, "a" * 64),
        artifact=Path("nowhere"),
        artifact_key=artifact_key(VERSION),
        sha256="a" * 64,
        size_bytes=1,
        version=VERSION,
    )
    return cast("ComponentPackage", told)


def is_in_greengrass(aws: StubbedAws, bucket: str = BUCKET) -> None:
    stub, state = aws.on("greengrassv2"), {"componentState": "DEPLOYABLE"}
    stub.add_response("describe_component", {"arn": ARN, "status": state}, {"arn": ARN})
    recipe = json.dumps({"Uri": f"s3://{bucket}/{artifact_key(VERSION)}"}).encode()
    answer = {"recipe": recipe, "recipeOutputFormat": "JSON"}
    stub.add_response("get_component", answer, {"arn": ARN, "recipeOutputFormat": "JSON"})


def bring(aws: StubbedAws, stack: Stack | None, told: Told, *, dry_run: bool = False) -> Any:
    return bring_component(aws.account, package, SHARED, stack, told, dry_run=dry_run)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("stack", [NEWER, None])
def test_a_version_of_before_is_used_without_its_stack(
    stubbed_aws: StubbedAws, stack: Stack | None, dry_run: bool
) -> None:
    is_in_greengrass(stubbed_aws)
    if not dry_run:
        stubbed_aws.on("s3").add_response("head_object", {"Metadata": {"sha256": "a" * 64}})
    told = Told()
    done = bring(stubbed_aws, stack, told, dry_run=dry_run)
    assert (done.version, done.done.did, done.done.stack) == (VERSION, "nothing", stack)
    assert told.said == [f"the component {VERSION} is in Greengrass already; its stack stays as it is"]


def test_one_whose_artifact_lies_elsewhere_is_refused_with_the_way_on(stubbed_aws: StubbedAws) -> None:
    is_in_greengrass(stubbed_aws, "mli-shared-artifactbucket-of-before")
    with pytest.raises(RefusedError) as caught:
        bring(stubbed_aws, NEWER, Told())
    assert f"aws greengrassv2 delete-component --arn {ARN}" in str(caught.value.remedy)


@pytest.mark.parametrize("state", [None, "FAILED"])
def test_one_that_is_not_there_or_failed_is_made_by_the_stack(stubbed_aws: StubbedAws, state: str | None) -> None:
    stub = stubbed_aws.on("greengrassv2")
    if state is None:
        stub.add_client_error("describe_component", "ResourceNotFoundException")
    else:
        stub.add_response("describe_component", {"arn": ARN, "status": {"componentState": state}})
    stubbed_aws.on("s3").add_response("head_object", {"Metadata": {"sha256": "a" * 64}})
    stubbed_aws.on("cloudformation").add_client_error("create_change_set", "ValidationError", "seen")
    with pytest.raises(RefusedError, match="seen"):
        bring(stubbed_aws, NEWER, Told())
