"""From the files of an MXNet archive to a native model: what is found out, what is refused, and how it is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_files import Net, SymbolStyle, params_bytes

from mli.errors import ArchiveRefused, ModelRefused, RefusedError
from mli.models.contents import describe
from mli.models.mxnet.import_request import ImportOptions, ImportReport
from mli.models.mxnet.importer import import_model
from mli.types import ModelSpec

CLASSES = 4
Arrays = Mapping[str, NDArray[Any]]


def weights(**shapes: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(1)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def classifier(
    side: int = 28, channels: int = 1, end: str = "SoftmaxOutput", style: SymbolStyle = "attrs"
) -> tuple[bytes, Arrays]:
    """convolution 3 x 3, pooling 2 x 2, fully connected: it fits one size of input only."""
    net = Net()
    data = net.variable("data")
    conv = net.op("Convolution", "conv", data, net.variable("conv_weight"), net.variable("conv_bias"),
                  kernel="(3, 3)", num_filter=2)  # fmt: skip
    pool = net.op("Pooling", "pool", conv, kernel="(2, 2)", stride="(2, 2)", pool_type="max")
    flat = net.op("Flatten", "flat", pool)
    head = net.op(
        "FullyConnected", "fc", flat, net.variable("fc_weight"), net.variable("fc_bias"), num_hidden=CLASSES
    )
    if end == "SoftmaxOutput":
        head = net.op(end, "softmax", head, net.variable("softmax_label"))
    elif end:
        head = net.op(end, "end", head)
    inner = 2 * ((side - 2) // 2) ** 2
    arrays = weights(conv_weight=(2, channels, 3, 3), conv_bias=(2,), fc_weight=(CLASSES, inner), fc_bias=(CLASSES,))
    return net.json(head, style=style), arrays


def dense(net: Net, data: int) -> int:
    """fc, a fully connected layer of all classes."""
    return net.op(
        "FullyConnected", "fc", data, net.variable("fc_weight"), net.variable("fc_bias"), num_hidden=CLASSES
    )


def conv3(net: Net, data: int, name: str, weight: str = "conv_weight") -> int:
    """A convolution 3 x 3 without a bias."""
    options = {"kernel": "(3, 3)", "num_filter": CLASSES, "no_bias": True}
    return net.op("Convolution", name, data, net.variable(weight), **options)


class Archive:
    """An extracted archive and what becomes of it."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "files"
        self.out = folder / "out"
        self.files.mkdir()
        self.out.mkdir()

    def write(self, symbol: bytes, arrays: Arrays, *, name: str = "net", labels: int | None = CLASSES) -> Archive:
        (self.files / f"{name}-symbol.json").write_bytes(symbol)
        (self.files / f"{name}-0000.params").write_bytes(params_bytes(arrays))
        if labels is not None:
            (self.files / "synset.txt").write_text("".join(f"label {number}\n" for number in range(labels)))
        return self

    def beside(self, name: str, value: Any) -> None:
        (self.files / name).write_text(json.dumps(value))

    def imported(self, **options: Any) -> tuple[ModelSpec, ImportReport]:
        report = import_model(self.files, self.out, ImportOptions("net", **options))
        return describe(self.out, "0" * 64, "net"), report

    def refused(self, **options: Any) -> RefusedError:
        with pytest.raises((ModelRefused, ArchiveRefused)) as caught:
            self.imported(**options)
        return caught.value

    def run(self, batch: NDArray[Any]) -> NDArray[Any]:
        session = onnxruntime.InferenceSession(str(self.out / "model.onnx"), providers=["CPUExecutionProvider"])
        (result,) = session.run(None, {session.get_inputs()[0].name: batch})
        return np.asarray(result)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def test_a_native_model_comes_out(archive: Archive) -> None:
    spec, report = archive.write(*classifier()).imported()
    assert (spec.format, spec.task, len(spec.labels)) == ("onnx", "classification", CLASSES)
    assert spec.input is not None
    assert (spec.input.name, spec.input.width, spec.input.height, spec.input.color) == ("data", 28, 28, "gray")
    assert (spec.input.resize, spec.input.interpolation, set(spec.input.mean)) == ("stretch", "bilinear", {0.0})
    assert [(output.name, output.kind) for output in spec.outputs] == [("softmax_output", "probabilities")]
    assert dict(report.operators) == {
        "Convolution": 1, "Flatten": 1, "FullyConnected": 1, "Pooling": 1, "SoftmaxOutput": 1
    }  # fmt: skip


