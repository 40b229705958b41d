"""Extraction of clusters from a reachability plot, as its valleys."""

import numpy as np

from multitask.instances.optics import Plot


def valleys(plot: Plot, max_radius: float, separation: float, resolution: float) -> np.ndarray:
    """Finds clusters of several densities.

    The plot is flooded from below. Where two valleys meet, they are two clusters if the water level is at least
    ``separation`` times the bottom of each, its smallest core distance; otherwise they become one valley. There is no
    cut at a single height, so that a dense cluster beside another and a sparse one far from all are both found. At the
    ends of the plot the level is ``max_radius``: a valley too shallow for that is noise. So are points that meet others
    only where two clusters have met already.

    Args:
        plot: reachability plot of N points.
        max_radius: radius with which the plot was computed.
        separation: ratio of distances, above 1; its square is the ratio of densities.
        resolution: lower limit of core distances, in the unit of the points.
    Returns:
        (N,) int64 by point: the cluster's number from 0, or -1 for noise.
    """
    walls = plot.reachability[plot.ordering]
    bottom = np.maximum(plot.core_distance[plot.ordering], resolution).tolist()
    first, last = list(range(len(walls))), list(range(len(walls)))  # of a valley, stored at its last and first index
    parted = [False] * len(walls)  # by a valley's first index: whether it contains clusters
    found: list[tuple[int, int]] = []
    rising = np.argsort(walls, kind="stable")
    for right in rising[: np.isfinite(walls).sum()].tolist():
        left, end = first[right - 1], last[right]
        height = walls[right] / separation
        deep = [parted[start] or bottom[start] <= height for start in (left, right)]
        if all(deep):
            found += [(start, last[start]) for start in (left, right) if not parted[start]]
        parted[left] = all(deep) or parted[left] or parted[right]
        bottom[left] = min(bottom[left], bottom[right])
        last[left], first[end] = end, left
    starts = np.flatnonzero(np.isinf(walls)).tolist()
    found += [
        (start, last[start]) for start in starts if not parted[start] and bottom[start] <= max_radius / separation
    ]
    labels = np.full(len(walls), -1)
    for number, (start, end) in enumerate(sorted(found)):
        labels[plot.ordering[start : end + 1]] = number
    return labels
