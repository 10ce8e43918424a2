"""The errors, split by what the caller does about them: retry, refuse or stop.

Each says what was expected, what came, where, and what to do. A message is written for someone who
never saw the code.
"""

from __future__ import annotations


class MliError(Exception):
    """Any failure that mli reports to a person.

    Args:
        what: one sentence, naming the thing that failed.
        where: file, member, line, node or address.
        expected: what would have been right.
        got: what came instead.
        remedy: what the reader can do now.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        details = (
            ("where", self.where),
            ("expected", self.expected),
            ("found", self.got),
            ("to fix", self.remedy),
        )
        return "\n".join([self.what, *(f"  {name + ':':10}{text}" for name, text in details if text)])

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.to_json()))

    def to_json(self) -> dict[str, str | None]:
        """The error's fields, for the socket and for ``--json``."""
        return {
            "what": self.what,
            "where": self.where,
            "expected": self.expected,
            "got": self.got,
            "remedy": self.remedy,
        }


def _rebuild(kind: type[MliError], fields: dict[str, str]) -> MliError:
    what = fields.pop("what")
    return kind(what, **fields)


class RetryError(MliError):
    """The same call may work later: no network, a busy broker, a full disk."""


class RefusedError(MliError):
    """This input is bad and will stay bad: an archive, an image, a model, a message."""


class StopError(MliError):
    """This process cannot go on here: a locked root, a backend that is not installed."""


class ArchiveRefused(RefusedError):
    """A model archive, or one member of it, breaks a rule; nothing of it was kept."""


class ImageRefused(RefusedError):
    """One image cannot be used; the source goes on with the next."""


class ModelRefused(RefusedError):
    """A model that cannot do what its manifest, labels or pipeline promise."""


class UsageError(RefusedError):
    """A wrong command line, or a device or deployment file that is not valid."""

    exit_code = 2
