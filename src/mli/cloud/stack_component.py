"""The Greengrass V2 component: its artifact is uploaded before the stack that names it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.component_versions import was_made_before
from mli.cloud.names import COMPONENT_STACK
from mli.cloud.stack_change import Pause, Request
from mli.cloud.stack_state import TAG, Stack
from mli.cloud.stack_step import Done, Watcher, bring, foretell
from mli.cloud.stack_template import read_template, with_defaults
from mli.cloud.template_text import component_template
from mli.cloud.troubles import asking, code_of
from mli.errors import RefusedError

if TYPE_CHECKING:
    from mli.cloud.component_package import ComponentPackage

Build = Callable[[], "ComponentPackage"]


@dataclass(frozen=True, slots=True)
class ComponentDone:
    """What became of the component's stack, and which version devices get."""

    done: Done
    version: str


def bring_component(
    aws: Aws,
    build: Build,
    shared: Stack | None,
    stack: Stack | None,
    watcher: Watcher,
    *,
    dry_run: bool,
    pause: Pause = time.sleep,
) -> ComponentDone:
    """Upload the artifact and make the component's stack; what is there in this version stays.

    Args:
        build: packs the component of this mli.
        shared: the shared stack; None in a dry run where it is not there yet.

    Raises:
        MliError: it failed, or AWS did not answer.
    """
    package = build()
    request = component_request(package)
    bucket = shared.outputs.get("ArtifactBucket", "") if shared is not None else ""
    holds = stack is not None and stack.outputs.get("ComponentVersion") == package.version
    made_before = bool(bucket) and not holds and was_made_before(aws, bucket, package)
    if dry_run and not made_before:
        there = shared is not None and shared.state == "settled"
        return ComponentDone(foretell(aws, request, stack, pause, needs_all=there), package.version)
    if not bucket:
        raise RefusedError("The shared stack names no bucket for artifacts.", remedy="mli stack deploy --shared")
    if not dry_run:
        upload_artifact(aws, bucket, package, watcher)
    if made_before:
        watcher.say(f"the component {package.version} is in Greengrass already; its stack stays as it is")
        return ComponentDone(Done(request.name, "nothing", (), stack), package.version)
    return ComponentDone(bring(aws, request, stack, watcher, pause), package.version)


def component_request(package: ComponentPackage) -> Request:
    """The component's stack."""
    text = component_template(package.recipe)
    parameters = {"ArtifactKey": package.artifact_key}
    return Request(COMPONENT_STACK, text, with_defaults(read_template(text), parameters), {TAG: "component"})


def upload_artifact(aws: Aws, bucket: str, package: ComponentPackage, watcher: Watcher) -> None:
    """Upload the artifact under its key, unless these very bytes are there.

    Raises:
        MliError: S3 refused it, or did not answer.
    """
    client, key = aws.client("s3"), package.artifact_key
    with asking(f"for s3://{bucket}/{key}", aws.identity):
        try:
            there = client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if code_of(error) not in ("404", "NoSuchKey", "NotFound"):
                raise
        else:
            if there.get("Metadata", {}).get("sha256") == package.sha256:
                return
    watcher.say(f"uploading the component {package.version}, {package.size_bytes / 1e6:,.0f} MB")
    with asking(f"to take s3://{bucket}/{key}", aws.identity):
        client.upload_file(str(package.artifact), bucket, key, ExtraArgs={"Metadata": {"sha256": package.sha256}})
