"""What became of each part of an old set-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fate = Literal["carried", "changed", "gone", "open"]
"""``carried``: means the same in mli's files. ``changed``: carried over, but not as it was. ``gone``: has no
counterpart, or needs none. ``open``: somebody has to do or decide something before the device is moved."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the set-up, and what became of it.

    Attributes:
        about: the part, for people: ``memory of pinned-mli``.
        was: what it said.
        becomes: what stands in its place; empty where nothing does.
        todo: what somebody has to do; empty where nothing is.
    """

    fate: Fate
    about: str
    was: str
    becomes: str = ""
    todo: str = ""

    def to_json(self) -> dict[str, str]:
        """For ``--json``."""
        return {
            "fate": self.fate,
            "about": self.about,
            "was": self.was,
            "becomes": self.becomes,
            "todo": self.todo,
        }
