"""The ground as one prop, whose faces are painted in order: road with markings, sidewalks with kerbs, and verges.

Places are (s, n) along the street, see `multitask.synthetic.street`.
"""

import math

import numpy as np

from multitask.synthetic.mesh import MeshBuilder, Point
from multitask.synthetic.stage import Prop, Stage, stuff
from multitask.synthetic.street import Crossing, Path, Side
from multitask.synthetic.textures import ASPHALT, LAWN, PAVING, SLABS, SOIL

_ROAD, _WALK, _TERRAIN, _GROUND, _PARKING = range(5)
_OWNERS = (stuff("road"), stuff("sidewalk"), stuff("terrain"), stuff("ground"), stuff("parking"))

(_C_ROAD, _C_WALK, _C_LAWN, _C_BASE, _C_MARK, _C_KERB, _C_PATCH, _C_RAIL, _C_CROSS, _C_BAY, _C_BIKE) = range(11)

_FAR = 230.0
"""Distance at which the ground ends, m."""


def _strip(path: Path, s0: float, s1: float, n0: float, n1: float, y: float = 0.0) -> list[Point]:
    """Returns the outline of the strip from ``s0`` to ``s1`` between the distances ``n0`` and ``n1`` from the axis."""
    steps = max(1, math.ceil((s1 - s0) / 6.0)) if path.curvature else 1
    places = [s0 + (s1 - s0) * k / steps for k in range(steps + 1)]
    outline = [(s, n0) for s in places] + [(s, n1) for s in reversed(places)]
    return [(x, y, z) for x, z in (path.at(s, n) for s, n in outline)]


def _rectangle(path: Path, s: float, n: float, length: float, width: float, y: float = 0.0) -> list[Point]:
    """Returns a small rectangle along the street, centred at (s, n)."""
    (x, z), heading = path.at(s, n), path.heading_at(s)
    fx, fz, rx, rz = math.sin(heading), math.cos(heading), math.cos(heading), -math.sin(heading)
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return [
        (x + a * length / 2 * fx + b * width / 2 * rx, y, z + a * length / 2 * fz + b * width / 2 * rz)
        for a, b in corners
    ]


def _pieces(side: Side, crossing: Crossing | None, end: float) -> list[tuple[float, float]]:
    """Returns the stretches (s0, s1) of a side that no crossing interrupts."""
    start = -8.0
    if crossing and (crossing.left if side.sign < 0 else crossing.right):
        return [(start, crossing.s0), (crossing.s1, end)]
    return [(start, end)]


def _add_side(m: MeshBuilder, stage: Stage, side: Side, walk_material: int) -> None:
    path, end = stage.street.path, stage.street.end
    verge, inner, outer = side.edge, side.edge + side.verge, side.border
    for s0, s1 in _pieces(side, stage.street.crossing, end + 12.0):
        if side.verge:
            m.layer, m.owner = 6, _TERRAIN
            m.polygon(_strip(path, s0, s1, side.sign * verge, side.sign * inner), _C_LAWN, material=LAWN)
        if not side.walk:
            continue
        m.layer, m.owner = 7, _WALK
        for k in range(max(1, math.ceil((s1 - s0) / 9.0))):
            a, b = s0 + 9.0 * k, min(s1, s0 + 9.0 * (k + 1))
            (x0, z0), (x1, z1) = path.at(a, side.sign * inner), path.at(b, side.sign * inner)
            m.polygon([(x0, 0, z0), (x1, 0, z1), (x1, side.kerb, z1), (x0, side.kerb, z0)], _C_KERB, material=SLABS)
        (x0, z0), (x1, z1) = path.at(s0, side.sign * inner), path.at(s0, side.sign * outer)
        m.polygon([(x0, 0, z0), (x1, 0, z1), (x1, side.kerb, z1), (x0, side.kerb, z0)], _C_KERB, material=SLABS)
        m.layer = 8
        m.polygon(
            _strip(path, s0, s1, side.sign * inner, side.sign * outer, side.kerb), _C_WALK, material=walk_material
        )
        m.layer = 9
        edge = _strip(path, s0, s1, side.sign * inner, side.sign * (inner + 0.14), side.kerb)
        m.polygon(edge, _C_KERB, material=SLABS)


