"""Which files of an archive are its MXNet model: by their names, and by what SageMaker puts beside them.

Light: the core looks at an archive with this, and imports neither numpy nor onnx for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mli.errors import ArchiveRefused
from mli.models.rules import listed, shown

_EPOCH = re.compile(r"(.*)-(\d{1,9})\.params")
_SYMBOL = re.compile(r"(.*?)[-_.]?symbol\.json")

Kind = Literal["mxnet", "sagemaker image classification", "sagemaker object detection"]


@dataclass(frozen=True, slots=True)
class MxnetFiles:
    """The files of one MXNet model, as paths inside the archive.

    Attributes:
        epoch: of the parameters file, None where its name has none.
        other_epochs: what else there was to choose from.
        shapes: ``model-shapes.json`` (SageMaker), ``signature.json`` (MXNet model server).
        hyperparams: ``hyperparams.json`` (SageMaker).
    """

    symbol: str
    params: str
    epoch: int | None
    other_epochs: tuple[int, ...]
    kind: Kind
    shapes: str | None = None
    signature: str | None = None
    hyperparams: str | None = None


def has_mxnet(files: Iterable[str]) -> bool:
    """Whether there is anything of MXNet among the files."""
    return any(path.endswith(".params") or _SYMBOL.fullmatch(_name(path)) for path in files)


def find_mxnet(files: Sequence[str], archive_name: str, epoch: int | None = None) -> MxnetFiles:
    """The one MXNet model among an archive's files.

    Args:
        epoch: the parameters file wanted; the only one or the highest epoch where not said.

    Raises:
        ArchiveRefused: there is no symbol file, several, no parameters file, or not that epoch.
    """
    symbols = [path for path in files if _SYMBOL.fullmatch(_name(path))]
    if len(symbols) != 1:
        raise ArchiveRefused(
            f"The model archive {shown(archive_name)} holds {len(symbols) or 'no'} MXNet symbol files.",
            where=archive_name,
            expected="one NAME-symbol.json beside NAME-0000.params",
            got=listed(symbols or files),
            remedy="leave one of them in the archive"
            if symbols
            else "add the file that was saved beside the parameters",
        )
    (symbol,) = symbols
    params, found, others = _params(files, symbol, archive_name, epoch)
    names = {_name(path): path for path in files}
    hyperparams, shapes = names.get("hyperparams.json"), names.get("model-shapes.json")
    kind: Kind = "mxnet"
    if hyperparams is not None and _name(symbol).startswith("model_algo"):
        kind = "sagemaker object detection"
    elif shapes is not None or _name(symbol).startswith("image-classification"):
        kind = "sagemaker image classification"
    return MxnetFiles(symbol, params, found, others, kind, shapes, names.get("signature.json"), hyperparams)


def _params(
    files: Sequence[str], symbol: str, archive_name: str, epoch: int | None
) -> tuple[str, int | None, tuple[int, ...]]:
    candidates = [path for path in files if path.endswith(".params")]
    if not candidates:
        raise ArchiveRefused(
            f"The model archive {shown(archive_name)} holds an MXNet symbol file and no parameters.",
            where=archive_name,
            expected=f"{_prefix(symbol)}-0000.params beside {symbol}",
            got=listed(files),
            remedy="add the parameters file of the training run",
        )
    same = [path for path in candidates if _stem(path) == _prefix(symbol)] or candidates
    epochs = {path: _epoch(path) for path in same}
    if epoch is not None:
        chosen = [path for path in same if epochs[path] == epoch]
        expected = f"a file of epoch {epoch}: {_prefix(symbol)}-{epoch:04}.params"
    else:
        highest = max((found for found in epochs.values() if found is not None), default=None)
        chosen = [path for path in same if epochs[path] == highest] if len(same) > 1 else same
        expected = f"one parameters file, or one for each epoch: {_prefix(symbol)}-0000.params"
    if len(chosen) != 1:
        raise ArchiveRefused(
            f"The model archive {shown(archive_name)} does not say which parameters file is meant.",
            where=archive_name,
            expected=expected,
            got=listed(candidates),
            remedy="leave the right one in the archive, or say which with `mli model import --epoch`",
        )
    others = sorted(found for path, found in epochs.items() if found is not None and path != chosen[0])
    return chosen[0], epochs[chosen[0]], tuple(others)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _prefix(symbol: str) -> str:
    match = _SYMBOL.fullmatch(_name(symbol))
    return match[1] if match else ""


def _stem(params: str) -> str:
    match = _EPOCH.fullmatch(_name(params))
    return match[1] if match else _name(params).removesuffix(".params")


def _epoch(params: str) -> int | None:
    match = _EPOCH.fullmatch(_name(params))
    return int(match[2]) if match else None
