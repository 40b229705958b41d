"""Meshes of people in several poses, of bicycles, motorcycles and their riders; forward is +z."""

import math
from dataclasses import dataclass
from functools import cache

from multitask.synthetic.mesh import Mesh, MeshBuilder, Point, circle
from multitask.synthetic.textures import CLOTH, METAL

SKIN, HAIR, TOP, LEGS, SHOES, BAG = range(6)
"""Colour slots of a person."""

FRAME, RUBBER, SEAT, CHROME, LAMP = range(6, 11)
"""Colour slots of a two-wheeler, after those of its rider."""

RIDER_OWNER, BIKE_OWNER = 0, 1
"""Label indices (owners) of a two-wheeler's mesh: the rider, then the two-wheeler."""


@dataclass(frozen=True)
class Pose:
    """Angles of the joints (left, right), rad from hanging straight down, forwards positive.

    Attributes:
        hips, knees, shoulders, elbows: angles of the joints, those of knees and elbows relative to the limb above.
        lean: forward lean of the trunk, rad.
        seat: height of the hips, m; None: given by the legs.
        spread: sideways shift of each knee, m.
    """

    hips: tuple[float, float]
    knees: tuple[float, float]
    shoulders: tuple[float, float]
    elbows: tuple[float, float] = (0.2, 0.2)
    lean: float = 0.03
    seat: float | None = None
    spread: float = 0.0


POSES: tuple[Pose, ...] = (
    Pose((0.0, 0.05), (0.0, 0.0), (0.05, -0.05)),
    Pose((0.45, -0.35), (0.1, 0.25), (-0.45, 0.45)),
    Pose((-0.35, 0.45), (0.25, 0.1), (0.45, -0.45)),
    Pose((0.2, -0.15), (0.35, 0.1), (-0.2, 0.2)),
    Pose((0.6, -0.5), (0.2, 0.5), (-0.7, 0.6), (0.6, 0.9), 0.12),
    Pose((0.0, 0.0), (0.0, 0.05), (0.1, 1.2), (0.1, 1.6)),
    Pose((0.1, -0.05), (0.05, 0.1), (0.6, 0.6), (1.3, 1.3)),
    Pose((0.05, -0.1), (0.0, 0.0), (0.0, 2.2), (0.2, 0.3)),
    Pose((0.25, 0.0), (0.1, 0.0), (0.1, -0.1), (0.1, 0.2), 0.25),
    Pose((0.0, 0.0), (0.0, 0.0), (0.25, 0.25), (0.3, 0.3), 0.0, None, 0.12),
)
"""Poses: standing, walking (3), running, telephoning, carrying, waving, bending, legs apart."""

CYCLIST = Pose((1.15, 0.55), (1.15, 0.75), (0.95, 0.95), (0.25, 0.25), 0.45, 0.98)
MOTORCYCLIST = Pose((1.15, 1.1), (1.25, 1.2), (0.9, 0.9), (0.3, 0.3), 0.25, 0.84, 0.16)

_THIGH, _SHANK, _TRUNK, _ARM = 0.43, 0.42, 0.52, 0.29


def _swing(start: Point, angle: float, length: float, outwards: float = 0.0) -> Point:
    """Returns the end of a limb that hangs from ``start`` and swings forwards by ``angle``."""
    return (start[0] + outwards, start[1] - length * math.cos(angle), start[2] + length * math.sin(angle))


def _leg(m: MeshBuilder, pose: Pose, k: int, hip: Point, skirt: bool) -> None:
    sign = -1.0 if k == 0 else 1.0
    knee = _swing(hip, pose.hips[k], _THIGH, sign * pose.spread)
    ankle = _swing(knee, pose.hips[k] - pose.knees[k], _SHANK)
    m.bar(hip, knee, 0.095, 0.07, LEGS, rounded=True, material=CLOTH)
    m.bar(knee, ankle, 0.072, 0.05, SKIN if skirt else LEGS, rounded=True, material=CLOTH)
    m.bar((ankle[0], ankle[1] - 0.03, ankle[2] - 0.03), (ankle[0], ankle[1] - 0.04, ankle[2] + 0.13), 0.05, 0.04, SHOES)


