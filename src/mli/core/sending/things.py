"""The things that are named on the command line and in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mli.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9:_-]{1,128}")


def things_of(named: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """All things, each once, in the order in which they are named.

    Args:
        file: a name on each line; ``#`` begins a comment.

    Raises:
        UsageError: none is named, or one that cannot be a thing.
    """
    places = [(name, "--thing") for name in named]
    if file is not None:
        places += _of_file(file)
    if not places:
        raise UsageError("no thing is named", remedy="name one: --thing NAME, or many: --things FILE")
    for name, place in places:
        if not _NAME.fullmatch(name):
            raise UsageError(
                "this is no name of a thing",
                where=place,
                expected="1 to 128 of the characters A-Z a-z 0-9 : _ -",
                got=repr(name),
            )
    return tuple(dict.fromkeys(name for name, _ in places))


def _of_file(file: Path) -> list[tuple[str, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError("the list of things cannot be read", where=str(file), got=error.strerror) from error
    except UnicodeDecodeError as error:
        raise UsageError("the list of things is not UTF-8 text", where=str(file)) from error
    names = [(line.partition("#")[0].strip(), f"{file}:{number}") for number, line in enumerate(lines, 1)]
    return [(name, place) for name, place in names if name]
