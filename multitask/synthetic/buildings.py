"""Buildings with windows, walls, fences and guard rails.

A building's mesh has its front at z = 0 facing -z, and extends from x = 0 to its width and from z = 0 to its depth.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from multitask.synthetic.mesh import Mesh, MeshBuilder, Quad, panel
from multitask.synthetic.textures import BLOCKS, BOARDS, BRICKS, GLASS, METAL, PLASTER

WALL, TRIM, PANE_A, PANE_B, PANE_C, DOOR, ROOF, BASE, SIGN = range(9)
"""Colour slots of a building; the three kinds of panes have different reflections."""

MODULE = 4.0
"""Length of one piece of wall, fence or guard rail, m."""


@dataclass(frozen=True)
class Style:
    """Shape and appearance of one building.

    Attributes:
        kind: ``row``, ``modern``, ``hall`` or ``house``.
        width, depth, height: m.
        storey: height of a storey, m.
        bay: distance between windows, m.
        shop: whether the ground floor has display windows.
        frames: whether windows have frames.
        pitched: whether the roof is a gable roof.
        material: material of the walls.
    """

    kind: str
    width: float
    depth: float
    height: float
    storey: float
    bay: float
    shop: bool
    frames: bool
    pitched: bool
    material: int


def _window_bounds(style: Style, width: float, skip: int) -> np.ndarray:
    """Returns (N, 4) u0, u1, v0, v1 of the windows on a wall ``width`` m wide, from storey ``skip`` upwards."""
    rows = max(1, int(style.height / style.storey))
    columns = max(1, int(width / style.bay))
    wide, tall = {"row": (0.42, 0.58), "modern": (0.92, 0.5), "hall": (0.8, 0.25), "house": (0.4, 0.45)}[style.kind]
    u = (np.arange(columns) + 0.5) / columns
    v = (np.arange(skip, rows) + 0.55) / rows
    centre_u, centre_v = (grid.ravel() for grid in np.meshgrid(u, v))
    half_u, half_v = wide / 2 / columns, tall / 2 / rows
    return np.stack([centre_u - half_u, centre_u + half_u, centre_v - half_v, centre_v + half_v], axis=1)


def _add_windows(m: MeshBuilder, rng: np.random.Generator, style: Style, wall: Quad, width: float, skip: int) -> None:
    bounds = _window_bounds(style, width, skip)
    if not len(bounds):
        return
    if style.frames:
        m.layer = 1
        du, dv = 0.12 / width, 0.12 / style.height
        frame = bounds + np.array([-du, du, -1.5 * dv, dv])
        m.panes(wall, frame, np.full(len(frame), TRIM))
    m.layer = 2
    slots = rng.choice([PANE_A, PANE_A, PANE_B, PANE_C], len(bounds))
    m.panes(wall, bounds, slots, material=GLASS)


def _add_ground_floor(m: MeshBuilder, rng: np.random.Generator, style: Style, wall: Quad) -> None:
    """Adds a base course and a door, and for shops display windows under a sign."""
    top = min(0.9, style.storey / style.height)
    door = rng.uniform(0.1, 0.8)
    span = 1.3 / style.width
    m.layer = 1
    m.pane(panel(wall, 0.0, 1.0, 0.0, top * 0.18), BASE, material=PLASTER)
    if style.shop:
        count = max(1, int(style.width / 3.5))
        u = (np.arange(count) + 0.5) / count
        half = 0.42 / count
        low, high = np.full(count, top * 0.15), np.full(count, top * 0.75)
        m.panes(wall, np.stack([u - half, u + half, low, high], axis=1), np.full(count, PANE_B), material=GLASS)
        m.pane(panel(wall, 0.03, 0.97, top * 0.8, top * 0.98), SIGN)
        m.layer = 2
        m.pane(panel(wall, 0.1, rng.uniform(0.3, 0.9), top * 0.84, top * 0.94), TRIM)
    m.layer = 3
    m.pane(panel(wall, door, door + span, 0.0, top * 0.72), DOOR, material=BOARDS)
    if style.kind == "hall":
        m.pane(
            panel(wall, 0.3, min(0.9, 0.3 + 4.0 / style.width), 0.0, min(0.8, 4 / style.height)), DOOR, material=BOARDS
        )


def _add_roof(m: MeshBuilder, style: Style) -> None:
    """Adds a gable roof with its ridge along the street, or a cornice."""
    w, h, d = style.width, style.height, style.depth
    m.layer = 0
    if not style.pitched:
        m.layer = 4
        m.pane(((-0.1, h - 0.5, -0.15), (w + 0.1, h - 0.5, -0.15), (w + 0.1, h, -0.15), (-0.1, h, -0.15)), TRIM)
        return
    ridge = h + min(d, 9.0) * 0.35
    middle = min(d, 9.0) / 2
    m.pane(
        ((-0.2, h - 0.15, -0.4), (w + 0.2, h - 0.15, -0.4), (w, ridge, middle), (0.0, ridge, middle)),
        ROOF,
        material=BRICKS,
    )
    inside = (w / 2, h, middle)
    for x in (0.0, w):
        m.polygon(((x, h, 0.0), (x, h, 2 * middle), (x, ridge, middle)), WALL, inside=inside, material=style.material)


def building(rng: np.random.Generator, style: Style) -> Mesh:
    """Returns a building; its windows, doors and signs are drawn from ``rng``."""
    m = MeshBuilder()
    faces = m.box((0.0, 0.0, 0.0), (style.width, style.height, style.depth), WALL, material=style.material, top=ROOF)
    _add_windows(m, rng, style, faces["back"], style.width, 1 if style.shop or style.kind == "hall" else 0)
    for side in ("left", "right"):
        if style.kind != "row" or style.width > 9:
            _add_windows(m, rng, style, faces[side], style.depth, 0)
    _add_ground_floor(m, rng, style, faces["back"])
    _add_roof(m, style)
    return m.build()


@cache
def wall(height: float, material: int) -> Mesh:
    """Returns one piece of a free-standing wall with a coping, from x = 0 to `MODULE`, centred at z = 0."""
    m = MeshBuilder()
    m.box((0.0, 0.0, -0.15), (MODULE, height, 0.15), WALL, material=material)
    m.part = 1
    m.box((-0.03, height - 0.12, -0.22), (MODULE + 0.03, height, 0.22), TRIM)
    return m.build()


def _rails(m: MeshBuilder, heights: tuple[float, ...], radius: float) -> None:
    for y in heights:
        m.bar((0.0, y, 0.0), (MODULE, y, 0.0), radius, radius, TRIM)


@cache
def fence(kind: str, height: float) -> Mesh:
    """Returns one piece of fence: ``bars``, ``wire``, ``pickets`` or ``boards``; all but the last are see-through."""
    m = MeshBuilder()
    quad: Quad = ((0.0, 0.0, 0.0), (MODULE, 0.0, 0.0), (MODULE, height, 0.0), (0.0, height, 0.0))
    m.polygon(quad, WALL, material=BOARDS, sheer=kind != "boards")
    m.layer = 1
    if kind in ("bars", "pickets"):
        count, radius = (20, 0.022) if kind == "bars" else (18, 0.05)
        for k in range(count):
            x = (k + 0.5) * MODULE / count
            m.bar((x, 0.08, 0.0), (x, height * (1 - 0.04 * (k % 2)), 0.0), radius, radius, WALL)
        _rails(m, (0.2, height * 0.85), 0.035)
    elif kind == "wire":
        for k in range(10):
            x = k * MODULE / 10
            m.bar((x, 0.0, 0.0), (x + height * 0.5, height, 0.0), 0.012, 0.012, WALL)
            m.bar((x + height * 0.5, 0.0, 0.0), (x, height, 0.0), 0.012, 0.012, WALL)
        _rails(m, (0.05, height), 0.025)
    else:
        _rails(m, (0.3, height * 0.8), 0.03)
    m.layer = 2
    for x in (0.0, MODULE):
        m.bar((x, 0.0, 0.0), (x, height + 0.05, 0.0), 0.06, 0.06, TRIM)
    return m.build()


@cache
def guard_rail() -> Mesh:
    """Returns one piece of a guard rail (not an evaluated class)."""
    m = MeshBuilder()
    for x in (0.2, 2.2):
        m.bar((x, 0.0, 0.0), (x, 0.7, 0.0), 0.06, 0.06, TRIM)
    m.layer = 1
    m.polygon(
        ((0.0, 0.45, -0.08), (MODULE, 0.45, -0.08), (MODULE, 0.8, -0.08), (0.0, 0.8, -0.08)), WALL, material=METAL
    )
    return m.build()


WALL_MATERIALS: tuple[int, ...] = (BRICKS, BLOCKS, PLASTER)
FENCE_KINDS: tuple[str, ...] = ("bars", "wire", "pickets", "boards")
