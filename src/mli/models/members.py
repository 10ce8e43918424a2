"""What zip and tar readers yield, the limits they keep, and the check of member names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from mli.models.rules import Rule, refusal, shown

MEBIBYTE = 1024 * 1024
CHUNK_BYTES = MEBIBYTE

# Characters that turn or hide the text around them: a name must look like what it is.
_DISGUISES = frozenset("\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


@dataclass(frozen=True, slots=True)
class ExtractLimits:
    """Bounds of one archive.

    Attributes:
        total_bytes: of all extracted files.
        members: files, folders and ignored members together.
        path_bytes, name_bytes: of a whole path and of one part of it, in UTF-8.
        depth: parts of a path.
        ratio, ratio_floor_bytes: extracted bytes may be ``ratio`` times the archive's once they are more than
            the floor. Dense weights deflate to 0.9 of their size and pruned ones to 1/30; deflate's own limit,
            all zeros, is 1/1030. So a model that is 99 % zeros passes at any size, and an untrained,
            all-zero one up to the floor.
        spare_disk_bytes: stay free, so that a big model cannot starve the spool beside it.
    """

    total_bytes: int = 4096 * MEBIBYTE
    members: int = 10_000
    path_bytes: int = 512
    name_bytes: int = 255
    depth: int = 16
    ratio: int = 200
    ratio_floor_bytes: int = 256 * MEBIBYTE
    spare_disk_bytes: int = 64 * MEBIBYTE


DEFAULT_LIMITS = ExtractLimits()


@dataclass(frozen=True, slots=True)
class Entry:
    """One member as a reader found it.

    Attributes:
        name: as written in the archive, unchecked.
        is_directory: a folder has no data.
        size_bytes: as the header claims it; the reader itself refuses data of any other size.
        chunks: the data; must be used up before the next entry is asked for.
    """

    name: str
    is_directory: bool
    size_bytes: int
    chunks: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Member:
    """A file that was extracted.

    Attributes:
        path: relative to the extracted folder, ``/`` between its parts.
        sha256: hexadecimal.
    """

    path: str
    size_bytes: int
    sha256: str


def path_problem(path: str, limits: ExtractLimits) -> tuple[Rule, str] | None:
    """The rule that a relative path breaks, and how; None for a good path."""
    if path == "":
        return Rule.EMPTY_NAME, "an empty name"
    for character in path:
        if unicodedata.category(character) in ("Cc", "Cs") or character in _DISGUISES:
            return Rule.CHARACTERS, f"the character U+{ord(character):04X}"
    if "\\" in path:
        return Rule.CHARACTERS, "a backslash"
    if path.startswith("/"):
        return Rule.ABSOLUTE, "an absolute path"
    if len(path) > 1 and path[1] == ":" and path[0].isalpha():
        return Rule.ABSOLUTE, "a drive letter"
    if len(path.encode()) > limits.path_bytes:
        return Rule.LONG_PATH, f"{len(path.encode())} bytes, limit {limits.path_bytes}"
    parts = path.split("/")
    if len(parts) > limits.depth:
        return Rule.LONG_PATH, f"{len(parts)} levels, limit {limits.depth}"
    for part in parts:
        if part == "":
            return Rule.EMPTY_NAME, "an empty part between two slashes"
        if part in (".", ".."):
            return Rule.PARENT, f"the part '{part}'"
        if len(part.encode()) > limits.name_bytes:
            return Rule.LONG_PATH, f"a part of {len(part.encode())} bytes, limit {limits.name_bytes}"
    return None


def _is_clutter(path: str) -> bool:
    """Finder adds these to the zips it makes; nobody means them."""
    parts = path.split("/")
    return parts[0] == "__MACOSX" or parts[-1] == ".DS_Store" or parts[-1].startswith("._")


class PathRegister:
    """Checks each name of an archive, alone and against those before it."""

    def __init__(self, archive: str, limits: ExtractLimits) -> None:
        self._archive = archive
        self._limits = limits
        self._count = 0
        self._seen: dict[str, tuple[str, bool]] = {}
        self._files: set[str] = set()

    def accept(self, name: str, is_directory: bool) -> str | None:
        """The path to write, or None where there is nothing to write (folders, Finder's clutter).

        Raises:
            ArchiveRefused: the name breaks a rule.
        """
        self._count += 1
        if self._count > self._limits.members:
            raise refusal(self._archive, Rule.MEMBERS, f"more than {self._limits.members} members", name)
        # `tar -C model .` writes "./" before every path; that is no other path.
        path = name.removeprefix("./")
        if is_directory:
            path = path.removesuffix("/")
            if name in (".", "./"):
                return None
        problem = path_problem(path, self._limits)
        if problem is not None:
            raise refusal(self._archive, problem[0], problem[1], name)
        if _is_clutter(path):
            return None
        self._register(path, is_directory)
        return None if is_directory else path

    def _register(self, path: str, is_directory: bool) -> None:
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            prefix = "/".join(parts[:length])
            folder = is_directory or length < len(parts)
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", prefix).casefold())
            known, known_folder = self._seen.setdefault(key, (prefix, folder))
            if known != prefix:
                raise refusal(self._archive, Rule.CASE, f"{shown(known)} is there as well", path)
            if known_folder != folder:
                raise refusal(self._archive, Rule.CONFLICT, f"{shown(prefix)} is both a file and a folder", path)
        if not is_directory:
            if path in self._files:
                raise refusal(self._archive, Rule.DUPLICATE, "a second member of this path", path)
            self._files.add(path)
