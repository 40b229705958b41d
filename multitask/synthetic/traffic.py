"""Placement of vehicles: parked rows, traffic in the lanes and on the crossing street, trams.

Places are (s, n) along the street, see `multitask.synthetic.street`.
"""

import math

import numpy as np

from multitask.synthetic import heavy, vehicles
from multitask.synthetic.mesh import Mesh
from multitask.synthetic.stage import Footprint, Label, Prop, Stage, stuff
from multitask.synthetic.street import Side

_BIG_SHARE = {"truck": 0.075, "bus": 0.065}
"""Shares of large vehicles among moving ones; the others are cars."""


def _vehicle_colors(stage: Stage) -> np.ndarray:
    colors = np.empty((10, 3))
    paint = stage.color("paint")
    dark = 0.03 + 0.1 * float(stage.rng.random())
    colors[vehicles.BODY] = paint
    colors[vehicles.TRIM] = dark + 0.05
    colors[vehicles.WINDOW] = np.array([0.17, 0.2, 0.23]) * stage.uniform(0.5, 2.0)
    colors[vehicles.TYRE] = dark
    colors[vehicles.HUB] = stage.uniform(0.2, 0.7)
    colors[vehicles.HEADLIGHT] = stage.uniform(0.65, 0.95)
    colors[vehicles.TAILLIGHT] = (stage.uniform(0.4, 0.85), 0.08, 0.08)
    colors[vehicles.PLATE] = (0.88, 0.86, 0.75)
    colors[vehicles.SECOND] = stage.color("paint")
    colors[vehicles.ROOF] = paint * stage.uniform(0.8, 1.05)
    return colors


def _mesh(stage: Stage, name: str) -> tuple[Mesh, float, float, float]:
    """Draws a mesh of the class; returns it with its width, length and height, m."""
    if name == "car":
        number = stage.pick(len(vehicles.CAR_SHAPES))
        shape = vehicles.CAR_SHAPES[number]
        return vehicles.car(number), shape.width, shape.length, shape.height
    if name == "truck":
        length = (6.5, 8.5, 11.0)[stage.pick(3)]
        height, load = (2.9, 3.4, 3.8)[stage.pick(3)], heavy.TRUCK_LOADS[stage.pick(6) % 4]
        return heavy.truck(length, height, load), 2.5, length, height
    if name == "bus":
        length, decks = (9.0, 12.0, 15.0)[stage.pick(3)], 2 if stage.chance(0.12) else 1
        height = 4.2 if decks == 2 else (2.9, 3.15)[stage.pick(2)]
        return vehicles.bus(length, height, decks), 2.5, length, height
    if name == "train":
        sections = 1 + stage.pick(3)
        return heavy.tram(sections, 8.0, 3.4), 2.5, sections * 8.6 + 2.0, 3.4
    return heavy.caravan(name == "caravan"), 2.0, 4.6 if name == "caravan" else 2.6, 2.3 if name == "caravan" else 1.0


def add_vehicle(
    stage: Stage, name: str, x: float, z: float, heading: float, *, y: float = 0.0, label: Label | None = None
) -> bool:
    """Adds a vehicle if its place is free and in view.

    Args:
        stage: stage of the scene.
        name: name of the class.
        x: position of its middle, m.
        z: position of its middle, m.
        heading: direction of its front, rad from straight ahead, right positive.
        y: height of the ground, m.
        label: its label, by default that of a new instance.
    Returns:
        Whether it was added.
    """
    mesh, width, length, height = _mesh(stage, name)
    if not stage.sees(x, z, length / 2):
        return False
    # Its nearest corner must be in front of the camera: half a car beside it is of no use for training.
    if z - abs(math.cos(heading)) * length / 2 < 1.0 and abs(x) < 3.0:
        return False
    if not stage.claim(x, z, heading, width + 0.2, length + 0.3):
        return False
    stretch = stage.uniform(0.94, 1.07)
    colors = _vehicle_colors(stage)
    label = label or stage.instance(name)
    scale = (1.0, stretch, stretch)
    footprint = Footprint(width / 2, length / 2, height)
    stage.add(Prop(mesh, (x, y, z), heading + stage.uniform(-0.04, 0.04), colors, (label,), scale, footprint))
    return True


def _moving_class(stage: Stage) -> str:
    value = float(stage.rng.random())
    for name, share in _BIG_SHARE.items():
        if value < share:
            return name
        value -= share
    return "car"


