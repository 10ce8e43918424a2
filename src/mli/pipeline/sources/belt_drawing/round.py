"""Cans and bottles: solids of revolution that lie on the belt, shaded by their own normals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mli.pipeline.sources.belt_drawing.patch import Light, Patch, artwork, facets, local_grid, opaque, sample
from mli.pipeline.sources.belt_drawing.surface import chance, pick, spread, tinted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

_STEPS = 512
_PLACES = np.linspace(0, 1, _STEPS)


def _size(plane: Plane) -> tuple[int, int]:
    return plane.shape[0], plane.shape[1]


@dataclass(frozen=True, slots=True)
class Solid:
    """A solid of revolution as the camera sees it; all planes have the same shape.

    Attributes:
        u, v: pixels along the axis from the middle, and across it.
        along: 0 at the base, 1 at the top.
        side: -1 to 1 across the silhouette; the sine of the angle around the axis.
        facing: cosine of that angle, 1 where the surface faces the camera.
        around: that angle as a part of half a turn, -0.5 to 0.5.
        cover: 1 inside.
        slope: change of the radius along the axis, pixels per pixel.
        axis, across: unit vectors in the frame: right, down.
    """

    u: Plane
    v: Plane
    along: Plane
    side: Plane
    facing: Plane
    around: Plane
    cover: Plane
    slope: Plane
    axis: tuple[float, float]
    across: tuple[float, float]


def _profile(rng: np.random.Generator, knots: Sequence[tuple[float, float]], smooth: int, dents: float) -> Plane:
    """Radius (1 at the widest) at _STEPS places from base to top; ``dents`` squeezes it here and there."""
    positions, radii = zip(*knots, strict=True)
    table = np.interp(_PLACES, positions, radii).astype(np.float32)
    table = cv2.blur(table[None], (smooth, 1), borderType=cv2.BORDER_REPLICATE)[0]
    if dents > 0:
        coarse = rng.uniform(-1, 0.6, (1, int(rng.integers(5, 9)))).astype(np.float32)
        table = table * (1 + dents * cv2.resize(coarse, (_STEPS, 1), interpolation=cv2.INTER_CUBIC)[0])
    return np.asarray(table, np.float32)


def _revolve(table: Plane, length: float, radius: float, angle: float, tilt: float, bow: float, room: float) -> Solid:
    """Turn a profile into planes.

    Args:
        tilt: sine of the angle by which the top leans towards the camera; curves everything that runs around.
        bow: pixels by which the axis is bent in its middle.
        room: pixels that the caller draws beyond the top.
    """
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    reach = length / 2 + room
    wide = radius * 1.1 + abs(bow)
    x, y = local_grid(abs(cos) * reach + abs(sin) * wide, abs(sin) * reach + abs(cos) * wide)
    u, v = x * np.float32(cos) + y * np.float32(sin), y * np.float32(cos) - x * np.float32(sin)
    if bow:
        v = v + np.float32(bow) * ((u * np.float32(2 / length)) ** 2 - np.float32(0.4))
    curved = u
    if tilt:
        curved = u + np.float32(tilt * radius) * np.sqrt(np.clip(1 - (v / np.float32(radius)) ** 2, 0, 1))
    along = curved * np.float32(1 / length) + np.float32(0.5)
    index = np.clip(along * np.float32(_STEPS), 0, _STEPS - 1).astype(np.int32)
    r = (table * np.float32(radius))[index]
    slope = (np.gradient(table) * (radius * _STEPS / length)).astype(np.float32)[index]
    ends = np.minimum(along, 1 - along) * np.float32(length)
    cover = np.clip(np.minimum(r - np.abs(v), ends) + np.float32(0.5), 0, 1)
    side = np.clip(v / np.maximum(r, 1), -1, 1)
    facing = np.sqrt(1 - side * side)
    # The arc sine, in units of half a turn; numpy's own takes longer than all the rest here.
    size = np.abs(side)
    series = np.float32(1.5707) - size * (
        np.float32(0.2121) - size * (np.float32(0.0742) - np.float32(0.0187) * size)
    )
    around = np.copysign((np.float32(np.pi / 2) - np.sqrt(1 - size) * series) * np.float32(1 / np.pi), side)
    return Solid(u, v, along, side, facing, around, cover, slope, (cos, sin), (-sin, cos))


def _lobe(position: Plane, center: float, width: float) -> Plane:
    distance = (position - np.float32(center)) * np.float32(1 / width)
    return np.asarray(np.exp(-distance * distance), np.float32)


def _highlight_side(solid: Solid, lamp: tuple[float, float, float]) -> float:
    """Where across the silhouette a lamp is mirrored: the half vector's share of the across direction."""
    half = np.array((lamp[0], lamp[1], lamp[2] + 1))
    half /= np.linalg.norm(half)
    return float(half[0] * solid.across[0] + half[1] * solid.across[1])


