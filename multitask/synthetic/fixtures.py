"""Placement of street furniture: poles, lamps, traffic lights, signs, and clutter without an evaluated class.

Places are (s, n) along the street, see `multitask.synthetic.street`.
"""

import math

import numpy as np

from multitask.synthetic import furniture as f
from multitask.synthetic.mesh import Mesh
from multitask.synthetic.stage import Footprint, Prop, Stage, stuff
from multitask.synthetic.street import Side

_OWNERS = (stuff("pole"), stuff("traffic light"), stuff("traffic sign"))

_STATIC = ("bin", "box", "cabinet", "column", "bench", "shelter", "barrier", "debris")
_DYNAMIC = ("pram", "bin", "box")


def _colors(stage: Stage) -> np.ndarray:
    colors = np.empty((9, 3))
    colors[f.STEEL] = stage.color("paint") if stage.chance(0.25) else stage.color("ground")
    colors[f.HOUSING] = stage.uniform(0.05, 0.2) if stage.chance(0.8) else stage.color("signal")
    colors[f.RED], colors[f.AMBER], colors[f.GREEN] = (0.98, 0.25, 0.18), (1.0, 0.72, 0.2), (0.25, 0.95, 0.6)
    colors[f.FIELD], colors[f.EDGE] = stage.color("signal", 0.04), stage.color("signal", 0.04)
    colors[f.SYMBOL] = 0.9 if colors[f.FIELD].mean() < 0.6 else 0.1
    colors[f.BACK] = stage.uniform(0.1, 0.22)
    return colors


def _place(
    stage: Stage, mesh: Mesh, s: float, n: float, heading: float, colors: np.ndarray, width: float = 0.3
) -> bool:
    x, z = stage.street.path.at(s, n)
    if not stage.sees(x, z, 4.0) or not stage.claim(x, z, 0.0, width, width):
        return False
    size = stage.uniform(0.9, 1.15)
    y, turn = stage.ground_height(n), stage.street.path.heading_at(s) + heading
    footprint = Footprint(0.08, 0.08, 5.0)
    stage.add(Prop(mesh, (x, y, z), turn, colors, _OWNERS, (size, size, size), footprint))
    return True


def _kerb(side: Side) -> float:
    return side.sign * (side.edge + 0.45)


def _add_lamps(stage: Stage, side: Side) -> None:
    if not stage.chance(0.6):
        return
    colors, s, spacing = _colors(stage), stage.uniform(5.0, 18.0), stage.uniform(13.0, 28.0)
    mesh = f.lamp(round(stage.uniform(4.0, 9.0)), round(stage.uniform(-1.5, 2.5)) if stage.chance(0.6) else 0.0)
    while s < min(stage.street.end, 80.0):
        _place(stage, mesh, s, _kerb(side), 0.0 if side.sign > 0 else math.pi, colors)
        s += spacing


def _add_signs(stage: Stage, side: Side) -> None:
    colors = _colors(stage)
    for _ in range(stage.pick(4)):
        if stage.chance(0.5):
            colors = _colors(stage)
        count = 1 + (stage.chance(0.3))
        shapes = tuple(f.SIGN_SHAPES[stage.pick(len(f.SIGN_SHAPES))] for _ in range(count))
        size, posts, low = (0.75, 0.9)[stage.pick(2)], 1, (1.8, 2.3)[stage.pick(2)]
        if stage.chance(0.15):
            shapes, size, posts = ("board",), 1.7, 2
        mesh = f.sign_post(shapes, size, low, stage.pick(4), posts)
        heading = math.pi if stage.chance(0.2) else stage.uniform(-0.4, 0.4)
        _place(stage, mesh, stage.uniform(5.0, 30.0), _kerb(side) + side.sign * stage.uniform(0, 0.5), heading, colors)


