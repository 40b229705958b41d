"""Speed of grouping votes into instances, and the quality that grouping can reach at best."""

from functools import partial

import numpy as np

from multitask.benchmark.ceiling import ceiling, noisy_truth
from multitask.benchmark.timing import Results, median_seconds, seconds
from multitask.data.classes import INSTANCE_BASE
from multitask.instances import group, optics
from multitask.synthetic import CLASSES
from multitask.tasks.instance import Instance

_PATIENCE = 60.0
"""Seconds that one call of scikit-learn's OPTICS may take."""

_RADIUS = 2.0
"""Radius of OPTICS in the comparison with scikit-learn, px."""

_VAL_FRAMES, _VAL_SIZE = 200, (256, 512)


def measure_clustering(repeats: int) -> Results:
    """Measures the time of grouping, the time of OPTICS beside scikit-learn's, and the best quality of instances."""
    results: Results = {}
    times = {}
    for size, num_pixels in (((128, 256), 5_000), ((1024, 2048), 30_000), ((1024, 2048), 300_000)):
        times[num_pixels] = median_seconds(partial(group, *noisy_boxes(size, num_pixels), CLASSES), repeats)
        title = f"instances, {size[0]} x {size[1]}, {num_pixels} votes"
        results[title] = (times[num_pixels] * 1000, "ms")
    scattered = np.full((1024, 2048), 13), np.zeros((2, 1024, 2048), dtype=np.float32)
    worst = median_seconds(partial(group, *scattered, CLASSES), repeats)
    results["instances, 1024 x 2048, every pixel votes for itself"] = (worst * 1000, "ms")
    results["instances, 300000 / 30000 votes"] = (times[300_000] / times[30_000], "x")
    best = ceiling("val", _VAL_FRAMES, _VAL_SIZE)[f"{Instance.name}/ap50"]
    title = f"AP50 of noisy truth, {_VAL_FRAMES} validation frames of {_VAL_SIZE[0]} x {_VAL_SIZE[1]}"
    return results | _clustering_without_merging(repeats) | {title: (best * 100, "%")}


def noisy_boxes(size: tuple[int, int], num_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Makes noisy predictions of 24 boxes of five classes and many sizes, about ``num_pixels`` px together.

    Returns:
        Train ids and vectors, as `noisy_truth`.
    """
    rng = np.random.default_rng(0)
    height, width = size
    ids = np.zeros(size, dtype=np.int64)
    shares = np.geomspace(1, 100, 24)
    for tile, share in enumerate(rng.permutation(shares / shares.sum())):
        side = (share * num_pixels / (height * width / 24)) ** 0.5
        top, left = tile % 4 * height // 4, tile // 4 * width // 6
        box = np.s_[top : top + round(side * height / 4), left : left + round(side * width / 6)]
        ids[box] = (24 + tile % 5) * INSTANCE_BASE + tile
    return noisy_truth(ids // INSTANCE_BASE, ids, CLASSES, rng)


def _clustering_without_merging(repeats: int) -> Results:
    """Compares OPTICS with scikit-learn's, on as many votes as `_PATIENCE` allows; empty without scikit-learn."""
    try:
        from sklearn.cluster import OPTICS
    except ImportError:
        return {}
    train_ids, vectors = noisy_boxes((256, 512), 80_000)
    pixels = np.argwhere(train_ids)[:, ::-1]
    votes = np.random.default_rng(0).permutation(pixels + vectors[:, train_ids > 0].T)
    peer = OPTICS(min_samples=10, max_eps=_RADIUS, cluster_method="dbscan", eps=_RADIUS)
    num, slow = 500, seconds(partial(peer.fit, votes[:500]))
    while slow * 2.5 < _PATIENCE and 2 * num <= len(votes):
        num *= 2
        slow = seconds(partial(peer.fit, votes[:num]))
    own = median_seconds(partial(optics, votes[:num], np.ones(num), _RADIUS, 10), repeats)
    return {
        f"OPTICS of {num} single votes": (own * 1000, "ms"),
        f"OPTICS of {num} single votes, scikit-learn": (slow * 1000, "ms"),
        "OPTICS, scikit-learn / own": (slow / own, "x"),
    }
