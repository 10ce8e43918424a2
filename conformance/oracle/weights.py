"""Random weights under which a network's outputs say something: every layer spreads, the logits differ by image."""

import json
from pathlib import Path
from typing import Any, TypeAlias

import mxnet as mx
import numpy as np

from conformance.oracle.arrays import Array, Shape

Symbol: TypeAlias = Any

DETECTOR_LOGITS = "multibox_cls_pred_output"


class Weights:
    """Arrays by name; ``arguments`` and ``states`` (MXNet's auxiliary states), numpy float32."""

    def __init__(self, arguments: dict[str, Array], states: dict[str, Array]) -> None:
        self.arguments = arguments
        self.states = states

    def save(self, path: Path) -> None:
        """As mx.model.save_checkpoint and Gluon's export write them."""
        saved = {f"arg:{name}": mx.nd.array(value) for name, value in self.arguments.items()}
        saved.update({f"aux:{name}": mx.nd.array(value) for name, value in self.states.items()})
        mx.nd.save(str(path), saved)

    def run(self, symbol: Symbol, images: Array, training: bool = False, dtype: str = "float32") -> dict[str, Array]:
        """The outputs by name; labels are zeros. Arrays are copied: BatchNorm writes to its gamma."""
        names = symbol.list_arguments()
        feeds = {"data": images} if "data" in names else {}
        labels = [name for name in names if name.endswith("label")]
        shapes = {name: self.arguments[name].shape for name in names if name in self.arguments}
        shapes.update({name: value.shape for name, value in feeds.items()})
        if "label" in labels:  # of a detector: one object an image
            shapes["label"] = (len(images), 1, 5)
        inferred = dict(zip(names, symbol.infer_shape(**shapes)[0], strict=True))
        arguments = {name: mx.nd.array(self.arguments[name], dtype=dtype) for name in names if name in self.arguments}
        arguments.update({name: mx.nd.array(value, dtype=dtype) for name, value in feeds.items()})
        arguments.update({name: mx.nd.zeros(inferred[name], dtype=dtype) for name in labels})
        states = {name: mx.nd.array(self.states[name], dtype=dtype) for name in symbol.list_auxiliary_states()}
        executor = symbol.bind(mx.cpu(), args=arguments, aux_states=states, grad_req="null")
        outputs = executor.forward(is_train=training)
        return {name: output.asnumpy() for name, output in zip(symbol.list_outputs(), outputs, strict=True)}


def random_weights(symbol: Symbol, shape: Shape, random: np.random.RandomState, shift: float = 0.0) -> Weights:
    """He's spread for weights; each filter's mean is taken out, lest what all images share drown the rest.

    Args:
        shift: mean of what BatchNorm adds. With 0, each layer makes rounding errors about a fifth larger, which are
            then as large as the bound after 50 layers; with 1, as in trained networks, they stay as they are.
    """
    names, states = symbol.list_arguments(), symbol.list_auxiliary_states()
    labels = {"label": (shape[0], 1, 5)} if "label" in names else {}
    arg_shapes, _, aux_shapes = symbol.infer_shape(data=shape, **labels)
    arguments = {
        name: _fill(name, size, random, shift)
        for name, size in zip(names, arg_shapes, strict=True)
        if name != "data" and not name.endswith("label")
    }
    return Weights(
        arguments, {name: _fill(name, size, random, shift) for name, size in zip(states, aux_shapes, strict=True)}
    )


def _fill(name: str, shape: Shape, random: np.random.RandomState, shift: float) -> Array:
    if name.endswith("gamma"):
        return random.uniform(0.6, 1.4, shape).astype(np.float32)
    if name.endswith("beta"):
        return random.normal(shift, 0.2, shape).astype(np.float32)
    if name.endswith("bias"):
        return random.normal(0, 0.2, shape).astype(np.float32)
    if name.endswith("mean"):
        return np.zeros(shape, np.float32)
    if name.endswith("var"):
        return np.ones(shape, np.float32)
    if name == "norm_scale":  # from 0..255 to about 1
        return np.array([0.02, 0.018, 0.016], np.float32).reshape(shape)
    if name.endswith("scale"):  # of normed layers in detectors
        return random.uniform(5, 20, shape).astype(np.float32)
    inputs = int(np.prod(shape[1:]))
    values = random.standard_normal(shape).astype(np.float32)
    if inputs > 9:  # not those of depthwise layers, which would only keep edges
        values -= values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
    values *= np.float32(np.sqrt(2.0 / inputs))
    return values


def calibrate(symbol: Symbol, weights: Weights, images: Array, spread: float) -> Symbol:
    """Set running statistics from the images, then the last layers, so that logits spread over the classes.

    Returns:
        The symbol of the logits.
    """
    graph = json.loads(symbol.tojson())
    nodes, head = graph["nodes"], graph["heads"][0][0]
    _set_statistics(symbol, nodes, weights, images)
    if DETECTOR_LOGITS in symbol.get_internals().list_outputs():
        logits = symbol.get_internals()[DETECTOR_LOGITS]
        layers = [node for node in nodes if node["op"] == "Convolution" and "cls_pred" in node["name"]]
    else:
        layer = _last_layer(nodes, head)
        logits = symbol.get_internals()[f"{layer['name']}_output"] if nodes[head]["op"] == "SoftmaxOutput" else symbol
        layers = [layer]
    names = [nodes[item[0]]["name"] for layer in layers for item in layer["inputs"][1:]]
    values = weights.run(logits, images).popitem()[1]
    for name in names:
        if name.endswith("bias") and values.ndim == 2:  # what all images share says nothing of an image
            weights.arguments[name] -= 0.8 * values.mean(axis=0)
    values = weights.run(logits, images).popitem()[1]
    factor = np.float32(spread / values.std(axis=1).mean())
    for name in names:
        weights.arguments[name] *= factor
    return logits


def _set_statistics(symbol: Symbol, nodes: list[dict[str, Any]], weights: Weights, images: Array) -> None:
    """One pass in which each BatchNorm works with the batch's mean and variance and gives them out."""
    graph = json.loads(symbol.tojson())
    normed = []
    for node in graph["nodes"]:
        attrs = node.get("attrs", {})
        if node["op"] == "BatchNorm" and attrs.get("use_global_stats", "False") not in ("True", "1"):
            node["attrs"] = {**attrs, "output_mean_var": "True"}
            normed.append(node)
        if node["op"] == "Dropout":
            node["attrs"] = {**attrs, "p": "0"}
    if not normed:
        return
    inside = mx.sym.load_json(json.dumps(graph)).get_internals()
    wanted = [inside[f"{node['name']}_{kind}"] for node in normed for kind in ("mean", "var")]
    found = weights.run(mx.sym.Group(wanted), images, training=True)
    for node in normed:
        mean, variance = (nodes[item[0]]["name"] for item in node["inputs"][3:5])
        weights.states[mean] = found[f"{node['name']}_mean"]
        # MXNet gives the inverse of the standard deviation, eps included.
        eps = float(node["attrs"].get("eps", 1e-3))
        weights.states[variance] = np.maximum(found[f"{node['name']}_var"] ** -2.0 - eps, 0)


def _last_layer(nodes: list[dict[str, Any]], head: int) -> dict[str, Any]:
    """The last node with weights on the way to an output, along first inputs."""
    while nodes[head]["op"] not in ("FullyConnected", "Convolution"):
        head = nodes[head]["inputs"][0][0]
    return nodes[head]
