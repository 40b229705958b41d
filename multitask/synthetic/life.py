"""Placement of pedestrians, crowds, riders, and parked two-wheelers.

Places are (s, n) along the street, see `multitask.synthetic.street`.
"""

import math

import numpy as np

from multitask.synthetic import people
from multitask.synthetic.stage import Footprint, Label, Prop, Stage, stuff


def _person_colors(stage: Stage) -> np.ndarray:
    colors = np.empty((6, 3))
    colors[people.SKIN], colors[people.HAIR] = stage.color("skin", 0.03), stage.color("hair", 0.03)
    colors[people.TOP], colors[people.LEGS] = stage.color("cloth"), stage.color("cloth")
    colors[people.SHOES], colors[people.BAG] = stage.color("hair"), stage.color("cloth")
    return colors


def _bike_colors(stage: Stage) -> np.ndarray:
    colors = np.empty((11, 3))
    colors[:6] = _person_colors(stage)
    if stage.chance(0.5):
        colors[people.HAIR] = stage.color("paint")
    colors[people.FRAME] = stage.color("paint")
    colors[people.RUBBER] = stage.uniform(0.04, 0.14)
    colors[people.SEAT] = stage.uniform(0.05, 0.2)
    colors[people.CHROME] = stage.uniform(0.3, 0.7)
    colors[people.LAMP] = stage.uniform(0.6, 0.95)
    return colors


def add_person(
    stage: Stage, x: float, y: float, z: float, heading: float, *, label: Label | None = None, room: float = 0.6
) -> bool:
    """Adds a person who faces ``heading``, if the place is free and in view; ``room`` is the width needed, m."""
    if not stage.sees(x, z, 0.5) or not stage.claim(x, z, 0.0, room, room):
        return False
    size = stage.uniform(0.9, 1.1) if stage.chance(0.88) else stage.uniform(0.6, 0.8)
    mesh = people.person(stage.pick(len(people.POSES)), stage.pick(8))
    wide = size * stage.uniform(0.95, 1.2)
    label = label or stage.instance("person")
    footprint = Footprint(0.22, 0.2, 1.7 * size)
    stage.add(Prop(mesh, (x, y, z), heading, _person_colors(stage), (label,), (wide, size, wide), footprint))
    return True


def add_two_wheeler(
    stage: Stage, name: str, x: float, y: float, z: float, heading: float, *, ridden: bool, label: Label | None = None
) -> bool:
    """Adds a ``bicycle`` or ``motorcycle``, ridden or parked, if the place is free and in view."""
    if not stage.sees(x, z, 1.0) or not stage.claim(x, z, heading, 0.6, 1.7):
        return False
    kind = name if name == "bicycle" or stage.chance(0.55) else "scooter"
    rider = stage.instance("rider") if ridden else stuff("rider")
    mesh = people.two_wheeler(kind, ridden, stage.pick(8))
    size = stage.uniform(0.95, 1.15)
    labels = (rider, label or stage.instance(name))
    footprint = Footprint(0.25, 0.8, 1.6 if ridden else 1.0)
    stage.add(Prop(mesh, (x, y, z), heading, _bike_colors(stage), labels, (size, size, size), footprint))
    return True


def _sidewalk_place(stage: Stage, low: float, high: float) -> tuple[float, float]:
    """Draws a place (s, n) beside the road, between ``low`` and ``high`` m ahead."""
    side = stage.street.sides[stage.pick(2)]
    s = stage.uniform(low, high)
    breadth = max(1.2, side.verge + side.walk)
    return s, side.sign * (side.edge + 0.4 + stage.uniform(0.0, 1.0) * (breadth - 0.6))


def _add_walkers(stage: Stage) -> None:
    for _ in range(int(stage.uniform(0.0, 7.5) * stage.city.people)):
        s, n = _sidewalk_place(stage, 4.5, 24.0)
        x, z = stage.street.path.at(s, n)
        heading = stage.street.path.heading_at(s) + (0.0 if stage.chance(0.5) else math.pi) + stage.uniform(-0.5, 0.5)
        y = stage.ground_height(n)
        if add_person(stage, x, y, z, heading) and stage.chance(0.3):
            add_person(stage, x + stage.uniform(-0.7, 0.7), y, z + 0.5, heading)


def _add_crossers(stage: Stage) -> None:
    """Adds people on the road, at the crossing or elsewhere."""
    if not stage.chance(0.35):
        return
    street = stage.street
    s = street.crossing.s0 - 3.0 if street.crossing else stage.uniform(7.0, 22.0)
    for _ in range(1 + stage.pick(4)):
        n = stage.uniform(-street.left.edge, street.right.edge)
        x, z = street.path.at(s + stage.uniform(-1.2, 1.2), n)
        add_person(stage, x, 0.0, z, street.path.heading_at(s) + (1.57 if stage.chance(0.5) else -1.57))


def _add_crowd(stage: Stage) -> None:
    """Adds several people close together, often labelled as a group."""
    if not stage.chance(0.3 * stage.city.people):
        return
    s, n = _sidewalk_place(stage, 9.0, 26.0)
    label = stuff("person") if stage.chance(0.5) else None
    for _ in range(4 + stage.pick(7)):
        x, z = stage.street.path.at(s + stage.uniform(-1.8, 1.8), n + stage.uniform(-1.2, 1.2))
        heading = stage.uniform(-math.pi, math.pi)
        add_person(stage, x, stage.ground_height(n), z, heading, label=label, room=0.35)


def _add_riders(stage: Stage) -> None:
    street = stage.street
    for name, probability in (("bicycle", 0.36 * stage.city.cycling), ("motorcycle", 0.18)):
        count = 0
        while stage.chance(probability) and count < 3:
            count += 1
            direction = 1 if stage.chance(0.6) or len(street.lanes) == 1 else -1
            side = street.right if direction > 0 else street.left
            s = stage.uniform(6.0, 20.0)
            n = side.sign * (side.edge - side.parking - stage.uniform(0.4, 2.2))
            turn = 0.0 if direction > 0 else math.pi
            if stage.chance(0.3):
                n, turn = stage.uniform(-6.0, 6.0), stage.uniform(-math.pi, math.pi)
            x, z = street.path.at(s, n)
            add_two_wheeler(stage, name, x, stage.ground_height(n), z, street.path.heading_at(s) + turn, ridden=True)


def _add_parked_two_wheelers(stage: Stage) -> None:
    path = stage.street.path
    for name, probability in (("bicycle", 0.38 * stage.city.cycling), ("motorcycle", 0.24)):
        if not stage.chance(probability):
            continue
        s, n = _sidewalk_place(stage, 5.0, 17.0)
        turn = stage.uniform(-math.pi, math.pi)
        count = 1 + stage.pick(7 if name == "bicycle" else 3)
        label = stuff(name) if count > 3 and stage.chance(0.5) else None
        for k in range(count):
            x, z = path.at(s + 0.75 * k, n)
            heading = path.heading_at(s) + turn + stage.uniform(-0.15, 0.15)
            add_two_wheeler(stage, name, x, stage.ground_height(n), z, heading, ridden=False, label=label)


def add_life(stage: Stage) -> None:
    """Adds people, riders and parked two-wheelers."""
    _add_riders(stage)
    _add_crossers(stage)
    _add_parked_two_wheelers(stage)
    _add_crowd(stage)
    _add_walkers(stage)
