"""From a frame's pixels to the model's input tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mli.types import Image, InputSpec

_INTERPOLATION = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the whole frame lies in the model's input, in parts of the input's width and height.

    A letterboxed frame lies inside (0..1), a cropped one reaches beyond it.
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0


@dataclass(frozen=True, slots=True)
class _Cut:
    """One axis of a crop: pixels ``start`` to ``stop`` are resized to ``scaled``; ``size`` from ``offset`` stay."""

    start: int
    stop: int
    scaled: int
    offset: int
    size: int

    def placement(self, length: int) -> tuple[float, float]:
        """Begin and extent of the frame's ``length`` pixels, in parts of ``size``."""
        step = self.scaled / (self.stop - self.start)
        return (-self.start * step - self.offset) / self.size, length * step / self.size


def _central(length: int, size: int, ratio: float) -> _Cut:
    """The central part of ``length`` pixels that ``ratio`` scales to ``size``."""
    begin = max(0.0, (length - size / ratio) / 2)
    start = math.floor(begin)
    stop = min(length, max(start + 1, math.ceil(begin + size / ratio)))
    scaled = max(size, round((stop - start) * ratio))
    return _Cut(start, stop, scaled, min(round((begin - start) * ratio), scaled - size), size)


class Preprocessor:
    """Resizes, reorders and scales frames as an input specification says. Thread-safe."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._size = (spec.width, spec.height)
        self._interpolation = _INTERPOLATION[spec.interpolation]
        self._dtype = np.dtype(spec.dtype)
        self._mean = np.asarray(spec.mean, np.float32)
        self._scale = np.asarray(spec.scale, np.float32)
        self._raw = not self._mean.any() and bool((self._scale == 1).all())

    def __call__(self, image: Image) -> tuple[NDArray[Any], Placement]:
        """Make the input of one frame.

        Args:
            image: uint8 (height, width, 3), BGR.

        Returns:
            The tensor, (1, C, H, W) or (1, H, W, C), and where the frame lies in it.
        """
        sized, placement = self._resize(image)
        pixels = self._recolor(sized)
        tensor = self._to_dtype(pixels)
        if self._spec.layout == "NCHW":
            tensor = tensor.transpose(2, 0, 1)
        return np.ascontiguousarray(tensor[np.newaxis]), placement

    def _resize(self, image: Image) -> tuple[Image, Placement]:
        width, height = self._size
        if self._spec.resize == "stretch":
            if image.shape[1] == width and image.shape[0] == height:
                return image, Placement()
            return self._to_size(image, width, height), Placement()
        if self._spec.resize == "crop":
            return self._crop(image)
        ratio = min(width / image.shape[1], height / image.shape[0])
        inner_width = max(1, round(image.shape[1] * ratio))
        inner_height = max(1, round(image.shape[0] * ratio))
        left, top = (width - inner_width) // 2, (height - inner_height) // 2
        placement = Placement(left / width, top / height, inner_width / width, inner_height / height)
        padded = np.full((height, width, 3), self._spec.pad, np.uint8)
        padded[top : top + inner_height, left : left + inner_width] = self._to_size(image, inner_width, inner_height)
        return padded, placement

    def _crop(self, image: Image) -> tuple[Image, Placement]:
        """The centre of the frame, its shorter side filling the input.

        Pixels that are cut off are not resized first: of a frame 1 pixel wide and 60,000 high that were gigabytes.
        """
        ratio = max(self._size[0] / image.shape[1], self._size[1] / image.shape[0])
        across = _central(image.shape[1], self._size[0], ratio)
        down = _central(image.shape[0], self._size[1], ratio)
        part = image[down.start : down.stop, across.start : across.stop]
        scaled = self._to_size(part, across.scaled, down.scaled)
        cut = scaled[down.offset : down.offset + down.size, across.offset : across.offset + across.size]
        left, width = across.placement(image.shape[1])
        top, height = down.placement(image.shape[0])
        return cut, Placement(left, top, width, height)

    def _to_size(self, image: Image, width: int, height: int) -> Image:
        resized = cv2.resize(image, (width, height), interpolation=self._interpolation)
        return resized.astype(np.uint8, copy=False)

    def _recolor(self, image: Image) -> Image:
        if self._spec.color == "BGR":
            return image
        if self._spec.color == "RGB":
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)[:, :, np.newaxis]

    def _to_dtype(self, pixels: Image) -> NDArray[Any]:
        spec = self._spec
        # Without mean and scale a model takes pixels as they are, whatever its quantisation makes of them.
        if self._dtype == np.uint8 and self._raw:
            return pixels
        if self._dtype == np.int8 and self._raw:
            # The int8 models of TensorFlow store pixel p as p - 128.
            return (pixels ^ 0x80).view(np.int8)
        real = pixels.astype(np.float32)
        if not self._raw:
            real -= self._mean
            real *= self._scale
        if self._dtype.kind == "f":
            return real.astype(self._dtype, copy=False)
        if spec.quantization is not None:
            real = real / np.float32(spec.quantization.scale) + spec.quantization.zero_point
        limits = np.iinfo(self._dtype)
        return np.clip(np.rint(real), limits.min, limits.max).astype(self._dtype)
