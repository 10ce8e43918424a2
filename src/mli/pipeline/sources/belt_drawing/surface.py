"""The simulated camera's background: conveyor belts of several kinds, and the dirt and scraps on them.

Everything is float32, 0 to 1, BGR, and works in the frame's pixels. Fine textures are cut at random from a few
noise tiles that are made once: drawing fresh noise for every frame would cost more than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Floats = NDArray[np.floating[Any]]

WIDTH, HEIGHT = 320, 240
_PHASES = np.linspace(0, 1, 256)
TILE = 512

Color = tuple[float, float, float]
T = TypeVar("T")


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of ``choices``, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


# Multiplying (h, w, 1) by (h, w, 3) in numpy takes ten times as long as these two.
def tinted(plane: Floats, color: Sequence[float]) -> Plane:
    """A plane in three shades of itself, (height, width, 3)."""
    return np.asarray(cv2.merge([plane * np.float32(channel) for channel in color]), np.float32)


def spread(plane: Floats) -> Plane:
    """The same plane for each channel, (height, width, 3)."""
    return np.asarray(cv2.cvtColor(plane, cv2.COLOR_GRAY2BGR), np.float32)


@cache
def _grid() -> tuple[Plane, Plane]:
    """Pixel coordinates from the frame's centre, each (HEIGHT, WIDTH)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    return x - WIDTH / 2, y - HEIGHT / 2


@cache
def _noise_tile(kind: str) -> Plane:
    """A (TILE, TILE) texture of about zero mean and unit deviation: grain, clouds or streaks (along x)."""
    rng = np.random.default_rng(20)
    if kind == "grain":
        tile = cv2.GaussianBlur(rng.standard_normal((TILE, TILE), np.float32), (0, 0), 0.7)
    elif kind == "clouds":
        tile = np.zeros((TILE, TILE), np.float32)
        for cells in (6, 14, 40):
            coarse = rng.standard_normal((cells, cells), np.float32)
            tile += cv2.resize(coarse, (TILE, TILE), interpolation=cv2.INTER_CUBIC) * (6 / cells) ** 0.6
    else:
        tile = cv2.blur(rng.standard_normal((TILE, TILE), np.float32), (61, 1))
    return np.asarray((tile - tile.mean()) / tile.std(), np.float32)


def noise(rng: np.random.Generator, kind: str, height: int = HEIGHT, width: int = WIDTH) -> Plane:
    """A random cut of a noise tile, shape (height, width), at most TILE each."""
    tile = _noise_tile(kind)
    top, left = int(rng.integers(TILE - height + 1)), int(rng.integers(TILE - width + 1))
    flip_y, flip_x = (-1 if chance(rng, 0.5) else 1), (-1 if chance(rng, 0.5) else 1)
    return tile[top : top + height, left : left + width][::flip_y, ::flip_x]


@cache
def _color_grain() -> Plane:
    rng = np.random.default_rng(21)
    fine = cv2.GaussianBlur(rng.standard_normal((TILE, TILE, 3), np.float32), (3, 3), 0.6)
    return np.asarray(fine / fine.std(), np.float32)


def grain_tile(rng: np.random.Generator) -> Plane:
    """A random cut of sensor noise, (HEIGHT, WIDTH, 3), deviation 1."""
    top, left = int(rng.integers(TILE - HEIGHT + 1)), int(rng.integers(TILE - WIDTH + 1))
    return _color_grain()[top : top + HEIGHT, left : left + WIDTH]


@dataclass(frozen=True, slots=True)
class Belt:
    """A belt without anything on it.

    Attributes:
        image: float32 (HEIGHT, WIDTH, 3), 0 to 1, BGR.
        vertical: the belt runs from top to bottom instead of from left to right.
    """

    image: Plane
    vertical: bool


def _wave(position: Plane, period: float, knots: Sequence[float], values: Sequence[float]) -> Plane:
    """A periodic brightness: ``values`` at ``knots`` (0 to 1 of a period); ``position`` is at least 0."""
    table = np.interp(_PHASES, knots, values).astype(np.float32)
    phase = (position * np.float32(256 / period)).astype(np.int32).astype(np.uint8)
    return np.asarray(cv2.LUT(phase, table), np.float32)


