"""What every drawn thing shares: the light, the patch that it hands over, printed artwork and crumpling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mli.pipeline.sources.belt_drawing.surface import chance, pick, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Canvas = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Light:
    """Two lamps over the belt.

    Attributes:
        main, second: unit vectors towards the lamps: right, down, out of the picture.
        ambient: share of the light that comes from everywhere.
        second_strength: of the second lamp, the main one is 1.
    """

    main: tuple[float, float, float]
    second: tuple[float, float, float]
    ambient: float
    second_strength: float


@dataclass(frozen=True, slots=True)
class Patch:
    """A thing ready to be put on the belt: result = belt * transmit + emit.

    Attributes:
        emit: (height, width, 3), light that the thing itself sends, 0 to 1.
        transmit: (height, width, 3), the share of what lies behind that passes.
        cover: (height, width), 1 inside the thing, smooth at its edge.
        thickness_px: how high it stands over the belt; its shadow's length.
        shadow: darkness of its shadow by channel, 1 is black.
        bend: (height, width, 2) pixels right and down by which what lies behind is displaced, or None.
    """

    emit: Plane
    transmit: Plane
    cover: Plane
    thickness_px: float
    shadow: tuple[float, float, float] = (0.75, 0.75, 0.75)
    bend: Plane | None = None


def opaque(color: Plane, cover: Plane, thickness_px: float) -> Patch:
    """A patch through which nothing passes."""
    alpha = spread(cover)
    return Patch(color * alpha, 1 - alpha, cover, thickness_px)


def draw_light(rng: np.random.Generator) -> Light:
    def lamp(low: float, high: float) -> tuple[float, float, float]:
        turn, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
        return float(np.cos(turn) * np.sin(tilt)), float(np.sin(turn) * np.sin(tilt)), float(np.cos(tilt))

    return Light(lamp(0.35, 0.95), lamp(0.2, 1.1), rng.uniform(0.3, 0.6), rng.uniform(0.15, 0.6))


def local_grid(half_width: float, half_height: float) -> tuple[Plane, Plane]:
    """Pixel coordinates around a thing's centre."""
    right, down = int(np.ceil(half_width)) + 2, int(np.ceil(half_height)) + 2
    x, y = np.meshgrid(np.arange(-right, right + 1, dtype=np.float32), np.arange(-down, down + 1, dtype=np.float32))
    return x, y