def _arm(m: MeshBuilder, pose: Pose, k: int, shoulder: Point, bare: bool) -> None:
    sign = -1.0 if k == 0 else 1.0
    elbow = _swing(shoulder, pose.shoulders[k], _ARM, sign * 0.05)
    hand = _swing(elbow, pose.shoulders[k] + pose.elbows[k], _ARM * 0.9)
    m.bar(shoulder, elbow, 0.065, 0.052, TOP, rounded=True, material=CLOTH)
    m.bar(elbow, hand, 0.05, 0.04, SKIN if bare else TOP, rounded=True, material=CLOTH)
    m.bar(hand, _swing(hand, pose.shoulders[k] + pose.elbows[k], 0.09), 0.045, 0.035, SKIN, rounded=True)


def _figure(m: MeshBuilder, pose: Pose, style: int, *, helmet: bool = False) -> None:
    """Adds a person about 1.75 m tall; ``style`` selects sleeves, skirt, hair and bag."""
    reach = max(
        _THIGH * math.cos(pose.hips[k]) + _SHANK * math.cos(pose.hips[k] - pose.knees[k]) + 0.08 for k in (0, 1)
    )
    height = pose.seat if pose.seat is not None else reach
    neck = (0.0, height + _TRUNK * math.cos(pose.lean), _TRUNK * math.sin(pose.lean))
    bare, skirt, long_hair, bag = style % 2 == 1, style % 5 == 3, style % 3 == 1, style % 4 == 2
    for k, x in ((0, -0.09), (1, 0.09)):
        _leg(m, pose, k, (x, height, 0.0), skirt)
        _arm(m, pose, k, (2.1 * x, neck[1] - 0.04, neck[2]), bare)
    for x in (-0.06, 0.06):
        m.bar((x, height, 0.0), (2.1 * x, neck[1] - 0.1, neck[2] * 0.9), 0.13, 0.12, TOP, rounded=True, material=CLOTH)
    if skirt:
        m.bar((0.0, height + 0.1, 0.0), (0.0, height - 0.38, 0.05), 0.16, 0.24, LEGS, material=CLOTH)
    if bag:
        m.bar((0.0, neck[1] - 0.05, neck[2] - 0.2), (0.0, height + 0.12, -0.18), 0.15, 0.16, BAG, rounded=True)
    m.bar(neck, (0.0, neck[1] + 0.1, neck[2] + 0.02), 0.055, 0.055, SKIN)
    head = (0.0, neck[1] + 0.13, neck[2] + 0.03)
    crown = (0.0, head[1] + 0.13, head[2] - 0.015)
    m.bar((0.0, head[1], head[2] + 0.03), (0.0, crown[1], crown[2] + 0.035), 0.085, 0.09, SKIN, rounded=True)
    low = 0.12 if helmet else (-0.12 if long_hair else 0.08)
    size = 0.135 if helmet else 0.102
    m.bar((0.0, head[1] + low, head[2] - 0.11), (0.0, crown[1] + 0.03, crown[2] - 0.02), size, size, HAIR, rounded=True)


@cache
def person(pose: int, style: int) -> Mesh:
    """Returns a person in pose number ``pose`` of `POSES`."""
    m = MeshBuilder()
    _figure(m, POSES[pose], style)
    return m.build()


def _spoked_wheel(m: MeshBuilder, z: float, radius: float, tyre: float) -> None:
    """Adds a see-through wheel: the labels contain the entire disc, the picture only rim, hub and spokes."""
    across, up = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)
    centre = (0.0, radius, z)
    outer = circle(centre, radius, across, up, 16)
    inner = circle(centre, radius - tyre, across, up, 16)
    m.polygon(outer, RUBBER, sheer=True)
    m.polygon([*outer, outer[0], inner[0], *inner[:0:-1], inner[0]], RUBBER)
    for k in range(3):
        c, s = (radius - tyre) * math.cos(1.05 * k + 0.3), (radius - tyre) * math.sin(1.05 * k + 0.3)
        m.bar((0.0, radius - s, z - c), (0.0, radius + s, z + c), 0.008, 0.008, CHROME)
    # The tyre, since the disc has no width seen from the front or the back.
    m.bar((0.0, 0.02, z), (0.0, 2 * radius - 0.02, z), tyre * 0.5, tyre * 0.5, RUBBER)


