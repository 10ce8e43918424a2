"""What goes into a network: which variable is the image, its channels, and the size it was trained with.

A symbol file says none of this itself. Files beside it may (SageMaker's, the model server's), the shapes of the first
parameters tell the channels, and the size is the one with which all shapes fit.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mli.errors import ModelRefused
from mli.models.mxnet.archive_files import MxnetFiles
from mli.models.mxnet.attributes import Attributes, OperatorProblem
from mli.models.mxnet.building import BATCH, Shape
from mli.models.mxnet.params import Params
from mli.models.mxnet.symbol import Entry, Node, Symbol
from mli.models.mxnet.translate import inputs_of, reachable
from mli.models.rules import listed, shown

PARAMETER = re.compile(r".*(weight|bias|gamma|beta|alpha|(moving|running)_(mean|var|avg))\d*")
_CHANGING = (
    *("SliceChannel", "split", "slice", "crop", "slice_axis", "take", "pick", "Concat", "concat", "stack"),
    *("mean", "sum", "sum_axis", "max", "max_axis", "min", "dot", "batch_dot", "space_to_depth", "tile", "repeat"),
)
"""Behind these, a layer's channels are no longer the image's."""
_SIDE_FILE_BYTES = 1 << 20
_MAX_SIDE = 16_384
_COMMON = (224, 299, 227, 256, 300, 512, 320, 416, 28, 32, 64, 96, 112, 128, 160, 192, 331, 384, 448, 480, 608, 640)
_SEARCHED = range(8, 513)


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The variable that takes the image.

    Attributes:
        channels: 1 or 3.
        channels_last: NHWC instead of NCHW.
        guessed: no parameter tells the channels for certain; what a file beside the symbol says is better.
    """

    name: str
    channels: int
    channels_last: bool
    guessed: bool = False

    def shape(self, width: int, height: int) -> Shape:
        """With an open batch size."""
        if self.channels_last:
            return (BATCH, height, width, self.channels)
        return (BATCH, self.channels, height, width)


@dataclass(frozen=True, slots=True)
class StatedSize:
    """A size that somebody said, and who; with the channels, where they were said too."""

    width: int
    height: int
    source: str
    channels: int | None = None


def find_image_input(symbol: Symbol, params: Params, heads: tuple[Entry, ...]) -> ImageInput:
    """The one variable that is neither a parameter nor a label.

    Raises:
        ModelRefused: there is none, or there are several.
    """
    names = [symbol.nodes[place].name for place in reachable(symbol, heads) if symbol.nodes[place].is_variable]
    absent = [name for name in names if name not in params.arrays]
    free = list(dict.fromkeys(name for name in absent if not PARAMETER.fullmatch(name)))
    if not absent and "data" in names:
        free = ["data"]  # an executor's arrays were saved, the last batch among them
    if len(free) != 1:
        raise ModelRefused(
            "It is not clear which variable of the MXNet network is the image.",
            where=symbol.file_name,
            expected="one variable without values in the parameters file, such as data",
            got=listed(free) if free else f"values in {params.file_name} for all of its variables",
            remedy="mli runs networks of one image; if these are parameters, take their .params file",
        )
    return ImageInput(free[0], *_channels(symbol, params, free[0]))


def _channels(symbol: Symbol, params: Params, name: str) -> tuple[int, bool, bool]:
    """Channels of the image, whether they come last, and whether that is guessed: by the first parameter it meets."""
    followed = {place for place, node in enumerate(symbol.nodes) if node.is_variable and node.name == name}
    for place, node in enumerate(symbol.nodes):
        if node.is_variable or not any(entry.node in followed for entry in inputs_of(node)):
            continue
        found = _told_by(symbol, params, node)
        if found is not None:
            if found[0] not in (1, 3):
                raise ModelRefused(
                    f"The MXNet network takes {found[0]} channels, which is no image.",
                    where=f"{symbol.file_name}, node {node.name}",
                    expected="3 channels (RGB) or 1 (gray)",
                )
            return *found, node.op == "FullyConnected"
        if node.op in _CHANGING:
            break
        followed.add(place)
    return 3, False, True


def _told_by(symbol: Symbol, params: Params, node: Node) -> tuple[int, bool] | None:
    shapes = [
        params.arrays[symbol.nodes[entry.node].name].shape
        for entry in inputs_of(node)[1:]
        if symbol.nodes[entry.node].name in params.arrays
    ]
    if not shapes:
        return None
    attributes = Attributes(node.attributes)
    if node.op.startswith("Convolution") and len(shapes[0]) == 4:
        try:
            last, groups = attributes.text("layout", "NCHW") == "NHWC", attributes.integer("num_group", 1)
        except OperatorProblem:
            return None  # told when the node is translated
        return (shapes[0][3] if last else shapes[0][1]) * groups, last
    if node.op.startswith(("BatchNorm", "CuDNNBatchNorm")) and shapes[0] in ((1,), (3,)):  # others: flattened
        return shapes[0][0], node.attributes.get("axis") in ("3", "-1")
    if node.op.startswith("broadcast_") and shapes[0] in ((1, 3, 1, 1), (3, 1, 1)):
        return 3, False
    if node.op == "FullyConnected" and len(shapes[0]) == 2:  # 3 n² is no square: one of both, or another shape
        numbers = shapes[0][1]
        return 1 if math.isqrt(numbers) ** 2 == numbers else 3, False
    return None


