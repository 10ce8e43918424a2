"""From a symbol and its parameters to an ONNX graph, operator by operator."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mli.errors import ModelRefused
from mli.models.mxnet.attributes import Attributes, OperatorProblem, ShapeProblem
from mli.models.mxnet.building import GraphBuilder, Shape, Tensor, shape_text
from mli.models.mxnet.call import Call
from mli.models.mxnet.operators import OPERATORS
from mli.models.mxnet.operators.outputs import LABEL_INPUTS
from mli.models.mxnet.params import Params
from mli.models.mxnet.symbol import Entry, Node, Symbol
from mli.models.rules import listed, shown

_SHOWN = 20
_OUTPUT_WORDS = {"make_loss": "loss"}
"""Operators whose output MXNet does not call ``output``."""


class ShapesRefused(ModelRefused):
    """The network does not work with this input size or rounding; another one may do."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A translated network.

    Attributes:
        outputs: the chosen outputs, under MXNet's names.
        operators: how often each MXNet operator was translated, by name.
        values: every output of every node.
    """

    graph: GraphBuilder
    outputs: tuple[Tensor, ...]
    operators: tuple[tuple[str, int], ...]
    values: Mapping[Entry, Tensor]

    def save(self, folder: Path) -> Path:
        """Write ``model.onnx`` and ``model.onnx.data`` into an existing folder."""
        return self.graph.save(folder, self.outputs)


def translate(
    symbol: Symbol,
    params: Params,
    inputs: Mapping[str, Shape],
    *,
    heads: Sequence[Entry] | None = None,
    round_up: bool = False,
    all_outputs: bool = False,
) -> Translation:
    """Translate a network.

    Args:
        inputs: shape of each variable that is neither a parameter nor a label; ``BATCH`` stands for an open size.
        heads: the outputs wanted; those of the symbol where not said.
        round_up: pooling layers without a stated convention round up.
        all_outputs: every operator's outputs become outputs.

    Raises:
        ModelRefused: operators are not supported (all are named), parameters are missing, attributes not supported.
        ShapesRefused: shapes do not fit each other.
    """
    wanted = tuple(heads) if heads is not None else symbol.heads
    used = reachable(symbol, wanted)
    check_supported(symbol, used)
    check_parameters(symbol, params, used, inputs)
    return _Translator(symbol, params, inputs, round_up).run(used, wanted, all_outputs)


def reachable(symbol: Symbol, heads: Iterable[Entry]) -> tuple[int, ...]:
    """Places of the nodes that outputs are made of, in order; labels fall away."""
    found: set[int] = set()
    waiting = [entry.node for entry in heads]
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting.extend(entry.node for entry in inputs_of(symbol.nodes[place]))
    return _in_order(symbol, found)


def _in_order(symbol: Symbol, found: set[int]) -> tuple[int, ...]:
    """Variables first: auxiliary states of old files were added behind the operators."""
    return tuple(sorted(found, key=lambda place: (not symbol.nodes[place].is_variable, place)))


def inputs_of(node: Node) -> tuple[Entry, ...]:
    """A node's inputs without the labels."""
    return node.inputs[: LABEL_INPUTS.get(node.op, len(node.inputs))]


def check_supported(symbol: Symbol, used: Iterable[int]) -> None:
    """Refuse operators that nobody translates, all of them at once.

    Raises:
        ModelRefused: naming each node, its operator and its inputs, and everything that is supported.
    """
    nodes = [symbol.nodes[place] for place in used]
    unknown = [node for node in nodes if not node.is_variable and node.op not in OPERATORS]
    if not unknown:
        return
    listed = [f"{node.name} ({node.op}) of {_input_names(symbol, node)}" for node in unknown[:_SHOWN]]
    if len(unknown) > _SHOWN:
        listed.append(f"and {len(unknown) - _SHOWN} more")
    operators = sorted({node.op for node in unknown})
    count = "an operator that is" if len(operators) == 1 else f"{len(operators)} operators that are"
    named = ", ".join(operators[:_SHOWN]) + (" …" if len(operators) > _SHOWN else "")
    raise ModelRefused(
        f"The MXNet network uses {count} not supported: {named}.",
        where=f"{symbol.file_name}: " + "; ".join(listed),
        expected="only these operators: " + ", ".join(sorted(OPERATORS, key=str.lower)),
        got=named,
        remedy="cut the network before these nodes and save it again, or convert it to ONNX where it was trained",
    )


def check_parameters(symbol: Symbol, params: Params, used: Iterable[int], inputs: Mapping[str, Shape]) -> None:
    """Refuse a parameters file that lacks what the network needs.

    Raises:
        ModelRefused: naming what is missing, and what is there instead.
    """
    names = [symbol.nodes[place].name for place in used if symbol.nodes[place].is_variable]
    missing = [name for name in names if name not in params.arrays and name not in inputs]
    if not missing:
        return
    surplus = sorted(params.arrays.keys() - symbol.variables().keys())
    near = difflib.get_close_matches(missing[0], surplus, 1, 0.6)
    raise ModelRefused(
        "The parameters file does not belong to the symbol file.",
        where=params.file_name,
        expected=f"values for {listed(missing)}, which {symbol.file_name} needs",
        got=f"{len(params.arrays)} arrays without them"
        + (f"; {listed(surplus)} belong to no variable" if surplus else "")
        + (f"; the nearest to {shown(missing[0])} is {shown(near[0])}" if near else ""),
        remedy="put the .params file of the same training run beside the symbol file",
    )


