"""Exact OPTICS (Ankerst et al., SIGMOD 1999) for weighted points in the plane."""

from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np


class Plot(NamedTuple):
    """The reachability plot of N points.

    Attributes:
        ordering: (N,) int64, the points in the order in which they were reached.
        reachability: (N,) float64, by point: reachability distance from the points before it, inf for the first of a
            component.
        core_distance: (N,) float64, by point: smallest radius that contains ``min_weight``, inf if none does.
    """

    ordering: np.ndarray
    reachability: np.ndarray
    core_distance: np.ndarray


class _Pairs(NamedTuple):
    """Neighbours of all points: those of point i, itself included, are at ``starts[i]:starts[i + 1]``."""

    starts: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray


def optics(points: np.ndarray, weights: np.ndarray, max_radius: float, min_weight: float) -> Plot:
    """Orders points by density: close points are next to each other, and reachability is low inside clusters.

    A point of weight w counts as w points at one place. Of equally near points, the first in ``points`` comes first.

    Args:
        points: (N, 2), finite.
        weights: (N,), positive.
        max_radius: greatest distance of neighbours, in the unit of the points; may be inf.
        min_weight: weight within ``max_radius``, the point's own included, that makes it a core point.
    Raises:
        ValueError: naming the argument, what was needed and what was found.
    """
    points, weights = np.asarray(points, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    _check(points, weights, max_radius, min_weight)
    if not len(points):
        return Plot(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    pairs = _near(points, max_radius)
    core = _core_distances(pairs, weights, min_weight)
    return Plot(*_walk(pairs, core), core)


def _check(points: np.ndarray, weights: np.ndarray, max_radius: float, min_weight: float) -> None:
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"points: needed finite numbers of shape (N, 2), found shape {points.shape}")
    if weights.shape != points.shape[:1] or not (weights > 0).all():
        raise ValueError(f"weights: needed {len(points)} positive numbers, found shape {weights.shape}")
    if not max_radius > 0:
        raise ValueError(f"max_radius: needed a positive distance, found {max_radius}")
    if not min_weight > 0:
        raise ValueError(f"min_weight: needed a positive weight, found {min_weight}")


def _near(points: np.ndarray, max_radius: float) -> _Pairs:
    """Returns all pairs of points at most ``max_radius`` apart, in both directions.

    Points are sorted into squares of that side; the neighbours of a point are in nine squares, which form three runs of
    the sorted list.
    """
    x, y = (points - points.min(0)).T
    # Slightly wider than the radius, so that rounding cannot put points exactly a radius apart two squares apart.
    side = min(max_radius, max(x.max(), y.max(), 1e-300)) * (1 + 1e-9)
    columns = (x / side).astype(np.int64) + 1
    stride = columns.max() + 2
    squares = (y / side).astype(np.int64) * stride + columns
    by_square = np.argsort(squares, kind="stable")
    in_order = squares[by_square]
    runs = squares[:, None] + np.array([-stride, 0, stride])
    first = np.searchsorted(in_order, runs - 1)
    counts = np.searchsorted(in_order, runs + 1, side="right") - first
    ends = counts.cumsum()
    places = np.arange(ends[-1]) - np.repeat(ends - counts.ravel() - first.ravel(), counts.ravel())
    neighbours = by_square[places]
    owners = np.repeat(np.arange(len(points)), counts.sum(1))
    distances = np.sqrt((x[owners] - x[neighbours]) ** 2 + (y[owners] - y[neighbours]) ** 2)
    near = distances <= max_radius
    starts = np.concatenate([[0], np.bincount(owners[near], minlength=len(points)).cumsum()])
    return _Pairs(starts, neighbours[near], distances[near])


def _core_distances(pairs: _Pairs, weights: np.ndarray, min_weight: float) -> np.ndarray:
    """Returns the distance within which each point has ``min_weight``, (N,) float64."""
    core = np.where(weights >= min_weight, 0, np.inf)
    enough = np.add.reduceat(weights[pairs.neighbours], pairs.starts[:-1]) >= min_weight
    asked = np.flatnonzero(enough & (core > 0))
    if not len(asked):
        return core
    sizes = np.diff(pairs.starts)[asked]
    owners = np.repeat(np.arange(len(asked)), sizes)
    ends = sizes.cumsum()
    places = np.arange(ends[-1]) + np.repeat(pairs.starts[asked] - ends + sizes, sizes)
    outward = places[np.lexsort((pairs.distances[places], owners))]
    sums = weights[pairs.neighbours[outward]].cumsum()
    sums -= np.repeat(np.concatenate([[0], sums[ends[:-1] - 1]]), sizes)
    reached = np.where(sums >= min_weight, pairs.distances[outward], np.inf)
    core[asked] = np.minimum.reduceat(reached, ends - sizes)
    return core


def _walk(pairs: _Pairs, core: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves repeatedly from the points reached so far to the nearest one; returns ordering and reachability."""
    # Lists, since rows are short: a loop over twenty numbers is faster than NumPy calls.
    starts, neighbours = pairs.starts.tolist(), pairs.neighbours.tolist()
    ways = np.maximum(pairs.distances, np.repeat(core, np.diff(pairs.starts))).tolist()
    is_core = np.isfinite(core).tolist()
    reachability = [np.inf] * len(core)
    best = reachability.copy()  # shortest way so far; -inf, which nothing beats, marks points that are done
    ordering: list[int] = []
    for start in range(len(core)):
        waiting = [] if best[start] < 0 else [(np.inf, start)]
        while waiting:
            distance, point = heappop(waiting)
            if best[point] < 0:
                continue
            ordering.append(point)
            reachability[point], best[point] = distance, -np.inf
            if is_core[point]:
                row = slice(starts[point], starts[point + 1])
                for neighbour, way in zip(neighbours[row], ways[row], strict=True):
                    if way < best[neighbour]:
                        best[neighbour] = way
                        heappush(waiting, (way, neighbour))
    return np.array(ordering), np.array(reachability)
