"""``mli stack destroy``: what goes, what stays, and in which order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.names import COMPONENT_STACK, SHARED_STACK
from mli.cloud.stack_certificate import attached_policies
from mli.cloud.stack_change import Pause
from mli.cloud.stack_messages import clear_message, kept_message, topics_of
from mli.cloud.stack_owner import must_be_of, must_be_ours
from mli.cloud.stack_requests import retained_buckets
from mli.cloud.stack_state import Resource, Stack, contents_of, importers_of, look_at_stack, resources_of
from mli.cloud.stack_step import Watcher, delete, wait_for
from mli.cloud.thing_names import thing_exists
from mli.cloud.troubles import asking, code_of
from mli.errors import MliError, RefusedError

_GONE = frozenset({"DELETE_COMPLETE"})
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class DeviceEnd:
    """What ``destroy`` would do to a device's stack.

    Attributes:
        stack: None where there is none: only messages may be left.
        goes: what the stack made.
        stays: sentences on what is kept.
        messages: topics whose retained message is cleared.
    """

    stack: Stack | None
    thing: str
    goes: tuple[Resource, ...]
    stays: tuple[str, ...]
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SharedEnd:
    """What ``destroy --shared`` would do.

    Attributes:
        artifact_buckets: emptied and deleted.
        model_buckets: stay.
    """

    stacks: tuple[Stack, ...]
    goes: tuple[Resource, ...]
    artifact_buckets: tuple[str, ...]
    model_buckets: tuple[str, ...]


def look_at_device_end(aws: Aws, core_name: str, name: str) -> DeviceEnd:
    """What would go; nothing is changed.

    Args:
        name: of the stack.

    Raises:
        RefusedError: the stack is not ours, or of another core.
        MliError: AWS did not answer, or a right is missing.
    """
    stack = look_at_stack(aws, name)
    if stack is None:
        if thing_exists(aws, core_name):  # it lives, and its stack, if any, has another name
            kept = f"the thing {core_name}, and what the broker keeps for it: no stack of this name made it"
            return DeviceEnd(None, core_name, (), (kept,), ())
        return DeviceEnd(None, core_name, (), (), _retained(aws, core_name))
    must_be_ours(stack, contents_of(aws, stack), "device")
    must_be_of(stack, core_name)
    adopts = stack.parameters.get("Adopt") == "true"
    thing = stack.outputs.get("ThingName") or (f"{core_name}_Core" if adopts else core_name)
    goes = tuple(item for item in resources_of(aws, stack) if item.status not in _GONE)
    certificate = stack.parameters.get("CertIdParam", "")
    stays = (
        [f"the certificate as it is; mli device cert {core_name} --revoke {certificate} ends it"]
        if certificate
        else []
    )
    if stack.parameters.get("ModelS3Uri"):
        stays.append(f"the model {stack.parameters['ModelS3Uri']}")
    if adopts:
        stays.append(f"the thing {thing}, which was there before{_cut_off(aws, certificate, goes)}")
    return DeviceEnd(stack, thing, goes, tuple(stays), _retained(aws, thing))


def _cut_off(aws: Aws, certificate: str, goes: Sequence[Resource]) -> str:
    """What becomes of an adopted thing whose old policies were taken off."""
    ours = {item.physical_id for item in goes}
    try:
        attached = attached_policies(aws, aws.arn("iot", f"cert/{certificate}"))
    except MliError:  # the certificate is gone, say: no reason to keep the stack
        return ""
    if any(name not in ours for name in attached):
        return ""
    return ", but its certificate then has no policy, so the device CANNOT CONNECT until you attach one"


def end_device(aws: Aws, end: DeviceEnd, watcher: Watcher, pause: Pause = time.sleep) -> None:
    """Delete the stack, then clear what the broker keeps for the device.

    Raises:
        MliError: something cannot be deleted, or AWS did not answer.
    """
    if end.stack is not None:
        _delete(aws, end.stack, watcher, pause)
    # Asked anew: the device's last will comes when it loses its policy.
    for topic in sorted({*end.messages, *_retained(aws, end.thing)}):
        try:
            clear_message(aws, topic)
        except MliError as error:
            more = f"expected: {error.expected}" if error.expected else error.got
            watcher.say(f"the message on {topic} stays: {error.what}" + (f" ({more})" if more else ""))


def look_at_shared_end(aws: Aws) -> SharedEnd:
    """What would go with all that devices share; nothing is changed.

    Raises:
        RefusedError: a device's stack still uses it, or it is not ours.
        MliError: AWS did not answer, or a right is missing.
    """
    stacks, goes, users = [], [], set()
    for name, kind in ((COMPONENT_STACK, "component"), (SHARED_STACK, "shared")):
        stack = look_at_stack(aws, name)
        if stack is None:
            continue
        must_be_ours(stack, contents_of(aws, stack), kind)
        users |= set(importers_of(aws, stack))
        stacks.append(stack)
        goes += [item for item in resources_of(aws, stack) if item.status not in _GONE]
    users -= {COMPONENT_STACK}
    if users:
        raise RefusedError(
            "What devices share is still used.",
            expected="no stack that imports from it",
            got=", ".join(sorted(users)),
            remedy="remove those first: mli stack destroy CORE_NAME, or aws cloudformation delete-stack",
        )
    outputs = stacks[-1].outputs if stacks and stacks[-1].name == SHARED_STACK else {}
    artifacts = {*retained_buckets(aws, "artifact-bucket"), outputs.get("ArtifactBucket", "")} - {""}
    models = {*retained_buckets(aws, "model-bucket"), outputs.get("ModelBucket", "")} - {""}
    kept = tuple(item for item in goes if item.physical_id not in artifacts | models)
    return SharedEnd(tuple(stacks), kept, tuple(sorted(artifacts)), tuple(sorted(models)))


def end_shared(aws: Aws, end: SharedEnd, watcher: Watcher, pause: Pause = time.sleep) -> None:
    """Delete the component's stack, the shared stack, then the artifact bucket with all its versions.

    Raises:
        MliError: something cannot be deleted, or AWS did not answer.
    """
    for stack in end.stacks:
        _delete(aws, stack, watcher, pause)
    for bucket in end.artifact_buckets:
        watcher.say(f"emptying the bucket {bucket}")
        remove_bucket(aws, bucket)


def remove_bucket(aws: Aws, bucket: str) -> None:
    """Delete a bucket with every version of every object; one that is gone is fine.

    Raises:
        MliError: S3 refused it, or did not answer.
    """
    client = aws.client("s3")
    with asking(f"to empty the bucket {bucket}", aws.identity):
        try:
            for batch in _versions(client, bucket):
                told = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
                _must_be_deleted(bucket, told.get("Errors", ()))
            for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
                for upload in page.get("Uploads", ()):
                    client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            client.delete_bucket(Bucket=bucket)
        except ClientError as error:
            if code_of(error) != "NoSuchBucket":
                raise


def _delete(aws: Aws, stack: Stack, watcher: Watcher, pause: Pause) -> None:
    if stack.state == "moving" and stack.status != "DELETE_IN_PROGRESS":
        try:
            wait_for(aws, stack, watcher, pause)
        except RefusedError as error:
            watcher.say(f"{error.what} It is deleted all the same.")
    elif stack.state == "moving":
        wait_for(aws, stack, watcher, pause)
        return
    delete(aws, stack, watcher, pause)


def _retained(aws: Aws, thing: str) -> tuple[str, ...]:
    """Topics of the device on which the broker keeps a message."""
    return tuple(topic for topic in topics_of(thing) if kept_message(aws, topic) is not None)


def _versions(client: Any, bucket: str) -> Iterator[list[dict[str, str]]]:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [
            {"Key": item["Key"], "VersionId": item["VersionId"]}
            for kind in ("Versions", "DeleteMarkers")
            for item in page.get(kind, ())
        ]
        for start in range(0, len(found), _AT_ONCE):
            yield found[start : start + _AT_ONCE]


def _must_be_deleted(bucket: str, errors: Sequence[Any]) -> None:
    if errors:
        first = errors[0]
        raise RefusedError(
            f"The bucket {bucket} cannot be emptied.",
            where=first.get("Key"),
            got=f"{first.get('Code')}: {first.get('Message')}, for {len(errors)} objects",
            remedy="mend that, then the same command again",
        )