def _diffuse(solid: Solid, light: Light, side: Plane) -> Plane:
    lx, ly, lz = light.main
    across = lx * solid.across[0] + ly * solid.across[1]
    axial = lx * solid.axis[0] + ly * solid.axis[1]
    direct = side * np.float32(across) + solid.facing * np.float32(lz) - solid.slope * np.float32(0.6 * axial)
    return np.asarray(light.ambient + (1.15 - light.ambient) * np.maximum(direct, 0), np.float32)


def _mirror(solid: Solid, light: Light, side: Plane) -> Plane:
    """What brushed metal mirrors of its surroundings: two lamps, a dark hall, a pale ceiling."""
    first, second = _highlight_side(solid, light.main), _highlight_side(solid, light.second)
    mirrored = (
        np.float32(0.2)
        + np.float32(0.75) * _lobe(side, first, 0.13)
        + np.float32(0.5 * light.second_strength) * _lobe(side, second, 0.09)
        + np.float32(0.3) * _lobe(side, first * 0.4, 0.45)
        + np.float32(0.16) * _lobe(np.abs(side), 0.86, 0.08)
    )
    return np.asarray(mirrored, np.float32)


def _lid(rng: np.random.Generator, solid: Solid, light: Light, center: float, tilt: float, radius: float) -> Patch:
    """The end of a can: rim, groove, and a ring-pull or the dome of its bottom."""
    e, f = (solid.u - np.float32(center)) / np.float32(radius * tilt), solid.v / np.float32(radius)
    rho = np.sqrt(e * e + f * f)
    cover = np.clip((1 - rho) * np.float32(radius * max(tilt, 0.4)) + np.float32(0.5), 0, 1)
    # Metal turned on a lathe mirrors a lamp in two bright sectors: the cosine of twice the angle to it.
    lamp_f, lamp_e = (light.main[0] * d[0] + light.main[1] * d[1] for d in (solid.across, solid.axis))
    toward = (e * np.float32(lamp_e) + f * np.float32(lamp_f)) / (
        rho * np.float32(np.hypot(lamp_e, lamp_f)) + np.float32(1e-3)
    )
    brushed = np.float32(0.36) + np.float32(0.42) * toward * toward
    dome = chance(rng, 0.3)
    knots, tones = (
        ((0, 0.3, 0.55, 0.72, 0.8, 0.9, 1), (1.25, 1.1, 0.75, 0.55, 1.3, 0.9, 0.7))
        if dome
        else ((0, 0.74, 0.78, 0.84, 0.88, 0.95, 1), (1.0, 1.0, 0.55, 0.45, 1.0, 1.5, 0.8))
    )
    rings = np.interp(np.linspace(0, 1, 256), knots, tones).astype(np.float32)
    tone = brushed * rings[np.clip(rho * 255, 0, 255).astype(np.int32)]
    if not dome:
        swing = rng.uniform(0, 2 * np.pi)
        c, s = np.float32(np.cos(swing)), np.float32(np.sin(swing))
        p, q = e * c + f * s, f * c - e * s
        mouth = np.clip((1 - np.sqrt(((p - 0.4) / 0.26) ** 2 + (q / 0.32) ** 2)) * 5, 0, 1)
        tone = tone * (1 - mouth * np.float32(0.85 if chance(rng, 0.6) else 0.25))
        ring = np.sqrt(((p + 0.14) / 0.34) ** 2 + (q / 0.2) ** 2)
        tab = np.clip((1 - ring) * 5, 0, 1) * (1 - 0.7 * np.clip((0.45 - ring) * 6, 0, 1))
        tone = tone + tab * (np.float32(0.85) - tone) - np.float32(0.3) * np.clip(1 - np.abs(ring - 1.1) * 8, 0, 1)
    color = tinted(np.asarray(np.clip(tone, 0.04, 1.1), np.float32), (1.02, 1.0, 0.97))
    return opaque(color, np.asarray(cover, np.float32), 0.0)


