"""One network with weights that matter, saved and run by MXNet. Started by the python of MXNet's venv.

    python -m conformance.oracle.networks NAME FOLDER [--internals] [--symbol FILE]

FOLDER has images.npy, float32 (N, C, H, W), as the network wants them. Written there: NAME-symbol.json,
NAME-0000.params, outputs.npz (every output for all images), logits.npz, facts.json, for classifiers exact.npz (the
output computed in float64), and with --internals
internals.npz (every node's outputs for the first two images).
"""

import argparse
import json
from pathlib import Path

import mxnet as mx
import numpy as np

from conformance.oracle.arrays import save_arrays
from conformance.oracle.symbols import SYMBOLS
from conformance.oracle.weights import Symbol, Weights, calibrate, random_weights

SEED = 3
SHIFT = 1.0
SPREAD = 2.0  # of the logits over the classes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--internals", action="store_true")
    parser.add_argument("--symbol", type=Path, help="a file from before MXNet rounded down when pooling")
    options = parser.parse_args()
    images = np.load(options.folder / "images.npy")
    symbol = read_old(options.symbol) if options.symbol else make_symbol(options.name, options.folder)
    weights = random_weights(symbol, images.shape, np.random.RandomState(SEED), SHIFT)
    logits = calibrate(symbol, weights, images, SPREAD)
    weights.save(options.folder / f"{options.name}-0000.params")
    symbol.save(str(options.folder / f"{options.name}-symbol.json"))
    outputs = weights.run(symbol, images)
    save_arrays(options.folder / "outputs.npz", outputs)
    if len(outputs) == 1 and next(iter(outputs.values())).ndim == 2:  # a classifier
        save_arrays(options.folder / "exact.npz", weights.run(symbol, images, dtype="float64"))
    np.savez(options.folder / "logits.npz", logits=weights.run(logits, images).popitem()[1])
    if options.internals:
        inside = symbol.get_internals()
        wanted = [name for name in inside.list_outputs() if is_computed(name, weights)]
        found = weights.run(mx.sym.Group([inside[name] for name in wanted]), images[:2])
        save_arrays(options.folder / "internals.npz", found)
    facts = {
        "mxnet": mx.__version__,
        "numpy": np.__version__,
        "parameter_mb": (options.folder / f"{options.name}-0000.params").stat().st_size / 1e6,
        "logits": logits.list_outputs()[0],
    }
    (options.folder / "facts.json").write_text(json.dumps(facts))


def is_computed(name: str, weights: Weights) -> bool:
    """Whether an internal output is a node's, not a variable's."""
    return (
        name not in weights.arguments and name not in weights.states and name != "data" and not name.endswith("label")
    )


def read_old(path: Path) -> Symbol:
    """A symbol whose pooling rounds up, which its file does not say."""
    graph = json.loads(path.read_text())
    for node in graph["nodes"]:
        if node["op"] == "Pooling":
            node["param"]["pooling_convention"] = "full"
    return mx.sym.load_json(json.dumps(graph))


def make_symbol(name: str, folder: Path) -> Symbol:
    """The network's graph: one of ours, or what Gluon's model zoo exports."""
    if name in SYMBOLS:
        return SYMBOLS[name]()
    mx.random.seed(SEED)
    net = mx.gluon.model_zoo.vision.get_model(name, classes=1000)
    net.initialize()
    net.hybridize()
    size = np.load(folder / "images.npy", mmap_mode="r").shape
    net(mx.nd.zeros((1, *size[1:])))
    net.export(str(folder / name))
    return mx.sym.load(str(folder / f"{name}-symbol.json"))


if __name__ == "__main__":
    main()