def _add_crossing(m: MeshBuilder, stage: Stage, crossing: Crossing, material: int) -> None:
    street = stage.street
    middle = (crossing.s0 + crossing.s1) / 2
    path = street.path
    straight = Path(*path.at(middle, 0.0), path.heading_at(middle), 0.0)
    half = (crossing.s1 - crossing.s0) / 2
    left = -70.0 if crossing.left else -street.left.edge
    right = 70.0 if crossing.right else street.right.edge
    m.layer, m.owner = 2, _ROAD
    m.polygon(_strip(straight, -half, half, left, right), _C_CROSS, material=material)
    for side in street.sides:
        if side.walk and (crossing.left if side.sign < 0 else crossing.right):
            m.layer, m.owner = 2, _WALK
            for a, b in ((-half - side.walk, -half), (half, half + side.walk)):
                far = _strip(straight, a, b, side.sign * side.border, side.sign * 70.0)
                m.polygon(far, _C_WALK, material=SLABS)
    m.owner = _ROAD


def _add_zebra(m: MeshBuilder, stage: Stage, s: float) -> None:
    street = stage.street
    width, stripe = stage.uniform(2.5, 4.5), 0.5
    for k in range(int((street.left.edge + street.right.edge) / (2 * stripe))):
        n = -street.left.edge + stripe * (2 * k + 1)
        m.polygon(_rectangle(street.path, s, n, width, stripe), _C_MARK, material=ASPHALT)


def _add_markings(m: MeshBuilder, stage: Stage) -> None:
    street, path = stage.street, stage.street.path
    m.layer, m.owner = 4, _ROAD
    limits = sorted({n - street.lane / 2 for n, _ in street.lanes} | {n + street.lane / 2 for n, _ in street.lanes})
    stop = street.crossing.s0 - 1.0 if street.crossing else min(street.end, 75.0)
    if stage.chance(0.8):
        for n in limits[1:-1]:
            solid = abs(n) < 0.1 and stage.chance(0.4)
            if solid:
                m.polygon(_strip(path, 2.0, stop, n - 0.08, n + 0.08), _C_MARK, material=ASPHALT)
                continue
            for k in range(int(min(stop, 70.0) / 7.0) + 1):
                m.polygon(_rectangle(path, 7.0 * k + 1.5, n, 3.0, 0.15), _C_MARK, material=ASPHALT)
    if stage.chance(0.5):
        for side in street.sides:
            n = side.sign * (side.edge - side.parking - 0.15)
            m.polygon(_strip(path, -4.0, stop, n - 0.07, n + 0.07), _C_MARK, material=ASPHALT)
    if street.crossing and stage.chance(0.6):
        _add_zebra(m, stage, street.crossing.s0 - 3.0)
        m.polygon(_strip(path, stop - 5.3, stop - 4.9, 0.1, street.right.edge - 0.2), _C_MARK, material=ASPHALT)
    elif stage.chance(0.2):
        _add_zebra(m, stage, stage.uniform(8.0, 30.0))
    if stage.chance(0.3):
        n, _ = street.lanes[0]
        (x, z), heading = path.at(stage.uniform(7.0, 20.0), n), path.heading
        arrow = ((-0.1, 0), (-0.1, 2.2), (-0.45, 2.2), (0, 3.8), (0.45, 2.2), (0.1, 2.2), (0.1, 0))
        c, sn = math.cos(heading), math.sin(heading)
        m.polygon([(x + a * c + b * sn, 0.0, z - a * sn + b * c) for a, b in arrow], _C_MARK, material=ASPHALT)


