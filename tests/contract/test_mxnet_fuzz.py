"""MXNet's two files are somebody else's bytes: whatever is in them, the answer is a model or our own error."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.fixtures.mxnet_files import Net, ParamsFormat, array_bytes, list_bytes, params_bytes, row_sparse_bytes

from mli.errors import ModelRefused
from mli.models.mxnet.params import parse_params
from mli.models.mxnet.symbol import parse_symbol

ARRAYS: dict[str, NDArray[Any]] = {
    "fc_weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bn_moving_var": np.array([1, 2], np.float16),
}
FORMATS: tuple[ParamsFormat, ...] = ("raw", "v1", "v2", "v3")
SEEDS = [
    *(params_bytes(ARRAYS, format_) for format_ in FORMATS),
    list_bytes([array_bytes(ARRAYS["fc_weight"]), row_sparse_bytes(9, 2)], ["arg:a", "arg:b"]),
]


def seed_symbol() -> bytes:
    net = Net()
    inputs = [net.variable(name) for name in ("data", "bn_gamma", "bn_beta")]
    return net.json(net.op("BatchNorm", "bn", *inputs, eps=0.001), style="param")


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A good file with bytes changed, cut, doubled or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        end = place + draw(st.integers(0, 8))
        data[place:end] = draw(st.sampled_from([b"", b"\xff" * 8, b"\0" * 8]) | st.binary(max_size=16))
    return bytes(data)


@given(damaged(SEEDS) | st.binary(max_size=200))
@example(b"")
def test_any_parameters_file_is_read_or_refused(data: bytes) -> None:
    tracemalloc.start()
    try:
        params = parse_params(memoryview(data), "x.params")
        assert params.size_bytes() <= len(data)
        for array in params.arrays.values():
            assert array.read().shape == array.shape
    except ModelRefused:
        pass  # the right answer to most of them
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4_000_000 + 20 * len(data)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """A good symbol with some values replaced by any JSON."""
    value = json.loads(seed_symbol())
    for _ in range(draw(st.integers(1, 3))):
        holder = value
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and draw(st.integers(0, 3)):
                holder = holder[key]
                continue
            holder[key] = draw(JSON)
            break
    return json.dumps(value).encode()


@given(altered() | damaged([seed_symbol()]) | st.binary(max_size=100))
def test_any_symbol_file_is_read_or_refused(data: bytes) -> None:
    try:
        symbol = parse_symbol(data, "x-symbol.json")
    except ModelRefused:
        return
    for place, node in enumerate(symbol.nodes):
        assert all(symbol.nodes[entry.node].is_variable or entry.node < place for entry in node.inputs)


def test_the_seeds_are_good_files_but_for_the_sparse_one() -> None:
    for seed in SEEDS[:4]:
        assert len(parse_params(memoryview(seed), "x").arrays) == 2
    with pytest.raises(ModelRefused):
        parse_params(memoryview(SEEDS[4]), "x")
    assert parse_symbol(seed_symbol(), "x").heads
