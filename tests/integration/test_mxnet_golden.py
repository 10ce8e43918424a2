"""Small networks that MXNet wrote, in every format there was: mli reads them and computes what MXNet computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from mli.models.mxnet.building import BATCH
from mli.models.mxnet.meaning import predicting_heads
from mli.models.mxnet.params import read_params
from mli.models.mxnet.symbol import read_symbol
from mli.models.mxnet.translate import ShapesRefused, translate

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "mxnet"
CASES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
ROUNDS_UP = "inception-rounds-up-0.8"
BOUND = 1e-5

Array = NDArray[Any]


def recorded(case: str, kind: str) -> dict[str, Array]:
    with np.load(GOLDEN / case / "data.npz") as data:
        return {name.partition(":")[2]: data[name] for name in data.files if name.startswith(f"{kind}:")}


def imported(case: str, folder: Path, *, round_up: bool | None = None, all_outputs: bool = False) -> dict[str, Array]:
    """Outputs of the imported network, by name."""
    inputs = recorded(case, "in")
    symbol = read_symbol(GOLDEN / case / "net-symbol.json")
    params = read_params(GOLDEN / case / "net-0000.params")
    translation = translate(
        symbol,
        params,
        {name: (BATCH, *array.shape[1:]) for name, array in inputs.items()},
        heads=predicting_heads(symbol, params)[0],
        round_up=case == ROUNDS_UP if round_up is None else round_up,
        all_outputs=all_outputs,
    )
    session = onnxruntime.InferenceSession(str(translation.save(folder)), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def largest_error(found: Array, expected: Array) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_every_format_is_there() -> None:
    formats = {"lenet", "lenet-v3", "lenet-raw-0.8", "inception-v1-0.9", "gluon", ROUNDS_UP, "ssd-training"}
    dtypes = ("float16", "float32", "float64", "uint8", "int8", "int32", "int64", "bfloat16")
    assert formats | {f"dtype-{name}" for name in dtypes} <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_an_imported_network_computes_what_mxnet_computed(case: str, tmp_path: Path) -> None:
    expected = recorded(case, "out")
    found = imported(case, tmp_path)
    assert found
    for name, values in found.items():
        assert largest_error(values, expected[name]) <= BOUND, name
    if case != "ssd-training":
        assert found.keys() == expected.keys()


@pytest.mark.parametrize("case", [case for case in CASES if recorded(case, "inner")])
def test_logits_agree_where_probabilities_hide_them(case: str, tmp_path: Path) -> None:
    found = imported(case, tmp_path, all_outputs=True)
    for name, expected in recorded(case, "inner").items():
        assert largest_error(found[name], expected) <= BOUND, name


def test_the_detections_of_a_detector_in_training_are_an_output(tmp_path: Path) -> None:
    found = imported("ssd-training", tmp_path)
    assert "det_out_output" in found
    assert not {"loc_loss_output", "cls_label_output"} & found.keys()


def test_a_file_of_when_pooling_rounded_up_does_not_fit_otherwise(tmp_path: Path) -> None:
    with pytest.raises(ShapesRefused):
        imported(ROUNDS_UP, tmp_path, round_up=False)
