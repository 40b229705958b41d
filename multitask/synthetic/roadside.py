"""Placement of the roadside: buildings, walls, fences, hedges, trees, and the far backdrop.

Places are (s, n) along the street, see `multitask.synthetic.street`.
"""

import math

import numpy as np

from multitask.synthetic import buildings as b
from multitask.synthetic import nature
from multitask.synthetic.mesh import MeshBuilder
from multitask.synthetic.stage import Footprint, Prop, Stage, stuff
from multitask.synthetic.street import Segment, Side
from multitask.synthetic.textures import BLOCKS, BOARDS, BRICKS, FOLIAGE, PLASTER

_BUILDING, _WALL, _FENCE = (stuff("building"),), (stuff("wall"),), (stuff("fence"),)
_VEGETATION, _RAIL = (stuff("vegetation"),), (stuff("guard rail"),)


def _building_colors(stage: Stage) -> np.ndarray:
    colors = np.empty((9, 3))
    colors[b.WALL] = stage.color("facade")
    colors[b.TRIM] = np.clip(colors[b.WALL] * stage.uniform(0.7, 1.3) + 0.05, 0, 1)
    glass = np.array([0.22, 0.25, 0.28]) * stage.uniform(0.5, 1.6)
    colors[b.PANE_A], colors[b.PANE_B] = glass, glass * stage.uniform(0.6, 1.0)
    colors[b.PANE_C] = glass + np.array([0.16, 0.18, 0.2]) * stage.uniform(0.3, 1.6)
    colors[b.DOOR] = stage.color("paint") * 0.8
    colors[b.ROOF] = stage.color("facade") * 0.65
    colors[b.BASE] = colors[b.WALL] * stage.uniform(0.6, 0.9)
    colors[b.SIGN] = stage.color("signal")
    return colors


def _style(stage: Stage, kind: str, width: float) -> b.Style:
    modern = kind == "row" and stage.chance(0.25)
    storey = stage.uniform(2.8, 3.9)
    storeys = {"hall": 1.6, "house": stage.uniform(1.2, 2.4)}.get(kind, stage.city.storeys * stage.uniform(0.7, 1.4))
    return b.Style(
        kind="modern" if modern else kind,
        width=width,
        depth=stage.uniform(7.0, 10.0) if kind == "house" else stage.uniform(10.0, 18.0),
        height=max(1.2, storeys) * storey + 0.6,
        storey=storey,
        bay=stage.uniform(2.0, 3.6),
        shop=kind == "row" and stage.chance(0.4),
        frames=stage.chance(0.5),
        pitched=not modern and kind != "hall" and stage.chance(0.7),
        material=(PLASTER, PLASTER, BRICKS, BLOCKS)[stage.pick(4)]
        if kind != "hall"
        else (BOARDS, PLASTER)[stage.pick(2)],
    )


def _add_building(stage: Stage, side: Side, s0: float, s1: float, kind: str, setback: float) -> None:
    """Adds a building whose front runs along the street from ``s0`` to ``s1``."""
    n = side.sign * (side.border + setback)
    # The mesh begins at the building's left end as seen from the street.
    start, stop = (s1, s0) if side.sign > 0 else (s0, s1)
    (x0, z0), (x1, z1) = stage.street.path.at(start, n), stage.street.path.at(stop, n)
    width = math.hypot(x1 - x0, z1 - z0)
    if max(z0, z1) < 1.0 or width < 3.0:
        return
    heading = math.atan2(-(z1 - z0), x1 - x0)
    mesh = b.building(stage.rng, _style(stage, kind, width))
    footprint = Footprint(width / 2, 4.0, float(mesh.points[:, 1].max()), width / 2, 4.0)
    stage.add(Prop(mesh, (x0, 0.0, z0), heading, _building_colors(stage), _BUILDING, footprint=footprint))


