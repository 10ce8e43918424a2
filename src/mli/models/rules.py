"""The rules that a model archive must keep; each refusal names one of them and the member that broke it.

The user's page is docs/archives.md; a test keeps both lists the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from mli.errors import ArchiveRefused

_PACK_AGAIN = "make the archive again with `mli model pack`, zip or tar"


class Rule(Enum):
    """A rule: its code, what it wants, and what to do about an archive that breaks it."""

    KIND = ("kind", "a zip, or a tar packed with gzip (.zip, .tar.gz, .tgz)", _PACK_AGAIN)
    DIGEST = (
        "digest",
        "the sha256 that the deployment names",
        "fetch the archive again; if it was replaced on purpose, name its new sha256",
    )
    CHANGED = ("changed", "an archive that nobody writes to while it is read", "try again when it is complete")
    EMPTY = ("empty", "at least one file in the archive", _PACK_AGAIN)
    TRUNCATED = ("truncated", "an archive that is complete", "download or copy it again")
    DAMAGED = ("damaged", "data that match their checksum", "download or copy it again")
    TRAILING = (
        "trailing",
        "no bytes that belong to no member: a second archive could hide there",
        _PACK_AGAIN,
    )
    OVERLAP = ("overlap", "members that do not share bytes of the archive", _PACK_AGAIN)
    HEADERS = ("headers", "headers that agree with each other and with the data", _PACK_AGAIN)
    ENCRYPTED = ("encrypted", "members without a password", "make the archive without a password")
    COMPRESSION = ("compression", "members that are stored or deflated", _PACK_AGAIN)
    MEMBERS = ("members", "no more members than the limit", "leave out what the model does not need")
    SIZE = ("size", "no more extracted bytes than the limit", "leave out what the model does not need")
    BOMB = (
        "bomb",
        "an archive that does not expand far beyond what model weights do",
        "make the archive with its files stored, not compressed, if they are really that empty",
    )
    EMPTY_NAME = ("empty-name", "a name for every folder and file", "rename the member and pack again")
    CHARACTERS = (
        "characters",
        "names in UTF-8, without control characters and without a backslash",
        "rename the member and pack again",
    )
    ABSOLUTE = ("absolute", "paths relative to the archive", "pack from inside the model's folder")
    PARENT = ("parent", "paths without '.' and '..'", "pack from inside the model's folder")
    LONG_PATH = ("long-path", "paths within the limits of length and depth", "shorten the path")
    SYMLINK = ("symlink", "regular files only, no symbolic link", "pack the file that the link points to")
    HARDLINK = ("hardlink", "regular files only, no hard link", "pack a copy (tar --hard-dereference)")
    SPECIAL = ("special", "regular files only, no device, pipe or socket", "leave the member out")
    SPARSE = ("sparse", "regular files only, no sparse member", "pack without tar's --sparse")
    DUPLICATE = ("duplicate", "each path once", _PACK_AGAIN)
    CASE = (
        "case",
        "paths that differ by more than case or accents' encoding",
        "rename one of the two and pack again",
    )
    CONFLICT = ("conflict", "a path is either a file or a folder", "rename one of the two and pack again")
    EXTRA = ("extra", "no file that the manifest does not list", "pack again with `mli model pack`")
    MISSING = ("missing", "every file that the manifest lists", "pack again with `mli model pack`")
    FILE_DIGEST = (
        "file-digest",
        "files with the size and sha256 that the manifest lists",
        "pack again with `mli model pack`, or fetch the archive again",
    )

    def __init__(self, code: str, wants: str, remedy: str) -> None:
        self.code = code
        self.wants = wants
        self.remedy = remedy


def shown(name: str | bytes) -> str:
    """A hostile name, safe on a terminal and of bounded length."""
    if isinstance(name, bytes):
        name = name.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return f"'{text}'" if len(text) <= 200 else f"'{text[:120]}…{text[-60:]}'"


def listed(paths: Sequence[str]) -> str:
    """Up to ten hostile names, and how many more there are."""
    rest = f" and {len(paths) - 10} more" if len(paths) > 10 else ""
    return ", ".join(shown(path) for path in paths[:10]) + rest


def refusal(archive: str, rule: Rule, found: str, member: str | bytes | None = None) -> ArchiveRefused:
    """The error for ``archive``, saying which member broke which rule and how."""
    subject = f"The model archive {shown(archive)} is refused"
    if member is not None:
        subject += f" because of its member {shown(member)}"
    return ArchiveRefused(
        f"{subject} (rule {rule.code}).",
        where=archive if member is None else f"{archive}, member {shown(member)}",
        expected=rule.wants,
        got=found,
        remedy=rule.remedy,
    )