def _add_surface(m: MeshBuilder, stage: Stage, material: int) -> None:
    """Adds patches, tram rails, cycle lanes and parking bays."""
    street, path = stage.street, stage.street.path
    m.layer, m.owner = 3, _ROAD
    for _ in range(stage.pick(6)):
        s, n = stage.uniform(4.0, 35.0), stage.uniform(-street.left.edge, street.right.edge)
        m.polygon(_rectangle(path, s, n, stage.uniform(0.8, 7.0), stage.uniform(0.4, 2.0)), _C_PATCH, material=material)
    for n in street.rails:
        for offset in (-0.72, 0.72):
            m.polygon(_strip(path, 1.0, street.end, n + offset - 0.09, n + offset + 0.09), _C_PATCH, material=material)
            m.polygon(_strip(path, 1.0, street.end, n + offset - 0.03, n + offset + 0.03), _C_RAIL, material=material)
    for side in street.sides:
        inner, outer, slot = side.edge - side.parking, side.edge, _C_BAY
        if side.parking and stage.chance(0.6):
            m.owner = _PARKING if stage.chance(0.12) else _ROAD
        elif stage.chance(0.12):
            m.owner, inner, outer, slot = _ROAD, inner - 1.4, inner, _C_BIKE
        else:
            continue
        for s0, s1 in _pieces(side, street.crossing, street.end):
            strip = _strip(path, s0, s1, side.sign * inner, side.sign * outer)
            m.polygon(strip, slot, material=PAVING if slot == _C_BAY else ASPHALT)


def _colors(stage: Stage) -> np.ndarray:
    colors = np.empty((11, 3))
    for slot in (_C_ROAD, _C_WALK, _C_KERB, _C_BAY):
        colors[slot] = stage.color("ground", 0.04)
    colors[_C_LAWN] = stage.color("lawn")
    colors[_C_BASE] = stage.color("lawn" if stage.street.base == "lawn" else "ground")
    colors[_C_MARK] = np.clip(colors[_C_ROAD] + stage.uniform(0.2, 0.45), 0, 0.95)
    colors[_C_PATCH] = colors[_C_ROAD] * stage.uniform(0.7, 1.25)
    colors[_C_RAIL] = stage.uniform(0.4, 0.75)
    colors[_C_CROSS] = colors[_C_ROAD] * stage.uniform(0.92, 1.08)
    colors[_C_KERB] = colors[_C_KERB] * 0.6 + 0.28
    colors[_C_BIKE] = colors[_C_ROAD] * np.array([1.3, 0.8, 0.75])
    return colors


def add_ground(stage: Stage) -> None:
    """Adds the entire ground as one prop."""
    m = MeshBuilder()
    street, path = stage.street, stage.street.path
    around, material, slot = {
        "lawn": (_TERRAIN, LAWN, _C_BASE),
        "plaza": (_WALK, SLABS, _C_BASE),
        "ground": (_GROUND, SOIL, _C_BASE),
    }[street.base]
    m.owner = around
    m.polygon([(-_FAR, 0, -2.0), (_FAR, 0, -2.0), (_FAR, 0, _FAR), (-_FAR, 0, _FAR)], slot, material=material)
    surface = PAVING if stage.chance(0.2) else ASPHALT
    m.layer, m.owner = 1, _ROAD
    m.polygon(_strip(path, -8.0, street.end + 10.0, -street.left.edge, street.right.edge), _C_ROAD, material=surface)
    walk_material = (ASPHALT, SLABS, PAVING)[stage.pick(3)]
    if street.crossing:
        _add_crossing(m, stage, street.crossing, surface)
    _add_surface(m, stage, surface)
    _add_markings(m, stage)
    for side in street.sides:
        _add_side(m, stage, side, walk_material)
    stage.add(Prop(m.build(), (0.0, 0.0, 0.0), 0.0, _colors(stage), _OWNERS))
