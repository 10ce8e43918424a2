"""Functions of numbers and products of matrices, against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.mxnet_graphs import run_operator, translate_operator

from mli.errors import ModelRefused
from mli.models.mxnet.translate import ShapesRefused

Array = NDArray[Any]


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


ONE, OTHER = floats(-3, -2, 0, 2.5, 7).reshape(1, 5), floats(2, -2, 3, -4, 2).reshape(1, 5)
PAIRS: list[tuple[str, Callable[[Array, Array], Array]]] = [
    ("add", np.add),
    ("sub", np.subtract),
    ("mul", np.multiply),
    ("div", np.divide),
    ("mod", np.mod),
    ("maximum", np.maximum),
    ("minimum", np.minimum),
    ("hypot", np.hypot),
    ("equal", np.equal),
    ("not_equal", np.not_equal),
    ("greater", np.greater),
    ("greater_equal", np.greater_equal),
    ("lesser", np.less),
    ("lesser_equal", np.less_equal),
    ("logical_and", np.logical_and),
    ("logical_or", np.logical_or),
    ("logical_xor", np.logical_xor),
]


@pytest.mark.parametrize(("pair", "expected"), PAIRS)
def test_pairs_are_broadcast_and_stay_float32(pair: str, expected: Callable[[Array, Array], Array]) -> None:
    one = np.concatenate([ONE, OTHER])
    (found,) = run_operator(f"broadcast_{pair}", {}, one, params={"other": OTHER}, dynamic_batch=True)
    np.testing.assert_allclose(found, expected(one, OTHER).astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize(("pair", "expected"), PAIRS)
def test_pairs_of_a_tensor_and_a_number(pair: str, expected: Callable[[Array, Array], Array]) -> None:
    word = {"add": "plus", "sub": "minus"}.get(pair, pair)
    (found,) = run_operator(f"_{word}_scalar", {"scalar": -2}, ONE, dynamic_batch=True)
    np.testing.assert_allclose(found, expected(ONE, floats(-2)).astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("_Plus", ONE + OTHER),
        ("_plus", ONE + OTHER),
        ("_Minus", ONE - OTHER),
        ("_Mul", ONE * OTHER),
        ("_Div", ONE / OTHER),
        ("_Maximum", np.maximum(ONE, OTHER)),
        ("elemwise_add", ONE + OTHER),
        ("broadcast_plus", ONE + OTHER),
        ("broadcast_minus", ONE - OTHER),
        ("_Greater_Equal", (ONE >= OTHER).astype(np.float32)),
        ("add_n", ONE + OTHER),
    ],
)
def test_old_spellings_of_pairs(op: str, expected: Array) -> None:
    np.testing.assert_allclose(run_operator(op, {}, ONE, OTHER)[0], expected)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("_PlusScalar", OTHER + 3),
        ("_RMinusScalar", 3 - OTHER),
        ("_rminus_scalar", 3 - OTHER),
        ("_DivScalar", OTHER / 3),
        ("_RDivScalar", 3 / OTHER),
        ("_rmod_scalar", np.mod(3, OTHER)),
        ("_PowerScalar", OTHER**3),
        ("_RPowerScalar", 3**OTHER),
        ("_GreaterEqualScalar", (OTHER >= 3).astype(np.float32)),
    ],
)
def test_old_and_reversed_spellings_with_a_number(op: str, expected: Array) -> None:
    np.testing.assert_allclose(run_operator(op, {"scalar": 3}, OTHER)[0], expected, rtol=1e-6)


def test_the_rest_of_a_division_by_zero_is_zero() -> None:
    (found,) = run_operator("broadcast_mod", {}, floats(3, -3), floats(0, 0))
    np.testing.assert_array_equal(found, [0, 0])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8])
def test_whole_numbers_stay_whole_numbers(dtype: type) -> None:
    one: Array = np.array([-3, -2, 5, 7], dtype)
    other: Array = np.array([2, 3, 3, -2], dtype)
    for op, expected in (
        ("broadcast_div", [-1, 0, 1, -3]),
        ("broadcast_mod", [1, 1, 2, -1]),
        ("broadcast_greater", [0, 0, 1, 1]),
        ("broadcast_mul", [-6, -6, 15, -14]),
    ):
        (found,) = run_operator(op, {}, params={"one": one, "other": other})
        np.testing.assert_array_equal(found, np.array(expected, dtype))
        assert found.dtype == dtype


def test_a_fraction_with_whole_numbers() -> None:
    whole = {"one": np.array([-3, 2, 5], np.int32)}
    (cut,) = run_operator("_plus_scalar", {"scalar": 1.5}, params=whole)
    np.testing.assert_array_equal(cut, np.array([-2, 3, 6], np.int32))
    (kept,) = run_operator("_plus_scalar", {"scalar": 1.5, "is_int": False}, params=whole)
    np.testing.assert_array_equal(kept, floats(-1.5, 3.5, 6.5))


HALVES = floats(-2.5, -1.5, -0.5, 0.4, 0.5, 1.5, 2.5, 2.6)
SMALL = floats(-1e-4, -1e-6, 0, 1e-5, 1e-3)
POSITIVE = floats(0.1, 0.5, 1, 2, 10)


@pytest.mark.parametrize(
    ("op", "data", "expected"),
    [
        ("round", HALVES, [-3, -2, -1, 0, 1, 2, 3, 3]),
        ("rint", HALVES, [-3, -2, -1, 0, 0, 1, 2, 3]),
        ("fix", HALVES, np.trunc(HALVES)),
        ("trunc", HALVES, np.trunc(HALVES)),
        ("floor", HALVES, np.floor(HALVES)),
        ("ceil", HALVES, np.ceil(HALVES)),
        ("sign", HALVES, np.sign(HALVES)),
        ("negative", HALVES, -HALVES),
        ("abs", HALVES, np.abs(HALVES)),
        ("square", HALVES, HALVES**2),
        ("cbrt", HALVES, np.cbrt(HALVES)),
        ("logical_not", floats(0, 1, -2), [1, 0, 0]),
        ("expm1", np.concatenate([SMALL, HALVES, floats(30)]), np.expm1([*SMALL, *HALVES, 30])),
        ("log1p", np.concatenate([SMALL, POSITIVE]), np.log1p([*SMALL, *POSITIVE])),
        ("log2", POSITIVE, np.log2(POSITIVE)),
        ("log10", POSITIVE, np.log10(POSITIVE)),
        ("rsqrt", POSITIVE, 1 / np.sqrt(POSITIVE)),
        ("rcbrt", POSITIVE, 1 / np.cbrt(POSITIVE)),
        ("reciprocal", POSITIVE, 1 / POSITIVE),
        ("sqrt", POSITIVE, np.sqrt(POSITIVE)),
        ("exp", POSITIVE, np.exp(POSITIVE)),
        ("log", POSITIVE, np.log(POSITIVE)),
        ("arctan", HALVES, np.arctan(HALVES)),
        ("arcsinh", HALVES, np.arcsinh(HALVES)),
        ("sinh", HALVES, np.sinh(HALVES)),
        ("degrees", HALVES, np.degrees(HALVES)),
        ("radians", HALVES, np.radians(HALVES)),
    ],
)
def test_functions_of_each_number(op: str, data: Array, expected: Any) -> None:
    (found,) = run_operator(op, {}, data, dynamic_batch=True)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-12)


def test_functions_of_whole_numbers_are_cut_off() -> None:
    (found,) = run_operator("exp", {}, params={"data": np.array([-2, 1, 5], np.int32)})
    np.testing.assert_array_equal(found, np.array([0, 2, 148], np.int32))


def test_clip_and_smooth_l1() -> None:
    (clipped,) = run_operator("clip", {"a_min": -1, "a_max": 2}, HALVES)
    np.testing.assert_array_equal(clipped, HALVES.clip(-1, 2))
    (smooth,) = run_operator("smooth_l1", {"scalar": 2}, HALVES)
    np.testing.assert_allclose(smooth, np.where(abs(HALVES) < 0.25, 2 * HALVES**2, abs(HALVES) - 0.125))


def test_sum_of_three() -> None:
    (found,) = run_operator("ElementWiseSum", {"num_args": 3}, ONE, OTHER, ONE, dynamic_batch=True)
    np.testing.assert_array_equal(found, ONE + OTHER + ONE)


def random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("one", "other", "attributes", "expected"),
    [
        ((2, 3), (3, 4), {}, "ab,bc->ac"),
        ((3, 2), (4, 3), {"transpose_a": True, "transpose_b": True}, "ba,cb->ac"),
        ((2, 3, 4), (4, 5), {}, "abc,cd->abd"),
        ((2, 3, 4), (4, 5, 6), {}, "abc,cde->abde"),
        ((4, 2, 3), (5, 6, 4), {"transpose_a": True, "transpose_b": True}, "cab,dec->abde"),
        ((3,), (3, 4), {}, "a,ab->b"),
        ((2, 3), (3,), {}, "ab,b->a"),
    ],
)
def test_dot(one: tuple[int, ...], other: tuple[int, ...], attributes: dict[str, Any], expected: str) -> None:
    a, b = random(*one), random(*other)
    (found,) = run_operator("dot", attributes, a, b)
    np.testing.assert_allclose(found, np.einsum(expected, a, b), rtol=1e-5, atol=1e-6)


def test_dot_turns_a_matrix_around_before_a_vector() -> None:
    matrix = floats(1, 2, 3, 4, 5, 6).reshape(3, 2)
    (found,) = run_operator("dot", {"transpose_a": True}, matrix, floats(1, 10, 100))
    assert found.tolist() == [531, 642]


def test_dot_of_two_vectors_has_one_axis() -> None:
    (found,) = run_operator("dot", {}, floats(1, 2), floats(3, 4))
    assert found.shape == (1,)
    assert found[0] == 11


@pytest.mark.parametrize("turned", [False, True])
def test_products_of_many_matrices(turned: bool) -> None:
    one, other = random(3, 2, 4), random(3, 4, 5)
    stored = other.transpose(0, 2, 1) if turned else other
    attributes = {"transpose_b": turned}
    (found,) = run_operator("batch_dot", attributes, one, stored, dynamic_batch=True)
    np.testing.assert_allclose(found, one @ other, rtol=1e-5, atol=1e-6)
    (half,) = run_operator("_linalg_gemm2", {**attributes, "alpha": 0.5}, one, stored, dynamic_batch=True)
    np.testing.assert_allclose(half, found / 2, rtol=1e-5)


def test_div_sqrt_dim() -> None:
    (found,) = run_operator("_contrib_div_sqrt_dim", {}, random(2, 9))
    np.testing.assert_allclose(found, random(2, 9) / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "one", "other"),
    [
        ("elemwise_add", (2, 3), (1, 3)),
        ("broadcast_add", (2, 3), (2, 4)),
        ("add_n", (2, 3), (3, 2)),
        ("dot", (2, 3), (4, 2)),
        ("batch_dot", (2, 3), (3, 2)),
        ("batch_dot", (2, 3, 4), (3, 4, 2)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(op: str, one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ShapesRefused, match="node"):
        translate_operator(op, {}, random(*one), random(*other))


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("clip", {"a_min": 2, "a_max": 1}),
        ("smooth_l1", {"scalar": 0}),
        ("_linalg_gemm2", {"axis": 0}),
        ("broadcast_add", {}),
    ],
)
def test_what_has_no_meaning_is_refused(op: str, attributes: dict[str, Any]) -> None:
    other = {"whole": np.zeros((2, 3, 3), np.int32)}
    with pytest.raises(ModelRefused, match="node"):
        translate_operator(op, attributes, random(2, 3, 3), params=other)


@pytest.mark.parametrize(
    ("op", "expected"),
    [("_npi_add", [5, 7]), ("_npi_subtract", [-3, -3]), ("_npi_true_divide", [0.25, 0.4]), ("_npi_maximum", [4, 5])],
)
def test_pairs_of_the_numpy_interface(op: str, expected: list[float]) -> None:
    (found,) = run_operator(op, {}, floats(1, 2), floats(4, 5))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "expected"),
    [("_npi_subtract_scalar", [-1, 0]), ("_npi_rsubtract_scalar", [1, 0]), ("_npi_power_scalar", [1, 4])],
)
def test_numbers_of_the_numpy_interface(op: str, expected: list[float]) -> None:
    (found,) = run_operator(op, {"scalar": 2}, floats(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