def draw_can(rng: np.random.Generator, light: Light) -> Patch:
    """A drinks can, lying or standing, often dented."""
    slim = chance(rng, 0.25)
    length = rng.uniform(100, 175)
    radius = length * (rng.uniform(0.19, 0.21) if slim else rng.uniform(0.26, 0.3))
    tilt = rng.uniform(0.08, 0.5) if chance(rng, 0.75) else rng.uniform(0.75, 0.96)
    shown = length * np.sqrt(1 - tilt**2)
    crush = rng.uniform(0.05, 0.22) if chance(rng, 0.5) else 0.0
    crush = crush if tilt < 0.6 else crush * 0.3
    taper = 0.86
    knots = ((0, 0.8), (0.03, 0.86), (0.07, 1), (0.9, 1), (0.97, taper + 0.02), (1, taper))
    table = _profile(rng, knots, 7, crush)
    bow = rng.normal(0, radius * crush * 1.2) if crush else 0.0
    solid = _revolve(table, shown, radius, rng.uniform(0, 2 * np.pi), tilt, bow, radius * tilt)
    side = solid.side
    shape = side.shape
    if crush:
        gx, gy = facets(rng, *_size(side), radius * rng.uniform(0.35, 0.6), softness=1.2)
        side = np.clip(side + np.float32(2.2 * crush) * gx, -1.2, 1.2)
        crease = 1 + np.float32(0.8 * crush) * gy
    else:
        crease = np.ones(1, np.float32)
    mirror = _mirror(solid, light, side) * crease
    if chance(rng, 0.14):
        print_color = np.full((*shape, 3), 0.78, np.float32)  # a bare can
    else:
        art = artwork(rng)
        print_color = sample(
            art, (solid.around * 0.5 + np.float32(rng.random())) * 192, np.clip(1 - solid.along, 0, 0.99) * 95
        )
    body = print_color * spread(0.34 * _diffuse(solid, light, side) + 0.66 * mirror)
    body += spread(0.34 * np.maximum(mirror - 0.5, 0))
    ends = np.clip(np.maximum(solid.along - 0.925, 0.035 - solid.along) * np.float32(shown * 0.7), 0, 1)
    steel = np.float32(0.92) * mirror * (1 - 0.4 * _lobe(solid.along, 0.93, 0.012))
    body += spread(ends) * (tinted(steel, (1.02, 1.0, 0.97)) - body)
    lid = _lid(rng, solid, light, shown / 2, tilt, radius * taper * float(table[-8] / taper if crush else 1))
    color = body * lid.transmit + lid.emit
    return opaque(np.asarray(color, np.float32), np.maximum(solid.cover, lid.cover), radius * 1.3)


_GLASS_TINTS = (
    (0.07, 0.24, 0.50), (0.07, 0.24, 0.50), (0.05, 0.18, 0.40), (0.22, 0.55, 0.16), (0.14, 0.40, 0.10),
    (0.30, 0.62, 0.32), (0.86, 0.93, 0.85), (0.80, 0.90, 0.82), (0.55, 0.30, 0.08),
)  # fmt: skip


