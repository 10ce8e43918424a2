"""What an estimator is; every backend passes the same contract suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mli.types import TensorInfo


class Estimator(Protocol):
    """A loaded model.

    Attributes:
        backend: name and version, ``onnxruntime 1.32.0``.
        inputs, outputs: as the runtime reports them.
        capacity: how many ``infer`` calls at a time are worth making.
    """

    backend: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    capacity: int

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model once; blocking and thread-safe.

        Args:
            arrays: one array an input, of its shape and dtype.

        Returns:
            One array an output, as the model stores it (quantised outputs are not de-quantised here).

        Raises:
            ModelRefused: the runtime refused the arrays or failed.
            MemoryError: this process gets no more memory.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...
