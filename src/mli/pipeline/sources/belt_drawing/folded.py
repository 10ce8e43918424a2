"""Cardboard boxes and paper: flat printed faces, put into perspective, folded and crumpled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mli.pipeline.sources.belt_drawing.patch import Light, Patch, bgr255, facets, local_grid, opaque
from mli.pipeline.sources.belt_drawing.surface import chance, noise, pick, spread, tinted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Canvas = NDArray[np.uint8]
    Points = NDArray[np.float64]

_KRAFT = ((0.36, 0.53, 0.70), (0.32, 0.48, 0.64), (0.42, 0.58, 0.74), (0.28, 0.44, 0.60), (0.46, 0.62, 0.76))
_FACE = 96


def _board(rng: np.random.Generator, kraft: tuple[float, float, float]) -> Canvas:
    """A piece of corrugated cardboard, (_FACE, _FACE, 3)."""
    grain = 1 + 0.05 * noise(rng, "clouds", _FACE, _FACE) + 0.035 * noise(rng, "streaks", _FACE, _FACE)
    flutes = 0.02 * np.sin(np.arange(_FACE, dtype=np.float32) * np.float32(rng.uniform(0.9, 1.5)))
    board = tinted(grain + flutes, kraft)
    return cv2.convertScaleAbs(board, alpha=255)  # type: ignore[return-value]


def _add_tape(rng: np.random.Generator, face: Canvas, tape: tuple[float, float, float], seam: bool) -> None:
    """The seam between the flaps, with tape over it."""
    middle = _FACE // 2 + int(rng.integers(-3, 4))
    if seam:
        cv2.line(face, (0, middle), (_FACE, middle), (36, 52, 66), 1, cv2.LINE_AA)
    half = int(rng.integers(5, 10))
    strip = face[middle - half : middle + half]
    strip[:] = cv2.addWeighted(strip, 0.3, np.full_like(strip, bgr255(tape)), 0.7, 0)
    cv2.line(face, (0, middle - half // 2), (_FACE, middle - half // 2), bgr255(tape, 1.2), 1, cv2.LINE_AA)


def _add_print(rng: np.random.Generator, face: Canvas) -> None:
    """What is on boxes: an address label, arrows, a bar code, a stamp."""
    ink = pick(rng, ((40, 44, 60), (40, 40, 150), (90, 60, 30)))
    if chance(rng, 0.5):
        left, top = int(rng.integers(4, 50)), int(rng.integers(4, 60))
        right, bottom = left + int(rng.integers(22, 40)), top + int(rng.integers(14, 26))
        cv2.rectangle(face, (left, top), (right, bottom), (232, 236, 238), -1)
        for y in range(top + 4, bottom - 2, 4):
            cv2.line(face, (left + 3, y), (right - int(rng.integers(3, 14)), y), (60, 60, 60), 1)
    if chance(rng, 0.5):
        x, y = int(rng.integers(12, 76)), int(rng.integers(14, 60))
        for offset in (0, 11):
            cv2.arrowedLine(face, (x + offset, y + 20), (x + offset, y), ink, 2, cv2.LINE_AA, tipLength=0.4)
        cv2.line(face, (x - 5, y + 24), (x + 16, y + 24), ink, 2)
    if chance(rng, 0.3):
        left, top = int(rng.integers(4, 60)), int(rng.integers(4, 72))
        for offset in range(0, 28, 2):
            cv2.line(face, (left + offset, top), (left + offset, top + 14), ink, int(rng.integers(1, 3)))


def _face_light(normal: tuple[float, float, float], light: Light) -> float:
    toward = sum(n * lamp for n, lamp in zip(normal, light.main, strict=True))
    return light.ambient * 0.9 + (1.2 - light.ambient) * max(toward, 0.0)


class _Board:
    """A drawing of one box: faces are laid over each other, back to front."""

    def __init__(self, half_width: float, half_height: float) -> None:
        x, _ = local_grid(half_width, half_height)
        self.shape = x.shape
        self.center = np.array((self.shape[1] // 2, self.shape[0] // 2), np.float64)
        self.color: Any = np.zeros((*self.shape, 3), np.float32)
        self.cover: Any = np.zeros(self.shape, np.float32)

    def lay(self, face: Canvas, corners: Points, brightness: float) -> None:
        """Put a face's corners (from its top left, clockwise) onto four points around the centre."""
        if brightness != 1.0:
            face = cv2.convertScaleAbs(face, alpha=brightness)  # type: ignore[assignment]
        points = corners + self.center
        source = np.array(((0, 0), (_FACE, 0), (_FACE, _FACE), (0, _FACE)), np.float32)
        low = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(points.max(0)).astype(int) + 2, self.shape[::-1])
        width, height = (int(size) for size in high - low)
        if width < 2 or height < 2:
            return
        matrix = cv2.getPerspectiveTransform(source, (points - low).astype(np.float32))
        warped = cv2.warpPerspective(face, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(mask, ((points - low) * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        cover = mask * np.float32(1 / 255)
        self.color[window] += spread(cover) * (warped * np.float32(1 / 255) - self.color[window])
        np.maximum(self.cover[window], cover, out=self.cover[window])


def draw_box(rng: np.random.Generator, light: Light) -> Patch:
    """A cardboard box: closed and taped, or open with its flaps out."""
    kraft = pick(rng, _KRAFT)
    w, d = rng.uniform(85, 150), rng.uniform(70, 130)
    h = rng.uniform(0.25, 0.75) * min(w, d)
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    lean_turn, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.6)
    lean_x, lean_y = float(np.cos(lean_turn) * lean), float(np.sin(lean_turn) * lean)
    grow = 1 + 0.0012 * h  # what is nearer to the camera is larger

    def at(x: float, y: float, z: float) -> Points:
        wide = 1 + (grow - 1) * z / h
        px, py = (x * cos - y * sin) * wide, (x * sin + y * cos) * wide
        return np.array((px + (z - h / 2) * lean_x, py + (z - h / 2) * lean_y))

    is_open = chance(rng, 0.35)
    reach = np.hypot(w, d) / 2 * grow + h * lean / 2 + (min(w, d) * 0.5 if is_open else 0)
    drawing = _Board(reach, reach)
    base = _board(rng, kraft)
    ring = ((-w / 2, -d / 2), (w / 2, -d / 2), (w / 2, d / 2), (-w / 2, d / 2))
    walls = []
    for (ax, ay), (bx, by) in zip(ring, (*ring[1:], ring[0]), strict=True):
        nx, ny = (by - ay), -(bx - ax)
        size = np.hypot(nx, ny)
        normal = (float((nx * cos - ny * sin) / size), float((nx * sin + ny * cos) / size), 0.0)
        walls.append(((ax, ay), (bx, by), normal, normal[0] * lean_x + normal[1] * lean_y < 0))
    for a, b, normal, faces_us in walls:
        if faces_us:
            side = base.copy()
            _add_print(rng, side)
            drawing.lay(side, np.stack([at(*a, h), at(*b, h), at(*b, 0), at(*a, 0)]), _face_light(normal, light))
    tape = pick(rng, ((0.45, 0.62, 0.74), (0.30, 0.50, 0.66), (0.78, 0.82, 0.84), (0.22, 0.36, 0.50)))
    top_light = _face_light((0, 0, 1), light)
    rim = np.stack([at(x, y, h) for x, y in ring])
    if not is_open:
        top = base.copy()
        _add_tape(rng, top, tape, seam=True)
        _add_print(rng, top)
        drawing.lay(top, rim, top_light)
        return _finish_box(rng, drawing, h)
    floor = np.stack([at(x, y, 0) for x, y in ring])
    drawing.lay(base, rim, top_light * 0.3)
    visible_floor = rim + 0.62 * (floor - rim)
    drawing.lay(base, visible_floor, top_light * 0.42)
    for index, (_a, _b, normal, faces_us) in enumerate(walls):
        if not faces_us:  # the far walls show their inner side
            ends = np.stack([rim[index], rim[(index + 1) % 4], visible_floor[(index + 1) % 4], visible_floor[index]])
            drawing.lay(base, ends, 0.62 * _face_light((-normal[0], -normal[1], 0.1), light))
    _open_flaps(rng, drawing, base, walls, rim, (w, d), top_light)
    return _finish_box(rng, drawing, h)


def _open_flaps(
    rng: np.random.Generator,
    drawing: _Board,
    base: Canvas,
    walls: list[Any],
    rim: Points,
    size: tuple[float, float],
    brightness: float,
) -> None:
    for index, (_a, _b, normal, _faces_us) in enumerate(walls):
        out = np.array(normal[:2]) * min(size) * rng.uniform(0.2, 0.46)
        first, second = rim[index], rim[(index + 1) % 4]
        inward = (second - first) * rng.uniform(0.0, 0.06)
        flap = np.stack([first, second, second + out - inward, first + out + inward])
        drawing.lay(base, flap, brightness * rng.uniform(0.78, 1.08))


def _finish_box(rng: np.random.Generator, drawing: _Board, height: float) -> Patch:
    dirt = 1 + 0.05 * noise(rng, "clouds", *drawing.shape)
    return opaque(np.clip(drawing.color * spread(dirt), 0, 1.1), drawing.cover, height)


def _page(rng: np.random.Generator) -> Canvas:
    """A printed, written or blank page, (160, 120, 3)."""
    page: Canvas = np.full((160, 120, 3), bgr255(pick(rng, _PAPERS)), np.uint8)
    kind = int(rng.integers(5))
    ink = pick(rng, ((60, 58, 56), (80, 76, 74), (120, 70, 40), (50, 50, 50)))
    if kind <= 1:  # newspaper or magazine
        cv2.rectangle(page, (8, 6), (8 + int(rng.integers(50, 104)), 16), ink, -1)
        columns = int(rng.integers(2, 4))
        wide = 108 // columns
        for column in range(columns):
            left = 7 + column * wide
            for y in range(24, 154, 4):
                cv2.line(page, (left, y), (left + wide - 6 - int(rng.integers(0, 6)), y), (130, 128, 126), 1)
        left, top = int(rng.integers(6, 50)), int(rng.integers(24, 90))
        tone = rng.uniform(60, 190, 3) if chance(rng, 0.4) else np.full(3, rng.uniform(90, 160))
        cv2.rectangle(
            page, (left, top), (left + int(rng.integers(26, 56)), top + int(rng.integers(20, 44))), tone.tolist(), -1
        )
    elif kind <= 3:  # letter, form, notebook
        step = int(rng.integers(5, 9))
        for y in range(int(rng.integers(10, 30)), 152, step):
            if chance(rng, 0.86):
                cv2.line(page, (12, y), (int(rng.integers(60, 110)), y), ink, 1)
        if chance(rng, 0.4):
            cv2.rectangle(
                page, (12, 8), (40, 20), bgr255(pick(rng, ((0.7, 0.3, 0.1), (0.2, 0.2, 0.7), (0.3, 0.5, 0.2)))), -1
            )
    return page


_PAPERS = (
    (0.93, 0.94, 0.94),
    (0.90, 0.93, 0.94),
    (0.80, 0.86, 0.88),
    (0.74, 0.80, 0.82),
    (0.95, 0.95, 0.93),
    (0.72, 0.88, 0.92),
)


def _outline(rng: np.random.Generator, crumpled: bool, torn: bool) -> Points:
    """The sheet's edge in parts of its size, about (-1, 1)."""
    if crumpled:
        turns = np.linspace(0, 2 * np.pi, 15)[:-1] + rng.uniform(-0.15, 0.15, 14)
        radii = rng.uniform(0.78, 1.02, 14)
        return np.stack([np.cos(turns) * radii, np.sin(turns) * radii * rng.uniform(0.75, 1.0)], 1)
    corners = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1)), np.float64) + rng.normal(0, 0.05, (4, 2))
    edge = []
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        rough = 0.05 if torn and chance(rng, 0.5) else 0.008
        for part in np.linspace(0, 1, 9)[:-1]:
            edge.append(start + (end - start) * part + (rng.normal(0, rough, 2) if part else 0))
    outline = np.stack(edge)
    if chance(rng, 0.3):  # a corner is missing or folded under
        outline[outline.sum(1) > 2 - rng.uniform(0.4, 0.9)] *= 0.72
    return outline