def _glass_knots(rng: np.random.Generator) -> tuple[tuple[tuple[float, float], ...], float]:
    """A bottle's outline, and its radius as a part of its length."""
    neck = rng.uniform(0.36, 0.44)
    lip = ((0.945, neck * 0.92), (0.95, neck * 1.16), (0.985, neck * 1.16), (1.0, neck * 1.0))
    foot = ((0.0, 0.9), (0.02, 0.99), (0.05, 1.0))
    kind = int(rng.integers(4))
    if kind == 0:  # long neck
        return (*foot, (0.52, 1.0), (0.6, 0.9), (0.68, neck * 1.45), (0.76, neck * 1.1), *lip), rng.uniform(
            0.125, 0.145
        )
    if kind == 1:  # claret
        return (*foot, (0.6, 1.0), (0.655, 0.86), (0.7, neck * 1.15), (0.73, neck), *lip), rng.uniform(0.12, 0.14)
    if kind == 2:  # burgundy, sloping
        return (*foot, (0.44, 1.0), (0.55, 0.84), (0.68, neck * 1.2), (0.76, neck), *lip), rng.uniform(0.14, 0.16)
    return (*foot, (0.46, 1.0), (0.6, 0.92), (0.72, neck * 1.25), (0.82, neck * 1.05), *lip), rng.uniform(0.155, 0.18)


def _streaks(rng: np.random.Generator, solid: Solid, light: Light, width: float) -> Plane:
    """The lamps mirrored by a smooth wall: narrow strong lines along the bottle, broken here and there."""
    first, second = _highlight_side(solid, light.main), _highlight_side(solid, light.second)
    breaks = np.interp(np.linspace(0, 1, 64), np.linspace(0, 1, 8), rng.uniform(0.35, 1.2, 8)).astype(np.float32)
    strength = breaks[np.clip(solid.along * 63, 0, 63).astype(np.int32)]
    line = _lobe(solid.side, first, width) + np.float32(0.7 * light.second_strength) * _lobe(
        solid.side, second, width * 0.7
    )
    return np.clip(strength * line, 0, 1.2)


def _bend(solid: Solid, radius: float, strength: float) -> Plane:
    """A filled or thick cylinder shows what lies behind mirrored left to right."""
    amount = solid.side * solid.cover * np.float32(-radius * strength)
    return np.stack([amount * np.float32(solid.across[0]), amount * np.float32(solid.across[1])], -1)


def _stick_label(
    rng: np.random.Generator, solid: Solid, light: Light, low: float, high: float, half_width: float
) -> tuple[Plane, Plane]:
    """A label between two places along the axis: its colour, and its cover."""
    art = artwork(rng)
    shift = rng.uniform(-0.25, 0.25) if half_width < 0.5 else 0.0
    across = solid.around - np.float32(shift)
    y = np.clip((np.float32(high) - solid.along) * np.float32(95 / (high - low)), 0, 95)
    color = sample(art, (across * 0.5 + np.float32(0.25)) * 192, y)
    inside = np.minimum(solid.along - np.float32(low), np.float32(high) - solid.along) * np.float32(150)
    if half_width < 0.5:
        inside = np.minimum(inside, (np.float32(half_width) - np.abs(across)) * 60)
    shade = np.float32(0.95) * _diffuse(solid, light, solid.side)
    return color * spread(shade), np.clip(inside, 0, 1) * solid.cover


def _lay_over(emit: Plane, transmit: Plane, color: Plane, cover: Plane) -> tuple[Plane, Plane]:
    alpha = spread(cover)
    rest = 1 - alpha
    return emit * rest + color * alpha, transmit * rest


