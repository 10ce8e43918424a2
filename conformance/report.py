"""What was compared, as the tables of docs/mxnet.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conformance.compare import BOUND
from conformance.marked_page import write_between
from conformance.networks import NetworkRecord
from conformance.operators import OperatorRecord
from conformance.oracle_process import ROOT
from conformance.photos import PhotoRecord

PAGE = ROOT / "docs" / "mxnet.md"
NETWORK_HEAD = [
    "network",
    "parameters, MB",
    "logits' deviation over classes",
    "over images",
    "largest relative error",
    "MXNet against itself in float64",
    "mli against that",
    "same top 5",
    "inner outputs compared",
    "largest relative error in these",
]
PHOTO_HEAD = ["photo", "MXNet: class, confidence", "`mli run`: class, confidence", "relative error", "same top 5"]
OPERATOR_HEAD = [
    "operator",
    "examples agreed",
    "differ",
    "refused by name",
    "refused by MXNet",
    "largest relative error",
]
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"


@dataclass(frozen=True, slots=True)
class Conditions:
    """When, with what and where.

    Attributes:
        versions: each package with its version.
        command: that makes the tables again.
    """

    date: str
    versions: tuple[str, ...]
    cpu: str
    command: str


def tables(
    conditions: Conditions,
    photos: Sequence[PhotoRecord],
    networks: Sequence[NetworkRecord],
    operators: Sequence[OperatorRecord],
    left_out: Iterable[str],
) -> str:
    """Everything compared, as Markdown."""
    parts = [
        f"Compared {conditions.date} by `{conditions.command}` on {conditions.cpu}: "
        f"{', '.join(conditions.versions)}. Agreed means: no output is off by more than {BOUND:.0e} of the largest.",
        *(f"Left out: {why}." for why in left_out),
    ]
    if photos:
        parts += ["### `mli run` on photos, Inception-BN", _table(PHOTO_HEAD, [_photo(record) for record in photos])]
    if networks:
        parts += ["### Networks", _table(NETWORK_HEAD, [_network(record) for record in networks])]
    if operators:
        parts += ["### Operators", _table(OPERATOR_HEAD, [_operator(record) for record in operators])]
    return "\n\n".join(parts)


def write(text: str) -> None:
    """Put the tables between the markers of the page."""
    write_between(PAGE, BEGIN, END, text)


def network_line(record: NetworkRecord) -> str:
    """A network's row, for people who wait."""
    if record.problem is not None:
        return f"{record.name}: FAILED: {record.problem}"
    inner = "" if record.internals is None else f"; {record.internals} inner outputs {record.internals_error:.2g}"
    return f"{record.name}: error {record.error:.2g}, same top 5: {_same(record)}{inner} {record.worst_internal}"


def operator_line(record: OperatorRecord) -> str:
    """An operator's row, for people who wait."""
    told = ", ".join(f"{count} {status}" for status, count in sorted(record.counts.items()))
    return f"{record.op}: {told}; largest error {record.error:.2g}"


def _network(record: NetworkRecord) -> list[str]:
    if record.problem is not None:
        return [record.name, f"**{record.problem.splitlines()[0].replace('|', '/')}**", *[""] * 8]
    inner = ["", ""] if record.internals is None else [str(record.internals), _error(record.internals_error)]
    return [
        record.name,
        f"{record.parameter_mb:.1f}",
        f"{record.spread:.2f}",
        f"{record.image_spread:.2f}",
        _error(record.error),
        *("" if error is None else f"{error:.1e}" for error in (record.own_rounding, record.rounding)),
        _same(record),
        *inner,
    ]


def _photo(record: PhotoRecord) -> list[str]:
    return [
        record.photo,
        f"{record.mxnet_label}, {record.mxnet_confidence:.7f}",
        f"{record.label}, {record.confidence:.7f}",
        _error(record.error),
        _same(record),
    ]


def _same(record: NetworkRecord | PhotoRecord) -> str:
    return "" if record.same_top5 is None else ("yes" if record.same_top5 else "**no**")


def _operator(record: OperatorRecord) -> list[str]:
    agreed, differs, refused, refused_by_mxnet = (
        record.counts.get(status, 0) for status in ("agreed", "differs", "refused", "oracle_refused")
    )
    told = f"**{differs}**" if differs else "0"
    return [f"`{record.op}`", str(agreed), told, str(refused), str(refused_by_mxnet), _error(record.error)]


def _error(error: float) -> str:
    return f"{error:.1e}" if error <= BOUND else f"**{error:.1e}**"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
