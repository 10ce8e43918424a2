"""Arrays, and files of several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Shape: TypeAlias = tuple[int, ...]


def save_arrays(path: Path, arrays: Mapping[str, Array], compressed: bool = False) -> None:
    """Write an .npz file."""
    save: Any = np.savez_compressed if compressed else np.savez
    save(path, **arrays)
