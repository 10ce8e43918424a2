"""How much memory a child process may take, and who holds it to that.

The watchdog on resident memory (in ``worker_process.py``) is always there: it measures what ``limits.memory`` means,
and can say so. It looks a few times a second, and a model can take gigabytes between two looks: where this device
lets us, a control group of the kernel holds the child as well, a little above its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

MEBIBYTE = 1024 * 1024
SPARE_BYTES = 32 * MEBIBYTE
SPARE_SHARE = 8
"""One part in so many."""

ControlKind = Literal["cgroup v2", "cgroup v1", "watchdog"]


def hard_bound(memory_bytes: int) -> int:
    """Where the kernel stops a child that may have ``memory_bytes`` resident.

    Above it, because a group is also charged for what is not resident: page tables, sockets, the files that it reads.
    Those can be taken back, but a group that is always full of them is slow.
    """
    return memory_bytes + max(SPARE_BYTES, memory_bytes // SPARE_SHARE)


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The kernel ended a child for want of memory.

    Attributes:
        used_bytes: what its group was charged with at most; 0 where the kernel does not tell.
        bound_bytes: of its group.
        own_fault: it came to its own bound; otherwise the device, or the group of the core, had no memory left.
    """

    used_bytes: int
    bound_bytes: int
    own_fault: bool


class MemoryGroup(Protocol):
    """Holds one child."""

    @property
    def join_file(self) -> Path | None:
        """A process that writes ``0`` here belongs to it; None where there is nothing to join."""
        ...

    def out_of_memory(self) -> OutOfMemory | None:
        """Whether the kernel ended the child, or a part of it, for want of memory."""
        ...

    def remove(self) -> None:
        """The child is gone."""
        ...


class MemoryControl(Protocol):
    """What this device has to hold children; made once by the core."""

    @property
    def kind(self) -> ControlKind:
        """For the status."""
        ...

    def group(self, name: str, memory_bytes: int) -> MemoryGroup:
        """For one child.

        Args:
            name: of the pipeline, for people who look at the system.
            memory_bytes: what the child may have resident.
        """
        ...

    def close(self) -> None:
        """No child is left."""
        ...


class WatchdogOnly:
    """Where no control group can be had.

    Args:
        why: for the log.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    @property
    def kind(self) -> ControlKind:
        """For the status."""
        return "watchdog"

    def group(self, name: str, memory_bytes: int) -> MemoryGroup:  # noqa: ARG002 - as all have it
        """Nothing to hold it."""
        return _NoGroup()

    def close(self) -> None:
        """Nothing to do."""


class _NoGroup:
    @property
    def join_file(self) -> Path | None:
        return None

    def out_of_memory(self) -> OutOfMemory | None:
        return None

    def remove(self) -> None:
        pass