def test_the_onnx_passes_the_checker_keeps_names_and_takes_any_batch(archive: Archive) -> None:
    archive.write(*classifier()).imported()
    path = str(archive.out / "model.onnx")
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert {"conv", "pool", "fc", "softmax"} <= {node.name for node in model.graph.node}
    assert {"conv_weight", "fc_bias"} <= {tensor.name for tensor in model.graph.initializer}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    batch = np.random.default_rng(0).uniform(0, 255, (3, 1, 28, 28)).astype(np.float32)
    together = archive.run(batch)
    assert together.shape == (3, CLASSES)
    for index in range(3):
        assert np.allclose(archive.run(batch[index : index + 1])[0], together[index], atol=1e-6)


def test_the_same_files_give_the_same_bytes(archive: Archive, tmp_path: Path) -> None:
    archive.write(*classifier()).imported()
    (tmp_path / "again").mkdir()
    again = Archive(tmp_path / "again")
    again.write(*classifier()).imported()
    for name in ("model.onnx", "model.onnx.data", "manifest.json"):
        assert (archive.out / name).read_bytes() == (again.out / name).read_bytes()


# --- the input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [28, 32, 48, 224])
def test_the_size_is_the_one_that_fits(archive: Archive, side: int) -> None:
    spec, report = archive.write(*classifier(side)).imported()
    assert spec.input is not None
    # Pooling rounds down, so that the next odd size fits as well; the usual one is taken.
    assert (spec.input.width, spec.input.height) == (side, side)
    assert any(f"{side} x {side} gray" in note and "fit" in note for note in report.notes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model-shapes.json", [{"shape": [1, 3, 40, 40], "name": "data"}]),
        ("signature.json", {"inputs": [{"data_name": "data", "data_shape": [0, 3, 40, 40]}]}),
        ("hyperparams.json", {"image_shape": "3,40,40", "num_classes": "4"}),
        ("hyperparams.json", {"image_shape": "40"}),
    ],
    ids=["SageMaker", "model server", "hyperparameters", "one side"],
)  # fmt: skip
def test_a_file_beside_the_symbol_says_the_size(archive: Archive, name: str, value: Any) -> None:
    archive.write(*classifier(40, 3)).beside(name, value)
    spec, report = archive.imported()
    assert spec.input is not None
    assert (spec.input.width, spec.input.height, spec.input.color) == (40, 40, "RGB")
    assert any(name in note for note in report.notes)


def test_a_size_that_does_not_fit_names_the_parameter(archive: Archive) -> None:
    error = archive.write(*classifier(28)).refused(size=(60, 60))
    assert "fc" in error.what
    assert error.expected == "(4, 1682)"
    assert error.got == "(4, 338)"
    assert "--size" in (error.remedy or "")


def test_a_damaged_file_beside_the_symbol_is_named(archive: Archive) -> None:
    archive.write(*classifier())
    (archive.files / "model-shapes.json").write_text('[{"shape": [1, 3')
    assert archive.refused().where == "model-shapes.json"


def test_two_free_variables_are_refused(archive: Archive) -> None:
    net = Net()
    total = net.op("elemwise_add", "sum", net.variable("left"), net.variable("right"))
    error = archive.write(net.json(total), {"w": np.zeros(1, np.float32)}).refused()
    assert "left" in (error.got or "")
    assert "right" in (error.got or "")


def test_a_size_that_is_a_guess_is_a_warning(archive: Archive) -> None:
    net = Net()
    data = net.variable("data")
    for place in range(5):
        data = net.op("Pooling", f"pool{place}", data, kernel="(2, 2)", stride="(2, 2)", pool_type="avg")
    full = net.op(
        "FullyConnected", "fc", data, net.variable("fc_weight"), net.variable("fc_bias"), num_hidden=CLASSES
    )
    arrays = weights(fc_weight=(CLASSES, 3 * 3 * 3), fc_bias=(CLASSES,))
    spec, report = archive.write(net.json(net.op("softmax", "out", full)), arrays).imported()
    assert spec.input is not None
    assert spec.input.width == 96
    assert "100, 112 would fit as well" in report.warnings[0]
    assert "--size" in report.warnings[0]


