"""Versions of the Greengrass V2 component that are there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.names import COMPONENT
from mli.cloud.troubles import asking, code_of
from mli.errors import RefusedError

if TYPE_CHECKING:
    from mli.cloud.component_package import ComponentPackage


def was_made_before(aws: Aws, bucket: str, package: ComponentPackage) -> bool:
    """Whether Greengrass has this very version, of an earlier update of the stack: those stay, for devices run them.

    Greengrass refuses to make a version twice, so the stack cannot go back to it. It need not: a version never
    changes.

    Raises:
        RefusedError: that version's artifact lies in another bucket, perhaps one that is gone.
        MliError: AWS did not answer, or a right is missing.
    """
    client = aws.client("greengrassv2")
    arn = aws.arn("greengrass", f"components:{COMPONENT}:versions:{package.version}")
    with asking(f"for the component {package.version}"):
        try:
            state = client.describe_component(arn=arn).get("status", {}).get("componentState")
        except ClientError as error:
            if code_of(error) in ("ResourceNotFoundException", "404"):
                return False
            raise
        if state != "DEPLOYABLE":
            return False
        recipe = client.get_component(arn=arn, recipeOutputFormat="JSON")["recipe"]
    if f"s3://{bucket}/{package.artifact_key}".encode() in recipe:
        return True
    raise RefusedError(
        f"Greengrass has the component {package.version}, with its artifact in another bucket.",
        where=arn,
        expected=f"s3://{bucket}/{package.artifact_key}",
        remedy=f"where no device is to get it from there: aws greengrassv2 delete-component --arn {arn}; "
        "then the same command again",
    )