def stated_size(directory: Path, files: MxnetFiles, symbol: Symbol, name: str) -> StatedSize | None:
    """The input size that the files say, if any does.

    Raises:
        ModelRefused: a file beside the symbol is damaged, or its shape is no image's.
    """
    for path, read in ((files.shapes, _of_shapes), (files.signature, _of_signature), (files.hyperparams, _of_hyper)):
        if path is not None and (sizes := read(_json(directory / path), name)) is not None:
            return _checked(sizes, path)
    variable = symbol.variables()[name]
    shape = Attributes(variable.attributes).text("__shape__", "")
    numbers = [int(number) for number in re.findall(r"\d{1,9}", shape)]
    if len(numbers) == 4 and min(numbers[1:]) > 0:
        return _checked(numbers, symbol.file_name)
    return None


def class_count(directory: Path, files: MxnetFiles) -> int | None:
    """The number of classes that SageMaker's hyperparameters say."""
    value = _json(directory / files.hyperparams) if files.hyperparams else {}
    text = str(value.get("num_classes", "")) if isinstance(value, dict) else ""
    return int(text) if re.fullmatch(r"\d{1,6}", text) else None


def usual_sides(channels: int) -> tuple[int, ...]:
    """Sides of square images that networks are trained with, the most usual first."""
    small = (28, 32, 224) if channels == 1 else ()
    return tuple(dict.fromkeys((*small, *_COMMON)))


def other_sides() -> list[int]:
    """All other sides that are tried."""
    return sorted(set(_SEARCHED) - set(_COMMON), key=lambda side: (_oddness(side), side))


def _oddness(side: int) -> int:
    """0 for what people choose, more for what they do not; sides of the same oddness stay in order."""
    return next((place for place, number in enumerate((50, 32, 16, 10, 8, 4, 2)) if side % number == 0), 7)


def _of_shapes(value: Any, name: str) -> list[int] | None:
    """``[{"shape": [1, 3, 224, 224], "name": "data"}]``."""
    return _listed_shape(value, "name", "shape", name)


def _of_signature(value: Any, name: str) -> list[int] | None:
    """``{"inputs": [{"data_name": "data", "data_shape": [0, 3, 224, 224]}]}``."""
    return _listed_shape(value.get("inputs"), "data_name", "data_shape", name) if isinstance(value, dict) else None


def _listed_shape(value: Any, name_key: str, shape_key: str, name: str) -> list[int] | None:
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict) and item.get(name_key, name) == name:
            return _numbers(item.get(shape_key))
    return None


def _of_hyper(value: Any, name: str) -> list[int] | None:  # noqa: ARG001 - one signature for all of them
    """``{"image_shape": "3,224,224"}``, or one side of a square: ``"512"``."""
    text = value.get("image_shape") if isinstance(value, dict) else None
    if text is None:
        return None
    numbers = [int(number) for number in re.findall(r"\d{1,9}", str(text))]
    return numbers * 2 if len(numbers) == 1 else numbers


def _numbers(value: Any) -> list[int] | None:
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        return None
    return value


def _checked(sizes: list[int], source: str) -> StatedSize:
    """Height and width of (batch, channels, height, width), (channels, height, width) or (height, width)."""
    last = len(sizes) in (3, 4) and sizes[-1] in (1, 3) and sizes[-3] not in (1, 3)
    height, width = sizes[-3:-1] if last else (sizes[-2:] if len(sizes) >= 2 else (0, 0))
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise ModelRefused(
            f"The input size in {shown(source)} is no image's.",
            where=source,
            expected=f"height and width of 1 to {_MAX_SIDE}",
            got=str(sizes),
            remedy="correct it, or say the size with `mli model import --size`",
        )
    channels = sizes[-1] if last else sizes[-3] if len(sizes) >= 3 else None
    return StatedSize(width, height, source, channels if channels in (1, 3) else None)


def _json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_SIDE_FILE_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelRefused(
            f"The file {shown(path.name)} beside the MXNet model cannot be read.",
            where=path.name,
            expected="JSON",
            got=str(error),
            remedy="leave it out of the archive, and say the input size with `mli model import --size`",
        ) from error
