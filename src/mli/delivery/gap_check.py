"""Keeps account of sequences: what came, came twice, was declared dropped, or is missing without a word."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mli.delivery.received import DROPPED_SUFFIX, Drops, Identity, Received, identify, parse_payload

# Bounds against a stream of nonsense; what is beyond them counts as unchecked.
MAX_STREAMS = 1_000
MAX_EPOCHS = 100
MAX_RANGES = 100_000


class Sequences:
    """A set of whole numbers, kept as ranges: as large as its gaps, not as its numbers."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, first: int, last: int) -> None:
        """Add a range, both ends included."""
        left = bisect_left(self._ends, first - 1)
        right = bisect_right(self._starts, last + 1)
        if left < right:
            first, last = min(first, self._starts[left]), max(last, self._ends[right - 1])
        self._starts[left:right] = [first]
        self._ends[left:right] = [last]

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._ends, number)
        return at < len(self._starts) and self._starts[at] <= number

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __len__(self) -> int:
        """The number of ranges, not of numbers."""
        return len(self._starts)

    def gaps(self, first: int, last: int) -> list[tuple[int, int]]:
        """The ranges between two numbers, both included, that are not in the set."""
        found, at = [], first
        for index in range(bisect_left(self._ends, first), bisect_right(self._starts, last)):
            if self._starts[index] > at:
                found.append((at, self._starts[index] - 1))
            at = self._ends[index] + 1
        return [*found, (at, last)] if at <= last else found


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of one stream, or of all.

    Attributes:
        received: different messages that came.
        duplicates: messages that came again, with the same id.
        missing: numbers between the first and the last one seen that neither came nor were declared.
        declared: numbers that did not come, and that announcements explain.
        late: messages that closed a gap after it was seen.
        restarts: new epochs: the publisher's spool was made anew.
        unchecked: messages without id and sequence (compact payload under MQTT 3.1.1).
        gaps: the missing ranges, where one stream is asked for; at most 20.
    """

    received: int = 0
    duplicates: int = 0
    missing: int = 0
    declared: int = 0
    late: int = 0
    restarts: int = 0
    unchecked: int = 0
    gaps: tuple[tuple[int, int], ...] = ()

    def __add__(self, other: Account) -> Account:
        return Account(
            self.received + other.received,
            self.duplicates + other.duplicates,
            self.missing + other.missing,
            self.declared + other.declared,
            self.late + other.late,
            self.restarts + other.restarts,
            self.unchecked + other.unchecked,
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What one message changed, worth a word at once.

    Attributes:
        first, last: the sequences it is about, both included.
        reason: of declared drops.
    """

    kind: Literal["gap", "late", "duplicate", "declared", "restart"]
    topic: str
    pipeline: str
    first: int
    last: int
    reason: str = ""


@dataclass(slots=True)
class _Epoch:
    came: Sequences = field(default_factory=Sequences)
    declared: Sequences = field(default_factory=Sequences)
    # Announcements that were merged over numbers that did come: how many of the range are explained.
    merged: dict[tuple[int, int], int] = field(default_factory=dict)
    received: int = 0
    duplicates: int = 0
    late: int = 0
    first: int | None = None
    last: int = 0

    def message(self, sequence: int) -> tuple[Literal["gap", "late", "duplicate"], int, int] | None:
        """Count it; returns what is remarkable about it, and about which sequences."""
        if sequence in self.came:
            self.duplicates += 1
            return "duplicate", sequence, sequence
        self.received += 1
        self.came.add(sequence, sequence)
        if self.first is None:
            self.first = self.last = sequence
            return None
        before, self.last = self.last, max(self.last, sequence)
        if sequence > before + 1:
            unexplained = self.declared.gaps(before + 1, sequence - 1)
            return ("gap", unexplained[0][0], unexplained[-1][1]) if unexplained else None
        if self.first < sequence < before:
            self.late += 1
            return "late", sequence, sequence
        return None

    def drops(self, drops: Drops) -> None:
        if drops.count > drops.last - drops.first:
            self.declared.add(drops.first, drops.last)
        elif len(self.merged) < MAX_RANGES:
            key = (drops.first, drops.last)
            self.merged[key] = max(drops.count, self.merged.get(key, 0))

    def account(self) -> Account:
        if self.first is None:
            return Account(declared=sum(last - first + 1 for first, last in self.declared))
        absent = self.came.gaps(self.first, self.last)
        gaps = [gap for first, last in absent for gap in self.declared.gaps(first, last)]
        explained = 0
        for (first, last), count in self.merged.items():
            inside = sum(max(0, min(last, to) - max(first, at) + 1) for at, to in gaps)
            explained += min(count, inside)
        missing = _numbers(gaps)
        explained = min(explained, missing)
        return Account(
            self.received,
            self.duplicates,
            missing - explained,
            _numbers(absent) - missing + explained,
            self.late,
            gaps=tuple(gaps[:20]) if missing > explained else (),
        )


