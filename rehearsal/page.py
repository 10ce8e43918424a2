"""The commands of a page in their order, each with the step that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.fixtures.brokers import ROOT

PAGE = ROOT / "docs" / "aws.md"
MIGRATION = ROOT / "docs" / "migrate.md"
EC2 = ROOT / "docs" / "ec2.md"
_HEADING = re.compile(r"^(#{2,3}) (.*)$")
_FENCE = re.compile(r"^```(\w*)$")
_FILE_NAME = re.compile(r"^# ([\w.-]+)$")


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that the page says to do.

    Attributes:
        section, step: its headings; the step is empty where the section has none.
        command: a line of shell, or empty.
        file: the name of a file to write, or empty.
        text: of that file.
    """

    section: str
    step: str
    command: str = ""
    file: str = ""
    text: str = ""


def told_by(page: str) -> Iterator[Told]:
    """Everything to do, from top to bottom; comments are no commands.

    Args:
        page: its Markdown.
    """
    section = step = ""
    lines = iter(page.splitlines())
    for line in lines:
        heading, fence = _HEADING.match(line), _FENCE.match(line)
        if heading:
            section, step = (heading[2], "") if heading[1] == "##" else (section, heading[2])
        elif fence:
            block = _block(lines)
            if fence[1] == "sh":
                joined = "\n".join(block).replace("\\\n", " ").splitlines()
                yield from (Told(section, step, " ".join(one.split())) for one in joined if not one.startswith("#"))
            elif fence[1] == "yaml" and block and (name := _FILE_NAME.match(block[0])):
                yield Told(section, step, file=name[1], text="\n".join(block) + "\n")


def _block(lines: Iterator[str]) -> list[str]:
    found = []
    for line in lines:
        if line == "```":
            break
        found.append(line)
    return found
