"""Which device was meant by a name that none has."""

from __future__ import annotations

import re

from mli.cloud.aws import Aws
from mli.cloud.names import SHARED_STACK, device_stack
from mli.cloud.stack_state import Stack, importers_of_export, look_at_stack
from mli.errors import MliError
from mli.nearest import nearest_of

_DIGEST = re.compile(r"-[0-9a-f]{8}$")
_OF_DEVICES = f"{SHARED_STACK}:RoleAlias"
"""What the stack of every device imports, also one that the AWS CLI made."""


def near_core(aws: Aws, name: str) -> str:
    """``; did you mean 'belt'?`` for the nearest core that has a stack here, or nothing where none is near."""
    stack = _near_stack(aws, name)
    if stack is None:
        return ""
    core = stack.parameters.get("CoreName", "")
    if core == name:
        return f"; the stack of {core} is called {stack.name}"
    called = "" if stack.name == device_stack(core) else f" Its stack is called {stack.name}"
    return f"; did you mean {core!r}?{called}"


def near_thing(aws: Aws, name: str) -> str:
    """The same for the nearest thing of such a core."""
    stack = _near_stack(aws, name)
    thing = None if stack is None else stack.outputs.get("ThingName")
    return f"; did you mean {thing!r}?" if thing and thing != name else ""


def _near_stack(aws: Aws, name: str) -> Stack | None:
    """It is for an error that is told anyway: where AWS cannot be asked for it, the error goes without."""
    try:
        stacks = {_plain(stack): stack for stack in importers_of_export(aws, _OF_DEVICES)}
        found = nearest_of(_plain(device_stack(name)), stacks)
        return None if found is None else look_at_stack(aws, stacks[found])
    except MliError:
        return None


def _plain(stack: str) -> str:
    """What tells devices apart in the names of their stacks: neither how all begin, nor a digest."""
    return _DIGEST.sub("", stack.removeprefix("mli-"))
