"""The street: its course, its cross-section and the kinds of its roadside. All other objects are placed along it.

Places on a street are (s, n): s in m along its axis, 0 beside the camera, n in m to the right of the axis.
"""

import math
from dataclasses import dataclass

import numpy as np

from multitask.synthetic.cities import City

Vec = tuple[float, float]


@dataclass(frozen=True)
class Path:
    """An arc through the world: the axis of the street.

    Attributes:
        x, z: position of s = 0, m.
        heading: direction there, rad from straight ahead, right positive.
        curvature: 1/m, right positive.
    """

    x: float
    z: float
    heading: float
    curvature: float

    def heading_at(self, s: float) -> float:
        return self.heading + self.curvature * s

    def at(self, s: float, n: float) -> Vec:
        """Returns the world position (x, z) of the place (s, n)."""
        a, b, k = self.heading, self.heading_at(s), self.curvature
        if abs(k) < 1e-6:
            x, z = self.x + s * math.sin(a), self.z + s * math.cos(a)
        else:
            x, z = self.x + (math.cos(a) - math.cos(b)) / k, self.z + (math.sin(b) - math.sin(a)) / k
        return x + n * math.cos(b), z - n * math.sin(b)

    def locate(self, x: float, z: float) -> Vec:
        """Returns the place (s, n) of a world position (inverse of `at`, to about a centimetre)."""
        s = 0.0
        for _ in range(4):
            px, pz = self.at(s, 0.0)
            heading = self.heading_at(s)
            s += (x - px) * math.sin(heading) + (z - pz) * math.cos(heading)
        px, pz = self.at(s, 0.0)
        heading = self.heading_at(s)
        return s, (x - px) * math.cos(heading) - (z - pz) * math.sin(heading)


@dataclass(frozen=True)
class Segment:
    """A stretch of roadside: ``kind`` is one of `KINDS`, ``setback`` the distance of buildings from its edge, m."""

    s0: float
    s1: float
    kind: str
    setback: float


@dataclass(frozen=True)
class Side:
    """One side of the road, from its edge outwards: verge, sidewalk, then the segments.

    Attributes:
        sign: -1 left, +1 right.
        edge: distance of the road's edge from the axis, m.
        parking: width of the parking lane inside the edge, m (0: none).
        across: whether cars park at right angles to the road.
        verge, walk: widths of verge and sidewalk, m (0: none).
        kerb: height of the sidewalk, m.
        segments: stretches of roadside by increasing s.
    """

    sign: int
    edge: float
    parking: float
    across: bool
    verge: float
    walk: float
    kerb: float
    segments: tuple[Segment, ...]

    @property
    def border(self) -> float:
        """Distance of the segments' edge from the axis, m."""
        return self.edge + self.verge + self.walk


@dataclass(frozen=True)
class Crossing:
    """A crossing street between ``s0`` and ``s1``, m; ``left`` and ``right`` tell on which sides it continues."""

    s0: float
    s1: float
    left: bool
    right: bool


@dataclass(frozen=True)
class Street:
    """A street with everything along it that other modules need.

    Attributes:
        path: its axis.
        lanes: each lane's middle, as n in m, and direction, +1 along or -1 against the camera's.
        lane: lane width, m.
        left, right: its sides.
        crossing: the first crossing street, if any.
        end: s at which the street ends, m.
        closed: whether houses or trees stand across its end.
        base: kind of the surrounding ground: ``lawn``, ``plaza`` or ``ground``.
        rails: n of the middle of each tram track, m.
    """

    path: Path
    lanes: tuple[tuple[float, int], ...]
    lane: float
    left: Side
    right: Side
    crossing: Crossing | None
    end: float
    closed: bool
    base: str
    rails: tuple[float, ...]

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.left, self.right

    def on_road(self, n: float) -> bool:
        return -self.left.edge < n < self.right.edge


KINDS: tuple[str, ...] = ("row", "house", "hall", "wall", "fence", "hedge", "park", "open")


def _kind_weights(rng: np.random.Generator, city: City) -> np.ndarray:
    """Draws cumulative probabilities of `KINDS` for one side of a street: streets vary more than cities."""
    rows, green, bounded = city.rows, city.green, city.bounded
    usual = np.array([2.6 * rows, green, 0.3, 1.5 * bounded, 1.5 * bounded, 0.5 * green, 1.1 * green, 0.25])
    weights = usual * rng.uniform(0.05, 1.0, len(KINDS)) ** 2
    return np.asarray(np.cumsum(weights / weights.sum()))