def draw_glass_bottle(rng: np.random.Generator, light: Light) -> Patch:
    """A glass bottle: tinted, the belt shows through, hard narrow highlights, thick dark edges."""
    knots, slim = _glass_knots(rng)
    length = rng.uniform(150, 250)
    radius = length * slim
    table = _profile(rng, knots, 9, 0.0)
    solid = _revolve(table, length, radius, rng.uniform(0, 2 * np.pi), rng.uniform(-0.08, 0.12), 0.0, 2)
    strength = rng.uniform(0.85, 1.1)
    tint = [channel * strength for channel in pick(rng, _GLASS_TINTS)]
    clear = min(tint) > 0.6
    rim = np.clip((np.abs(solid.side) - np.float32(0.62)) * np.float32(2.6), 0, 1)
    transmit = tinted(1 - np.float32(0.55 if clear else 0.7) * rim, tint)
    glow_side = -_highlight_side(solid, light.main)
    glow = np.float32(0.10) + np.float32(0.42) * _lobe(solid.side, glow_side * 1.25, 0.32) * (1 - 0.6 * rim)
    glow = glow + np.float32(0.12) * _lobe(solid.along, 0.015, 0.02)
    emit = tinted(glow, [channel * (0.30 if clear else 1.0) for channel in tint])
    wall = _lobe(np.abs(solid.side), 0.93, 0.045) * np.float32(0.22 if clear else 0.1)
    spec = np.float32(0.95) * _streaks(rng, solid, light, 0.055) + wall
    rings = np.maximum(_lobe(solid.along, 0.967, 0.01), _lobe(solid.along, 0.03, 0.008))
    spec += np.float32(0.3) * rings * solid.facing * solid.facing
    emit = (emit + spread(spec)) * spread(solid.cover)
    if chance(rng, 0.45):
        low = rng.uniform(0.1, 0.16)
        color, cover = _stick_label(rng, solid, light, low, low + rng.uniform(0.2, 0.3), rng.uniform(0.28, 0.42))
        emit, transmit = _lay_over(emit, transmit, color, cover)
    if chance(rng, 0.3):  # crown cap or foil
        metal = pick(rng, ((0.2, 0.62, 0.82), (0.72, 0.72, 0.72), (0.12, 0.1, 0.5), (0.1, 0.1, 0.1)))
        start = 0.95 if chance(rng, 0.6) else rng.uniform(0.8, 0.86)
        fluted = _mirror(solid, light, solid.side) * (1 + 0.25 * np.sin(solid.around * 60)) + 0.15
        cover = np.clip((solid.along - np.float32(start)) * 120, 0, 1) * solid.cover
        emit, transmit = _lay_over(emit, transmit, tinted(fluted, metal), cover)
    inside = spread(solid.cover)
    transmit = 1 - inside + inside * transmit
    dark = 0.35 if clear else 0.6
    b, g, r = (float(dark * (1 - 0.7 * channel)) for channel in tint)
    return Patch(emit, transmit, solid.cover, radius, (b, g, r), _bend(solid, radius, 0.9))


_PLASTIC_TINTS = (
    (0.95, 0.95, 0.93), (0.95, 0.95, 0.93), (0.97, 0.97, 0.95), (0.98, 0.86, 0.66), (0.96, 0.80, 0.55),
    (0.74, 0.93, 0.72),
)  # fmt: skip
_CAP_COLORS = (
    (0.92, 0.92, 0.92), (0.80, 0.35, 0.08), (0.12, 0.10, 0.80), (0.25, 0.62, 0.12), (0.05, 0.45, 0.95),
    (0.12, 0.75, 0.93), (0.08, 0.08, 0.08),
)  # fmt: skip


