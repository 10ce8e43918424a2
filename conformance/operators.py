"""Graphs of one operator, drawn at random, run by both."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import NoSuchExample

from conformance.compare import Comparison, compare_graph
from conformance.oracle_process import Oracle
from conformance.spec import GraphSpec
from conformance.strategies import STRATEGIES

_TOLD = 3


@dataclass(frozen=True, slots=True)
class OperatorRecord:
    """How one operator did.

    Attributes:
        counts: examples by the status of their comparison.
        error: largest relative error among those that agree.
        details: some that differ, the simplest first, and each refusal's first line once.
    """

    op: str
    counts: dict[str, int]
    error: float
    details: tuple[str, ...]


def check_operator(oracle: Oracle, op: str, examples: int, seed: int | None = None) -> OperatorRecord:
    """Draw ``examples`` graphs and compare each; the same ones each time for the same seed."""
    compared: list[tuple[GraphSpec, Comparison]] = []

    @hypothesis.seed(seed or 0)
    @_settings(examples)
    @hypothesis.given(STRATEGIES[op])
    def one(spec: GraphSpec) -> None:
        compared.append((spec, compare_graph(oracle.run(spec))))

    one()
    counts = Counter[str](comparison.status for _, comparison in compared)
    error = max((comparison.error for _, comparison in compared if comparison.status == "agreed"), default=0.0)
    return OperatorRecord(op, dict(counts), error, _details(compared))


def simplest_difference(oracle: Oracle, op: str, examples: int) -> str | None:
    """The simplest graph that hypothesis finds to differ, and how."""
    try:
        found = hypothesis.find(
            STRATEGIES[op],
            lambda spec: compare_graph(oracle.run(spec)).status == "differs",
            settings=settings(parent=_settings(examples), phases=(Phase.generate, Phase.shrink)),
        )
    except NoSuchExample:
        return None
    return _told(found, compare_graph(oracle.run(found)))


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


def _details(compared: list[tuple[GraphSpec, Comparison]]) -> tuple[str, ...]:
    differing = sorted(
        (pair for pair in compared if pair[1].status == "differs"), key=lambda pair: len(pair[0].to_json())
    )
    refusals: dict[str, str] = {}
    for spec, comparison in compared:
        if comparison.status == "refused":
            refusals.setdefault(comparison.detail, _told(spec, comparison))
    return tuple([_told(*pair) for pair in differing[:_TOLD]] + list(refusals.values())[:_TOLD])


def _told(spec: GraphSpec, comparison: Comparison) -> str:
    inputs = ", ".join(f"{item.shape}{' learned' if item.learned else ''}" for item in spec.inputs)
    name = (
        spec.op + (f" as {spec.spelling}" if spec.spelling else "") + (", open batch" if spec.dynamic_batch else "")
    )
    return f"{comparison.status}: {name} {dict(spec.attrs)} on {inputs}\n{comparison.detail}"
