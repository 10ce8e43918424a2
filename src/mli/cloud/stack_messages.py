"""What AWS IoT Core keeps for a device: the retained messages on its topics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml
from botocore.exceptions import ClientError

from mli.cloud.aws import Aws
from mli.cloud.troubles import asking, code_of

_MISSING = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True)
class Kept:
    """A retained message.

    Attributes:
        at: when it was published.
    """

    payload: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class LastWord:
    """The retained status of a device.

    Attributes:
        state: ``online`` or ``offline``; empty where the document says none.
        told_at: when it said so.
        document: all that it said.
    """

    state: str
    told_at: datetime
    document: dict[str, Any]


def topics_of(thing: str) -> tuple[str, ...]:
    """Topics on which the broker keeps something for or of a thing."""
    return (f"mli/deployments/{thing}", f"mli/status/{thing}", f"mli/status/{thing}/deployment")


def kept_message(aws: Aws, topic: str) -> Kept | None:
    """The retained message of a topic; None for none.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    with asking(f"for the message on {topic}"):
        try:
            told = aws.client("iot-data").get_retained_message(topic=topic)
        except ClientError as error:
            if code_of(error) == _MISSING:
                return None
            raise
    return Kept(told["payload"], datetime.fromtimestamp(told["lastModifiedTime"] / 1000, UTC))


def last_word(aws: Aws, thing: str) -> LastWord | None:
    """What the device said last on ``mli/status/<thing>``; None for nothing, or nothing that can be read.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    kept = kept_message(aws, f"mli/status/{thing}")
    if kept is None:
        return None
    try:
        document = json.loads(kept.payload)
    except (ValueError, RecursionError):
        return None
    return LastWord(str(document.get("state", "")), kept.at, document) if isinstance(document, dict) else None


def revision_wanted(aws: Aws, thing: str) -> int:
    """Revision of the deployment that the broker keeps for the thing; 0 where it keeps none, or it says none.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    kept = kept_message(aws, f"mli/deployments/{thing}")
    if kept is None:
        return 0
    try:
        document = yaml.safe_load(kept.payload)  # a deployment file is YAML or JSON; what is signed is JSON
    except (yaml.YAMLError, ValueError, RecursionError):
        return 0
    found = document.get("revision") if isinstance(document, dict) else None
    return found if isinstance(found, int) and found > 0 else 0


def clear_message(aws: Aws, topic: str) -> None:
    """Take the retained message of a topic away.

    Raises:
        MliError: AWS did not answer, or a right is missing.
    """
    with asking(f"to clear the message on {topic}"):
        aws.client("iot-data").publish(topic=topic, qos=1, retain=True, payload=b"")