def _plastic_table(rng: np.random.Generator, crumple: float) -> tuple[Plane, Plane]:
    """A bottle's outline with ribs, and the ribs alone (-1 to 1)."""
    neck = rng.uniform(0.34, 0.4)
    waist = rng.uniform(0.78, 0.92) if chance(rng, 0.4) else 1.0
    shoulder = rng.uniform(0.66, 0.72)
    knots = (
        (0, 0.8), (0.03, 0.96), (0.07, 1), (0.26, 1), (0.36, waist), (0.44, waist), (0.52, 1), (shoulder, 1),
        (shoulder + 0.08, 0.88), (shoulder + 0.15, neck * 1.3), (0.885, neck), (0.9, neck * 1.28),
        (0.915, neck * 1.28), (0.92, neck * 1.16), (1, neck * 1.12),
    )  # fmt: skip
    places = _PLACES
    ribs = np.sin(places * 2 * np.pi * rng.integers(9, 20)) * (places < shoulder) * (places > 0.06)
    ribs = ribs.astype(np.float32) * np.float32(1 if chance(rng, 0.75) else 0.15)
    table = _profile(rng, knots, 9, crumple)
    table[places > 0.88] = _profile(rng, knots, 3, 0.0)[places > 0.88]
    return np.asarray(table * (1 + 0.025 * ribs), np.float32), ribs


def draw_plastic_bottle(rng: np.random.Generator, light: Light) -> Patch:
    """A plastic bottle: thin, clear or pale, ribbed, coloured cap, wrap-around label, often crumpled."""
    length = rng.uniform(140, 235)
    radius = length * rng.uniform(0.15, 0.19)
    crumple = rng.uniform(0.06, 0.24) if chance(rng, 0.55) else 0.0
    table, ribs = _plastic_table(rng, crumple)
    bow = rng.normal(0, 14 * crumple / 0.2) if crumple else 0.0
    solid = _revolve(table, length, radius, rng.uniform(0, 2 * np.pi), rng.uniform(-0.1, 0.15), bow, 2)
    gx, gy = facets(rng, *_size(solid.side), radius * rng.uniform(0.35, 0.7), softness=1.0)
    rough = np.float32(0.1 + 2.0 * crumple)
    side = np.clip(solid.side + rough * gx, -1.2, 1.2)
    tint = pick(rng, _PLASTIC_TINTS)
    rim = solid.side * solid.side
    rim = rim * rim
    rib = ribs[np.clip(solid.along * _STEPS, 0, _STEPS - 1).astype(np.int32)]
    transmit = tinted(np.float32(0.84) - 0.3 * rim + 0.05 * rib, tint)
    haze = rng.uniform(0.06, 0.16) * _diffuse(solid, light, side) + np.float32(0.2) * rim
    first, second = _highlight_side(solid, light.main), _highlight_side(solid, light.second)
    shine = np.float32(0.75) * _lobe(side, first, 0.11) + np.float32(0.6 * light.second_strength) * _lobe(
        side, second, 0.1
    )
    shine = shine * (np.float32(0.6) + 0.4 * rib) + np.float32(0.14) * np.maximum(gy * rough * 2.5 - 0.3, 0)
    shine = np.clip(shine, 0, 1)
    emit = (tinted(haze, tint) + spread(shine)) * spread(solid.cover)
    if chance(rng, 0.7):
        low = rng.uniform(0.2, 0.36)
        color, cover = _stick_label(rng, solid, light, low, low + rng.uniform(0.16, 0.3), 1.0)
        color = color * spread(1 + 0.9 * rough * gx) + spread(0.5 * shine)
        emit, transmit = _lay_over(emit, transmit, color, 0.94 * cover)
    if chance(rng, 0.92):
        cap = pick(rng, _CAP_COLORS)
        shade = _diffuse(solid, light, solid.side) * (0.9 + 0.14 * np.sin(solid.around * np.float32(np.pi * 24)))
        color = tinted(shade, cap) + spread(0.5 * _lobe(solid.side, first, 0.16))
        cover = np.clip((solid.along - np.float32(0.922)) * 150, 0, 1) * solid.cover
        emit, transmit = _lay_over(emit, transmit, color, cover)
    inside = spread(solid.cover)
    transmit = 1 - inside + inside * transmit
    return Patch(emit, transmit, solid.cover, radius, (0.34, 0.36, 0.38), _bend(solid, radius, 0.25))
