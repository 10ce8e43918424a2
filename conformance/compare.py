"""What mli makes of the graphs that MXNet ran, and how far the two are apart."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime

from conformance.oracle_process import Array, Arrays, OracleResult
from mli.errors import ModelRefused
from mli.models.mxnet.building import BATCH
from mli.models.mxnet.meaning import predicting_heads
from mli.models.mxnet.params import read_params
from mli.models.mxnet.symbol import read_symbol
from mli.models.mxnet.translate import translate

BOUND = 1e-4  # the largest relative error that still counts as agreed
FLOAT16_BOUND = 1e-3  # where MXNet rounds to float16; mli computes on in float32

# Operators whose rows are ordered by score: where two scores are equal but for the last bits, the order says nothing.
DETECTIONS = ("MultiBoxDetection",)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One graph, run by both.

    Attributes:
        status: ``refused`` is mli's own refusal in words, ``oracle_refused`` is MXNet's.
        error: largest relative error over the outputs; infinite where they cannot be compared.
        detail: what differs, or why it was refused.
    """

    status: Literal["agreed", "differs", "refused", "oracle_refused"]
    error: float = 0.0
    detail: str = ""


def compare_graph(result: OracleResult) -> Comparison:
    """Import what MXNet saved, run it, and compare every output."""
    if result.outputs is None:
        return Comparison("oracle_refused", detail=result.error or "")
    dynamic = result.spec.dynamic_batch
    shapes = {name: ((BATCH, *array.shape[1:]) if dynamic else array.shape) for name, array in result.inputs.items()}
    try:
        with tempfile.TemporaryDirectory(prefix="mli-import-") as name:
            outputs = import_and_run(result.symbol, result.params, shapes, result.inputs, Path(name))
    except ModelRefused as refusal:
        return Comparison("refused", detail=f"{refusal.what} Found: {refusal.got}")
    except Exception:  # noqa: BLE001 - whatever else goes wrong is what this looks for
        return Comparison("differs", np.inf, traceback.format_exc(limit=-3))
    return _compare_outputs(result, outputs)


def import_and_run(
    symbol: Path,
    params: Path,
    shapes: Mapping[str, tuple[int, ...]],
    inputs: Arrays,
    folder: Path,
    *,
    round_up: bool = False,
    all_outputs: bool = False,
    predictions_only: bool = False,
) -> Arrays:
    """Outputs by name of the imported graph, which onnx's checker has passed.

    Args:
        shapes: by the input's name; the first size may be BATCH.
        folder: for the model.
        round_up, all_outputs: for translate.
        predictions_only: outputs that only training needs are left out, as mli leaves them out of an archive.
    """
    graph, arrays = read_symbol(symbol), read_params(params)
    heads = predicting_heads(graph, arrays)[0] if predictions_only else None
    translation = translate(graph, arrays, shapes, heads=heads, round_up=round_up, all_outputs=all_outputs)
    model = translation.save(folder)
    del translation
    onnx.checker.check_model(str(model), full_check=True)
    return run_onnx(model, inputs)


def run_onnx(model: Path, inputs: Arrays) -> Arrays:
    """Outputs by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    wanted = {item.name for item in session.get_inputs()}  # all float32, whatever MXNet was told
    names = [item.name for item in session.get_outputs()]
    outputs = session.run(names, {name: array.astype(np.float32) for name, array in inputs.items() if name in wanted})
    return dict(zip(names, outputs, strict=True))


def relative_error(found: Array, expected: Array) -> float:
    """max |found - expected| / max |expected|; infinite for another shape, or other places of inf and nan.

    Where everything expected is 0, the largest difference itself.
    """
    if found.shape != expected.shape:
        return np.inf
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return np.inf
    if not finite.any():
        return 0.0
    largest = float(np.abs(expected[finite]).max())
    return float(np.abs(found[finite] - expected[finite]).max()) / (largest or 1.0)


def detections_error(found: Array, expected: Array) -> float:
    """The same of (class, score, box …) rows, infinite where there are more or fewer.

    Rows of class -1 hold nothing. Each other row is paired with the nearest that is still free, wherever it stands,
    and classes are compared by themselves, for they are the largest numbers.
    """
    if found.shape != expected.shape or found.ndim < 2:
        return np.inf
    rows = expected.shape[-2:]
    ours, theirs = [], []
    for one, other in zip(found.reshape(-1, *rows), expected.reshape(-1, *rows), strict=True):
        one, other = one[one[:, 0] >= 0], other[other[:, 0] >= 0]
        if len(one) != len(other):
            return np.inf
        ours.append(_paired(one, other))
        theirs.append(other)
    left, right = np.concatenate(ours), np.concatenate(theirs)
    return max(relative_error(left[:, :1], right[:, :1]), relative_error(left[:, 1:], right[:, 1:]))


def output_error(op: str, found: Array, expected: Array) -> float:
    """relative_error; for operators that order detections by score, detections_error."""
    return detections_error(found, expected) if op.endswith(DETECTIONS) else relative_error(found, expected)


def _paired(found: Array, expected: Array) -> Array:
    free = found.astype(np.float64)
    places = []
    for row in expected:
        places.append(int(np.abs(free - row).max(axis=1).argmin()))
        free[places[-1]] = np.inf
    return found[places]


def _compare_outputs(result: OracleResult, outputs: Arrays) -> Comparison:
    assert result.outputs is not None
    worst, details = 0.0, []
    if tuple(outputs) != result.output_names:
        details.append(f"outputs are called {tuple(outputs)}, expected {result.output_names}")
        if len(outputs) != len(result.outputs):
            return Comparison("differs", np.inf, details[0])
    for name, found, expected in zip(result.output_names, outputs.values(), result.outputs, strict=True):
        error = output_error(result.spec.op, found, expected)
        if found.dtype != expected.dtype and not (found.dtype.kind == expected.dtype.kind == "f"):
            error = np.inf  # floating-point numbers may be float32 where MXNet has others
        if error > (FLOAT16_BOUND if expected.dtype == np.float16 else BOUND):
            details.append(f"{name}: relative error {error:.3g}\n{_told(found, expected)}")
        worst = max(worst, error)
    return Comparison("differs" if details else "agreed", worst, "\n".join(details))


def _told(found: Array, expected: Array) -> str:
    def side(title: str, array: np.ndarray[Any, Any]) -> str:
        values = np.array2string(array.ravel()[:24], precision=5, threshold=24)
        return f"  {title:9}{array.dtype} {array.shape} {values}"

    return side("found", found) + "\n" + side("expected", expected)
