"""What is supported: MXNet's operators by name, each with the function that translates it."""

from __future__ import annotations

from mli.models.mxnet.call import Table, Translate
from mli.models.mxnet.operators import (
    activations,
    arithmetic,
    constants,
    convolution,
    detection,
    normalization,
    outputs,
    pooling,
    products,
    reductions,
    resizing,
    selection,
    shaping,
)

_FAMILIES: tuple[Table, ...] = (
    convolution.OPERATORS,
    pooling.OPERATORS,
    normalization.OPERATORS,
    activations.OPERATORS,
    outputs.OPERATORS,
    resizing.OPERATORS,
    shaping.OPERATORS,
    constants.OPERATORS,
    selection.OPERATORS,
    arithmetic.OPERATORS,
    products.OPERATORS,
    reductions.OPERATORS,
    detection.OPERATORS,
)

OPERATORS: dict[str, Translate] = {name: translate for family in _FAMILIES for name, translate in family.items()}
