"""Clusters from a reachability plot: its valleys, each as deep as it may be."""

import numpy as np

from multitask.instances.optics import Plot


def valleys(plot: Plot, max_radius: float, separation: float, resolution: float) -> np.ndarray:
    """Clusters of several densities.

    The plot is flooded from below. Where two valleys meet, they are two clusters if the water stands ``separation``
    times as high as each one's bottom, the smallest core distance in it; else they are one. No cut at a single height
    is chosen, so a dense cluster beside another and a sparse one far from all are both found. Where the plot ends the
    water stands at ``max_radius``, so that a valley too shallow for that is no cluster, but noise; so are points that
    meet others only where two clusters already have.

    Args:
        plot: of N points.
        max_radius: of the plot.
        separation: quotient of distances, above 1; its square is the quotient of densities.
        resolution: core distances below this count as this, in the unit of the points.
    Returns:
        (N,) int64 by point: the cluster's number from 0 on, or -1 for noise.
    """
    walls = plot.reachability[plot.ordering]
    bottom = np.maximum(plot.core_distance[plot.ordering], resolution).tolist()
    first, last = list(range(len(walls))), list(range(len(walls)))  # of a valley, known at its last and first place
    parted = [False] * len(walls)  # by a valley's first place: whether clusters have been found in it
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
