"""Meshes of planar polygons, from which all objects of the scene are made.

Coordinates of a mesh: x to the right, y up, z forward, in m, with the origin on the ground below the object. A face
has a *slot* instead of a colour, an index into the placed object's colours, so that one mesh serves many objects.
Within one object faces are painted in order: parts from far to near, then by layer, then from far to near; between
objects a z-buffer decides. Decals (a window on a facade) therefore only need a higher layer than the face they lie on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multitask.synthetic.textures import PLAIN

Point = tuple[float, float, float]
Quad = tuple[Point, Point, Point, Point]


@dataclass(frozen=True)
class Mesh:
    """Polygons in flat arrays; face f has the points ``starts[f] : starts[f] + counts[f]``.

    Attributes:
        points: (V, 3) float64, m.
        axes: (V, 3) float64: unit axis of the bar a point belongs to, zero for ordinary polygons.
        side: (V,) float64, m: sideways shift of the point, perpendicular to its axis and to the view.
        starts, counts: (F,) int64, index of each face's first point and number of its points.
        slot: (F,) int64, index into the object's colours.
        layer, part: (F,) int64, painting order within the object.
        owner: (F,) int64, index into the object's labels.
        material: (F,) int64, index into `textures.MATERIALS`.
        culled: (F,) bool, whether the face is visible from outside only.
        sheer: (F,) bool, whether the face is part of the object in the labels but transparent in the picture.
    """

    points: np.ndarray
    axes: np.ndarray
    side: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    slot: np.ndarray
    layer: np.ndarray
    part: np.ndarray
    owner: np.ndarray
    material: np.ndarray
    culled: np.ndarray
    sheer: np.ndarray


def panel(quad: Quad, u0: float, u1: float, v0: float, v1: float) -> Quad:
    """Returns a part of a quad in its own coordinates: corners at (0, 0), (1, 0), (1, 1), (0, 1), bilinear between."""

    def at(u: float, v: float) -> Point:
        w = ((1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v)
        return (
            w[0] * quad[0][0] + w[1] * quad[1][0] + w[2] * quad[2][0] + w[3] * quad[3][0],
            w[0] * quad[0][1] + w[1] * quad[1][1] + w[2] * quad[2][1] + w[3] * quad[3][1],
            w[0] * quad[0][2] + w[1] * quad[1][2] + w[2] * quad[2][2] + w[3] * quad[3][2],
        )

    return at(u0, v0), at(u1, v0), at(u1, v1), at(u0, v1)


def circle(centre: Point, radius: float, across: Point, up: Point, corners: int = 12) -> list[Point]:
    """Returns a regular polygon around ``centre`` in the plane of the unit vectors ``across`` and ``up``."""
    points = []
    for k in range(corners):
        c = radius * math.cos(2 * math.pi * (k + 0.5) / corners)
        s = radius * math.sin(2 * math.pi * (k + 0.5) / corners)
        points.append(
            (
                centre[0] + c * across[0] + s * up[0],
                centre[1] + c * across[1] + s * up[1],
                centre[2] + c * across[2] + s * up[2],
            )
        )
    return points


def _faces_inwards(points: Sequence[Point], inside: Point) -> bool:
    """Whether the polygon's normal (Newell) points towards ``inside``."""
    array = np.array(points)
    after = np.roll(array, -1, axis=0)
    normal = np.cross(array, after).sum(axis=0)
    return bool((normal * (array.mean(axis=0) - np.array(inside))).sum() < 0)


