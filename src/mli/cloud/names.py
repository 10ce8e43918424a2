"""Names that templates, commands and devices must agree on."""

from __future__ import annotations

import hashlib
import re

SHARED_STACK = "mli-shared"
COMPONENT_STACK = "mli-component"
COMPONENT = "mli.core"
"""The Greengrass V2 component."""
ROLE_ALIAS = "mli-device"
LONGEST_STACK_NAME = 128


def device_stack(core_name: str) -> str:
    """The name of a device's stack: ``mli-<core name>``, in the letters that CloudFormation takes.

    A name that has other letters gets a short digest, so that ``a_b`` and ``a:b`` do not share a stack.
    """
    plain = re.sub(r"[^A-Za-z0-9-]", "-", core_name)
    name = f"mli-{plain}"
    if plain == core_name and len(name) <= LONGEST_STACK_NAME and name not in (SHARED_STACK, COMPONENT_STACK):
        return name
    digest = hashlib.sha256(core_name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_STACK_NAME - 9]}-{digest}"


def adopted_thing(core_name: str) -> str:
    """What the accelerator called the thing whose topic ended in the core's name."""
    return f"{core_name}_Core"