# --- the channels --------------------------------------------------------------------------------------------------


def flattened(inputs: int) -> tuple[bytes, Arrays]:
    net = Net()
    full = net.op("FullyConnected", "fc", net.op("Flatten", "flat", net.variable("data")), net.variable("fc_weight"),
                  net.variable("fc_bias"), num_hidden=CLASSES)  # fmt: skip
    return net.json(net.op("softmax", "out", full)), weights(fc_weight=(CLASSES, inputs), fc_bias=(CLASSES,))


@pytest.mark.parametrize(("inputs", "color", "side"), [(784, "gray", 28), (3 * 32 * 32, "RGB", 32)])
def test_a_network_of_flattened_pixels(archive: Archive, inputs: int, color: str, side: int) -> None:
    spec, _ = archive.write(*flattened(inputs)).imported()
    assert spec.input is not None
    assert (spec.input.color, spec.input.width, spec.input.height) == (color, side, side)


def test_channels_that_a_file_says_go_before_a_guess(archive: Archive) -> None:
    archive.write(*flattened(32 * 48)).beside("model-shapes.json", [{"shape": [1, 1, 32, 48], "name": "data"}])
    spec, _ = archive.imported()
    assert spec.input is not None
    assert (spec.input.color, spec.input.width, spec.input.height) == ("gray", 48, 32)


def test_a_layer_behind_a_change_of_channels_says_nothing_of_the_image(archive: Archive) -> None:
    """The network makes its image gray itself."""
    net = Net()
    gray = net.op("mean", "gray", net.variable("data"), axis="1", keepdims="True")
    conv = net.op(
        "Convolution", "conv", gray, net.variable("conv_weight"), kernel="(3, 3)", num_filter=CLASSES, no_bias=True
    )
    head = net.op(
        "softmax", "out", net.op("Pooling", "pool", conv, global_pool=True, kernel="(1, 1)", pool_type="avg"), axis=1
    )
    spec, _ = archive.write(net.json(head), weights(conv_weight=(CLASSES, 1, 3, 3))).imported()
    assert spec.input is not None
    assert spec.input.color == "RGB"


def test_an_image_that_was_saved_with_the_parameters_is_still_the_image(archive: Archive) -> None:
    """Executors' arrays have the last batch among them."""
    symbol, arrays = classifier()
    spec, _ = archive.write(symbol, {**arrays, "data": np.zeros((8, 1, 28, 28), np.float32)}).imported()
    assert spec.input is not None
    assert spec.input.name == "data"


def test_variables_of_one_name_are_one(archive: Archive) -> None:
    net = Net()
    heads = [
        net.op(
            "Convolution",
            name,
            net.variable("data"),
            net.variable("weight"),
            kernel="(3, 3)",
            num_filter=CLASSES,
            no_bias=True,
        )
        for name in ("one", "two")
    ]
    both = net.op("elemwise_add", "both", *heads)
    pooled = net.op("Pooling", "pool", both, global_pool=True, kernel="(1, 1)", pool_type="avg")
    archive.write(net.json(net.op("softmax", "out", pooled, axis=1)), weights(weight=(CLASSES, 3, 3, 3))).imported()
    assert archive.run(np.ones((1, 3, 224, 224), np.float32)).size == CLASSES


# --- pooling before its convention -----------------------------------------------------------------------------


def branches(style: SymbolStyle, layers: int = 0) -> tuple[bytes, Arrays]:
    """A convolution and a pooling layer whose outputs are as large as each other only if pooling rounds up.

    Args:
        layers: so many more in front of them, which change nothing.
    """
    net = Net()
    data = net.variable("data")
    for place in range(layers):
        data = net.op("relu", f"relu{place}", data)
    conv = net.op("Convolution", "conv", data, net.variable("conv_weight"), net.variable("conv_bias"),
                  kernel="(3, 3)", stride="(2, 2)", pad="(1, 1)", num_filter=2)  # fmt: skip
    pool = net.op("Pooling", "pool", data, kernel="(3, 3)", stride="(2, 2)", pool_type="max")
    joined = net.op("Concat", "joined", conv, pool, num_args=2)
    flat = net.op(
        "Flatten", "flat", net.op("Pooling", "all", joined, kernel="(1, 1)", global_pool=True, pool_type="avg")
    )
    full = net.op(
        "FullyConnected", "fc", flat, net.variable("fc_weight"), net.variable("fc_bias"), num_hidden=CLASSES
    )
    head = net.op("SoftmaxOutput", "softmax", full, net.variable("softmax_label"))
    arrays = weights(conv_weight=(2, 3, 3, 3), conv_bias=(2,), fc_weight=(CLASSES, 5), fc_bias=(CLASSES,))
    return net.json(head, style=style), arrays


