"""What came of the rounds of one section, and what went wrong in them."""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from mli.errors import MliError


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


class Broken(Exception):
    """A round failed; the device of this section is not used any more."""


@dataclass(slots=True)
class Account:
    """Of one section.

    Attributes:
        outcomes: how often each outcome came.
        failures: rounds in which something did not hold, with what.
        facts: more that was counted or measured.
    """

    rounds: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def round(self, name: str) -> Iterator[None]:
        """One round; what does not hold in it is written down.

        Raises:
            Broken: something did not hold.
        """
        self.rounds += 1
        with self._noted(name):
            yield

    @contextmanager
    def whole(self, name: str) -> Iterator[None]:
        """What belongs to all rounds: what does not hold is written down, and ends it."""
        with suppress(Broken), self._noted(name):
            yield

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        try:
            yield
        except (AssertionError, MliError, OSError, ValueError, KeyError, LookupError) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.failures.append(
                f"{name}: {type(error).__name__}: {error} ({where.name}, line {where.lineno})"[:4000]
            )
            say(f"FAILED {self.failures[-1]}")
            raise Broken(name) from error

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "rounds": self.rounds,
            "outcomes": dict(self.outcomes),
            "failures": self.failures,
            "facts": self.facts,
        }


def told(counts: dict[str, int]) -> str:
    """``3 healthy, 1 failed``."""
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items(), key=lambda item: -item[1]))
