"""Small networks in every format there was, with MXNet's outputs. Started by the python of MXNet's venv.

    python -m conformance.oracle.golden FOLDER

Each case is a folder: net-symbol.json, net-0000.params, data.npz (``in:``, ``out:`` and, for the
logits inside, ``inner:`` before the names).
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np

from conformance.oracle.arrays import Array, Shape, save_arrays
from conformance.oracle.old_formats import write_params, write_symbol
from conformance.oracle.symbols import detect, normed, ssd_parts, ssd_training
from conformance.oracle.weights import Symbol, Weights, calibrate, random_weights

SPREAD = 2.0
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int32", "int64")
SMALL_DETECTOR: dict[str, Any] = {"widths": (4, 6, 8, 8, 8), "classes": 3}


def lenet() -> Symbol:
    """Two convolutions, two dense layers."""
    data = mx.sym.Variable("data")
    for index, filters in enumerate((4, 8), 1):
        data = mx.sym.Convolution(data, kernel=(3, 3), num_filter=filters, name=f"conv{index}")
        data = mx.sym.Activation(data, act_type="tanh", name=f"tanh{index}")
        data = mx.sym.Pooling(data, pool_type="max", kernel=(2, 2), stride=(2, 2), name=f"pool{index}")
    data = mx.sym.FullyConnected(mx.sym.Flatten(data, name="flatten"), num_hidden=16, name="fc1")
    data = mx.sym.FullyConnected(mx.sym.Activation(data, act_type="tanh", name="tanh3"), num_hidden=10, name="fc2")
    return mx.sym.SoftmaxOutput(data, name="softmax")


def inception(unpadded: bool = False, **how: str) -> Symbol:
    """Branches joined by Concat; unpadded ones fit only where pooling rounds up. ``how`` is for the last pooling."""
    data = normed(mx.sym.Variable("data"), "1", 6, (3, 3), (1, 1), (1, 1))
    for stage in ("3a", "3b"):
        branches = [
            normed(data, f"{stage}_1x1", 4),
            normed(normed(data, f"{stage}_reduce", 4, fix_gamma=True), f"{stage}_3x3", 6, (3, 3), pad=(1, 1)),
            mx.sym.Pooling(data, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type="avg", name=f"pool_{stage}"),
        ]
        data = mx.sym.Concat(*branches, name=f"concat_{stage}")
    pad = (0, 0) if unpadded else (1, 1)
    branches = [
        normed(data, "3c_3x3", 8, (3, 3), (2, 2), (1, 1)),
        mx.sym.Pooling(data, kernel=(3, 3), stride=(2, 2), pad=pad, pool_type="max", name="pool_3c", **how),
    ]
    data = mx.sym.Concat(*branches, name="concat_3c")
    data = mx.sym.Pooling(data, kernel=(8, 8), stride=(1, 1), pool_type="avg", name="global_pool")
    data = mx.sym.FullyConnected(mx.sym.Flatten(data, name="flatten"), num_hidden=10, name="fc1")
    return mx.sym.SoftmaxOutput(data, name="softmax")


def resnet_v2() -> Symbol:
    """Normalisation before convolution, the data normed with fixed gamma, shortcuts."""
    data = mx.sym.BatchNorm(mx.sym.Variable("data"), fix_gamma=True, eps=2e-5, name="bn_data")
    data = mx.sym.Convolution(data, num_filter=6, kernel=(3, 3), pad=(1, 1), no_bias=True, name="conv0")
    for index, (filters, step) in enumerate(((6, 1), (8, 2)), 1):
        first = mx.sym.BatchNorm(data, fix_gamma=False, eps=2e-5, name=f"unit{index}_bn1")
        first = mx.sym.Activation(first, act_type="relu", name=f"unit{index}_relu1")
        how = {"kernel": (3, 3), "pad": (1, 1), "num_filter": filters, "no_bias": True}
        inner = mx.sym.Convolution(first, stride=(step, step), name=f"unit{index}_conv1", **how)
        inner = mx.sym.BatchNorm(inner, fix_gamma=False, eps=2e-5, name=f"unit{index}_bn2")
        inner = mx.sym.Activation(inner, act_type="relu", name=f"unit{index}_relu2")
        inner = mx.sym.Convolution(inner, name=f"unit{index}_conv2", **how)
        if step > 1:
            data = mx.sym.Convolution(
                first, num_filter=filters, kernel=(1, 1), stride=(step, step), no_bias=True, name=f"unit{index}_sc"
            )
        data = inner + data
    data = mx.sym.Activation(
        mx.sym.BatchNorm(data, fix_gamma=False, eps=2e-5, name="bn1"), act_type="relu", name="relu1"
    )
    data = mx.sym.Pooling(data, global_pool=True, kernel=(7, 7), pool_type="avg", name="pool1")
    data = mx.sym.FullyConnected(mx.sym.Flatten(data), num_hidden=10, name="fc1")
    return mx.sym.SoftmaxOutput(data, name="softmax")


def ssd_deploy() -> Symbol:
    scores, offsets, anchors = ssd_parts(**SMALL_DETECTOR)
    return detect(mx.sym.SoftmaxActivation(scores, mode="channel", name="cls_prob"), offsets, anchors)


def gluon() -> Any:
    """A hybrid block: BatchNorm, PReLU, Dropout, global pooling; exported by Gluon itself."""
    nn = mx.gluon.nn
    net = nn.HybridSequential(prefix="tiny_")
    with net.name_scope():
        net.add(nn.Conv2D(6, 3, padding=1), nn.BatchNorm(), nn.PReLU(), nn.MaxPool2D())
        net.add(nn.Conv2D(8, 3, strides=2, groups=2), nn.BatchNorm(scale=False), nn.LeakyReLU(0.1), nn.Dropout(0.5))
        net.add(nn.GlobalAvgPool2D(), nn.Dense(10))
    return net


def images(shape: Shape, scale: float = 1.0) -> Array:
    """Smooth random images."""
    random = np.random.RandomState(7)
    coarse = random.uniform(-1, 1, (*shape[:2], shape[2] // 4 + 1, shape[3] // 4 + 1))
    fine = coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, : shape[2], : shape[3]] + random.uniform(-0.2, 0.2, shape)
    return (fine * scale).astype(np.float32)


def weighted(symbol: Symbol, data: Array) -> tuple[Weights, Symbol]:
    weights = random_weights(symbol, data.shape, np.random.RandomState(11))
    return weights, calibrate(symbol, weights, data, SPREAD)


def keep(folder: Path, data: Array, outputs: dict[str, Array], inner: dict[str, Array] | None = None) -> None:
    arrays = {"in:data": data, **{f"out:{name}": value for name, value in outputs.items()}}
    arrays.update({f"inner:{name}": value for name, value in (inner or {}).items() if name not in outputs})
    save_arrays(folder / "data.npz", arrays, compressed=True)


def make_folder(root: Path, name: str) -> Path:
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def network(root: Path, name: str, symbol: Symbol, data: Array) -> None:
    """A case in the format of today."""
    folder = make_folder(root, name)
    weights, logits = weighted(symbol, data)
    symbol.save(str(folder / "net-symbol.json"))
    weights.save(folder / "net-0000.params")
    keep(folder, data, weights.run(symbol, data), weights.run(logits, data))


def old(
    root: Path, name: str, symbol: Symbol, data: Array, params: str, version: str, runs: Symbol | None = None
) -> None:
    """A case in old formats; its outputs are those of MXNet 1.9.1 that has read these very files.

    Args:
        runs: the symbol that MXNet runs instead, where it cannot run the file any more.
    """
    folder = make_folder(root, name)
    weights, _ = weighted(symbol if runs is None else runs, data)
    arrays = {f"arg:{key}": value for key, value in weights.arguments.items()}
    arrays.update({f"aux:{key}": value for key, value in weights.states.items()})
    write_params(folder / "net-0000.params", arrays, params)
    write_symbol(folder / "net-symbol.json", symbol, version)
    found = {key: value.asnumpy() for key, value in mx.nd.load(str(folder / "net-0000.params")).items()}
    assert found.keys() == arrays.keys()
    read = Weights(
        {key[4:]: value for key, value in found.items() if key.startswith("arg:")},
        {key[4:]: value for key, value in found.items() if key.startswith("aux:")},
    )
    reread = mx.sym.load(str(folder / "net-symbol.json"))
    assert reread.list_arguments() == symbol.list_arguments()
    assert reread.list_auxiliary_states() == symbol.list_auxiliary_states()
    keep(folder, data, read.run(reread if runs is None else runs, data))


def dtype_case(root: Path, dtype: str) -> None:
    """data * w, where w is kept in ``dtype``."""
    folder = make_folder(root, f"dtype-{dtype}")
    data = images((2, 3, 4, 4))
    values = np.array([-3.25, 0.5, 100.75], np.float32) if "float" in dtype else np.array([3, 0, 117])
    if dtype.startswith("int"):
        values[1] = -5
    values = values.reshape(1, 3, 1, 1)
    if dtype == "bfloat16":
        array = mx.nd.amp_cast(mx.nd.array(values), dtype=BFLOAT16)
        declared, cast = mx.sym.Variable("w", attr={"__dtype__": "12"}), mx.sym.amp_cast
    else:
        array = mx.nd.array(values, dtype=dtype)
        declared, cast = mx.sym.Variable("w", dtype=dtype), mx.sym.Cast
    product = mx.sym.broadcast_mul(mx.sym.Variable("data"), cast(declared, dtype="float32"), name="product")
    product.save(str(folder / "net-symbol.json"), remove_amp_cast=False)
    mx.nd.save(str(folder / "net-0000.params"), {"arg:w": array})
    read = mx.nd.load(str(folder / "net-0000.params"))["arg:w"]
    executor = product.bind(mx.cpu(), args={"data": mx.nd.array(data), "w": read}, grad_req="null")
    keep(folder, data, {"product_output": executor.forward()[0].asnumpy()})


def exported(root: Path, data: Array) -> None:
    folder = make_folder(root, "gluon")
    net = gluon()
    net.initialize(mx.init.Zero())
    net.hybridize()
    net(mx.nd.array(data))
    net.export(str(folder / "net"))
    symbol = mx.sym.load(str(folder / "net-symbol.json"))
    weights, _ = weighted(symbol, data)
    weights.save(folder / "net-0000.params")
    keep(folder, data, weights.run(symbol, data))


def main() -> None:
    root = Path(sys.argv[1])
    grey, colour = images((3, 1, 18, 18)), images((3, 3, 16, 16))
    network(root, "lenet", lenet(), grey)
    with mx.util.np_shape(True):
        network(root, "lenet-v3", lenet(), grey)
    network(root, "inception", inception(), colour)
    network(root, "resnet-v2", resnet_v2(), colour)
    picture = images((2, 3, 32, 32), 80.0)
    network(root, "ssd-deploy", ssd_deploy(), picture)
    network(root, "ssd-training", ssd_training(**SMALL_DETECTOR), picture)
    exported(root, colour)
    for dtype in (*DTYPES, "bfloat16"):
        dtype_case(root, dtype)
    old(root, "lenet-raw-0.8", lenet(), grey, "raw", "0.8")
    old(root, "inception-raw-0.8", inception(), colour, "raw", "0.8")
    old(root, "inception-v1-0.9", inception(), colour, "v1", "0.9")
    old(root, "resnet-v2-v1-0.9", resnet_v2(), colour, "v1", "0.9")
    # A file of a time when pooling always rounded up: it does not say so, and MXNet runs the graph that does.
    told = inception(unpadded=True, pooling_convention="full")
    old(root, "inception-rounds-up-0.8", inception(unpadded=True), colour, "raw", "0.8", runs=told)


if __name__ == "__main__":
    main()
