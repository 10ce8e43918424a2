"""Label files: one label a line, in the order of the model's output."""

from __future__ import annotations

from pathlib import Path

from mli.errors import ArchiveRefused
from mli.models.members import MEBIBYTE
from mli.models.rules import shown

LABELS_LIMIT_BYTES = 8 * MEBIBYTE


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a file in UTF-8; a byte order mark, CRLF and empty lines at the end are no part of them.

    The same label may come twice: ImageNet has two "crane" and two "maillot".

    Raises:
        ArchiveRefused: not UTF-8, an empty line between labels, a control character, no label, too large.
    """
    with path.open("rb") as file:
        data = file.read(LABELS_LIMIT_BYTES + 1)
    if len(data) > LABELS_LIMIT_BYTES:
        raise _refused(path, None, f"at most {LABELS_LIMIT_BYTES} bytes", "more")
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise _refused(path, None, "one label a line", "no label")
    return tuple(_label(path, number, line) for number, line in enumerate(lines, start=1))


def _label(path: Path, number: int, line: bytes) -> str:
    try:
        label = line.decode("utf-8").strip(" \t\r")
    except UnicodeDecodeError as error:
        raise _refused(path, number, "text in UTF-8", f"the byte 0x{line[error.start]:02x}") from error
    if not label:
        raise _refused(path, number, "a label", "an empty line, so the labels after it would shift")
    if not all(character.isprintable() or character == "\t" for character in label):
        raise _refused(path, number, "a label without control characters", shown(label))
    return label


def _refused(path: Path, line: int | None, expected: str, found: str) -> ArchiveRefused:
    return ArchiveRefused(
        f"The model's labels file {shown(path.name)} cannot be used.",
        where=path.name if line is None else f"{path.name}, line {line}",
        expected=expected,
        got=found,
        remedy="correct the file and pack the archive again: one label a line, in the order of the model's output",
    )