@pytest.mark.parametrize(("style", "layers"), [("param", 0), ("attrs", 0), ("param", 1500), ("attrs", 1500)])
def test_pooling_rounds_up_where_only_that_fits(archive: Archive, style: SymbolStyle, layers: int) -> None:
    """Also in a file that a later MXNet saved again, and in a network so large that not every size is tried."""
    _, report = archive.write(*branches(style, layers)).imported()
    (note,) = [note for note in report.notes if "pooling" in note]
    assert note.startswith("pooling rounds up")
    assert "joined" in note


def test_pooling_rounds_down_where_that_fits(archive: Archive) -> None:
    _, report = archive.write(*classifier(style="param")).imported()
    (note,) = [note for note in report.notes if "pooling" in note]
    assert note.startswith("pooling rounds down")


# --- outputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "kind", "total"),
    [
        ("SoftmaxOutput", "probabilities", True),
        ("softmax", "probabilities", True),
        ("SoftmaxActivation", "probabilities", True),
        ("log_softmax", "logits", False),
        ("", "logits", False),
        ("LinearRegressionOutput", "probabilities", False),
        ("sigmoid", "probabilities", False),
    ],
)
def test_what_the_output_means(archive: Archive, end: str, kind: str, total: bool) -> None:
    spec, _ = archive.write(*classifier(end=end)).imported()
    assert [output.kind for output in spec.outputs] == [kind]
    values = archive.run(np.full((1, 1, 28, 28), 0.01, np.float32))
    assert bool(abs(values.sum() - 1) < 1e-5) == total


def test_a_label_may_have_any_name(archive: Archive) -> None:
    net = Net()
    data = net.variable("data")
    full = net.op(
        "FullyConnected", "fc", data, net.variable("fc_weight"), net.variable("fc_bias"), num_hidden=CLASSES
    )
    predicted = net.op("softmax", "predicted", full)
    loss = net.op("MakeLoss", "loss", net.op("elemwise_sub", "off", predicted, net.variable("y")))
    arrays = weights(fc_weight=(CLASSES, 16 * 16), fc_bias=(CLASSES,))
    spec, _ = archive.write(net.json(predicted, loss), arrays).imported(size=(16, 16))
    assert [output.name for output in spec.outputs] == ["predicted_output"]


def test_outputs_that_need_labels_fall_away(archive: Archive) -> None:
    net = Net()
    data, label = net.variable("data"), net.variable("label")
    scores = net.op(
        "FullyConnected", "fc", data, net.variable("fc_weight"), net.variable("fc_bias"), num_hidden=CLASSES
    )
    predicted = net.op("softmax", "predicted", scores)
    loss = net.op("MakeLoss", "loss", net.op("_contrib_SomethingForTraining", "train", scores, label))
    symbol = net.json(loss, predicted)
    arrays = weights(fc_weight=(CLASSES, 3 * 16 * 16), fc_bias=(CLASSES,))
    spec, report = archive.write(symbol, arrays).imported(size=(16, 16))
    assert [output.name for output in spec.outputs] == ["predicted_output"]
    assert any("loss" in note for note in report.notes)


def test_of_several_heads_the_one_with_as_many_values_as_labels_is_taken(archive: Archive) -> None:
    net = Net()
    data = net.variable("data")
    flat = net.op(
        "Flatten", "flat", net.op("Pooling", "pool", data, global_pool=True, pool_type="avg", kernel="(1,1)")
    )
    full = net.op(
        "FullyConnected", "fc", flat, net.variable("fc_weight"), net.variable("fc_bias"), num_hidden=CLASSES
    )
    head = net.op("softmax", "predicted", full)
    spec, _ = archive.write(net.json(flat, head), weights(fc_weight=(CLASSES, 3), fc_bias=(CLASSES,))).imported()
    assert [output.name for output in spec.outputs] == ["predicted_output"]