def _rubber(rng: np.random.Generator, along: Plane, across: Plane) -> Plane:
    level = rng.uniform(0.09, 0.2)
    gray = level * (1 + 0.16 * noise(rng, "clouds") + 0.12 * noise(rng, "grain") + 0.06 * noise(rng, "streaks"))
    if chance(rng, 0.75):
        chevron = rng.uniform(0.25, 0.8) if chance(rng, 0.5) else 0.0
        position = along + 3000 + chevron * np.abs(across - rng.uniform(-40, 40)) if chevron else along + 3000
        strength = rng.uniform(0.35, 0.9)
        gray *= 1 + strength * _wave(
            position,
            rng.uniform(24, 64),
            (0, 0.04, 0.1, 0.24, 0.3, 0.36, 1),
            (0, 0.5, 1.0, 0.25, -0.4, -0.7, 0),
        )
    return tinted(gray, (1.04, 1.0, 0.97))


def _fabric(rng: np.random.Generator, along: Plane, across: Plane) -> Plane:
    level = rng.uniform(0.3, 0.52)
    weave = _wave(along + 3000, rng.uniform(3, 5), (0, 0.5, 1), (-1, 1, -1))
    weave *= _wave(across + 3000, rng.uniform(3, 5), (0, 0.5, 1), (-1, 1, -1))
    gray = level * (
        1 + 0.05 * weave + 0.09 * noise(rng, "clouds") + 0.04 * noise(rng, "grain") + 0.03 * noise(rng, "streaks")
    )
    return tinted(gray, (1.03, 1.0, 0.98))


def _green(rng: np.random.Generator, along: Plane, across: Plane) -> Plane:
    tint = pick(rng, ((0.30, 0.44, 0.16), (0.26, 0.40, 0.20), (0.36, 0.46, 0.10), (0.22, 0.34, 0.14)))
    gray = 1 + 0.11 * noise(rng, "clouds") + 0.05 * noise(rng, "grain") + 0.05 * noise(rng, "streaks")
    if chance(rng, 0.45):
        # The diamond tread of inclined belts.
        period = rng.uniform(9, 16)
        tread = _wave(along + across + 3000, period, (0, 0.15, 0.3, 1), (0.5, 1, -0.6, 0))
        gray += 0.13 * (tread + _wave(along - across + 3000, period, (0, 0.15, 0.3, 1), (0.5, 1, -0.6, 0)))
    if chance(rng, 0.4):
        seam = np.abs(along + 0.3 * across - rng.uniform(-150, 150))
        gray *= 1 - 0.35 * np.clip(3 - seam, 0, 1)
    return tinted(gray, tint)


def _modular(rng: np.random.Generator, along: Plane, across: Plane) -> Plane:
    tint = pick(rng, ((0.62, 0.38, 0.16), (0.52, 0.50, 0.48), (0.55, 0.30, 0.10), (0.30, 0.29, 0.28)))
    pitch, link = rng.uniform(20, 34), rng.uniform(26, 60)
    row = np.floor((along + 3000) / pitch)
    joint = _wave(along + 3000, pitch, (0, 0.06, 0.12, 0.2, 0.8, 1), (-0.75, -0.55, 0.3, 0.06, 0, -0.1))
    gap = _wave(across + 3000 + (row % 2) * (link / 2), link, (0, 0.04, 0.08, 0.12, 1), (-0.7, -0.5, 0.25, 0, 0))
    gray = 1 + joint + gap + 0.06 * noise(rng, "clouds") + 0.03 * noise(rng, "grain")
    return tinted(np.maximum(gray, 0.12), tint)


def _mesh(rng: np.random.Generator, along: Plane, across: Plane) -> Plane:
    period = rng.uniform(9, 17)
    wire = ((0, 0.1, 0.2, 0.34, 0.42, 1), (0.35, 0.9, 0.75, 0.25, 0.0, 0.0))
    first = _wave(along + across * 0.9 + 3000, period, *wire)
    second = _wave(along - across * 0.9 + 3000, period, *wire)
    below = rng.uniform(0.05, 0.14)
    gray = below + rng.uniform(0.4, 0.62) * np.maximum(first, second)
    rods = _wave(along + 3000, period * rng.uniform(4, 7), (0, 0.03, 0.06, 0.09, 1), (0, 0.35, 0.1, 0, 0))
    gray = (gray + 0.6 * rods) * (1 + 0.08 * noise(rng, "clouds"))
    return tinted(gray, (1.02, 1.0, 0.97))


