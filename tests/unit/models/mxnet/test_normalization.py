"""Normalisation, against its formulas in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused
from mli.models.mxnet.translate import ShapesRefused

Array = NDArray[Any]


def random(*shape: int, low: float = -1.0) -> Array:
    return np.random.default_rng(len(shape)).uniform(low, 2, shape).astype(np.float32)


def statistics(channels: int) -> dict[str, Array]:
    names = ("gamma", "beta", "moving_mean", "moving_var")
    return {name: random(channels, low=0.1) + index for index, name in enumerate(names)}


def normalized(data: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    mean, variance = data.mean(axis=axes, keepdims=True), data.var(axis=axes, keepdims=True)
    return np.asarray((data - mean) / np.sqrt(variance + epsilon))


@pytest.mark.parametrize(
    ("op", "attributes", "shape"),
    [
        ("BatchNorm", {}, (2, 3, 4, 5)),
        ("BatchNorm", {"fix_gamma": False, "eps": 2e-5}, (2, 3)),
        ("BatchNorm", {"fix_gamma": False, "axis": -1, "output_mean_var": True}, (2, 4, 5, 3)),
        ("BatchNorm", {"axis": 2, "use_global_stats": True}, (2, 4, 3, 5)),
        ("BatchNorm_v1", {"fix_gamma": False}, (2, 3, 4, 4)),
        ("CuDNNBatchNorm", {"fix_gamma": False}, (2, 3, 4, 4)),
        ("_contrib_SyncBatchNorm", {"key": "a", "fix_gamma": False}, (2, 3, 4)),
        ("_contrib_BatchNormWithReLU", {}, (2, 3, 4, 4)),
    ],
)
def test_batch_norm_uses_running_statistics_and_a_gamma_of_1_unless_told_otherwise(
    op: str, attributes: dict[str, Any], shape: tuple[int, ...]
) -> None:
    data, parameters = random(*shape), statistics(3)
    axis = attributes.get("axis", 1) % len(shape)
    gamma, beta, mean, variance = (value.reshape(-1, *[1] * (len(shape) - 1 - axis)) for value in parameters.values())
    scale = gamma if attributes.get("fix_gamma") is False else 1
    expected = (data - mean) / np.sqrt(variance + attributes.get("eps", 1e-3)) * scale + beta
    if op.endswith("ReLU"):
        expected = expected.clip(0)
    (found,) = run_operator(op, attributes, data, params=parameters, dynamic_batch=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_batch_norm_on_axis_1_is_one_node() -> None:
    translation = translate_operator("BatchNorm", {}, random(1, 3, 4, 4), params=statistics(3), dynamic_batch=True)
    assert [node.op_type for node in translation.graph.nodes] == ["BatchNormalization"]


@pytest.mark.parametrize(
    ("op", "attributes", "shape", "axes", "parameter_axis", "epsilon"),
    [
        ("InstanceNorm", {}, (2, 3, 4, 5), (2, 3), 1, 1e-3),
        ("InstanceNorm", {"eps": 0.1}, (2, 3, 6), (2,), 1, 0.1),
        ("LayerNorm", {}, (2, 4, 3), (2,), 2, 1e-5),
        ("LayerNorm", {"axis": 1, "eps": 0.1}, (2, 3, 4), (1,), 1, 0.1),
    ],
)
def test_own_statistics_are_taken_over_the_operators_axes(
    op: str,
    attributes: dict[str, Any],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    parameter_axis: int,
    epsilon: float,
) -> None:
    data, gamma, beta = random(*shape), random(3), random(3, low=0)
    (found,) = run_operator(op, attributes, data, params={"gamma": gamma, "beta": beta}, dynamic_batch=True)
    behind = [1] * (len(shape) - 1 - parameter_axis)
    expected = normalized(data, axes, epsilon) * gamma.reshape(-1, *behind) + beta.reshape(-1, *behind)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_group_norm_has_a_gamma_for_each_group() -> None:
    data, gamma, beta = random(2, 6, 3, 4), random(2), random(2, low=0)
    parameters = {"gamma": gamma, "beta": beta}
    (found,) = run_operator("GroupNorm", {"num_groups": 2}, data, params=parameters, dynamic_batch=True)
    grouped = normalized(data.reshape(2, 2, -1), (2,), 1e-5) * gamma.reshape(-1, 1) + beta.reshape(-1, 1)
    np.testing.assert_allclose(found, grouped.reshape(data.shape), rtol=0, atol=2e-5)


def test_lrn_counts_neighbouring_channels_and_adds_2() -> None:
    data = random(2, 6, 3, 3)
    (found,) = run_operator("LRN", {"nsize": 5, "alpha": 0.5}, data, dynamic_batch=True)
    squares = np.pad(data**2, [(0, 0), (2, 2), (0, 0), (0, 0)])
    sums = np.stack([squares[:, channel : channel + 5].sum(1) for channel in range(6)], axis=1)
    np.testing.assert_allclose(found, data / (2 + 0.5 / 5 * sums) ** 0.75, rtol=1e-5)
    (other,) = run_operator("LRN", {"nsize": 5, "alpha": 0.5, "beta": 1, "knorm": 3}, data)
    np.testing.assert_allclose(other, data / (3 + 0.5 / 5 * sums), rtol=1e-5)


@pytest.mark.parametrize(
    ("mode", "axes"), [(None, (1, 2, 3)), ("instance", (1, 2, 3)), ("channel", (1,)), ("spatial", (2, 3))]
)
def test_l2_normalization_adds_epsilon_inside_the_root(mode: str | None, axes: tuple[int, ...]) -> None:
    data = random(2, 3, 4, 5)
    (found,) = run_operator("L2Normalization", {"mode": mode, "eps": 0.5}, data, dynamic_batch=True)
    np.testing.assert_allclose(found, data / np.sqrt((data**2).sum(axis=axes, keepdims=True) + 0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("op", "attributes", "parameters", "expected"),
    [
        ("BatchNorm", {}, statistics(4), r"parameter gamma.*\(3\)"),
        ("BatchNorm", {"axis": 4}, statistics(3), "axis"),
        ("InstanceNorm", {}, {"gamma": random(4), "beta": random(3)}, r"parameter gamma.*\(3\)"),
        ("LayerNorm", {}, {"gamma": random(4), "beta": random(3)}, r"parameter beta.*\(4\)"),
        ("GroupNorm", {"num_groups": 2}, {"gamma": random(2), "beta": random(2)}, "num_groups"),
    ],
)
def test_parameters_of_another_network_are_told(
    op: str, attributes: dict[str, Any], parameters: dict[str, Array], expected: str
) -> None:
    with pytest.raises(ShapesRefused, match="(?s)" + expected):
        translate_operator(op, attributes, random(2, 3, 4, 4), params=parameters)


@pytest.mark.parametrize(
    ("op", "attributes", "parameters", "outputs"),
    [
        ("BatchNorm", {"output_mean_var": True}, statistics(3), 3),
        ("CuDNNBatchNorm", {}, {**dict(list(statistics(3).items())[:3]), "moving_inv_var": random(3)}, 1),
        ("LRN", {"nsize": 4}, {}, 1),
        ("L2Normalization", {"mode": "batch"}, {}, 1),
    ],
)
def test_what_cannot_be_done_is_refused(
    op: str, attributes: dict[str, Any], parameters: dict[str, Array], outputs: int
) -> None:
    with pytest.raises(ModelRefused):
        translate_operator(op, attributes, random(2, 3, 4, 4), params=parameters, outputs=outputs)


def test_image_normalize_takes_a_mean_and_a_deviation_for_each_channel() -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 3, 2, 4)
    attributes = {"mean": "(1, 2, 3)", "std": "(0.5, 1, 2)"}
    (found,) = run_operator("_image_normalize", attributes, image, dynamic_batch=True)
    mean, deviation = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in ([1, 2, 3], [0.5, 1, 2]))
    np.testing.assert_allclose(found, (image - mean) / deviation, rtol=1e-6)
