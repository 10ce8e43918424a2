"""What ``aws greengrass get-group-version`` and ``get-*-definition-version`` gave, to a ``Setup``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mli.cloud.migration.definitions import READERS, Part
from mli.cloud.migration.setup import Setup, Unread
from mli.errors import UsageError

_ARN = re.compile(
    r"arn:[^:]+:greengrass:(?P<region>[^:]*):[^:]*:/?greengrass/"
    r"(?:definition/(?P<kind>[a-z]+)s|(?P<group>groups))/(?P<id>[^/]+)(?:/versions/(?P<version>[^/]+))?"
)
_LISTS = {
    "functions": "function",
    "resources": "resource",
    "subscriptions": "subscription",
    "loggers": "logger",
    "connectors": "connector",
    "cores": "core",
    "devices": "device",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the API.

    Attributes:
        kind: ``group``, or one of ``READERS``.
        definition: its ``Definition``; the answer itself for a group without version (``get-group``).
    """

    kind: str
    arn: str
    created: str
    name: str
    definition: Mapping[str, Any]
    file: str
    cut: bool


def answers_in(value: Any, file: str) -> list[Answer]:
    """The answers in a parsed file: one, a list of them, or an object with one at each key; none in any other."""
    if isinstance(value, list):
        return [answer for item in value[:64] for answer in answers_in(item, file)]
    if not isinstance(value, dict):
        return []
    answer = _answer(value, file)
    if answer is not None:
        return [answer]
    inner = [item for item in list(value.values())[:64] if isinstance(item, dict) and _answer(item, file)]
    return [found for item in inner if (found := _answer(item, file)) is not None]


def _answer(value: Mapping[str, Any], file: str) -> Answer | None:
    arn, definition = value.get("Arn"), value.get("Definition")
    match = _ARN.fullmatch(arn) if isinstance(arn, str) else None
    kind = None if match is None else "group" if match["group"] else match["kind"]
    if not isinstance(definition, dict):
        if kind == "group" and "LatestVersionArn" in value:
            definition = {}
        elif any(key.lower() in _LISTS for key in value):
            definition = value  # the bare definition, as it is given to create-*-definition-version
        else:
            return None
    if kind is None:
        kind = next((_LISTS[key.lower()] for key in definition if key.lower() in _LISTS), None)
        if kind is None and any(key.endswith("DefinitionVersionArn") for key in definition):
            kind = "group"
    if kind != "group" and kind not in READERS:
        return None
    return Answer(
        kind,
        arn if isinstance(arn, str) else "",
        str(value.get("CreationTimestamp", "")),
        str(value.get("Name") or ""),
        definition,
        file,
        bool(value.get("NextToken")),
    )


def read_export(answers: list[Answer], setup: Setup) -> None:
    """Read the answers into ``setup``; where the group says which versions are its own, only those.

    Raises:
        UsageError: answers of several groups, or several versions of which none is known to be the group's.
    """
    groups = [answer for answer in answers if answer.kind == "group"]
    named = _named(groups, setup)
    for answer in answers:
        match = _ARN.fullmatch(answer.arn)
        if match is not None and match["region"]:
            setup.region = setup.region or match["region"]
    for kind, reader in READERS.items():
        found = [answer for answer in answers if answer.kind == kind]
        wanted = named.get(kind)
        if wanted is not None and found:
            others = [answer for answer in found if answer.arn and answer.arn != wanted]
            found = [answer for answer in found if answer not in others]
            for answer in others:
                setup.unread.append(Unread(answer.file, f"the group does not use this version: {answer.arn}"))
        if wanted is not None and not found:
            command = f"aws greengrass get-{kind}-definition-version"
            setup.unread.append(Unread(str(setup.source), f"not there: the group's {kind}s, {wanted} ({command})"))
        if len(found) > 1:
            raise UsageError(
                f"several definitions of {kind}s, and nothing says which one is the group's",
                where=", ".join(answer.file for answer in found),
                remedy="add what `aws greengrass get-group-version` gives, or leave only the right one there",
            )
        for answer in found:
            part = Part(answer.definition, f"{answer.file}: Definition", setup)
            reader(part, setup)
            part.drop("arn", "id", "version", "creationtimestamp", "name", "responsemetadata", "nexttoken", "tags")
            part.close()
            if answer.cut:
                setup.unread.append(Unread(answer.file, "NextToken: the answer goes on, and the rest is not here"))


def _named(groups: list[Answer], setup: Setup) -> dict[str, str]:
    """For each kind the ARN of the version that the group uses."""
    ids = {match["id"] for answer in groups if (match := _ARN.fullmatch(answer.arn))}
    versions = [answer for answer in groups if answer.definition]
    if len(ids) > 1 or len(versions) > 1:
        raise UsageError(
            "this is of several groups, or of several versions of one",
            where=", ".join(sorted({answer.file for answer in groups})),
            remedy="keep each group's answers in a folder of their own, with one get-group-version",
        )
    for answer in groups:
        setup.group = answer.name or setup.group
    named = {}
    for answer in versions:
        part = Part(answer.definition, f"{answer.file}: Definition", setup)
        for kind in READERS:
            arn = part.text(f"{kind}definitionversionarn")
            if arn is not None:
                named[kind] = arn
        part.close()
    return named
