"""What a network's outputs mean: which of its heads predict, and whether they are probabilities or boxes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mli.errors import ModelRefused
from mli.models.mxnet.bounds import PASSING, RESHAPING, bounds_of
from mli.models.mxnet.building import Shape, Tensor, is_open, shape_text
from mli.models.mxnet.inputs import PARAMETER
from mli.models.mxnet.params import Params
from mli.models.mxnet.symbol import Entry, Symbol
from mli.models.mxnet.translate import Translation, inputs_of, reachable
from mli.models.rules import listed
from mli.types import OutputKind, Task

_LABEL = re.compile(r".*label\d*")
_DETECTION = ("_contrib_MultiBoxDetection", "MultiBoxDetection")
_ROUNDING = 1e-6
_MOST_HEADS = 100
_AS_THEY_ARE = ("LinearRegressionOutput", "MAERegressionOutput")


@dataclass(frozen=True, slots=True)
class Meaning:
    """The heads that make predictions, and how.

    Attributes:
        heads: one of a classifier; one of a detector, or three (ids, scores, boxes).
        count: classes, where the network tells.
        note: what was decided, for people.
    """

    task: Task
    kind: OutputKind
    heads: tuple[Entry, ...]
    count: int | None
    note: str


def predicting_heads(symbol: Symbol, params: Params) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The heads that need no label, and the names of the others, which only training has.

    Raises:
        ModelRefused: every head needs a label.
    """
    if len(symbol.heads) > _MOST_HEADS:
        raise ModelRefused(
            "The MXNet network has too many outputs.",
            where=symbol.file_name,
            expected=f"at most {_MOST_HEADS}",
            got=str(len(symbol.heads)),
            remedy="save the network with its prediction as the only output",
        )
    free = {head: _free(symbol, params, head) for head in symbol.heads}
    common = frozenset.intersection(*free.values())
    kept = tuple(
        head
        for head, names in free.items()
        if not any(_LABEL.fullmatch(name) for name in names) and (names <= common or not common)
    )
    if not kept:
        raise ModelRefused(
            "Every output of the MXNet network needs the labels of the training data.",
            where=symbol.file_name,
            expected="an output that predicts",
            got=listed([symbol.nodes[head.node].name for head in symbol.heads]),
            remedy="save the network without its loss, as it is used for prediction",
        )
    return kept, tuple(symbol.nodes[head.node].name for head in symbol.heads if head not in kept)


def _free(symbol: Symbol, params: Params, head: Entry) -> frozenset[str]:
    """The variables without values that an output is made of: the image, and labels whatever their names."""
    nodes = [symbol.nodes[place] for place in reachable(symbol, (head,))]
    free = (node.name for node in nodes if node.is_variable and node.name not in params.arrays)
    return frozenset(name for name in free if not PARAMETER.fullmatch(name))


def find_meaning(symbol: Symbol, translation: Translation, heads: Sequence[Entry], labels: int | None) -> Meaning:
    """What the heads of a translated network mean.

    Args:
        labels: how many labels there are, where that is known: it tells which of several heads classifies.

    Raises:
        ModelRefused: none of them is a classifier's or a detector's.
    """
    shapes = {head: translation.values[head].shape for head in heads}
    for head in heads:
        end = _end(symbol, head)
        if symbol.nodes[end.node].op in _DETECTION:
            classes = translation.values[inputs_of(symbol.nodes[end.node])[0]].shape[1] - 1
            return Meaning("detection", "detections", (head,), classes, f"a detector of {classes} classes")
    if _is_triple(list(shapes.values())):
        return Meaning("detection", "detections", tuple(heads), None, "a detector: ids, scores and boxes")
    if len(heads) == 1 and len(shapes[heads[0]]) == 3 and shapes[heads[0]][2] == 6:
        return Meaning("detection", "detections", tuple(heads), None, "a detector: rows of class, score and box")
    return _classifier(symbol, translation, heads, labels)


def _is_triple(shapes: list[Shape]) -> bool:
    """Whether three outputs are ids (batch, n, 1), scores (batch, n, 1) and boxes (batch, n, 4)."""
    if len(shapes) != 3 or not all(len(shape) == 3 and is_open(shape[0]) for shape in shapes):
        return False
    return [shape[2] for shape in shapes] == [1, 1, 4] and len({shape[1] for shape in shapes}) == 1


def _classifier(symbol: Symbol, translation: Translation, heads: Sequence[Entry], labels: int | None) -> Meaning:
    flat = [head for head in heads if _is_flat(translation.values[head], labels)]
    fitting = [head for head in flat if labels is None or _width(translation.values[head]) == labels] or flat
    ends = [head for head in fitting if _is_probability(symbol, head)] or fitting
    if not ends:
        raise ModelRefused(
            "The outputs of the MXNet network are neither a classifier's nor a detector's.",
            where=symbol.file_name,
            expected="(batch, labels), or the rows of MultiBoxDetection (batch, boxes, 6)",
            got=", ".join(
                f"{symbol.nodes[head.node].name} {shape_text(translation.values[head].shape)}" for head in heads
            ),
            remedy="convert it to ONNX and pack it with `mli model pack --output NAME=KIND`",
        )
    head = ends[0]
    count = _width(translation.values[head])
    op = symbol.nodes[_end(symbol, head).node].op
    if _is_probability(symbol, head):
        return Meaning("classification", "probabilities", (head,), count, f"{count} probabilities")
    if op in _AS_THEY_ARE:
        return Meaning("classification", "probabilities", (head,), count, f"{count} values, published as they are")
    note = f"{count} values before softmax (the network ends with {op}); softmax is applied to them"
    return Meaning("classification", "logits", (head,), count, note)


def _is_probability(symbol: Symbol, head: Entry) -> bool:
    """Whether the operators in front of an output leave nothing but numbers from 0 to 1."""
    low, high = bounds_of(symbol)[head.node]
    return low >= 0 and high <= 1 + _ROUNDING


def _end(symbol: Symbol, head: Entry) -> Entry:
    """The operator that gives an output its meaning, behind those that only pass it on."""
    entry = head
    while symbol.nodes[entry.node].op in PASSING + RESHAPING and inputs_of(symbol.nodes[entry.node]):
        entry = inputs_of(symbol.nodes[entry.node])[0]
    return entry


def _is_flat(tensor: Tensor, labels: int | None) -> bool:
    """Whether it is a row of values for one image, and no map of them."""
    width = _width(tensor)
    return width is not None and (width == labels or sum(size > 1 for size in tensor.shape[1:]) <= 1)


def _width(tensor: Tensor) -> int | None:
    """Values for one image; None where the first size is not the batch's."""
    if not tensor.shape or not is_open(tensor.shape[0]):
        return None
    count = math.prod(tensor.shape[1:])
    return None if is_open(count) or count == 0 else count