def _add_lights(stage: Stage) -> None:
    """Adds traffic lights before and beyond the crossing, or at a pedestrian crossing."""
    crossing = stage.street.crossing
    if not stage.chance(0.85 if crossing else 0.35):
        return
    colors, lit = _colors(stage), stage.pick(3)
    s = crossing.s0 - 1.5 if crossing else stage.uniform(7.0, 22.0)
    places = [(s, side) for side in stage.street.sides]
    if crossing:
        places += [(crossing.s1 + 1.0, side) for side in stage.street.sides]
    for place, side in places:
        mesh = f.traffic_light(lit, side.sign > 0 and stage.chance(0.3), stage.chance(0.3), stage.chance(0.5))
        heading = stage.uniform(-0.25, 0.25) if stage.chance(0.8) else math.pi * side.sign / 2
        _place(stage, mesh, place, side.sign * (side.edge + 0.5), heading, colors)


def _add_bollards(stage: Stage, side: Side) -> None:
    if not stage.chance(0.12):
        return
    colors, s, spacing = _colors(stage), stage.uniform(5.0, 15.0), stage.uniform(1.6, 3.0)
    for k in range(4 + stage.pick(6)):
        _place(stage, f.plain_pole(1.0, 0.09), s + k * spacing, _kerb(side), 0.0, colors)


def _add_masts(stage: Stage, side: Side) -> None:
    for _ in range(stage.pick(3)):
        mesh = f.plain_pole((4.0, 7.0, 9.0)[stage.pick(3)], (0.08, 0.11, 0.15)[stage.pick(3)])
        _place(stage, mesh, stage.uniform(4.5, 22.0), _kerb(side), 0.0, _colors(stage))


def _add_clutter(stage: Stage, side: Side) -> None:
    """Adds static and dynamic clutter, which has no evaluated class."""
    for _ in range(stage.pick(3)):
        dynamic = stage.chance(0.35)
        kinds = _DYNAMIC if dynamic else _STATIC
        kind = kinds[stage.pick(len(kinds))]
        s, n = stage.uniform(6.0, 32.0), side.sign * (side.edge + stage.uniform(0.3, max(0.6, side.verge + side.walk)))
        x, z = stage.street.path.at(s, n)
        wide = 3.4 if kind == "shelter" else 1.0
        if not stage.sees(x, z, 2.0) or not stage.claim(x, z, 0.0, wide, wide):
            continue
        colors = _colors(stage)
        colors[f.FIELD], colors[f.EDGE] = stage.color("paint"), stage.color("ground")
        turn = stage.street.path.heading_at(s) + (side.sign * math.pi / 2 if stage.chance(0.7) else 0.0)
        label = stuff("dynamic" if dynamic else "static")
        footprint = Footprint(wide / 3, wide / 3, 1.0)
        mesh = f.clutter(kind)
        stage.add(Prop(mesh, (x, stage.ground_height(n), z), turn, colors, (label,), footprint=footprint))


def _add_pole_in_front(stage: Stage) -> None:
    """Adds a pole that hides the middle of a vehicle or person, as happens in real streets."""
    targets = [p for p in stage.props if p.labels[-1][1] >= 1000 and 9.0 < p.position[2] < 32.0]
    if not targets or not stage.chance(0.6):
        return
    x, _, z = targets[stage.pick(len(targets))].position
    for share in (0.75, 0.6, 0.5):
        s, n = stage.street.path.locate(share * x, share * z)
        if not stage.street.on_road(n) and z * share > 4.5:
            mesh = f.plain_pole((4.0, 7.0)[stage.pick(2)], (0.07, 0.11)[stage.pick(2)])
            _place(stage, mesh, s, n, 0.0, _colors(stage))
            return


def add_fixtures(stage: Stage) -> None:
    """Adds all street furniture; must run last, since a pole is placed in front of another object."""
    _add_lights(stage)
    for side in stage.street.sides:
        _add_lamps(stage, side)
        _add_signs(stage, side)
        _add_bollards(stage, side)
        _add_masts(stage, side)
        _add_clutter(stage, side)
    _add_pole_in_front(stage)
