"""ONNX models on onnxruntime."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime

from mli.errors import ModelRefused
from mli.pipeline.estimators.onnx_external_data import check_external_data
from mli.types import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_DTYPES = {"float": "float32", "double": "float64"}
_ERRORS_ONLY = 3
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc")
"""onnxruntime has no class of error for it."""
_CLUTTER = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|^Fatal error: |^/\S+:\d+ .*?\) (?=[A-Z])"
)
"""What stands before the cause in its messages: a code, the path of a copy, a place in its own source."""
_REMEDIES = (
    ("not a registered function/op", "export the model without its own operators: nothing but onnxruntime's is run"),
    (" IR version", "save the model with an older version of the onnx package, or install a newer onnxruntime"),
    (" opset", "export the model again for an older opset (17 runs everywhere), or install a newer onnxruntime"),
)


class OnnxEstimator:
    """One inference session; onnxruntime allows concurrent runs of it.

    Args:
        path: the ONNX file.
        compiled_file: onnxruntime's own copy of it for this processor, which takes less memory.
    """

    def __init__(self, path: str, *, threads: int, capacity: int, compiled_file: str | None = None) -> None:
        session = None if compiled_file is None else _load_compiled(compiled_file, threads)
        self._session = session or _load(path, threads)
        self.backend = f"onnxruntime {onnxruntime.__version__}"
        self.inputs = tuple(_info(node) for node in self._session.get_inputs())
        self.outputs = tuple(_info(node) for node in self._session.get_outputs())
        self.capacity = capacity
        self._names = [info.name for info in self.outputs]

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            results = self._session.run(self._names, dict(arrays))
        except Exception as error:
            _check_memory(error)
            raise ModelRefused("onnxruntime failed on a frame", got=_first_line(error)) from error
        return dict(zip(self._names, results, strict=True))

    def close(self) -> None:
        del self._session


def _load_compiled(path: str, threads: int) -> Any:
    """A session, None where onnxruntime cannot load its own copy.

    It is loaded by its path: given as bytes, ``session.use_ort_model_bytes_directly`` makes onnxruntime read a
    temporary of its Python binding after that is gone.
    """
    try:
        return onnxruntime.InferenceSession(path, _options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the ONNX file itself is there, and tells what is wrong if it is
        log.warning("%s cannot be loaded, the model runs without it: %s", path, _first_line(error))
        return None


def _load(path: str, threads: int) -> Any:
    check_external_data(Path(path))
    try:
        return onnxruntime.InferenceSession(path, _options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:
        _check_memory(error)
        cause = _first_line(error)
        raise ModelRefused(
            f"{Path(path).name}: onnxruntime {onnxruntime.__version__} cannot load this model",
            got=cause,
            remedy=next((remedy for words, remedy in _REMEDIES if words in cause), None),
        ) from error


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads must not spin: the core, the decoder and other pipelines need this CPU.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _info(node: Any) -> TensorInfo:
    element = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape)
    return TensorInfo(node.name, shape, _DTYPES.get(element, element))


def _check_memory(error: Exception) -> None:
    """Too little memory is no fault of the model's file.

    Raises:
        MemoryError: that is what onnxruntime says.
    """
    if any(words in str(error) for words in _NO_MEMORY):
        raise MemoryError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    while cut := _CLUTTER.match(line):
        line = line[cut.end() :]
    return line or type(error).__name__
