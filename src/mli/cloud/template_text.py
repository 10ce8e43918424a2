"""The CloudFormation templates, as they lie in this package."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Literal

Template = Literal["shared", "device", "device-greengrass", "component", "ec2"]

LARGEST_BODY_BYTES = 51_200
"""A larger template cannot be sent with a request."""
LARGEST_RECIPE_BYTES = 8_196
"""More than that nucleus lite does not read."""

_RECIPE = re.compile(r"^( *)THE RECIPE IS NOT HERE YET: .*$", re.MULTILINE)
_OF_THE_SHELL = re.compile(r"\$\{(?!Artifact(?:Bucket|Key)\})")


def template_text(name: Template) -> str:
    """A template as it was written, comments and all.

    ``component`` has no recipe yet: see ``component_template``.
    """
    return (files("mli.cloud") / "templates" / f"{name}.yaml").read_text(encoding="utf-8")


def device_template(runtime: str) -> str:
    """The template of a device.

    Only that for ``greengrass`` has a resource of Greengrass, which CloudFormation knows in few of the regions of AWS
    IoT Core; it refuses a template that names an unknown one, whatever the conditions.
    """
    return template_text("device-greengrass" if runtime == "greengrass" else "device")


def component_template(recipe_json: str) -> str:
    """``component.yaml`` with its recipe.

    Args:
        recipe_json: the recipe; ``${ArtifactBucket}`` and ``${ArtifactKey}`` in it become what the stack's parameters
            say, and every other ``${…}``, such as a shell's, stays as it is.

    Raises:
        ValueError: it is no JSON object, or larger than a nucleus reads.
    """
    if not isinstance(json.loads(recipe_json), dict):
        raise ValueError("a recipe is a JSON object")
    size = len(recipe_json.encode())
    if size > LARGEST_RECIPE_BYTES:
        raise ValueError(f"the recipe has {size} bytes; a nucleus reads {LARGEST_RECIPE_BYTES}")
    text = _OF_THE_SHELL.sub("${!", recipe_json.strip()).replace("${ArtifactBucket}", "${ArtifactBucketName}")
    found, count = _RECIPE.subn(
        lambda place: "\n".join(place[1] + line if line else "" for line in text.splitlines()),
        template_text("component"),
    )
    assert count == 1
    return found
