"""Meshes of trees, bushes and hedges. Trees and bushes are turned to face the camera: +z points away from it."""

import math
from functools import cache

import numpy as np

from multitask.synthetic.buildings import MODULE
from multitask.synthetic.mesh import Mesh, MeshBuilder, Point
from multitask.synthetic.textures import BOARDS, FOLIAGE

DARK, MIDDLE, BRIGHT, TRUNK = range(4)
"""Colour slots: shaded, ordinary and sunlit leaves, bark."""

NUM_TREES = 24
NUM_BUSHES = 8


def _blob(rng: np.random.Generator, centre: Point, radius: float, flat: float, corners: int = 20) -> list[Point]:
    """Returns a ragged outline in the plane z = ``centre[2]``."""
    points = []
    for k in range(corners):
        r = radius * float(rng.uniform(0.85, 1.1)) * (0.9 if k % 2 else 1.08)
        angle = 2 * math.pi * k / corners
        points.append((centre[0] + r * math.cos(angle), centre[1] + flat * r * math.sin(angle), centre[2]))
    return points


def _crown(m: MeshBuilder, rng: np.random.Generator, middle: float, radius: float, slim: float) -> None:
    """Adds leaves at three depths: dark behind and below, bright in front and above, with gaps between them."""
    for layer, slot, depth, rise, count, size in (
        (0, DARK, 0.5, -0.15, 3, 0.75),
        (2, MIDDLE, 0.0, 0.0, 4, 0.62),
        (3, BRIGHT, -0.4, 0.25, 3, 0.42),
    ):
        m.layer = layer
        for k in range(count):
            x = radius * (0.9 * (k + 0.5) / count - 0.45 + float(rng.uniform(-0.12, 0.12))) * slim * 1.5
            y = middle + radius * (rise + float(rng.uniform(-0.4, 0.4)) * (2.0 - slim))
            blob = _blob(rng, (x, y, depth), radius * size * float(rng.uniform(0.85, 1.1)), 2.0 - slim)
            m.polygon(blob, slot, material=FOLIAGE)


@cache
def tree(number: int) -> Mesh:
    """Returns one of `NUM_TREES` trees, about 8 m tall: broad, slim, conifer or bare at the foot."""
    rng = np.random.default_rng([4171, number])
    m = MeshBuilder()
    kind = number % 4
    clear = float(rng.uniform(1.6, 3.0)) if kind != 2 else 0.8
    m.layer = 1
    thick = float(rng.uniform(0.12, 0.26))
    m.bar((0.0, 0.0, 0.0), (0.1, clear + 1.2, 0.0), thick, thick * 0.7, TRUNK, material=BOARDS)
    for x in (-0.9, 0.8):
        m.bar((0.05, clear * 0.9, 0.0), (x, clear + 1.6, 0.0), thick * 0.5, thick * 0.3, TRUNK, material=BOARDS)
    if kind == 2:
        for k in range(5):
            m.layer = 2 + k
            y, half = clear + 1.3 * k, 2.1 - 0.38 * k
            spikes = [(half * (1 - 2 * i / 6), y + float(rng.uniform(-0.25, 0.25)), -0.05 * k) for i in range(7)]
            m.polygon([*spikes, (0.0, y + 2.4, -0.05 * k)], (DARK, MIDDLE, BRIGHT)[k % 3], material=FOLIAGE)
    else:
        radius = float(rng.uniform(1.9, 2.8))
        slim = (1.0, 0.75, 1.0, 1.15)[kind]
        _crown(m, rng, clear + radius * 1.1, radius, slim)
    return m.build()


@cache
def bush(number: int) -> Mesh:
    """Returns one of `NUM_BUSHES` bushes, about 1.5 m tall."""
    rng = np.random.default_rng([4172, number])
    m = MeshBuilder()
    for layer, slot, count, size in ((0, DARK, 3, 0.75), (1, MIDDLE, 3, 0.6), (2, BRIGHT, 2, 0.4)):
        m.layer = layer
        for k in range(count):
            centre = (1.6 * (k + 0.5) / count - 0.8, 0.55 + 0.15 * layer, -0.15 * layer)
            blob = _blob(rng, centre, size * float(rng.uniform(0.8, 1.2)), 0.9)
            m.polygon([(x, max(y, 0.0), z) for x, y, z in blob], slot, material=FOLIAGE)
    return m.build()


@cache
def hedge(number: int, height: float) -> Mesh:
    """Returns one piece of a hedge, from x = 0 to `MODULE`, with a ragged top."""
    rng = np.random.default_rng([4173, number])
    m = MeshBuilder()
    tops = [(MODULE * (1 - k / 8), height + float(rng.uniform(-0.12, 0.12)), 0.0) for k in range(9)]
    m.polygon([(0.0, 0.0, 0.0), (MODULE, 0.0, 0.0), *tops], MIDDLE, material=FOLIAGE)
    m.layer = 1
    for k in range(5):
        blob = _blob(rng, (0.4 + 0.8 * k, height * float(rng.uniform(0.3, 0.75)), 0.0), 0.35, 1.0, 9)
        m.polygon(
            [(min(max(x, 0.0), MODULE), max(y, 0.0), z) for x, y, z in blob], (DARK, BRIGHT)[k % 2], material=FOLIAGE
        )
    return m.build()