def _rollers(rng: np.random.Generator, along: Plane, _across: Plane) -> Plane:
    period = rng.uniform(34, 66)
    lamp = rng.uniform(0.25, 0.6)
    gray = _wave(
        along + 3000,
        period,
        (0, 0.05, 0.1, lamp - 0.1, lamp, lamp + 0.1, 0.8, 0.86, 0.9, 1),
        (0.05, 0.12, 0.26, 0.48, 0.82, 0.5, 0.2, 0.1, 0.04, 0.04),
    )
    # Streaks turned by a quarter run along the rollers, as their scratches do.
    scratches = noise(rng, "streaks", WIDTH, WIDTH)
    run = scratches[:HEIGHT] if abs(float(along[0, 1] - along[0, 0])) < 0.5 else scratches.T[:HEIGHT]
    gray = gray * (1 + 0.09 * run + 0.07 * noise(rng, "clouds"))
    return tinted(gray, (1.03, 1.0, 0.96))


_KINDS: tuple[Callable[[np.random.Generator, Plane, Plane], Plane], ...] = (
    _rubber,
    _rubber,
    _fabric,
    _green,
    _modular,
    _mesh,
    _rollers,
)


def _add_rails(rng: np.random.Generator, image: Plane, across: Plane) -> None:
    """The conveyor's frame beside the belt: painted steel, its lit edge, its shadow on the belt."""
    paint = pick(
        rng, ((0.55, 0.53, 0.50), (0.12, 0.62, 0.82), (0.40, 0.36, 0.34), (0.58, 0.36, 0.14), (0.3, 0.4, 0.3))
    )
    reach = float(np.abs(across).max()) - rng.uniform(18, 46)
    sides = across if chance(rng, 0.4) else np.abs(across)
    distance = sides - reach
    image *= spread(1 - np.float32(0.5) * np.clip(1 + distance * np.float32(1 / 12), 0, 1))
    # A lit lip at the belt's side, then the flat of the rail, a groove in it, and a turn away from the light.
    knots, tones = (0, 0.05, 0.09, 0.3, 0.33, 0.38, 1), (1.4, 1.35, 0.95, 1.0, 0.7, 1.0, 0.75)
    shade = _wave(np.clip(distance, 0, 63), 64, knots, tones)
    rail = tinted(shade * (1 + 0.04 * noise(rng, "clouds")), paint)
    cover = spread(np.clip(distance + np.float32(0.5), 0, 1))
    image += cover * (rail - image)


def draw_belt(rng: np.random.Generator) -> Belt:
    """One belt of a random kind, direction and state."""
    x, y = _grid()
    vertical = chance(rng, 0.3)
    angle = rng.normal(0, 0.05) + (np.pi / 2 if vertical else 0.0)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    along = along + np.float32(rng.uniform(0, 200))
    image = pick(rng, _KINDS)(rng, along, across)
    if chance(rng, 0.3):
        _add_rails(rng, image, across)
    return Belt(np.ascontiguousarray(image, np.float32), vertical)


def add_stains(rng: np.random.Generator, image: Plane) -> None:
    """Dust, dark smears and wet spots, in place."""
    if chance(rng, 0.5):
        smear = np.clip(noise(rng, "clouds") - np.float32(rng.uniform(0.6, 1.4)), 0, 1) * np.float32(
            rng.uniform(0.2, 0.65)
        )
        tone = pick(rng, ((0.10, 0.12, 0.14), (0.16, 0.22, 0.28), (0.42, 0.45, 0.48)))
        image *= spread(1 - smear)
        image += tinted(smear, tone)
    if chance(rng, 0.3):
        depth = noise(rng, "clouds") - np.float32(rng.uniform(1.0, 1.7))
        wet = np.clip(depth * 5, 0, 1)
        # Water mirrors the lamp only where its edge leans towards it.
        lean = np.clip(depth[2:, 2:] - depth[:-2, :-2], 0, 0.3) * wet[1:-1, 1:-1] * (1 - wet[1:-1, 1:-1])
        image *= spread(1 - np.float32(0.42) * wet)
        image[1:-1, 1:-1] += spread(np.float32(rng.uniform(3, 9)) * lean)


