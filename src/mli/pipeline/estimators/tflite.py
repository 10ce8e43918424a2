"""TFLite models on LiteRT (the extra ``litert``)."""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mli.errors import ModelRefused
from mli.types import Quantization, TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LiteRtEstimator:
    """A pool of interpreters, since one interpreter serves one call at a time."""

    def __init__(self, path: str, *, threads: int, capacity: int) -> None:
        name = Path(path).name
        self.backend = f"litert {version('ai-edge-litert')}"
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            with _silence():
                for _ in range(capacity):
                    interpreter = Interpreter(model_path=path, num_threads=threads)
                    interpreter.allocate_tensors()
                    self._idle.put(interpreter)
            details = interpreter.get_input_details(), interpreter.get_output_details()
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelRefused(f"{name}: {self.backend} cannot load this model", got=str(error)) from error
        self.inputs, self.outputs = (tuple(_info(detail) for detail in side) for side in details)
        self._input_index = {detail["name"]: detail["index"] for detail in details[0]}
        self._output_index = {detail["name"]: detail["index"] for detail in details[1]}
        self.capacity = capacity

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if arrays.keys() != self._input_index.keys():
            # An input that is not set would keep the values of another frame.
            raise ModelRefused(
                f"{self.backend} was given other inputs than the model has",
                expected=", ".join(sorted(self._input_index)),
                got=", ".join(sorted(arrays)) or "none",
            )
        interpreter = self._idle.get()
        try:
            self._fit_open_sizes(interpreter, arrays)
            for name, array in arrays.items():
                interpreter.set_tensor(self._input_index[name], array)
            interpreter.invoke()
            return {name: interpreter.get_tensor(index) for name, index in self._output_index.items()}
        except (ValueError, RuntimeError) as error:
            raise ModelRefused(f"{self.backend} failed on a frame", got=str(error)) from error
        finally:
            self._idle.put(interpreter)

    def _fit_open_sizes(self, interpreter: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Where the model leaves a size open, make the interpreter's tensor as large as the array."""
        changed = False
        for info, detail in zip(self.inputs, interpreter.get_input_details(), strict=True):
            shape = arrays[info.name].shape
            if None in info.shape and tuple(detail["shape"]) != shape:
                interpreter.resize_tensor_input(detail["index"], shape, strict=True)
                changed = True
        if changed:
            interpreter.allocate_tensors()

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """LiteRT tells standard error how it loads a model, and has no switch for it; errors are exceptions anyway."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _info(detail: dict[str, Any]) -> TensorInfo:
    signature = detail.get("shape_signature", detail["shape"])
    shape = tuple(int(size) if size > 0 else None for size in signature)
    scale, zero_point = detail["quantization"]
    quantization = Quantization(float(scale), int(zero_point)) if scale else None
    return TensorInfo(detail["name"], shape, np.dtype(detail["dtype"]).name, quantization)
