"""What an import is asked for, and what it tells of itself; both cross the border to the sandboxed child."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the files do not say, or should not decide.

    Attributes:
        name: of the model.
        size: width and height of the input in pixels; found out where not given.
        epoch: of the parameters file; the only one or the highest where not given.
        labels: path of a labels file to take instead of the archive's.
    """

    name: str
    version: str = "1"
    size: tuple[int, int] | None = None
    epoch: int | None = None
    labels: str | None = None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was made of an archive.

    Attributes:
        notes: what was found and decided, and why, one sentence each.
        warnings: what may not be as the user wants it.
        operators: MXNet's operators with how often each was translated.
    """

    symbol: str
    params: str
    mxnet_version: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    operators: tuple[tuple[str, int], ...]