class MeshBuilder:
    """Collects faces; ``layer``, ``part`` and ``owner`` apply to all faces added until they are changed."""

    def __init__(self) -> None:
        self.layer = 0
        self.part = 0
        self.owner = 0
        self._points: list[Point] = []
        self._axes: list[Point] = []
        self._side: list[float] = []
        self._counts: list[int] = []
        self._faces: list[tuple[int, int, int, int, int, bool, bool]] = []
        self._grid_points: list[np.ndarray] = []
        self._grid_faces: list[np.ndarray] = []

    def polygon(
        self,
        points: Sequence[Point],
        slot: int,
        *,
        inside: Point | None = None,
        material: int = PLAIN,
        sheer: bool = False,
    ) -> None:
        """Adds a planar polygon; with ``inside`` (any point behind it) it is visible from outside only."""
        if inside is not None and _faces_inwards(points, inside):
            points = list(points)[::-1]
        self._add(points, slot, material, inside is not None, sheer)
        self._axes += [(0.0, 0.0, 0.0)] * len(points)
        self._side += [0.0] * len(points)

    def pane(self, quad: Quad, slot: int, *, material: int = PLAIN) -> None:
        """Adds a quad that is visible from outside only, with u to the right and v upwards as seen from there."""
        self._add(quad[::-1], slot, material, True, False)
        self._axes += [(0.0, 0.0, 0.0)] * 4
        self._side += [0.0] * 4

    def panes(self, quad: Quad, bounds: np.ndarray, slots: np.ndarray, *, material: int = PLAIN) -> None:
        """Adds many parts of a parallelogram at once (the windows of a facade).

        Args:
            quad: as for `pane`.
            bounds: (N, 4) u0, u1, v0, v1 of each part.
            slots: (N,) colour slots.
            material: material of all parts.
        """
        origin, right, _, up = (np.array(corner) for corner in quad)
        u, v = bounds[:, (0, 0, 1, 1), None], bounds[:, (2, 3, 3, 2), None]
        self._grid_points.append((origin + u * (right - origin) + v * (up - origin)).reshape(-1, 3))
        columns = np.empty((len(slots), 7), dtype=np.int64)
        columns[:, 0] = slots
        columns[:, 1:] = (self.layer, self.part, self.owner, material, 1, 0)
        self._grid_faces.append(columns)

    def bar(
        self,
        a: Point,
        b: Point,
        radius_a: float,
        radius_b: float,
        slot: int,
        *,
        rounded: bool = False,
        material: int = PLAIN,
    ) -> None:
        """Adds a tapered rod from ``a`` to ``b``: a strip that always turns its broad side to the camera."""
        length = math.dist(a, b) or 1.0
        axis = ((b[0] - a[0]) / length, (b[1] - a[1]) / length, (b[2] - a[2]) / length)
        steps = ((0.0, 1.0), (0.0, -1.0)) if not rounded else ((0.45, 0.9), (1.0, 0.35), (1.0, -0.35), (0.45, -0.9))
        points, side = [], []
        for end, radius, sign in ((b, radius_b, 1.0), (a, radius_a, -1.0)):
            for along, across in steps:
                shift = sign * along * radius
                points.append((end[0] + shift * axis[0], end[1] + shift * axis[1], end[2] + shift * axis[2]))
                side.append(sign * across * radius)
        self._add(points, slot, material, False, False)
        self._axes += [axis] * len(points)
        self._side += side

    def box(
        self, low: Point, high: Point, slot: int, *, material: int = PLAIN, top: int | None = None
    ) -> dict[str, Quad]:
        """Adds an upright box without a bottom.

        Args:
            low: left, lower, rear corner, m.
            high: right, upper, front corner, m.
            slot: colour slot of the walls.
            material: material of all faces.
            top: colour slot of the lid, by default that of the walls.
        Returns:
            The faces ``front`` (+z), ``back``, ``left`` (-x), ``right``, ``top``; u runs to the right as seen from
            outside, v upwards.
        """
        (x0, y0, z0), (x1, y1, z1) = low, high
        quads: dict[str, Quad] = {
            "front": ((x1, y0, z1), (x0, y0, z1), (x0, y1, z1), (x1, y1, z1)),
            "back": ((x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)),
            "left": ((x0, y0, z1), (x0, y0, z0), (x0, y1, z0), (x0, y1, z1)),
            "right": ((x1, y0, z0), (x1, y0, z1), (x1, y1, z1), (x1, y1, z0)),
            "top": ((x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)),
        }
        for name, quad in quads.items():
            self.pane(quad, slot if name != "top" or top is None else top, material=material)
        return quads

    def _add(self, points: Sequence[Point], slot: int, material: int, culled: bool, sheer: bool) -> None:
        self._points += points
        self._counts.append(len(points))
        self._faces.append((slot, self.layer, self.part, self.owner, material, culled, sheer))

    def build(self) -> Mesh:
        columns = np.concatenate([np.array(self._faces, dtype=np.int64).reshape(-1, 7), *self._grid_faces]).T
        counts = np.full(columns.shape[1], 4, dtype=np.int64)
        counts[: len(self._counts)] = self._counts
        points = np.concatenate([np.array(self._points, dtype=np.float64).reshape(-1, 3), *self._grid_points])
        axes, side = np.zeros_like(points), np.zeros(len(points))
        axes[: len(self._axes)] = np.array(self._axes, dtype=np.float64).reshape(-1, 3)
        side[: len(self._side)] = self._side
        return Mesh(
            points=points,
            axes=axes,
            side=side,
            starts=np.cumsum(counts) - counts,
            counts=counts,
            slot=columns[0],
            layer=columns[1],
            part=columns[2],
            owner=columns[3],
            material=columns[4],
            culled=columns[5].astype(bool),
            sheer=columns[6].astype(bool),
        )