class GapCheck:
    """Fed with messages in the order they came, tells what is missing. Pure: no clock, no network.

    A stream is a topic and a pipeline. Checking begins at the first sequence that came, so one may join at any time.
    """

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str], dict[str, _Epoch]] = {}
        self._unchecked = 0

    def feed(self, received: Received) -> Finding | None:
        """Take any message under a prediction topic; a rule's messages and retained ones do not count.

        Returns:
            What is remarkable about it, None where all is as it should be.
        """
        if received.retained:
            return None
        identity = identify(received)
        payload = parse_payload(received.payload)
        if isinstance(payload, Drops) and received.topic.endswith(DROPPED_SUFFIX):
            epoch = received.properties.get("id", "").partition("-")[0]
            return self.drops(received.topic.removesuffix(DROPPED_SUFFIX), payload, epoch or None)
        if identity is None:
            # A rule's message says which rule it is; that is no prediction to miss.
            self._unchecked += getattr(payload, "rule", None) is None
            return None
        return self.message(received.topic, identity)

    def message(self, topic: str, identity: Identity) -> Finding | None:
        """Count one prediction message."""
        if identity.rule:
            return None
        epochs = self._epochs(topic, identity.pipeline)
        if epochs is None or (identity.epoch not in epochs and len(epochs) >= MAX_EPOCHS):
            self._unchecked += 1
            return None
        restarted = identity.epoch not in epochs and any(epoch.first is not None for epoch in epochs.values())
        epoch = epochs.setdefault(identity.epoch, _Epoch())
        if len(epoch.came) >= MAX_RANGES:
            self._unchecked += 1
            return None
        remark = epoch.message(identity.sequence)
        if restarted:
            return Finding("restart", topic, identity.pipeline, identity.sequence, identity.sequence)
        return None if remark is None else Finding(remark[0], topic, identity.pipeline, remark[1], remark[2])

    def drops(self, topic: str, drops: Drops, epoch: str | None = None) -> Finding | None:
        """Take an announcement; without an epoch it is about the newest one."""
        epochs = self._epochs(topic, drops.pipeline)
        if epochs is None:
            return None
        name = epoch or next(reversed(epochs), "")
        if name in epochs or len(epochs) < MAX_EPOCHS:
            epochs.setdefault(name, _Epoch()).drops(drops)
        return Finding("declared", topic, drops.pipeline, drops.first, drops.last, drops.reason)

    def streams(self) -> dict[str, Account]:
        """The account of each stream, named ``<topic> <pipeline>``."""
        found = {}
        for (topic, pipeline), epochs in self._streams.items():
            parts = [epoch.account() for epoch in epochs.values()]
            begun = sum(epoch.first is not None for epoch in epochs.values())
            total = sum(parts, Account(restarts=max(0, begun - 1)))
            gaps = tuple(gap for part in parts for gap in part.gaps)[:20]
            found[f"{topic} {pipeline}"] = Account(
                total.received,
                total.duplicates,
                total.missing,
                total.declared,
                total.late,
                total.restarts,
                gaps=gaps,
            )
        return found

    def total(self) -> Account:
        """The account of all streams together."""
        return sum(self.streams().values(), Account(unchecked=self._unchecked))

    def _epochs(self, topic: str, pipeline: str) -> dict[str, _Epoch] | None:
        key = (topic, pipeline)
        if key not in self._streams and len(self._streams) >= MAX_STREAMS:
            return None
        return self._streams.setdefault(key, {})


def _numbers(ranges: list[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)
