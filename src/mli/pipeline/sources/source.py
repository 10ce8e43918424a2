"""What a source is: it hands out captures, and each capture becomes an image in a pool thread."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mli.types import Image


class Reading(enum.Enum):
    """What a source answers when it has no capture."""

    NOTHING_YET = "nothing yet"
    END = "end"


@dataclass(frozen=True, slots=True)
class Capture:
    """A frame that is not decoded yet; decoding is the expensive part and runs beside inference.

    Attributes:
        position: where the source goes on after it.
        decode: returns uint8 (height, width, 3), BGR. Raises ImageRefused.
        truth: the label a simulated camera knows to be right.
    """

    image_name: str
    captured_at: float
    position: str
    decode: Callable[[], Image]
    truth: str | None = None


class Source(Protocol):
    """A supplier of captures, used by one thread.

    Attributes:
        finite: it ends; nothing of it may be dropped.
    """

    finite: bool

    def read(self) -> Capture | Reading:
        """The next capture, without waiting for one."""
        ...

    def close(self) -> None:
        """Let go of devices and files."""
        ...