def draw_paper(rng: np.random.Generator, light: Light) -> Patch:
    """A sheet or a newspaper, flat, creased, torn or crumpled into a ball."""
    crumpled = chance(rng, 0.35)
    half_h = rng.uniform(36, 62) if crumpled else rng.uniform(60, 105)
    half_w = half_h * (1.0 if crumpled else rng.uniform(0.62, 0.85))
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    reach = 1.12 * float(np.hypot(half_w, half_h))
    x, y = local_grid(reach, reach)
    height, width = x.shape
    depth = rng.uniform(0.75, 1.1) if crumpled else rng.choice((0.05, 0.14, 0.3))
    cell = half_h * (rng.uniform(0.22, 0.36) if crumpled else rng.uniform(0.35, 0.8))
    gx, gy = facets(rng, height, width, cell, 1.0 if crumpled else 2.2)
    waves = cv2.resize(rng.normal(0, 1, (4, 4)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    curl = (np.float32(9 * depth) * gx + 4 * waves, np.float32(9 * depth) * gy - 4 * waves)
    u, v = (x * cos + y * sin) + curl[0], (y * cos - x * sin) + curl[1]
    color: Any = cv2.remap(
        _page(rng),
        u * np.float32(58 / half_w) + 60,
        v * np.float32(78 / half_h) + 80,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    ) * np.float32(1 / 255)
    outline = _outline(rng, crumpled, chance(rng, 0.4)) * (half_w, half_h)
    rotated = np.stack([outline[:, 0] * cos - outline[:, 1] * sin, outline[:, 0] * sin + outline[:, 1] * cos], 1)
    mask = np.zeros((height, width), np.uint8)
    middle = np.array((width // 2, height // 2))
    cv2.fillPoly(mask, [((rotated + middle) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    cover = mask * np.float32(1 / 255)
    slope = np.float32(light.main[0]) * gx + np.float32(light.main[1]) * gy
    shade = np.float32(0.86) + np.float32(0.34 * depth) * slope + np.float32(0.05) * waves
    if crumpled:
        rho = np.sqrt(x * x + y * y) * np.float32(1 / half_h)
        shade = shade * (np.float32(1.05) - np.float32(0.35) * rho * rho)
    shade = np.clip(shade * np.float32(0.75 + 0.35 * light.ambient), 0.25, 1.08)
    return opaque(
        color * spread(np.asarray(shade, np.float32)),
        np.asarray(cover, np.float32),
        half_h * 0.7 if crumpled else rng.uniform(2, 7),
    )