class _Translator:
    def __init__(self, symbol: Symbol, params: Params, inputs: Mapping[str, Shape], round_up: bool) -> None:
        self._symbol = symbol
        self._params = params
        self._inputs = inputs
        self._round_up = round_up
        self._graph = GraphBuilder()
        self._values: dict[Entry, Tensor] = {}
        self._numbered: set[int] = set()
        self._variables: dict[str, Tensor] = {}

    def run(self, used: Iterable[int], heads: Sequence[Entry], all_outputs: bool) -> Translation:
        count: Counter[str] = Counter()
        for place in used:
            node = self._symbol.nodes[place]
            if node.is_variable:
                self._values[Entry(place)] = self._variable(node)
            else:
                count[node.op] += 1
                self._operator(place, node)
        wanted = list(heads)
        if all_outputs:
            operators = (entry for entry in self._values if not self._symbol.nodes[entry.node].is_variable)
            wanted += [entry for entry in operators if entry not in wanted]
        outputs = tuple(self._output(entry) for entry in dict.fromkeys(wanted))
        return Translation(self._graph, outputs, tuple(sorted(count.items())), self._values)

    def _variable(self, node: Node) -> Tensor:
        """Variables of one name are one: branches may each have made their own."""
        if node.name not in self._variables:
            self._variables[node.name] = self._made_variable(node)
        return self._variables[node.name]

    def _made_variable(self, node: Node) -> Tensor:
        if node.name in self._inputs:
            return self._graph.input(node.name, self._inputs[node.name])
        array = self._params.arrays[node.name]
        return self._graph.weight(node.name, array.shape, array.dtype.name, array.read)

    def _operator(self, place: int, node: Node) -> None:
        first_node = len(self._graph.nodes)
        inputs = tuple(self._input(node, entry) for entry in inputs_of(node))
        call = Call(node.name, node.op, Attributes(node.attributes), inputs, self._graph, self._round_up)
        try:
            result = OPERATORS[node.op](call)
        except OperatorProblem as problem:
            raise self._refused(node, inputs, problem) from problem
        tensors = result if isinstance(result, tuple) else (result,)
        if isinstance(result, tuple):
            self._numbered.add(place)
        made = {name for added in self._graph.nodes[first_node:] for name in added.outputs}
        names: dict[str, str] = {}
        for index, tensor in enumerate(tensors):
            if tensor.name in made and tensor.name not in names:
                names[tensor.name] = self._graph.unique(self._output_name(Entry(place, index)))
        self._graph.rename(names, first_node)
        for index, tensor in enumerate(tensors):
            renamed = Tensor(names.get(tensor.name, tensor.name), tensor.shape, tensor.dtype, tensor.value)
            self._values[Entry(place, index)] = renamed

    def _input(self, node: Node, entry: Entry) -> Tensor:
        if entry not in self._values:
            source = self._symbol.nodes[entry.node]
            raise ModelRefused(
                f"Node {node.name} ({node.op}) of the MXNet network uses output {entry.output} of {source.name}.",
                where=self._symbol.file_name,
                expected=f"an output that {source.name} ({source.op or 'a variable'}) has when it predicts",
            )
        return self._values[entry]

    def _output(self, entry: Entry) -> Tensor:
        """A head under MXNet's name, also where its operator left its input as it is."""
        node = self._symbol.nodes[entry.node]
        tensor = self._input(node, entry)
        name = self._output_name(entry)
        if tensor.name == name:
            return tensor
        first_node = len(self._graph.nodes)
        (made,) = self._graph.node("Identity", node.name, [tensor], 1, {})
        unique = self._graph.unique(name)
        self._graph.rename({made: unique}, first_node)
        return Tensor(unique, tensor.shape, tensor.dtype)

    def _output_name(self, entry: Entry) -> str:
        """As MXNet's ``list_outputs`` calls it."""
        node = self._symbol.nodes[entry.node]
        word = _OUTPUT_WORDS.get(node.op, "output")
        return f"{node.name}_{word}{entry.output}" if entry.node in self._numbered else f"{node.name}_{word}"

    def _refused(self, node: Node, inputs: Sequence[Tensor], problem: OperatorProblem) -> ModelRefused:
        kind = ShapesRefused if isinstance(problem, ShapeProblem) else ModelRefused
        given = ", ".join(f"{tensor.name} {shape_text(tensor.shape)}" for tensor in inputs)
        return kind(
            f"Node {node.name} ({node.op}) of the MXNet network cannot be translated: {problem}.",
            where=f"{self._symbol.file_name}, node {node.name} of {given or 'nothing'}",
            expected=_safe(problem.expected),
            got=_safe(problem.found),
            remedy="check that symbol and parameters are of one network, and its input size (--size)"
            if kind is ShapesRefused
            else "convert this network to ONNX where it was trained",
        )


def _safe(text: str | None) -> str | None:
    """A text that may hold a part of the file, safe on a terminal."""
    return None if text is None else shown(text)[1:-1]


def _input_names(symbol: Symbol, node: Node) -> str:
    names = [symbol.nodes[entry.node].name for entry in node.inputs[:8]]
    more = f" and {len(node.inputs) - 8} more" if len(node.inputs) > 8 else ""
    return (", ".join(names) or "nothing") + more
