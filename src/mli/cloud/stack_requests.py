"""Which templates and parameters make what is wanted of what is there."""

from __future__ import annotations

from collections.abc import Mapping

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.names import SHARED_STACK
from mli.cloud.stack_change import Request
from mli.cloud.stack_state import CORE_TAG, TAG, Stack
from mli.cloud.stack_template import read_template, with_defaults
from mli.cloud.stack_wanted import Looked, Wanted
from mli.cloud.template_text import device_template, template_text
from mli.cloud.troubles import asking, code_of

_NEW_MODEL = ("ModelS3Uri", "ModelSha256", "Source")
"""A change of these is a new revision of the deployment."""
BUCKET_TAG = "mli"
"""Of the buckets in the template."""


def shared_request(aws: Aws, stack: Stack | None, bucket: str | None) -> Request:
    """The shared stack, whose devices can also read ``bucket``.

    Parameters that it has stay as they are; a model bucket that an earlier stack left is taken in again.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    text = template_text("shared")
    there = stack if stack is not None and stack.state == "settled" else None
    parameters = dict(there.parameters) if there else {}
    own = there.outputs.get("ModelBucket", "") if there else ""
    if there is None:
        own = next((name for name in retained_buckets(aws, "model-bucket") if _is_there(aws, name)), "")
        parameters["ExistingModelBucket"] = own
    buckets = [name for name in parameters.get("ModelBuckets", "").split(",") if name]
    if bucket and bucket != own and bucket not in buckets:
        buckets.append(bucket)
    parameters["ModelBuckets"] = ",".join(buckets)
    return Request(
        SHARED_STACK,
        text,
        with_defaults(read_template(text), parameters),
        {TAG: "shared"},
        names_roles=True,
    )


def device_request(wanted: Wanted, looked: Looked, component_version: str) -> Request:
    """The stack of one device; parameters that nobody named stay as they are.

    Args:
        component_version: of the Greengrass component; empty without Greengrass.
    """
    text = device_template(looked.runtime)
    there = looked.stacks.device
    before = dict(there.parameters) if there is not None and there.state == "settled" else {}
    parameters = {
        **before,
        "CoreName": wanted.core_name,
        "CertIdParam": looked.certificate.certificate_id,
        "ModelS3Uri": looked.model.uri,
        "ModelSha256": looked.model.sha256,
        "IotEndpoint": looked.iot_endpoint,
        "CredentialsEndpoint": looked.credentials_endpoint,
        "Runtime": looked.runtime,
        "Adopt": "true" if wanted.adopt else "false",
        "ComponentVersion": component_version,
    }
    if wanted.source is not None:
        parameters["Source"] = wanted.source
    if wanted.thing_group is not None:
        parameters["ThingGroup"] = wanted.thing_group
    template = read_template(text)
    parameters = with_defaults(template, parameters)
    if before:
        parameters["Revision"] = str(_revision(before, parameters, looked.revision))
    return Request(wanted.stack, text, parameters, {TAG: "device", CORE_TAG: wanted.core_name})


def retained_buckets(aws: Aws, purpose: str) -> tuple[str, ...]:
    """Buckets that the shared stack of this region made, now or earlier: found by the tag that outlives it.

    The tag is that of the template, and a shared stack of another name, which may be in use, has it as well. So the
    name counts too: CloudFormation begins it with the stack's and the resource's.

    Args:
        purpose: ``model-bucket`` or ``artifact-bucket``.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    client = aws.client("resourcegroupstaggingapi")
    with asking("for the buckets of an earlier stack"):
        pages = client.get_paginator("get_resources").paginate(
            TagFilters=[{"Key": BUCKET_TAG, "Values": [purpose]}], ResourceTypeFilters=["s3"]
        )
        arns = [item["ResourceARN"] for page in pages for item in page["ResourceTagMappingList"]]
    names = sorted(arn.rpartition(":")[2] for arn in arns)
    return tuple(name for name in names if name.startswith(f"{SHARED_STACK}-{purpose.replace('-', '')}-"))


def _is_there(aws: Aws, bucket: str) -> bool:
    """The tags of a deleted bucket are told for a while."""
    with asking(f"for the bucket {bucket}", aws.identity):
        try:
            aws.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=aws.account)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchBucket"):
                return False
            raise
    return True


def _revision(before: Mapping[str, str], parameters: Mapping[str, str], sent: int) -> int:
    """One more where what the device runs changes: a device takes only rising revisions from its topic.

    Args:
        sent: the revision that the broker keeps, perhaps of another command.
    """
    known = int(before["Revision"]) if before.get("Revision", "").isdigit() else 1
    if all(before.get(name, parameters[name]) == parameters[name] for name in _NEW_MODEL):
        return known
    return max(known, sent) + 1