def _bicycle(m: MeshBuilder) -> None:
    for z in (-0.52, 0.52):
        _spoked_wheel(m, z, 0.35, 0.055)
    m.layer += 1
    crank, saddle, head, rear, front = (
        (0.0, 0.32, -0.08),
        (0.0, 0.88, -0.25),
        (0.0, 0.80, 0.36),
        (0.0, 0.35, -0.52),
        (0.0, 0.35, 0.52),
    )
    for a, b in ((crank, saddle), (crank, head), (saddle, head), (crank, rear), (saddle, rear), (head, front)):
        m.bar(a, b, 0.035, 0.03, FRAME, material=METAL)
    grip = (0.0, 1.02, 0.33)
    m.bar(head, grip, 0.02, 0.02, CHROME)
    m.bar((-0.28, 1.02, 0.28), (0.28, 1.02, 0.28), 0.025, 0.025, CHROME)
    m.bar((0.0, 0.92, -0.36), (0.0, 0.94, -0.12), 0.06, 0.035, SEAT, rounded=True)
    m.layer -= 1


def _motorcycle(m: MeshBuilder, scooter: bool) -> None:
    side, up = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)
    radius = 0.24 if scooter else 0.31
    for z in (-0.66, 0.70):
        m.polygon(circle((0.0, radius, z), radius, side, up, 14), RUBBER)
        m.polygon(circle((0.0, radius, z), radius * 0.55, side, up, 10), CHROME, material=METAL)
        m.bar((0.0, 0.03, z), (0.0, 2 * radius - 0.03, z), 0.08, 0.08, RUBBER, rounded=True)
    m.layer += 1
    if scooter:
        m.bar((0.0, 0.42, -0.75), (0.0, 0.55, -0.15), 0.2, 0.2, FRAME, rounded=True, material=METAL)
        m.bar((0.0, 0.28, -0.3), (0.0, 0.28, 0.4), 0.1, 0.1, FRAME)
        m.bar((0.0, 0.3, 0.42), (0.0, 0.95, 0.4), 0.2, 0.17, FRAME, rounded=True, material=METAL)
    else:
        m.bar((0.0, 0.42, -0.25), (0.0, 0.45, 0.3), 0.2, 0.2, CHROME, rounded=True, material=METAL)
        m.bar((0.0, 0.82, 0.0), (0.0, 0.86, 0.38), 0.15, 0.17, FRAME, rounded=True, material=METAL)
        m.bar((0.0, 0.76, -0.2), (0.0, 0.88, -0.85), 0.13, 0.08, FRAME, rounded=True, material=METAL)
        m.bar((0.0, 0.3, -0.1), (0.0, 0.4, -0.8), 0.06, 0.07, CHROME, rounded=True)
    m.bar((0.0, 0.85, -0.7), (0.0, 0.82, 0.05), 0.12, 0.13, SEAT, rounded=True)
    m.bar((0.0, radius, 0.72), (0.0, 0.98, 0.48), 0.05, 0.06, CHROME)
    m.bar((-0.36, 1.02, 0.42), (0.36, 1.02, 0.42), 0.035, 0.035, RUBBER)
    m.bar((0.0, 0.78, 0.58), (0.0, 0.90, 0.56), 0.11, 0.11, LAMP, rounded=True)
    m.layer -= 1


@cache
def two_wheeler(kind: str, ridden: bool, style: int) -> Mesh:
    """Returns a ``bicycle``, ``scooter`` or ``motorcycle``, with or without its rider.

    Returns:
        Mesh whose faces have the owner `RIDER_OWNER` or `BIKE_OWNER`.
    """
    m = MeshBuilder()
    m.owner = BIKE_OWNER
    if kind == "bicycle":
        _bicycle(m)
    else:
        _motorcycle(m, kind == "scooter")
    if ridden:
        m.owner, m.layer = RIDER_OWNER, 1
        _figure(m, CYCLIST if kind == "bicycle" else MOTORCYCLIST, style, helmet=kind != "bicycle" or style % 2 == 0)
    return m.build()
