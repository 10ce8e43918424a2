"""The simulated camera: draws photo-like frames of a recycling conveyor belt, the same for the same seed.

It needs numpy and OpenCV only and takes a few milliseconds a frame, so that the demo, the tests and the training of
the demo model all look through the same lens. What is on a frame is known, which lets the demo count right answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mli.pipeline.sources.belt_drawing.folded import draw_box, draw_paper
from mli.pipeline.sources.belt_drawing.patch import Light, Patch, draw_light
from mli.pipeline.sources.belt_drawing.round import draw_can, draw_glass_bottle, draw_plastic_bottle
from mli.pipeline.sources.belt_drawing.surface import (
    HEIGHT,
    WIDTH,
    add_scraps,
    add_stains,
    chance,
    draw_belt,
    grain_tile,
    pick,
    tinted,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mli.types import Image

    Plane = NDArray[np.float32]

LABELS: tuple[str, ...] = (
    "aluminum can",
    "cardboard box",
    "empty belt",
    "glass bottle",
    "paper",
    "plastic bottle",
)

_DRAW: dict[str, Callable[[np.random.Generator, Light], Patch]] = {
    "aluminum can": draw_can,
    "cardboard box": draw_box,
    "glass bottle": draw_glass_bottle,
    "paper": draw_paper,
    "plastic bottle": draw_plastic_bottle,
}


# Where the light is worked out: parts of the frame's half height and width, coarse because light changes slowly.
_FIELD = np.mgrid[-1:1:12j, -1:1:16j].astype(np.float32)


@dataclass(frozen=True, slots=True)
class Scene:
    """One drawn frame and the truth about it.

    Attributes:
        image: uint8, shape (240, 320, 3), BGR.
        label: the one of ``LABELS`` that is right.
    """

    image: Image
    label: str


def label_of(seed: int, index: int) -> str:
    """What ``render`` will draw for the same numbers, without drawing it."""
    return pick(np.random.default_rng([seed, index]), LABELS)


def render(seed: int, index: int) -> Scene:
    """Draw frame ``index`` of the camera ``seed``; both at least 0. The same numbers give the same frame."""
    rng = np.random.default_rng([seed, index])
    label = pick(rng, LABELS)  # first, as in label_of
    belt = draw_belt(rng)
    add_stains(rng, belt.image)
    scene = add_scraps(rng, belt.image, 9 if label == "empty belt" else 6)
    light = draw_light(rng)
    if label in _DRAW:
        patch = _DRAW[label](rng, light)
        _place(scene, patch, _position(rng, patch.cover), light)
    scene = _expose(rng, scene, light)
    scene = _blur(rng, scene, belt.vertical)
    return Scene(_digitise(rng, scene), label)


def _position(rng: np.random.Generator, cover: Plane) -> tuple[int, int]:
    """Left and top of a patch: mostly all of the thing in view, sometimes cut by the frame's edge."""
    height, width = cover.shape
    total = float(cover.sum())
    wanted = rng.uniform(0.68, 0.9) if chance(rng, 0.2) else 0.97
    best, best_share = (0, 0), -1.0
    for _ in range(12):
        left = int(rng.integers(-width // 3, WIDTH - 2 * width // 3 + 1))
        top = int(rng.integers(-height // 3, HEIGHT - 2 * height // 3 + 1))
        rows, columns = _visible(left, top, width, height)
        share = float(cover[rows, columns].sum()) / total
        if share > best_share:
            best, best_share = (left, top), share
        if share >= wanted:
            break
    if best_share < 0.6:
        best = (WIDTH - width) // 2, (HEIGHT - height) // 2
    return best


def _visible(left: int, top: int, width: int, height: int) -> tuple[slice, slice]:
    """The part of a patch that lies inside the frame, in the patch's own rows and columns."""
    rows = slice(min(max(-top, 0), height), max(min(HEIGHT - top, height), 0))
    columns = slice(min(max(-left, 0), width), max(min(WIDTH - left, width), 0))
    return rows, columns


def _place(scene: Plane, patch: Patch, corner: tuple[int, int], light: Light) -> None:
    """Put a thing with its shadow on the scene, in place."""
    left, top = corner
    _cast_shadow(scene, patch, corner, light)
    rows, columns = _visible(left, top, patch.cover.shape[1], patch.cover.shape[0])
    window = scene[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
    behind: Plane = window
    if patch.bend is not None:
        height, width = window.shape[:2]
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        bend = patch.bend[rows, columns]
        behind = np.asarray(
            cv2.remap(window, x + bend[..., 0], y + bend[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT),
            np.float32,
        )
    np.copyto(window, behind * patch.transmit[rows, columns] + patch.emit[rows, columns])


def _cast_shadow(scene: Plane, patch: Patch, corner: tuple[int, int], light: Light) -> None:
    """Darken the belt beside the thing, away from the lamp, at a quarter of the resolution."""
    step = 4
    pad = 60
    height, width = patch.cover.shape
    small = np.zeros((HEIGHT // step + pad, WIDTH // step + pad), np.float32)
    cover = cv2.resize(patch.cover, (max(width // step, 1), max(height // step, 1)), interpolation=cv2.INTER_AREA)
    reach = patch.thickness_px / max(light.main[2], 0.4)
    smear = max(int(reach * 0.8 / step), 1)
    for part in range(smear + 1):
        x = (corner[0] - light.main[0] * reach * part / smear) / step + pad / 2
        y = (corner[1] - light.main[1] * reach * part / smear) / step + pad / 2
        left, top = round(x), round(y)
        rows, columns = slice(max(top, 0), top + cover.shape[0]), slice(max(left, 0), left + cover.shape[1])
        target = small[rows, columns]
        cut = cover[rows.start - top :, columns.start - left :][: target.shape[0], : target.shape[1]]
        np.maximum(target[: cut.shape[0], : cut.shape[1]], cut, out=target[: cut.shape[0], : cut.shape[1]])
    soft = cv2.GaussianBlur(small, (0, 0), 0.7 + 0.02 * reach)[pad // 2 : -pad // 2, pad // 2 : -pad // 2]
    dark = tinted(np.asarray(soft, np.float32), [channel * (1 - 0.5 * light.ambient) for channel in patch.shadow])
    scene *= np.asarray(cv2.resize(1 - dark, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.float32)


def _expose(rng: np.random.Generator, scene: Plane, light: Light) -> Plane:
    """Uneven light, the lens's dark corners, exposure and the lamp's colour."""
    y, x = _FIELD
    slope = rng.uniform(0, 0.28)
    field = 1 + slope * (light.main[0] * x + light.main[1] * y) - rng.uniform(0, 0.2) * (x * x + y * y)
    if chance(rng, 0.3):  # a lamp's pool of light, or the shadow of somebody who passes by
        cx, cy = rng.uniform(-1, 1, 2)
        field += rng.uniform(-0.35, 0.3) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) * rng.uniform(1, 4))
    field *= rng.uniform(0.9, 1.5)
    warmth = rng.normal(0, 0.06)
    lit = tinted(field.astype(np.float32), (1 - warmth, 1 + rng.normal(0, 0.015), 1 + warmth))
    return scene * np.asarray(cv2.resize(lit, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.float32)


def _blur(rng: np.random.Generator, scene: Plane, vertical: bool) -> Plane:
    """The belt's motion during the exposure, and a lens that is not always in focus."""
    if chance(rng, 0.45):
        length = int(rng.integers(2, 8))
        scene = np.asarray(cv2.blur(scene, (1, length) if vertical else (length, 1)), np.float32)
    sigma = rng.uniform(0.8, 1.5) if chance(rng, 0.15) else rng.uniform(0.35, 0.7)
    return np.asarray(cv2.GaussianBlur(scene, (5, 5), sigma), np.float32)


def _digitise(rng: np.random.Generator, scene: Plane) -> Image:
    """Sensor noise, more of it in the light, then 8 bits."""
    strength = np.float32(255 * rng.uniform(0.003, 0.02))
    speckle = grain_tile(rng) * (np.float32(0.6) * strength + np.float32(0.6) * strength * scene)
    # An addition into 8 bits rounds and saturates in one pass.
    return np.asarray(cv2.add(scene * np.float32(255), speckle, dtype=cv2.CV_8U), np.uint8)