@pytest.mark.parametrize(
    ("gamma", "attributes", "warned"),
    [(0.5, {}, True), (1.0, {}, False), (0.5, {"fix_gamma": False}, False), (0.5, {"fix_gamma": True}, False)],
)
def test_a_learnt_gamma_that_is_ignored_is_told(
    archive: Archive, gamma: float, attributes: dict[str, bool], warned: bool
) -> None:
    net = Net()
    inputs = [net.variable(name) for name in ("data", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var")]
    pool = net.op(
        "Pooling", "pool", net.op("BatchNorm", "bn", *inputs, **attributes), global_pool=True, kernel="(1,1)"
    )
    states = {name: np.ones(3, np.float32) for name in ("bn_beta", "bn_moving_mean", "bn_moving_var")}
    arrays = {"bn_gamma": np.full(3, gamma, np.float32), **states}
    _, report = archive.write(net.json(net.op("softmax", "out", pool, axis=1)), arrays, labels=3).imported()
    assert bool(report.warnings) == warned
    assert not warned or "fix_gamma" in report.warnings[0]


def test_weights_that_are_no_numbers_are_told(archive: Archive) -> None:
    symbol, arrays = classifier()
    broken = {**arrays, "conv_bias": np.array([np.nan, 1], np.float32)}
    _, report = archive.write(symbol, broken).imported()
    assert "'conv_bias'" in report.warnings[0]
    assert "NaN" in report.warnings[0]


# --- labels ----------------------------------------------------------------------------------------------------


def test_a_wrong_count_of_labels_says_both_counts(archive: Archive) -> None:
    error = archive.write(*classifier(), labels=3).refused()
    assert error.where == "synset.txt"
    assert (error.expected or "").startswith("4 lines")
    assert error.got == "3 lines"


def test_a_missing_synset_is_asked_for(archive: Archive) -> None:
    error = archive.write(*classifier(), labels=None).refused()
    assert "synset.txt" in (error.expected or "")


def test_labels_may_come_from_elsewhere(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a\nb\nc\nd\n")
    spec, _ = archive.write(*classifier(), labels=None).imported(labels=str(tmp_path / "mine.txt"))
    assert spec.labels == ("a", "b", "c", "d")


def test_sagemaker_has_no_labels_so_classes_are_numbered(archive: Archive) -> None:
    archive.write(*classifier(40, 3), name="image-classification", labels=None)
    archive.beside("model-shapes.json", [{"shape": [1, 3, 40, 40], "name": "data"}])
    spec, report = archive.imported()
    assert spec.labels == ("0", "1", "2", "3")
    assert "--labels" in report.warnings[0]


# --- refusals --------------------------------------------------------------------------------------------------


def test_all_unsupported_operators_are_told_at_once(archive: Archive) -> None:
    net = Net()
    first = net.op("Proposal", "rpn", net.variable("data"))
    last = net.op("Custom", "mine", first, first)
    error = archive.write(net.json(last), {"w": np.zeros(1, np.float32)}).refused()
    assert "2 operators" in error.what
    assert "rpn (Proposal) of data" in (error.where or "")
    assert "mine (Custom) of rpn, rpn" in (error.where or "")
    assert "Convolution" in (error.expected or "")
    assert error.got == "Custom, Proposal"


def test_parameters_of_another_network_are_told(archive: Archive) -> None:
    symbol, arrays = classifier()
    renamed = {f"resnet_{name}": array for name, array in arrays.items()}
    error = archive.write(symbol, renamed).refused()
    assert "does not belong" in error.what
    assert error.where == "net-0000.params"
    assert "conv_weight" in (error.expected or "")
    assert "resnet_conv_weight" in (error.got or "")


def test_a_parameter_of_the_wrong_shape_says_both_shapes(archive: Archive) -> None:
    symbol, arrays = classifier()
    error = archive.write(symbol, {**arrays, **weights(conv_bias=(5,))}).refused()
    assert "conv_bias" in error.what
    assert error.expected == "(2)"
    assert error.got == "(5)"


def test_nothing_is_left_behind_by_a_refusal(archive: Archive) -> None:
    archive.write(*classifier(), labels=3).refused()
    assert list(archive.out.iterdir()) == []
