"""Networks written with mx.sym, as users of the Module interface wrote them."""

from typing import Any, TypeAlias

import mxnet as mx

Symbol: TypeAlias = Any
Pair: TypeAlias = tuple[int, int]
Mixed: TypeAlias = tuple[int | None, int, int, int, int, str, int | None]

CLASSES = 1000
# Mixed layers of Inception-BN: filters of 1x1 | 3x3 reduced, 3x3 | double 3x3 reduced, double 3x3 |
# kind of pooling, projection.
# A layer without its first number halves the image.
MIXED: dict[str, Mixed] = {
    "3a": (64, 64, 64, 64, 96, "avg", 32),
    "3b": (64, 64, 96, 64, 96, "avg", 64),
    "3c": (None, 128, 160, 64, 96, "max", None),
    "4a": (224, 64, 96, 96, 128, "avg", 128),
    "4b": (192, 96, 128, 96, 128, "avg", 128),
    "4c": (160, 128, 160, 128, 160, "avg", 128),
    "4d": (96, 128, 192, 160, 192, "avg", 128),
    "4e": (None, 128, 192, 192, 256, "max", None),
    "5a": (352, 192, 320, 160, 224, "avg", 128),
    "5b": (352, 192, 320, 192, 224, "max", 128),
}


def normed(
    data: Symbol,
    name: str,
    filters: int,
    kernel: Pair = (1, 1),
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    fix_gamma: bool = False,
) -> Symbol:
    """Convolution, normalisation, relu."""
    data = mx.sym.Convolution(data, num_filter=filters, kernel=kernel, stride=stride, pad=pad, name=f"conv_{name}")
    said = {} if fix_gamma else {"fix_gamma": False}  # True is the default, which files leave out
    data = mx.sym.BatchNorm(data, eps=1e-5 + 1e-10, momentum=0.9, name=f"bn_{name}", **said)
    return mx.sym.Activation(data, act_type="relu", name=f"relu_{name}")


def mixed(data: Symbol, name: str, filters: Mixed) -> Symbol:
    """Branches side by side, joined by their channels."""
    one, reduce3, three, reduce_double, double, kind, projection = filters
    stride = (2, 2) if one is None else (1, 1)
    branches = []
    if one is not None:
        branches.append(normed(data, f"{name}_1x1", one))
    branch = normed(data, f"{name}_3x3_reduce", reduce3, fix_gamma=True)
    branches.append(normed(branch, f"{name}_3x3", three, (3, 3), stride, (1, 1)))
    branch = normed(data, f"{name}_double_3x3_reduce", reduce_double)
    branch = normed(branch, f"{name}_double_3x3_0", double, (3, 3), (1, 1), (1, 1), fix_gamma=True)
    branches.append(normed(branch, f"{name}_double_3x3_1", double, (3, 3), stride, (1, 1)))
    pool = mx.sym.Pooling(
        data, kernel=(3, 3), stride=stride, pad=(1, 1), pool_type=kind, name=f"{kind}_pool_{name}_pool"
    )
    branches.append(pool if projection is None else normed(pool, f"{name}_proj", projection))
    return mx.sym.Concat(*branches, name=f"ch_concat_{name}_chconcat")


def inception_bn() -> Symbol:
    """Inception-BN for 224 x 224."""
    data = mx.sym.Variable("data")
    data = normed(data, "1", 64, (7, 7), (2, 2), (3, 3))
    data = mx.sym.Pooling(data, kernel=(3, 3), stride=(2, 2), pool_type="max", name="pool_1")
    data = normed(data, "2_red", 64, fix_gamma=True)
    data = normed(data, "2", 192, (3, 3), (1, 1), (1, 1))
    data = mx.sym.Pooling(data, kernel=(3, 3), stride=(2, 2), pool_type="max", name="pool_2")
    for name, filters in MIXED.items():
        data = mixed(data, name, filters)
    data = mx.sym.Pooling(data, kernel=(7, 7), stride=(1, 1), pool_type="avg", name="global_pool")
    data = mx.sym.FullyConnected(mx.sym.Flatten(data, name="flatten"), num_hidden=CLASSES, name="fc1")
    return mx.sym.SoftmaxOutput(data, name="softmax")


def lenet() -> Symbol:
    """LeNet for 1 x 28 x 28."""
    data = mx.sym.Variable("data")
    for index, filters in enumerate((20, 50), 1):
        data = mx.sym.Convolution(data, kernel=(5, 5), num_filter=filters, name=f"conv{index}")
        data = mx.sym.Activation(data, act_type="tanh", name=f"tanh{index}")
        data = mx.sym.Pooling(data, pool_type="max", kernel=(2, 2), stride=(2, 2), name=f"pool{index}")
    data = mx.sym.FullyConnected(mx.sym.Flatten(data, name="flatten"), num_hidden=500, name="fc1")
    data = mx.sym.FullyConnected(mx.sym.Activation(data, act_type="tanh", name="tanh3"), num_hidden=10, name="fc2")
    return mx.sym.SoftmaxOutput(data, name="softmax")