def _add_parked(stage: Stage, side: Side) -> None:
    """Adds a row of parked cars; far ones may be labelled as one group."""
    street = stage.street
    pitch = 2.7 if side.across else 5.9
    filled, s = stage.uniform(0.45, 0.95), stage.uniform(-2.0, 8.0)
    group_from = stage.uniform(18.0, 60.0) if stage.chance(0.5) else math.inf
    while s < min(street.end, 70.0):
        crossing = street.crossing
        blocked = crossing and crossing.s0 - 6.0 < s < crossing.s1 + 4.0
        if stage.chance(filled) and not blocked:
            n = side.sign * (side.edge - side.parking / 2 + stage.uniform(-0.1, 0.1))
            x, z = street.path.at(s, n)
            turn = math.pi / 2 * side.sign if side.across else (math.pi if side.sign < 0 or stage.chance(0.1) else 0.0)
            draw = stage.rng.random()
            name = "car" if draw < 0.93 else ("truck" if draw < 0.97 and not side.across else "car")
            if draw > 0.985 and not side.across:
                name = ("caravan", "trailer")[stage.pick(2)]
            label = stuff(name) if s > group_from and name == "car" else None
            add_vehicle(stage, name, x, z, street.path.heading_at(s) + turn, label=label)
        s += pitch * stage.uniform(1.0, 1.15)


def _add_lane(stage: Stage, n: float, direction: int) -> None:
    street = stage.street
    s = stage.uniform(8.0, 45.0 / stage.city.traffic)
    while s < min(street.end, 95.0):
        name = _moving_class(stage)
        x, z = street.path.at(s, n + stage.uniform(-0.25, 0.25))
        heading = street.path.heading_at(s) + (0.0 if direction > 0 else math.pi)
        add_vehicle(stage, name, x, z, heading)
        s += stage.uniform(8.0, 50.0 / stage.city.traffic)


def _add_across(stage: Stage) -> None:
    """Adds traffic on the crossing street, seen from the side, and turning vehicles."""
    street = stage.street
    crossing = street.crossing
    if crossing is None:
        if not street.closed:
            return
        s0, s1, left, right = street.end + 1.0, street.end + 7.0, True, True
    else:
        s0, s1, left, right = crossing.s0, crossing.s1, crossing.left, crossing.right
    for _ in range(stage.pick(4)):
        forward = stage.chance(0.5)
        s = s0 + (s1 - s0) * (0.27 if forward else 0.73)
        reach = 0.45 * s + 6.0
        n = stage.uniform(-reach if left else -2.0, reach if right else 2.0)
        x, z = street.path.at(s, n)
        turn = math.pi / 2 if forward else -math.pi / 2
        if stage.chance(0.2):
            turn += stage.uniform(-0.8, 0.8)
        add_vehicle(stage, _moving_class(stage), x, z, street.path.heading_at(s) + turn)


def _add_tram(stage: Stage) -> None:
    street = stage.street
    n = street.rails[stage.pick(len(street.rails))]
    s = stage.uniform(14.0, 48.0)
    x, z = street.path.at(s, n)
    turn = math.pi if n < 0 or stage.chance(0.3) else 0.0
    add_vehicle(stage, "train", x, z, street.path.heading_at(s) + turn)


def _add_rare(stage: Stage) -> None:
    """Adds large vehicles beside the road or across it, so that each kind is seen from all sides."""
    street = stage.street
    for name, probability in (("bus", 0.07), ("truck", 0.08), ("train", 0.05)):
        if not stage.chance(probability):
            continue
        s = stage.uniform(12.0, 40.0)
        if stage.chance(0.5):
            side = street.sides[stage.pick(2)]
            n = side.sign * (side.edge - 1.5)
            turn = 0.0 if side.sign > 0 else math.pi
        else:
            n = stage.uniform(-10.0, 10.0)
            turn = stage.uniform(0.6, 2.5) * (1 if stage.chance(0.5) else -1)
        x, z = street.path.at(s, n)
        add_vehicle(stage, name, x, z, street.path.heading_at(s) + turn)


def add_traffic(stage: Stage) -> None:
    """Adds all vehicles."""
    street = stage.street
    if street.rails and stage.chance(0.6):
        _add_tram(stage)
    _add_rare(stage)
    for side in street.sides:
        if side.parking:
            _add_parked(stage, side)
    for n, direction in street.lanes:
        if stage.chance(0.75):
            _add_lane(stage, n, direction)
    _add_across(stage)