def facets(
    rng: np.random.Generator, height: int, width: int, cell_px: float, softness: float = 0.8
) -> tuple[Plane, Plane]:
    """Slopes right and down of a crumpled surface: flat pieces that meet in creases, deviation about 1."""
    count = max(3, int(height * width / cell_px**2))
    half = (height // 2 + 1, width // 2 + 1)  # creases are soft enough for half the resolution
    sites = np.full(half, 255, np.uint8)
    sites[rng.integers(0, half[0], count), rng.integers(0, half[1], count)] = 0
    _, owner = cv2.distanceTransformWithLabels(sites, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    slopes = rng.standard_normal((count + 1, 2)).astype(np.float32)
    soft = cv2.GaussianBlur(slopes[owner], (0, 0), softness / 2)
    right, down = cv2.split(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.asarray(right, np.float32), np.asarray(down, np.float32)


def sample(art: Canvas, x: Plane, y: Plane) -> Plane:
    """Colours of ``art`` at fractional pixel positions, wrapped around; float32 0 to 1."""
    mapped = cv2.remap(art, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.multiply(mapped, np.float32(1 / 255), dtype=np.float32)


def bgr255(color: Sequence[float], tone: float = 1.0) -> tuple[float, float, float]:
    """A 0 to 1 colour for OpenCV's drawing functions."""
    b, g, r = (float(np.clip(channel * tone, 0, 1) * 255) for channel in color)
    return b, g, r


BRAND_COLORS: tuple[tuple[float, float, float], ...] = (
    (0.16, 0.10, 0.80), (0.72, 0.28, 0.08), (0.22, 0.58, 0.14), (0.06, 0.06, 0.07), (0.08, 0.55, 0.95),
    (0.10, 0.78, 0.95), (0.55, 0.12, 0.48), (0.90, 0.90, 0.92), (0.75, 0.65, 0.10), (0.45, 0.16, 0.12),
    (0.35, 0.20, 0.90), (0.60, 0.75, 0.30),
)  # fmt: skip
_WORDS = ("NOVA", "ZIP", "LIMO", "SODA", "POP", "BREW", "AQUA", "KOLA", "FIZZ", "PURE", "TONIC", "MALT", "ORA")
_FONTS = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)


def _lettering(rng: np.random.Generator, art: Canvas, ink: tuple[float, float, float], upright: bool) -> None:
    """A made-up brand name, along the thing or around it."""
    word, font = pick(rng, _WORDS), pick(rng, _FONTS)
    height, width = art.shape[:2]
    room = height if upright else width // 2
    (text_width, text_height), _ = cv2.getTextSize(word, font, 1.0, 2)
    scale = min(room * 0.8 / text_width, (width // 2 if upright else height) * 0.5 / text_height)
    size = (int(text_width * scale) + 4, int(text_height * scale * 1.5) + 4)
    plate: Any = np.zeros((size[1], size[0]), np.uint8)
    cv2.putText(plate, word, (2, int(text_height * scale) + 2), font, scale, 255, 2, cv2.LINE_AA)
    plate = cv2.rotate(plate, cv2.ROTATE_90_CLOCKWISE) if upright else plate
    for left in (0, width // 2):
        top = max(0, (height - plate.shape[0]) // 2)
        start = left + max(0, (width // 2 - plate.shape[1]) // 2)
        window = art[top : top + plate.shape[0], start : start + plate.shape[1]]
        mask = plate[: window.shape[0], : window.shape[1], None].astype(np.float32) / 255
        window[:] = (window + mask * (np.asarray(ink) - window)).astype(np.uint8)


def artwork(rng: np.random.Generator, height: int = 96, width: int = 192) -> Canvas:
    """A printed wrap for a can or a label: (height, width, 3); x goes once around, y along the axis."""
    base, accent = pick(rng, BRAND_COLORS), pick(rng, BRAND_COLORS)
    art: Canvas = np.full((height, width, 3), bgr255(base), np.uint8)
    design = int(rng.integers(5))
    if design == 0:  # bands around
        for _ in range(int(rng.integers(1, 4))):
            top = int(rng.integers(0, height))
            cv2.rectangle(art, (0, top), (width, top + int(rng.integers(3, 20))), bgr255(accent), -1)
    elif design == 1:  # a wave that runs around
        around = np.arange(0, width + 1, 6)
        middle = height * rng.uniform(0.35, 0.65)
        edge = middle + height * 0.2 * np.sin(2 * np.pi * (2 * around / width + rng.random()))
        below = np.vstack([np.stack([around, edge], 1), [[width, height], [0, height]]]).astype(np.int32)
        cv2.fillPoly(art, [below], bgr255(accent), cv2.LINE_AA)
    elif design == 2:  # a badge
        for left in (0, width // 2):
            center = (left + width // 4, height // 2)
            axes = (int(width * rng.uniform(0.14, 0.21)), int(height * rng.uniform(0.26, 0.4)))
            cv2.ellipse(art, center, axes, 0, 0, 360, bgr255(accent), -1, cv2.LINE_AA)
            cv2.ellipse(art, center, axes, 0, 0, 360, bgr255((0.9, 0.9, 0.9)), 2, cv2.LINE_AA)
    elif design == 3:  # two halves
        art[int(height * rng.uniform(0.3, 0.7)) :] = bgr255(accent)
    else:  # slanted stripes
        for x in range(-height, width, int(rng.integers(16, 40))):
            cv2.line(art, (x, height), (x + height, 0), bgr255(accent), int(rng.integers(3, 9)), cv2.LINE_AA)
    ink = bgr255((0.96, 0.96, 0.96) if sum(base) < 1.7 else pick(rng, BRAND_COLORS[:4]))
    _lettering(rng, art, ink, chance(rng, 0.6))
    if chance(rng, 0.6):  # small print
        left = int(rng.integers(0, width - 30))
        for row in range(4):
            cv2.line(
                art, (left, height - 6 - 4 * row), (left + int(rng.integers(10, 26)), height - 6 - 4 * row), ink, 1
            )
    return art
