"""Reductions over some axes or all, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused
from mli.models.mxnet.translate import ShapesRefused

DATA = np.random.default_rng(1).uniform(-2, 2, (2, 3, 4)).astype(np.float32)
AXES: list[tuple[dict[str, Any], tuple[int, ...], bool]] = [
    ({}, (0, 1, 2), False),
    ({"axis": ()}, (0, 1, 2), False),
    ({"axis": "None", "keepdims": True}, (0, 1, 2), True),
    ({"axis": 1}, (1,), False),
    ({"axis": -1, "keepdims": True}, (2,), True),
    ({"axis": (2, 1)}, (1, 2), False),
    ({"axis": (0, 2), "exclude": True}, (1,), False),
    ({"axis": (), "exclude": True}, (0, 1, 2), False),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("attributes", "axes", "keep"), AXES)
@pytest.mark.parametrize("op", ["sum", "mean", "max", "min", "prod"])
def test_reductions(op: str, attributes: dict[str, Any], axes: tuple[int, ...], keep: bool, dynamic: bool) -> None:
    (found,) = run_operator(op, attributes, DATA, dynamic_batch=dynamic)
    expected = getattr(np, op)(DATA, axis=axes, keepdims=keep)
    np.testing.assert_allclose(found, np.atleast_1d(expected), rtol=1e-5, atol=1e-6)
    assert found.shape == np.atleast_1d(expected).shape


@pytest.mark.parametrize(("op", "like"), [("sum_axis", "sum"), ("max_axis", "max"), ("min_axis", "min")])
def test_old_spellings(op: str, like: str) -> None:
    (found,) = run_operator(op, {"axis": 1}, DATA)
    np.testing.assert_allclose(found, getattr(np, like)(DATA, axis=1), rtol=1e-5, atol=1e-6)


def test_excluding_all_axes_reduces_none() -> None:
    attributes = {"axis": (0, 1, 2), "exclude": True}
    np.testing.assert_array_equal(run_operator("sum", attributes, DATA)[0], DATA)
    np.testing.assert_array_equal(run_operator("mean", attributes, DATA)[0], DATA)


def test_sums_and_products_without_nan() -> None:
    data = np.array([[1, np.nan, 3], [np.nan, np.nan, 2]], np.float32)
    np.testing.assert_array_equal(run_operator("nansum", {"axis": 1}, data)[0], [4, 2])
    np.testing.assert_array_equal(run_operator("nanprod", {"axis": 1}, data)[0], [3, 2])


def test_large_whole_numbers_lose_no_digits() -> None:
    params = {"data": np.array([2**24, 1, 0], np.int32)}
    np.testing.assert_array_equal(run_operator("sum", {}, params=params)[0], [2**24 + 1])


def test_whole_numbers_are_reduced_to_whole_numbers() -> None:
    params = {"data": np.array([[1, 2, 4], [-3, 0, -4]], np.int32)}
    for op, expected in (("sum", [7, -7]), ("mean", [2, -2]), ("max", [4, 0])):
        (found,) = run_operator(op, {"axis": 1}, params=params)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.int32


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("attributes", "axes", "keep"), [*AXES[:6]])
def test_norms(order: int, attributes: dict[str, Any], axes: tuple[int, ...], keep: bool) -> None:
    expected = (np.abs(DATA) ** order).sum(axis=axes, keepdims=keep) ** (1 / order)
    (found,) = run_operator("norm", {**attributes, "ord": order}, DATA, dynamic_batch=True)
    np.testing.assert_allclose(found, np.atleast_1d(expected), rtol=1e-5)


@pytest.mark.parametrize("attributes", [{"axis": 3}, {"axis": (0, 0)}])
def test_axes_that_are_not_there_are_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(ShapesRefused, match="attribute axis"):
        translate_operator("sum", attributes, DATA)


def test_norms_of_another_order_are_refused() -> None:
    with pytest.raises(ModelRefused, match="attribute ord"):
        translate_operator("norm", {"ord": 3}, DATA)