def _add_modules(stage: Stage, side: Side, segment: Segment, kind: str) -> None:
    """Adds a run of wall, fence, hedge or guard rail pieces along a segment's edge."""
    colors = np.stack([stage.color("facade"), stage.color("facade"), stage.color("leaf"), stage.color("leaf")])
    height = round(stage.uniform(1.2, 3.0), 1)
    if kind == "wall":
        mesh, labels = b.wall(height, b.WALL_MATERIALS[stage.pick(3)]), _WALL
    elif kind == "fence":
        mesh, labels = b.fence(b.FENCE_KINDS[stage.pick(4)], round(min(height, 2.0), 1)), _FENCE
        colors[0] = stage.color("paint") if stage.chance(0.6) else colors[0] * 0.7
        colors[1] = colors[0] * 0.8
    elif kind == "guard rail":
        mesh, labels = b.guard_rail(), _RAIL
        colors[:2] = 0.6
    else:
        mesh, labels = nature.hedge(stage.pick(4), round(height * 0.8, 1)), _VEGETATION
        colors = _leaf_colors(stage)
    n = side.sign * (side.border + 0.25)
    for k in range(int((segment.s1 - segment.s0) / b.MODULE)):
        s = segment.s0 + k * b.MODULE
        ends = (s + b.MODULE, s) if side.sign > 0 else (s, s + b.MODULE)
        (x0, z0), (x1, z1) = stage.street.path.at(ends[0], n), stage.street.path.at(ends[1], n)
        if max(z0, z1) < 1.0 or not stage.sees((x0 + x1) / 2, (z0 + z1) / 2, 2.5):
            continue
        stretch = math.hypot(x1 - x0, z1 - z0) / b.MODULE
        heading = math.atan2(-(z1 - z0), x1 - x0)
        stage.add(Prop(mesh, (x0, 0.0, z0), heading, colors, labels, (stretch, 1.0, 1.0)))


def _leaf_colors(stage: Stage) -> np.ndarray:
    leaf = stage.color("leaf")
    bark = np.array([0.30, 0.25, 0.21]) * stage.uniform(0.6, 1.5)
    return np.stack([leaf * 0.55, leaf * 0.9, np.clip(leaf * 1.3, 0, 1), bark])


def add_tree(stage: Stage, s: float, n: float, colors: np.ndarray | None = None) -> None:
    """Adds a tree at (s, n) if the place is free and in view; without ``colors``, they are drawn."""
    x, z = stage.street.path.at(s, n)
    # A crown just in front of the camera would hide the entire scene.
    if x * x + z * z < 64.0 or not stage.sees(x, z, 4.0) or not stage.claim(x, z, 0.0, 0.7, 0.7):
        return
    size = stage.uniform(0.6, 1.25)
    flip = -1.0 if stage.chance(0.5) else 1.0
    stage.add(
        Prop(
            nature.tree(stage.pick(nature.NUM_TREES)),
            (x, 0.0, z),
            math.atan2(x, z),
            _leaf_colors(stage) if colors is None else colors * stage.uniform(0.9, 1.1),
            _VEGETATION,
            (flip * size, size, size),
            Footprint(1.6 * size, 1.6 * size, 5.0 * size),
        )
    )


def add_bush(stage: Stage, s: float, n: float) -> None:
    """Adds a bush at (s, n) if the place is free and in view."""
    x, z = stage.street.path.at(s, n)
    if not stage.sees(x, z, 1.5) or not stage.claim(x, z, 0.0, 1.4, 1.4):
        return
    size = stage.uniform(0.5, 1.4)
    mesh = nature.bush(stage.pick(nature.NUM_BUSHES))
    stage.add(Prop(mesh, (x, 0.0, z), math.atan2(x, z), _leaf_colors(stage), _VEGETATION, (size, size, size)))


def _add_garden(stage: Stage, side: Side, segment: Segment, depth: float, density: float) -> None:
    """Adds trees and bushes up to ``depth`` m behind the segment's edge."""
    for _ in range(int((segment.s1 - segment.s0) * density / 7.0 + stage.uniform(0.0, 1.0))):
        place = stage.uniform(segment.s0, segment.s1), side.sign * (side.border + stage.uniform(1.2, max(1.5, depth)))
        if stage.chance(0.6):
            add_tree(stage, *place)
        else:
            add_bush(stage, *place)


