"""What a graph of one operator is made of, before MXNet has seen it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

Attribute: TypeAlias = bool | int | float | str | tuple[int | None, ...] | tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Values:
    """How an array is filled.

    Attributes:
        kind: ``uniform`` from low to high · ``integers`` from low to high, both included · ``distinct``: evenly
            spread from low to high in random order, so that no two are equal · ``probabilities``: a softmax over
            axis 1 · ``corners``: boxes (xmin, ymin, xmax, ymax) along the last axis, in 0 to 1, xmin < xmax ·
            ``scored``: rows for box_nms, (class, score, corners, rest …) along the last axis, scores distinct.
    """

    kind: Literal["uniform", "integers", "distinct", "probabilities", "corners", "scored"] = "uniform"
    low: float = -2.0
    high: float = 2.0


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the operator.

    Attributes:
        shape: as MXNet sees it.
        dtype: numpy's name; other than float32 is declared on the variable.
        learned: saved in the params file, rather than fed when the graph runs.
    """

    shape: tuple[int, ...]
    values: Values = Values()
    dtype: str = "float32"
    learned: bool = False


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """A graph of one operator.

    Attributes:
        op: MXNet's name, as in ``mx.sym.<op>``; names that begin with ``_`` and ``_contrib_`` as well.
        attrs: what the operator is called with.
        inputs: in the operator's order. Those not given (weights, statistics, labels) are made by MXNet, with the
            shapes that it infers; labels are not saved.
        parameters: values of those made by MXNet, by the end of the variable's name (``weight``, ``moving_var``).
        spelling: the operator's name in the saved JSON, where it is an older one.
        dynamic_batch: the importer is told no size for the first axis.
    """

    op: str
    attrs: Mapping[str, Attribute] = field(default_factory=dict)
    inputs: tuple[Input, ...] = (Input((2, 3)),)
    parameters: Mapping[str, Values] = field(default_factory=dict)
    spelling: str | None = None
    dynamic_batch: bool = False

    def to_json(self) -> str:
        """One line, the same for the same spec."""
        return json.dumps(asdict(self), sort_keys=True)