_SCRAP_COLORS = (
    (225, 230, 232), (200, 214, 220), (96, 132, 168), (70, 104, 140), (60, 60, 190), (180, 110, 40),
    (70, 150, 70), (40, 170, 215), (50, 60, 70), (120, 125, 130), (60, 90, 60),
)  # fmt: skip


def _scrap(rng: np.random.Generator, canvas: NDArray[np.uint8], at: NDArray[np.float64]) -> None:
    corners = int(rng.integers(3, 7))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    spread = rng.uniform(2.0, 9.0) * rng.uniform(0.5, 1.1, corners)
    points = at + np.stack([np.cos(angles), np.sin(angles)], 1) * spread[:, None]
    color = np.asarray(pick(rng, _SCRAP_COLORS)) * rng.uniform(0.6, 1.0)
    for offset, tone in ((1.6, np.array((18.0, 18.0, 18.0))), (0.0, color)):
        shifted = ((points + offset) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [shifted], tone.tolist(), cv2.LINE_AA, 4)


def _strip(rng: np.random.Generator, canvas: NDArray[np.uint8], at: NDArray[np.float64]) -> None:
    """A straw, a cable tie or a thread."""
    turn, bend, length = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.5), rng.uniform(12, 36)
    steps = np.linspace(0, 1, 7)
    directions = turn + bend * steps
    points = at + np.cumsum(np.stack([np.cos(directions), np.sin(directions)], 1), 0) * (length / 7)
    color = (np.asarray(pick(rng, _SCRAP_COLORS)) * rng.uniform(0.5, 1.0)).tolist()
    thickness = int(rng.integers(1, 3))
    cv2.polylines(canvas, [(points * 16 + 20).astype(np.int32)], False, (16, 16, 16), thickness, cv2.LINE_AA, 4)
    cv2.polylines(canvas, [(points * 16).astype(np.int32)], False, color, thickness, cv2.LINE_AA, 4)


def _loose_cap(rng: np.random.Generator, canvas: NDArray[np.uint8], at: NDArray[np.float64]) -> None:
    center, radius = (int(at[0] * 16), int(at[1] * 16)), rng.uniform(4.0, 7.0)
    color = np.asarray(pick(rng, ((210, 90, 30), (40, 40, 200), (225, 225, 225), (60, 150, 50), (60, 170, 210))))
    for offset, part, tone in ((24, 1.05, (15, 15, 15)), (0, 1.0, color * 0.7), (-6, 0.75, color)):
        where = (center[0] + offset, center[1] + offset)
        cv2.circle(canvas, where, int(radius * part * 16), np.asarray(tone, float).tolist(), -1, cv2.LINE_AA, 4)


def _crumbs(rng: np.random.Generator, canvas: NDArray[np.uint8], at: NDArray[np.float64]) -> None:
    color = (np.asarray(pick(rng, _SCRAP_COLORS)) * rng.uniform(0.4, 0.9)).tolist()
    for spot in at + rng.normal(0, 10, (int(rng.integers(4, 14)), 2)):
        radius = int(rng.uniform(0.5, 1.6) * 16)
        cv2.circle(canvas, (int(spot[0] * 16), int(spot[1] * 16)), radius, color, -1, cv2.LINE_AA, 4)


def add_scraps(rng: np.random.Generator, image: Plane, most: int) -> Plane:
    """Up to ``most`` small pieces of litter; returns a new image."""
    count = int(rng.integers(0, most + 1))
    if not count:
        return image
    # Only 8-bit images get smooth edges from OpenCV's drawing functions.
    canvas = cv2.convertScaleAbs(image, alpha=255)
    for _ in range(count):
        at = rng.uniform((0, 0), (WIDTH, HEIGHT))
        pick(rng, (_scrap, _scrap, _scrap, _strip, _loose_cap, _crumbs, _crumbs))(rng, canvas, at)  # type: ignore[arg-type]
    return np.multiply(canvas, np.float32(1 / 255), dtype=np.float32)
