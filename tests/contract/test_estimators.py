"""What every estimator promises, on real runtimes: the same suite over each backend."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.contract.tiny_models import write_onnx_means, write_tflite_means

from mli.errors import ModelRefused, StopError
from mli.pipeline.estimators.estimator import Estimator
from mli.pipeline.estimators.registry import BACKENDS, choose_backend, open_estimator
from mli.types import ModelSpec, Quantization

HALVES = Quantization(0.5, 10)


def _means_float(array: NDArray[Any], axes: tuple[int, int]) -> NDArray[Any]:
    means: NDArray[Any] = array.astype(np.float32).mean(axes)
    return means


@dataclass(frozen=True)
class Case:
    """One model on one backend: how to write it, and what it must answer."""

    backend: str
    file: str
    write: Callable[[Path], Path]
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[int, int]

    def spec(self, folder: Path) -> ModelSpec:
        self.write(folder / self.file)
        return model_spec(folder, self.file)


def model_spec(folder: Path, file: str) -> ModelSpec:
    return ModelSpec(
        name="tiny",
        version="1",
        sha256="0" * 64,
        format="onnx" if file.endswith(".onnx") else "tflite",
        task="classification",
        directory=str(folder),
        model_file=file,
        labels=("r", "g", "b"),
    )


CASES = {
    "onnx float32": Case("onnxruntime", "m.onnx", write_onnx_means, (1, 3, 4, 4), "float32", (2, 3)),
    "onnx uint8": Case(
        "onnxruntime", "m.onnx", lambda p: write_onnx_means(p, (1, 4, 4, 3), "uint8"), (1, 4, 4, 3), "uint8", (1, 2)
    ),
    "tflite float32": Case("litert", "m.tflite", write_tflite_means, (1, 4, 4, 3), "float32", (1, 2)),
    "tflite uint8": Case(
        "litert",
        "m.tflite",
        lambda p: write_tflite_means(p, quantization=HALVES),
        (1, 4, 4, 3),
        "uint8",
        (1, 2),
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def estimator(case: Case, tmp_path: Path) -> Iterator[Estimator]:
    opened = open_estimator(case.spec(tmp_path), threads=1, parallel=True)
    yield opened
    opened.close()


def frame(case: Case, seed: int) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, case.shape).astype(case.dtype)


def test_reports_backend_and_tensors_as_the_model_has_them(case: Case, estimator: Estimator) -> None:
    assert estimator.backend.split()[0] == case.backend
    assert len(estimator.backend.split()) == 2
    (data,), (means,) = estimator.inputs, estimator.outputs
    assert (data.name, data.shape, data.dtype) == ("data", case.shape, case.dtype)
    assert (means.name, means.shape) == ("means", (1, 3))
    wanted = HALVES if case.backend == "litert" and case.dtype == "uint8" else None
    assert data.quantization == means.quantization == wanted


def test_infers_what_the_model_computes(case: Case, estimator: Estimator) -> None:
    array = frame(case, 1)
    result = estimator.infer({"data": array})
    assert list(result) == ["means"]
    np.testing.assert_allclose(
        result["means"].astype(np.float64),
        _means_float(array, case.axes),
        atol=0.51 if case.dtype == "uint8" else 1e-3,
    )


def test_eight_threads_get_what_one_gets(case: Case, estimator: Estimator) -> None:
    arrays = [frame(case, seed) for seed in range(64)]
    serial = [estimator.infer({"data": array})["means"] for array in arrays]
    together = threading.Barrier(8)

    def infer(index: int) -> NDArray[Any]:
        if index < 8:
            together.wait()
        return estimator.infer({"data": arrays[index]})["means"]

    with ThreadPoolExecutor(8) as pool:
        concurrent = list(pool.map(infer, range(64)))
    for alone, beside in zip(serial, concurrent, strict=True):
        np.testing.assert_array_equal(alone, beside)


def test_results_stay_when_the_next_frame_is_inferred(case: Case, estimator: Estimator) -> None:
    first = estimator.infer({"data": frame(case, 1)})["means"]
    kept = first.copy()
    estimator.infer({"data": frame(case, 2)})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    "wrong", ["no input", "another name", "one input too many", "shape", "rank", "dtype"], ids=lambda text: text
)
def test_wrong_arrays_are_refused_and_the_next_frame_works(case: Case, estimator: Estimator, wrong: str) -> None:
    good = frame(case, 1)
    other = "float32" if case.dtype == "uint8" else "uint8"
    arrays = {
        "no input": {},
        "another name": {"image": good},
        "one input too many": {"data": good, "more": good},
        "shape": {"data": np.zeros((1, 5, 5, 5), case.dtype)},
        "rank": {"data": good[0]},
        "dtype": {"data": good.astype(other)},
    }[wrong]
    expected = estimator.infer({"data": good})["means"]
    # More often than there are interpreters in a pool: a refusal must not use one up.
    for _ in range(estimator.capacity + 1):
        with pytest.raises(ModelRefused):
            estimator.infer(arrays)
    np.testing.assert_array_equal(estimator.infer({"data": good})["means"], expected)


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "missing"])
def test_broken_files_are_refused_by_name(case: Case, tmp_path: Path, damage: str) -> None:
    spec = case.spec(tmp_path)
    path = tmp_path / case.file
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "text": b"hello\n" * 50, "missing": b""}[damage])
    if damage == "missing":
        path.unlink()
    with pytest.raises(ModelRefused) as refusal:
        open_estimator(spec)
    assert case.file in str(refusal.value)


def test_capacity_is_what_the_cores_take(case: Case, tmp_path: Path) -> None:
    spec = case.spec(tmp_path)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = {
        (0, False): 1,
        (1, False): 1,
        (0, True): cores,
        (1, True): cores,
        (cores, True): 1,
        (8 * cores, True): 1,
    }
    for (threads, parallel), capacity in wanted.items():
        opened = open_estimator(spec, threads=threads, parallel=parallel)
        assert opened.capacity == capacity, (threads, parallel)
        opened.close()


def test_litert_takes_the_size_that_a_model_leaves_open(tmp_path: Path) -> None:
    write_tflite_means(tmp_path / "m.tflite", open_size=True)
    opened = open_estimator(model_spec(tmp_path, "m.tflite"))
    assert opened.inputs[0].shape == (1, None, None, 3)
    for size in (4, 9, 2):
        array = np.random.default_rng(size).random((1, size, size, 3), np.float32)
        np.testing.assert_allclose(opened.infer({"data": array})["means"], array.mean((1, 2)), rtol=1e-5)
    with pytest.raises(ModelRefused):
        opened.infer({"data": np.zeros((1, 4, 4, 5), np.float32)})


def test_each_format_has_its_backend() -> None:
    assert choose_backend("auto", "onnx").name == "onnxruntime"
    assert choose_backend("auto", "tflite").name == "litert"
    assert {backend.name for backend in BACKENDS} == {"onnxruntime", "litert"}


@pytest.mark.parametrize(
    ("wanted", "model_format", "right"), [("litert", "onnx", "onnxruntime"), ("onnxruntime", "tflite", "litert")]
)
def test_a_backend_that_does_not_run_the_format_is_refused(wanted: str, model_format: str, right: str) -> None:
    with pytest.raises(ModelRefused) as refusal:
        choose_backend(wanted, model_format)
    assert f"{right} (or auto)" in str(refusal.value)
    assert wanted in str(refusal.value)


def test_a_backend_without_its_system_library_says_which(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = case.spec(tmp_path)

    def broken_import(*_: object) -> None:
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("mli.pipeline.estimators.registry._estimator_class", broken_import)
    with pytest.raises(StopError) as stop:
        open_estimator(spec)
    assert case.backend in str(stop.value)
    assert "libgomp.so.1" in str(stop.value)
