"""All that is wrong with a file as one error: file, line, key and what, a line each."""

from __future__ import annotations

from collections.abc import Iterable

from mli.config.paths import Problems
from mli.config.short_form import Expansion
from mli.config.yaml_places import Location, PlacedYaml
from mli.errors import UsageError

COMMAND_LINE = "command line"
Told = tuple[int, str, str]
"""Line (0 for none), ``file:line: key``, and what is wrong there."""


def refusal(placed: PlacedYaml, expansion: Expansion, problems: Problems) -> UsageError:
    """What is wrong with one file."""
    return refusal_of(placed.name, told(placed, expansion, problems))


def told(placed: PlacedYaml, expansion: Expansion, problems: Problems) -> list[Told]:
    """The problems with their places, as the user wrote them."""
    return [(*place_of(placed, expansion, location), text) for location, text in problems]


def refusal_of(name: str, lines: Iterable[Told]) -> UsageError:
    """The error of several lines, in the order of the file."""
    texts = list(dict.fromkeys(f"  {place}: {text}" for _, place, text in sorted(lines, key=lambda line: line[0])))
    count = "1 error" if len(texts) == 1 else f"{len(texts)} errors"
    return UsageError("\n".join([f"{name}: {count}", *texts]))


def place_of(placed: PlacedYaml, expansion: Expansion, location: Location) -> tuple[int, str]:
    """Line (0 for none) and ``file:line: key`` of a part of the long form, as the user wrote it."""
    original = location
    for length in range(len(location), -1, -1):
        start, rest = location[:length], location[length:]
        if start in expansion.options:
            return 0, ".".join([f"command line: {expansion.options[start]}", *map(str, rest)])
        if start in expansion.origins:
            original = (*expansion.origins[start], *rest)
            break
    if placed.name == COMMAND_LINE and original:
        word = str(original[0])
        return 0, word.upper() if word in ("model", "source") else f"--{word.replace('_', '-')}"
    line = placed.line(original)
    place = f"{placed.name}:{line}" if line else placed.name
    key = ".".join(str(part) for part in original)
    return line or 0, f"{place}: {key}" if key else place
