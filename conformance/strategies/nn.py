"""Layers of networks."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from conformance.spec import Attribute, GraphSpec, Input, Values
from conformance.strategies.drawing import Draw, Strategy, axis_of, one_input, pairs, shapes, some


def _images(draw: Draw, axes: int, channels: int, smallest: int = 4, largest: int = 9) -> Input:
    return Input((draw(st.integers(1, 3)), channels, *draw(pairs(axes, smallest, largest))))


@st.composite
def convolution(draw: Draw, op: str = "Convolution") -> GraphSpec:
    axes = 2 if op.endswith("_v1") else draw(st.sampled_from([1, 2, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels = groups * draw(st.integers(1, 3))
    attrs: dict[str, Attribute] = {
        "num_filter": groups * draw(st.integers(1, 3)),
        "kernel": draw(pairs(axes, 1, 4)),
        **({"num_group": groups} if groups > 1 else {}),
        **some(
            draw,
            {
                "stride": pairs(axes, 1, 3),
                "pad": pairs(axes, 0, 3),
                "dilate": pairs(axes, 1, 2),
                "no_bias": st.booleans(),
                "cudnn_tune": st.just("off"),
                "workspace": st.just(512),
            },
        ),
    }
    return GraphSpec(op, attrs, (_images(draw, axes, channels),), dynamic_batch=draw(st.booleans()))


@st.composite
def deconvolution(draw: Draw) -> GraphSpec:
    axes = draw(st.sampled_from([1, 2, 2]))
    groups = draw(st.sampled_from([1, 1, 2]))
    stride = draw(pairs(axes, 1, 3))
    size = draw(st.sampled_from(["plain", "adj", "target"]))
    kernel = draw(pairs(axes, 1, 4))
    images = _images(draw, axes, groups * draw(st.integers(1, 3)), 2, 6)
    attrs: dict[str, Attribute] = {
        "num_filter": groups * draw(st.integers(1, 3)),
        "kernel": kernel,
        "stride": stride,
        **({"num_group": groups} if groups > 1 else {}),
        **some(draw, {"no_bias": st.booleans()}),
    }
    if size == "target":
        whole = [step * (n - 1) + k for step, n, k in zip(stride, images.shape[2:], kernel, strict=True)]
        attrs["target_shape"] = tuple(draw(st.integers(max(1, most - 3), most)) for most in whole)
    else:
        pad = st.tuples(*(st.integers(0, (k - 1) // 2) for k in kernel))
        attrs |= some(draw, {"pad": pad, "dilate": pairs(axes, 1, 2)})
    if size == "adj":
        attrs["adj"] = tuple(draw(st.integers(0, step - 1)) for step in stride)
    return GraphSpec("Deconvolution", attrs, (images,), dynamic_batch=draw(st.booleans()))


@st.composite
def fully_connected(draw: Draw) -> GraphSpec:
    attrs = {
        "num_hidden": draw(st.integers(1, 6)),
        **some(draw, {"no_bias": st.booleans(), "flatten": st.booleans()}),
    }
    return GraphSpec("FullyConnected", attrs, (Input(draw(shapes(2, 4))),), dynamic_batch=draw(st.booleans()))


@st.composite
def batch_norm(draw: Draw, op: str = "BatchNorm") -> GraphSpec:
    options: dict[str, st.SearchStrategy[Any]] = {
        "eps": st.sampled_from([1e-3, 1e-5, 2e-5, 0.1]),
        "fix_gamma": st.booleans(),
        "use_global_stats": st.booleans(),
        "momentum": st.just(0.9),
    }
    shape = draw(shapes(4, 4) if op.endswith("_v1") else shapes(2, 4))
    if not op.endswith("_v1"):
        options |= {"axis": axis_of(len(shape)), "cudnn_off": st.booleans()}
    attrs = some(draw, options)
    dynamic = attrs.get("axis", 1) not in (0, -len(shape)) and draw(st.booleans())
    return GraphSpec(op, attrs, (Input(shape),), dynamic_batch=dynamic)


@st.composite
def pooling(draw: Draw, op: str = "Pooling") -> GraphSpec:
    old = op.endswith("_v1")
    axes = 2 if old else draw(st.sampled_from([1, 2, 2, 2, 3]))
    kinds = ["max", "avg", "sum"] if old else ["max", "avg", "sum", "lp"]
    kind = draw(st.sampled_from(kinds))
    attrs: dict[str, Attribute] = {"pool_type": kind}
    kernel = draw(pairs(axes, 1, 4))
    whole = draw(st.sampled_from([False, False, True]))
    if whole:
        attrs["global_pool"] = True
    if not whole or old or draw(st.booleans()):
        attrs["kernel"] = kernel
    options: dict[str, st.SearchStrategy[Any]] = {
        "pooling_convention": st.sampled_from(["valid", "full"] if old else ["valid", "full", "full", "same"]),
        "stride": pairs(axes, 1, 3),
        "pad": st.tuples(*(st.integers(0, size // 2 + 1) for size in kernel)),
    }
    if not old:
        options["count_include_pad"] = st.booleans()
    attrs |= some(draw, options)
    if kind == "lp":
        attrs["p_value"] = draw(st.sampled_from([1, 2, 3]))
    images = _images(draw, axes, draw(st.integers(1, 3)))
    values = draw(st.sampled_from([Values(), Values("uniform", 0.1, 2), Values("uniform", -3, -1)]))
    return GraphSpec(op, attrs, (Input(images.shape, values),), dynamic_batch=draw(st.booleans()))


@st.composite
def activation(draw: Draw) -> GraphSpec:
    kind = draw(st.sampled_from(["relu", "sigmoid", "tanh", "softrelu", "softsign"]))
    values = Values("uniform", *draw(st.sampled_from([(-2, 2), (-6, 30)])))
    inputs = (Input(draw(shapes(1, 4)), values),)
    return GraphSpec("Activation", {"act_type": kind}, inputs, dynamic_batch=draw(st.booleans()))


@st.composite
def leaky_relu(draw: Draw) -> GraphSpec:
    kind = draw(st.sampled_from(["leaky", "elu", "prelu", "selu", "gelu", "rrelu", None]))
    attrs: dict[str, Attribute] = {} if kind is None else {"act_type": kind}
    attrs |= some(draw, {"slope": st.sampled_from([0.1, 0.25, 1.0, 0.01])})
    if kind == "rrelu":
        attrs |= some(draw, {"lower_bound": st.just(0.1), "upper_bound": st.just(0.5)})
    shape = draw(shapes(2, 4))
    inputs = [Input(shape)]
    if kind == "prelu" and draw(st.booleans()):  # one slope for all channels, as Gluon's PReLU has it
        inputs.append(Input((1,), Values("uniform", 0.1, 0.9), learned=True))
    return GraphSpec("LeakyReLU", attrs, tuple(inputs), dynamic_batch=draw(st.booleans()))


@st.composite
def softmax(draw: Draw, op: str) -> GraphSpec:
    shape = draw(shapes(1, 4))
    attrs = some(draw, {"axis": axis_of(len(shape)), "temperature": st.sampled_from([0.5, 1.0, 3.0])})
    return GraphSpec(op, attrs, (Input(shape, Values("uniform", -8, 8)),), dynamic_batch=draw(st.booleans()))


@st.composite
def softmax_output(draw: Draw) -> GraphSpec:
    attrs = some(
        draw,
        {
            "multi_output": st.booleans(),
            "preserve_shape": st.booleans(),
            "grad_scale": st.just(0.5),
            "use_ignore": st.booleans(),
            "ignore_label": st.just(-1),
            "normalization": st.sampled_from(["null", "batch", "valid"]),
        },
    )
    shape = draw(shapes(2, 4))
    inputs = (Input(shape, Values("uniform", -8, 8)),)
    return GraphSpec("SoftmaxOutput", attrs, inputs, dynamic_batch=draw(st.booleans()))


@st.composite
def softmax_activation(draw: Draw) -> GraphSpec:
    attrs = some(draw, {"mode": st.sampled_from(["instance", "channel"])})
    inputs = (Input(draw(shapes(2, 4)), Values("uniform", -8, 8)),)
    return GraphSpec("SoftmaxActivation", attrs, inputs, dynamic_batch=draw(st.booleans()))


@st.composite
def output_of_loss(draw: Draw, op: str) -> GraphSpec:
    attrs = {} if op == "SVMOutput" else some(draw, {"grad_scale": st.just(0.5)})
    return GraphSpec(
        op, attrs, (Input(draw(shapes(2 if op == "SVMOutput" else 1, 4))),), dynamic_batch=draw(st.booleans())
    )


@st.composite
def lrn(draw: Draw) -> GraphSpec:
    attrs = {
        "nsize": draw(st.sampled_from([1, 3, 5])),
        **some(
            draw,
            {
                "alpha": st.sampled_from([1e-4, 0.5]),
                "beta": st.sampled_from([0.75, 0.5]),
                "knorm": st.sampled_from([1, 2]),
            },
        ),
    }
    shape = (draw(st.integers(1, 3)), draw(st.integers(3, 8)), *draw(pairs(2, 1, 5)))
    return GraphSpec("LRN", attrs, (Input(shape),), dynamic_batch=draw(st.booleans()))


@st.composite
def l2_normalization(draw: Draw) -> GraphSpec:
    attrs = some(
        draw,
        {"mode": st.sampled_from(["instance", "channel", "spatial"]), "eps": st.sampled_from([1e-10, 1e-3, 0.5])},
    )
    return GraphSpec("L2Normalization", attrs, (Input(draw(shapes(2, 4))),), dynamic_batch=draw(st.booleans()))


@st.composite
def instance_norm(draw: Draw) -> GraphSpec:
    attrs = some(draw, {"eps": st.sampled_from([1e-3, 1e-5, 0.1])})
    shape = (*draw(pairs(2, 1, 4)), *draw(st.lists(st.integers(2, 6), min_size=1, max_size=2)))
    return GraphSpec("InstanceNorm", attrs, (Input(shape),), dynamic_batch=draw(st.booleans()))


@st.composite
def layer_norm(draw: Draw) -> GraphSpec:
    shape = tuple(size + 1 for size in draw(shapes(2, 4)))
    attrs = some(draw, {"eps": st.sampled_from([1e-5, 1e-3, 0.1]), "axis": axis_of(len(shape))})
    dynamic = attrs.get("axis", -1) not in (0, -len(shape)) and draw(st.booleans())
    return GraphSpec("LayerNorm", attrs, (Input(shape),), dynamic_batch=dynamic)


@st.composite
def group_norm(draw: Draw) -> GraphSpec:
    groups = draw(st.integers(1, 3))
    shape = (draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)), *draw(pairs(2, 2, 5)))
    attrs = {"num_groups": groups, **some(draw, {"eps": st.sampled_from([1e-5, 0.1])})}
    return GraphSpec("GroupNorm", attrs, (Input(shape),), dynamic_batch=draw(st.booleans()))


@st.composite
def up_sampling(draw: Draw) -> GraphSpec:
    scale = draw(st.integers(1, 3))
    batch, channels, high, wide = (draw(st.integers(1, 3)) for _ in range(4))
    attrs: dict[str, Attribute] = {"scale": scale}
    if draw(st.sampled_from([False, False, True])):
        attrs |= {"sample_type": "bilinear", "num_filter": channels}
        return GraphSpec("UpSampling", attrs, (Input((batch, channels, high, wide)),))
    attrs["sample_type"] = "nearest"
    inputs = [Input((batch, channels, high, wide))]
    if draw(st.booleans()):
        grown = draw(st.sampled_from([1, scale]))
        inputs.append(Input((batch, channels, high * grown, wide * grown)))
        attrs |= some(draw, {"multi_input_mode": st.sampled_from(["concat", "sum"])})
    attrs["num_args"] = len(inputs)
    return GraphSpec("UpSampling", attrs, tuple(inputs), dynamic_batch=draw(st.booleans()))


@st.composite
def adaptive_pooling(draw: Draw) -> GraphSpec:
    size = st.one_of(st.integers(1, 6), pairs(2, 1, 6), st.integers(1, 6).map(lambda side: (side,)))
    attrs = some(draw, {"output_size": size})
    inputs = (Input((*draw(pairs(2, 1, 3)), *draw(pairs(2, 1, 8)))),)
    return GraphSpec("_contrib_AdaptiveAvgPooling2D", attrs, inputs, dynamic_batch=draw(st.booleans()))


@st.composite
def bilinear_resize(draw: Draw) -> GraphSpec:
    inputs = [Input((*draw(pairs(2, 1, 3)), *draw(pairs(2, 1, 6))))]
    attrs = some(draw, {"align_corners": st.booleans()})
    kind = draw(st.sampled_from(["size", "scale", "like", "odd_scale", "to_even_down", "to_even_up", "to_odd_up"]))
    if kind == "size":
        attrs |= {"height": draw(st.integers(1, 9)), "width": draw(st.integers(1, 9))}
    elif kind in ("scale", "odd_scale"):
        scales = st.sampled_from([0.5, 1.0, 1.5, 2.0])
        attrs |= {"scale_height": draw(scales), "scale_width": draw(scales)}
    if kind == "like":
        inputs.append(Input((*inputs[0].shape[:2], *draw(pairs(2, 1, 6)))))
    if kind not in ("size", "scale"):
        attrs["mode"] = kind
    return GraphSpec("_contrib_BilinearResize2D", attrs, tuple(inputs), dynamic_batch=draw(st.booleans()))


@st.composite
def dropout(draw: Draw) -> GraphSpec:
    attrs = some(draw, {"p": st.sampled_from([0.1, 0.9]), "mode": st.just("training")})
    return GraphSpec("Dropout", attrs, (Input(draw(shapes(1, 4))),), dynamic_batch=draw(st.booleans()))


STRATEGIES: dict[str, Strategy] = {
    "Convolution": convolution(),
    "Convolution_v1": convolution("Convolution_v1"),
    "Deconvolution": deconvolution(),
    "FullyConnected": fully_connected(),
    "BatchNorm": batch_norm(),
    "BatchNorm_v1": batch_norm("BatchNorm_v1"),
    "Pooling": pooling(),
    "Pooling_v1": pooling("Pooling_v1"),
    "Activation": activation(),
    "LeakyReLU": leaky_relu(),
    "softmax": softmax("softmax"),
    "log_softmax": softmax("log_softmax"),
    "softmin": softmax("softmin"),
    "SoftmaxOutput": softmax_output(),
    "SoftmaxActivation": softmax_activation(),
    "LogisticRegressionOutput": output_of_loss("LogisticRegressionOutput"),
    "LinearRegressionOutput": output_of_loss("LinearRegressionOutput"),
    "MAERegressionOutput": output_of_loss("MAERegressionOutput"),
    "SVMOutput": output_of_loss("SVMOutput"),
    "MakeLoss": output_of_loss("MakeLoss"),
    "BlockGrad": one_input("BlockGrad"),
    "Dropout": dropout(),
    "LRN": lrn(),
    "L2Normalization": l2_normalization(),
    "InstanceNorm": instance_norm(),
    "LayerNorm": layer_norm(),
    "GroupNorm": group_norm(),
    "UpSampling": up_sampling(),
    "_contrib_AdaptiveAvgPooling2D": adaptive_pooling(),
    "_contrib_BilinearResize2D": bilinear_resize(),
}
