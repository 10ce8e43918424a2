"""A table: operator → hypothesis strategy of graphs of it."""

from __future__ import annotations

from conformance.strategies import arithmetic, detection, nn, picking, tensor
from conformance.strategies.drawing import Strategy, spelled
from conformance.strategies.spellings import SPELLINGS

_FAMILIES = (nn, tensor, picking, arithmetic, detection)

STRATEGIES: dict[str, Strategy] = {
    op: spelled(strategy, *SPELLINGS.get(op, ()))
    for family in _FAMILIES
    for op, strategy in family.STRATEGIES.items()
}


def covered() -> frozenset[str]:
    """Every name that graphs are drawn for."""
    return frozenset(STRATEGIES) | {name for op, names in SPELLINGS.items() if op in STRATEGIES for name in names}
