"""What all strategies draw: shapes, and attributes that are there or left to MXNet's default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from conformance.spec import Attribute, GraphSpec, Input, Values

Draw = Callable[[st.SearchStrategy[Any]], Any]
Strategy = st.SearchStrategy[GraphSpec]
ANY = Values()


def shapes(low: int, high: int, largest: int = 5) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of ``low`` to ``high`` axes."""
    return st.lists(st.integers(1, largest), min_size=low, max_size=high).map(tuple)


def some(draw: Draw, attrs: Mapping[str, st.SearchStrategy[Any]]) -> dict[str, Attribute]:
    """Each attribute drawn, or left out."""
    return {name: draw(strategy) for name, strategy in attrs.items() if draw(st.booleans())}


def pairs(axes: int, low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    """One whole number an axis."""
    return st.tuples(*[st.integers(low, high)] * axes)


def axis_of(rank: int) -> st.SearchStrategy[int]:
    """An axis, from the front or from the back."""
    return st.integers(-rank, rank - 1)


def one_input(op: str, values: Values = ANY, low: int = 1, high: int = 4) -> Strategy:
    """An operator of one input and no attributes."""
    return st.builds(
        lambda shape, dynamic: GraphSpec(op, {}, (Input(shape, values),), dynamic_batch=dynamic),
        shapes(low, high),
        st.booleans(),
    )


def spelled(strategy: Strategy, *spellings: str) -> Strategy:
    """The same graphs, now and then saved under an older name of the operator."""

    def respell(spec: GraphSpec, spelling: str | None) -> GraphSpec:
        return GraphSpec(spec.op, spec.attrs, spec.inputs, spec.parameters, spelling, spec.dynamic_batch)

    return st.builds(respell, strategy, st.sampled_from([None, *spellings]))