def _add_segment(stage: Stage, side: Side, segment: Segment) -> None:
    kind, s0, s1 = segment.kind, segment.s0, segment.s1
    if kind in ("row", "house", "hall"):
        _add_building(stage, side, s0, s1 - (3.0 if kind == "house" else 0.0), kind, segment.setback)
    if kind == "house":
        edging = ("wall", "fence", "hedge", "fence", "none")[stage.pick(5)]
        if edging != "none":
            _add_modules(stage, side, segment, edging)
        _add_garden(stage, side, segment, segment.setback, 0.8)
    elif kind in ("wall", "fence", "hedge"):
        _add_modules(stage, side, segment, kind)
        _add_garden(stage, side, segment, segment.setback, 1.2)
        if stage.chance(0.8):
            _add_building(stage, side, s0, s1, ("house", "hall", "row")[stage.pick(3)], segment.setback)
    elif kind == "park":
        _add_garden(stage, side, segment, 14.0, 5.0)
        if stage.chance(0.12):
            _add_modules(stage, side, segment, "guard rail")
    elif kind == "open":
        _add_building(stage, side, s0, s1, "row", segment.setback)
        _add_garden(stage, side, segment, segment.setback, 0.4)


def _add_street_trees(stage: Stage, side: Side) -> None:
    """Adds a row of similar trees along the kerb or on the verge."""
    if not stage.chance(0.12 + 0.6 * stage.city.green):
        return
    colors, spacing, s = _leaf_colors(stage), stage.uniform(7.0, 16.0), stage.uniform(4.0, 14.0)
    n = side.sign * (side.edge + (side.verge / 2 if side.verge > 1.0 else 0.7))
    while s < min(stage.street.end, 75.0):
        add_tree(stage, s, n, colors)
        s += spacing * stage.uniform(0.8, 1.3)


def _add_street_end(stage: Stage) -> None:
    """Adds houses or a park across the end of the street, as at a T-junction."""
    street = stage.street
    s = street.end + stage.uniform(8.0, 14.0)
    if stage.chance(0.7):
        for k in range(3):
            (x, z), heading = street.path.at(s, -30.0 + 20.0 * k), street.path.heading_at(s)
            mesh = b.building(stage.rng, _style(stage, "row", 20.0))
            stage.add(Prop(mesh, (x, 0.0, z), heading, _building_colors(stage), _BUILDING))
    else:
        for _ in range(9):
            add_tree(stage, s + stage.uniform(0.0, 14.0), stage.uniform(-25.0, 25.0))


def _add_backdrop(stage: Stage) -> None:
    """Adds far trees or roofs along the horizon."""
    town = stage.chance(0.35)
    m = MeshBuilder()
    x, top, outline = 120.0, stage.uniform(5.0, 14.0), [(-120.0, -2.0, 0.0), (120.0, -2.0, 0.0)]
    while x > -120.0:
        step = stage.uniform(6.0, 18.0) if town else stage.uniform(2.0, 5.0)
        y = top * stage.uniform(0.6, 1.4)
        outline += [(x, y, 0.0), (x - step, y, 0.0)] if town else [(x, y, 0.0)]
        x -= step
    m.polygon(outline, 0, material=PLASTER if town else FOLIAGE)
    color = stage.color("facade" if town else "leaf") * 0.8
    stage.add(
        Prop(m.build(), (0.0, 0.0, stage.uniform(130.0, 200.0)), 0.0, color[None], _BUILDING if town else _VEGETATION)
    )


def add_roadside(stage: Stage) -> None:
    """Adds everything that borders the street."""
    _add_backdrop(stage)
    for side in stage.street.sides:
        _add_street_trees(stage, side)
        for segment in side.segments:
            _add_segment(stage, side, segment)
    if stage.street.closed:
        _add_street_end(stage)