def ssd_parts(widths: tuple[int, ...] = (16, 32, 64, 96, 128), classes: int = 20) -> tuple[Symbol, Symbol, Symbol]:
    """Class scores (N, classes + 1, anchors), box offsets (N, 4 * anchors) and anchors of a small detector."""
    data = mx.sym.Variable("data")
    data = mx.sym.broadcast_mul(data, mx.sym.Variable("norm_scale", shape=(1, 3, 1, 1)), name="scaled")
    scales = []
    for index, width in enumerate(widths, 1):
        for part in (1, 2):
            data = mx.sym.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=width, name=f"conv{index}_{part}")
            data = mx.sym.Activation(data, act_type="relu", name=f"relu{index}_{part}")
        if index >= 3:
            scales.append(data)
        data = mx.sym.Pooling(
            data, pool_type="max", kernel=(2, 2), stride=(2, 2), pooling_convention="full", name=f"pool{index}"
        )
    # The first is of the largest numbers: normed over channels, with a learned scale, as SSD does it.
    scale = mx.sym.Variable("relu3_scale", shape=(1, widths[2], 1, 1))
    normal = mx.sym.L2Normalization(scales[0], mode="channel", name="relu3_norm")
    scales[0] = mx.sym.broadcast_mul(scale, normal, name="relu3_scaled")
    sizes = ((0.1, 0.141), (0.3, 0.4), (0.6, 0.75))
    scores: list[Symbol] = []
    offsets: list[Symbol] = []
    anchors: list[Symbol] = []
    for index, layer in enumerate(scales):
        ratios = (1, 2, 0.5) if index == 0 else (1, 2, 0.5, 3, 1.0 / 3)
        count = len(sizes[index]) + len(ratios) - 1
        for kind, filters, found in (("loc", 4 * count, offsets), ("cls", count * (classes + 1), scores)):
            prediction = mx.sym.Convolution(
                layer, kernel=(3, 3), pad=(1, 1), num_filter=filters, name=f"scale{index}_{kind}_pred_conv"
            )
            found.append(mx.sym.Flatten(mx.sym.transpose(prediction, axes=(0, 2, 3, 1))))
        boxes = mx.sym.contrib.MultiBoxPrior(
            layer, sizes=sizes[index], ratios=ratios, clip=False, name=f"scale{index}_anchors"
        )
        anchors.append(mx.sym.Flatten(boxes))
    offsets = mx.sym.Concat(*offsets, dim=1, name="multibox_loc_pred")
    scores = mx.sym.Reshape(mx.sym.Concat(*scores, dim=1), shape=(0, -1, classes + 1))
    scores = mx.sym.transpose(scores, axes=(0, 2, 1), name="multibox_cls_pred")
    anchors = mx.sym.Reshape(mx.sym.Concat(*anchors, dim=1), shape=(0, -1, 4), name="multibox_anchors")
    return scores, offsets, anchors


def ssd_deploy() -> Symbol:
    """The detector as it is deployed."""
    scores, offsets, anchors = ssd_parts()
    probabilities = mx.sym.SoftmaxActivation(scores, mode="channel", name="cls_prob")
    return detect(probabilities, offsets, anchors)


def detect(probabilities: Symbol, offsets: Symbol, anchors: Symbol) -> Symbol:
    """The layer that makes rows of (class, score, corners) and drops those that overlap."""
    return mx.sym.contrib.MultiBoxDetection(
        probabilities,
        offsets,
        anchors,
        name="detection",
        nms_threshold=0.45,
        force_suppress=False,
        variances=(0.1, 0.1, 0.2, 0.2),
        nms_topk=400,
    )


def ssd_training(**how: Any) -> Symbol:
    """The detector as it is trained and as SageMaker saves it: four outputs, of which one is the detections."""
    scores, offsets, anchors = ssd_parts(**how)
    target = mx.sym.contrib.MultiBoxTarget(
        anchors,
        mx.sym.Variable("label"),
        scores,
        overlap_threshold=0.5,
        ignore_label=-1,
        negative_mining_ratio=3,
        minimum_negative_samples=0,
        negative_mining_thresh=0.5,
        variances=(0.1, 0.1, 0.2, 0.2),
        name="multibox_target",
    )
    probabilities = mx.sym.SoftmaxOutput(
        scores,
        target[2],
        ignore_label=-1,
        use_ignore=True,
        grad_scale=1.0,
        multi_output=True,
        normalization="valid",
        name="cls_prob",
    )
    difference = mx.sym.smooth_l1(target[1] * (offsets - target[0]), scalar=1.0, name="loc_loss_")
    loss = mx.sym.MakeLoss(difference, grad_scale=1.0, normalization="valid", name="loc_loss")
    labels = mx.sym.MakeLoss(target[2], grad_scale=0, name="cls_label")
    found = mx.sym.MakeLoss(detect(probabilities, offsets, anchors), grad_scale=0, name="det_out")
    return mx.sym.Group([probabilities, loss, labels, found])


SYMBOLS = {"inception-bn": inception_bn, "lenet": lenet, "ssd-deploy": ssd_deploy, "ssd-training": ssd_training}
