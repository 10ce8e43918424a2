"""Names of things: which are there, which are free, and which would get in another's way."""

from __future__ import annotations

from collections.abc import Iterable

from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.near_core import near_thing
from mli.cloud.troubles import MissingRight, asking, code_of
from mli.errors import RefusedError

_MISSING = "ResourceNotFoundException"
_FURTHER = ("-doctor", "-mli", "-mli-doctor")
"""What a device's further connections put behind its name; with these client ids its policy lets it connect."""


def thing_exists(aws: Aws, name: str) -> bool:
    """Whether there is a thing of this name.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    with asking(f"for the thing {name}"):
        try:
            aws.client("iot").describe_thing(thingName=name)
        except ClientError as error:
            if code_of(error) == _MISSING:
                return False
            raise
    return True


def must_be_there(aws: Aws, names: Iterable[str]) -> str | None:
    """Refuse to send something to a thing that nobody has.

    Returns:
        A caution where the right to look is missing; None where all are there.

    Raises:
        RefusedError: one is not there; the nearest device is named.
        MliError: AWS did not answer.
    """
    for name in names:
        try:
            if thing_exists(aws, name):
                continue
        except MissingRight as error:
            return f"nobody looked whether there is a thing {name}: {error.what}"
        raise RefusedError(
            f"There is no thing {name} in {aws.region}; nothing was sent.",
            where=f"account {aws.account}",
            got=name + near_thing(aws, name),
            remedy=f"its right name, or --region REGION; mli stack deploy {name} makes it",
        )
    return None


def must_be_free(aws: Aws, core_name: str) -> None:
    """Refuse a name for a new thing that is taken, or that another's connections have.

    Raises:
        RefusedError: with whose it is.
        MliError: AWS did not answer, or a right is missing.
    """
    if thing_exists(aws, core_name):
        base = core_name.removesuffix("_Core")
        adopt = f"mli stack deploy {base} --adopt takes over what the accelerator made; "
        raise RefusedError(
            f"A thing {core_name} exists that this stack did not make.",
            where=f"account {aws.account}, region {aws.region}",
            remedy=f"{adopt if base != core_name else ''}another CORE_NAME; or, where nothing uses it, "
            f"aws iot delete-thing --thing-name {core_name}",
        )
    pairs = [(core_name.removesuffix(end), core_name) for end in _FURTHER if core_name.removesuffix(end)]
    pairs += [(core_name, core_name + end) for end in _FURTHER]
    for base, further in pairs:
        other = base if further == core_name else further
        if base != further and _may_be_there(aws, other):
            raise RefusedError(
                f"{core_name} and {other} would throw each other off AWS IoT: {base} also connects as {further}.",
                where=f"account {aws.account}, region {aws.region}",
                expected="no thing called like another with -doctor, -mli or -mli-doctor behind it",
                got=f"a thing {other}",
                remedy="another CORE_NAME",
            )


def _may_be_there(aws: Aws, name: str) -> bool:
    """Whether there is a thing; what a person may not even look at is none of the devices that she looks after."""
    try:
        return thing_exists(aws, name)
    except MissingRight:
        return False