def _segments(rng: np.random.Generator, city: City, end: float, gap: Vec | None) -> tuple[Segment, ...]:
    """Draws segments from behind the camera to the street's end, leaving ``gap`` open."""
    weights = _kind_weights(rng, city)
    segments = []
    s = float(rng.uniform(-9.0, -3.0))
    kind = KINDS[int(np.searchsorted(weights, rng.random()))]
    while s < end:
        if rng.random() < 0.45:
            kind = KINDS[min(int(np.searchsorted(weights, rng.random())), len(KINDS) - 1)]
        length = float(rng.uniform(7.0, 18.0)) if kind in ("row", "house") else float(rng.uniform(12.0, 34.0))
        if gap and s < gap[1] and s + length > gap[0]:
            if gap[0] - s > 5.0:
                segments.append(Segment(s, gap[0], kind, _setback(rng, kind)))
            s = gap[1]
            continue
        segments.append(Segment(s, s + length, kind, _setback(rng, kind)))
        s += length + (float(rng.uniform(1.0, 5.0)) if rng.random() < 0.15 else 0.0)
    return tuple(segments)


def _setback(rng: np.random.Generator, kind: str) -> float:
    low, high = {"row": (0.0, 0.6), "house": (3.0, 9.0), "hall": (1.0, 12.0), "open": (18.0, 38.0)}.get(
        kind, (8.0, 25.0)
    )
    return float(rng.uniform(low, high))


def _side(rng: np.random.Generator, city: City, sign: int, edge: float, end: float, crossing: Crossing | None) -> Side:
    parking, across = 0.0, False
    if rng.random() < 0.45:
        across = rng.random() < 0.15
        parking = 4.6 if across else 2.1
    walk = float(rng.uniform(1.6, 7.0)) if rng.random() < city.sidewalk else 0.0
    verge = float(rng.uniform(0.8, 5.0)) if rng.random() < 0.8 * city.green else 0.0
    if not walk:
        # Poles and people need some ground between the road and the houses.
        verge = max(verge, float(rng.uniform(0.9, 3.0)))
    gap = None
    if crossing and (crossing.left if sign < 0 else crossing.right):
        gap = (crossing.s0 - walk, crossing.s1 + walk)
    segments = _segments(rng, city, end, gap)
    kerb = float(rng.uniform(0.06, 0.16))
    return Side(sign, edge + parking, parking, across, verge, walk, kerb, segments)


def _crossing(rng: np.random.Generator, end: float) -> Crossing | None:
    if rng.random() < 0.4:
        return None
    start, width = float(rng.uniform(7.0, 45.0)), float(rng.uniform(5.0, 13.0))
    if start + width > end - 8.0:
        return None
    both = rng.random() < 0.6
    left = both or rng.random() < 0.5
    return Crossing(start, start + width, bool(left), bool(both or not left))


def sample_street(rng: np.random.Generator, city: City) -> Street:
    """Draws one street of a city, with the camera in one of its lanes at the origin."""
    lane = city.lane + float(rng.uniform(-0.3, 0.5))
    along = max(1, round(city.lanes + float(rng.normal(0.0, 0.6))))
    against = 0 if rng.random() < 0.25 else max(1, round(city.lanes + float(rng.normal(-0.2, 0.6))))
    rails: tuple[float, ...] = ()
    if rng.random() < city.rails:
        rails = (0.5 * lane,) if not against else (-0.5 * lane, 0.5 * lane)
    own = int(rng.integers(along))
    lanes = tuple([((k + 0.5) * lane, 1) for k in range(along)] + [(-(k + 0.5) * lane, -1) for k in range(against)])
    sharp = rng.random() < 0.3
    curvature = float(rng.normal(0.0, 0.012 if sharp else 0.003))
    heading = float(rng.normal(0.0, 0.20 if rng.random() < 0.25 else 0.05))
    ego = (own + 0.5) * lane + float(rng.uniform(-0.5, 0.5))
    path = Path(-ego * math.cos(heading), ego * math.sin(heading), heading, curvature)
    closed = rng.random() < 0.35
    end = float(rng.uniform(28.0, 80.0)) if closed else float(rng.uniform(80.0, 130.0))
    crossing = _crossing(rng, end)
    left = _side(rng, city, -1, against * lane + 0.3, end, crossing)
    right = _side(rng, city, 1, along * lane + 0.3, end, crossing)
    base = ("lawn", "plaza", "ground")[int(np.searchsorted(np.array([0.6, 0.93]), rng.random()))]
    return Street(path, lanes, lane, left, right, crossing, end, closed, base, rails)
