"""Graphs of one operator, run by MXNet. Started by the python of MXNet's venv; knows nothing of mli.

Reads one JSON object a line, ``{"folder": …, "spec": …}``, and answers each with ``{"error": null or text}``. Where
there was none, the folder then has graph-symbol.json, graph-0000.params, inputs.npz and outputs.npz.
"""

import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import mxnet as mx
import numpy as np

from conformance.oracle.arrays import Array, Shape, save_arrays

Spec: TypeAlias = dict[str, Any]

USUAL: dict[str, Spec] = {
    "gamma": {"kind": "uniform", "low": 0.5, "high": 1.5},
    "var": {"kind": "uniform", "low": 0.2, "high": 2.0},
    "": {"kind": "uniform", "low": -1.0, "high": 1.0},
}


def main() -> None:
    # MXNet's own code may print; the answers have the true standard output for themselves.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        spec = asked["spec"]
        try:
            run(
                spec,
                Path(asked["folder"]),
                np.random.RandomState(zlib.crc32(json.dumps(spec, sort_keys=True).encode())),
            )
            error = None
        except Exception as problem:  # noqa: BLE001 - whatever MXNet refuses, the other side counts
            error = f"{type(problem).__name__}: {problem}"
        answers.write(json.dumps({"error": error}) + "\n")


def run(spec: Spec, folder: Path, random: np.random.RandomState) -> None:
    """Build, save, run and keep one graph."""
    symbol, fed, learned = build(spec)
    arg_shapes, _, aux_shapes = symbol.infer_shape(
        **{name: tuple(item["shape"]) for name, item in {**fed, **learned}.items()}
    )
    if arg_shapes is None:
        raise ValueError("MXNet cannot infer every shape")
    given = {**fed, **learned}
    arrays = {}
    for name, shape in zip(symbol.list_arguments(), arg_shapes, strict=True):
        item = given.get(name)
        values = item["values"] if item else values_of(spec["parameters"], name)
        arrays[name] = fill(values, shape, random).astype(item["dtype"] if item else np.float32)
    states = {
        name: fill(values_of(spec["parameters"], name), shape, random).astype(np.float32)
        for name, shape in zip(symbol.list_auxiliary_states(), aux_shapes, strict=True)
    }
    save(folder, symbol, {k: v for k, v in arrays.items() if k not in fed and not k.endswith("label")}, states)
    respell(folder / "graph-symbol.json", spec)
    save_arrays(folder / "inputs.npz", {name: arrays[name] for name in fed})
    outputs = forward(reread(folder / "graph-symbol.json", spec, symbol), arrays, states)
    save_arrays(folder / "outputs.npz", outputs)


def build(spec: Spec) -> tuple[Any, dict[str, Spec], dict[str, Spec]]:
    """The symbol, what is fed and what is learned by name."""
    fed: dict[str, Spec] = {}
    learned: dict[str, Spec] = {}
    variables = []
    for index, item in enumerate(spec["inputs"]):
        name = f"learned{index}" if item["learned"] else f"data{index}"
        (learned if item["learned"] else fed)[name] = item
        declared = {} if item["dtype"] == "float32" else {"dtype": item["dtype"]}
        variables.append(mx.sym.Variable(name, **declared))
    attrs = {key: tuple(value) if isinstance(value, list) else value for key, value in spec["attrs"].items()}
    return operator(spec["op"])(*variables, name="node", **attrs), fed, learned


def operator(name: str) -> Any:
    """The function that makes a node of this operator."""
    if name.startswith("_contrib_"):
        return getattr(mx.sym.contrib, name[len("_contrib_") :])
    if name.startswith("_linalg_"):
        return getattr(mx.sym.linalg, name[len("_linalg_") :])
    return getattr(mx.sym, name, None) or getattr(mx.sym._internal, name)


def values_of(parameters: dict[str, Spec], name: str) -> Spec:
    """How a variable that MXNet made is filled: as the spec says, or as usual."""
    for rules in (parameters, USUAL):
        for end, values in rules.items():
            if name.endswith(end):
                return values
    raise LookupError(name)


def fill(values: Spec, shape: Shape, random: np.random.RandomState) -> Array:
    """An array of values, see Values in conformance/spec.py."""
    kind, low, high = values["kind"], values["low"], values["high"]
    if kind == "integers":
        return random.randint(int(low), int(high) + 1, shape)
    if kind == "distinct":
        size = int(np.prod(shape))
        return random.permutation(np.linspace(low, high, max(size, 1))[:size]).reshape(shape)
    if kind == "probabilities":
        powers = np.exp(random.uniform(low, high, shape))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    if kind == "corners":
        return corners(shape, random)
    if kind == "scored":
        rows = random.uniform(0, 1, shape)
        rows[..., 0] = random.randint(-1, 3, shape[:-1])
        rows[..., 1] = fill({"kind": "distinct", "low": 0.01, "high": 0.99}, shape[:-1], random)
        rows[..., 2:6] = corners((*shape[:-1], 4), random)
        return rows
    return random.uniform(low, high, shape)


def corners(shape: Shape, random: np.random.RandomState) -> Array:
    """Boxes of every size in 0 to 1."""
    start = random.uniform(0, 0.7, (*shape[:-1], 2))
    return np.concatenate([start, start + random.uniform(0.05, 0.3, start.shape)], axis=-1).reshape(shape)


def save(folder: Path, symbol: Any, arguments: dict[str, Array], states: dict[str, Array]) -> None:
    """The two files, as mx.model.save_checkpoint writes them."""
    symbol.save(str(folder / "graph-symbol.json"))
    saved = {f"arg:{name}": mx.nd.array(value, dtype=value.dtype) for name, value in arguments.items()}
    saved.update({f"aux:{name}": mx.nd.array(value, dtype=value.dtype) for name, value in states.items()})
    mx.nd.save(str(folder / "graph-0000.params"), saved)


def respell(path: Path, spec: Spec) -> None:
    """Write the operator's older name into the saved symbol."""
    if spec["spelling"] is None:
        return
    graph = json.loads(path.read_text())
    for node in graph["nodes"]:
        if node["op"] != "null":
            node["op"] = spec["spelling"]
    path.write_text(json.dumps(graph, indent=2))


def reread(path: Path, spec: Spec, symbol: Any) -> Any:
    """The saved symbol, under its other name where MXNet still knows that."""
    if spec["spelling"] is None:
        return symbol
    try:
        return mx.sym.load(str(path))
    except mx.MXNetError:
        return symbol


def forward(symbol: Any, arrays: dict[str, Array], states: dict[str, Array]) -> dict[str, Array]:
    """Outputs by name."""
    executor = symbol.bind(
        mx.cpu(),
        args={name: mx.nd.array(value, dtype=value.dtype) for name, value in arrays.items()},
        aux_states={name: mx.nd.array(value, dtype=value.dtype) for name, value in states.items()},
        grad_req="null",
    )
    outputs = executor.forward(is_train=False)
    return {name: output.asnumpy() for name, output in zip(symbol.list_outputs(), outputs, strict=True)}


if __name__ == "__main__":
    main()
