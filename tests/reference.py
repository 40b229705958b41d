"""Slow, obvious versions of what the package computes: loops over single pixels."""

import math
import statistics

import numpy as np

INSTANCE_CLASSES = {24, 25, 26, 27, 28, 31, 32, 33}

Pixel = tuple[int, ...]


def iou_by_sets(predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray, num_classes: int) -> dict[int, float]:
    """Intersection over union of each class as sets of pixels of a whole data set.

    Args:
        predicted, truth: (B, H, W) class indices.
        valid: (B, H, W) bool; other pixels are in no set.
        num_classes: highest index plus one.
    Returns:
        By class; a class that is neither in the truth nor predicted is left out.
    """
    said: dict[int, set[Pixel]] = {c: set() for c in range(num_classes)}
    true: dict[int, set[Pixel]] = {c: set() for c in range(num_classes)}
    for pixel in np.ndindex(*truth.shape):
        if valid[pixel]:
            said[int(predicted[pixel])].add(pixel)
            true[int(truth[pixel])].add(pixel)
    return {c: len(said[c] & true[c]) / len(said[c] | true[c]) for c in range(num_classes) if said[c] | true[c]}


def masked_errors(prediction: np.ndarray, target: np.ndarray, valid: np.ndarray) -> tuple[float, float]:
    """Mean L1 norm, and root of the mean squared L2 norm, of (B, C, H, W) vectors over the pixels of (B, H, W)."""
    absolute = squared = 0.0
    count = 0
    for frame, row, column in np.ndindex(*valid.shape):
        if valid[frame, row, column]:
            count += 1
            for channel in range(target.shape[1]):
                error = float(prediction[frame, channel, row, column]) - float(target[frame, channel, row, column])
                absolute += abs(error)
                squared += error**2
    return absolute / count, (squared / count) ** 0.5


def centroids(instance_ids: np.ndarray) -> dict[int, tuple[float, float]]:
    """Mean (x, y) of the pixels of each single instance of an evaluated class, by its id; no groups."""
    members: dict[int, list[tuple[int, int]]] = {}
    for (row, column), value in np.ndenumerate(instance_ids):
        if value >= 1000 and value // 1000 in INSTANCE_CLASSES:
            members.setdefault(int(value), []).append((column, row))
    return {
        number: (sum(x for x, _ in pixels) / len(pixels), sum(y for _, y in pixels) / len(pixels))
        for number, pixels in members.items()
    }


def centroid_vectors(instance_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vector (2, H, W), (x, y), from each pixel to its instance's centroid, and where there is one (H, W)."""
    centres = centroids(instance_ids)
    vectors = np.zeros((2, *instance_ids.shape))
    valid = np.zeros(instance_ids.shape, dtype=bool)
    for (row, column), value in np.ndenumerate(instance_ids):
        if int(value) in centres:
            x, y = centres[int(value)]
            vectors[:, row, column] = x - column, y - row
            valid[row, column] = True
    return vectors, valid


Frame = tuple[np.ndarray, np.ndarray, list[tuple[int, int, float]], np.ndarray, float]
"""Instance ids, instance map, (number, class id, confidence) of its instances, disparity px, baseline x fx in m px."""


def average_precision(
    frames: list[Frame], class_id: int, overlap: float, min_pixels: int, max_distance: float, min_density: float
) -> float | None:
    """Average precision of one class at one overlap, mask by mask; None where there is no true instance to find."""
    predictions: list[tuple[float, bool]] = []
    missed, wanted, tried = 0, 0, False
    for instance_ids, instance_map, instances, disparity, scale in frames:
        masks = [(instance_map == number, score) for number, name, score in instances if name == class_id]
        masks = [(mask, score) for mask, score in masks if mask.any()]
        tried = tried or bool(masks)
        void = np.isin(instance_ids, [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30])
        truths = []
        for number in np.unique(instance_ids):
            if number == class_id or number // 1000 == class_id:
                mask = instance_ids == number
                distances = [scale / d if d else float("inf") for d in disparity[mask] if not np.isnan(d)]
                density = len(distances) / mask.sum()
                fits = mask.sum() >= min_pixels and density >= min_density
                fits = bool(fits and distances and np.median(distances) <= max_distance)
                truths.append((mask, number < 1000, fits))
        for mask, group, fits in truths:
            if not group and fits:
                wanted += 1
                scores = sorted(score for found, score in masks if _iou(mask, found) > overlap)
                missed += not scores
                predictions += [(score, score_index == len(scores) - 1) for score_index, score in enumerate(scores)]
        for found, score in masks:
            if any(_iou(mask, found) > overlap for mask, _, _ in truths):
                continue
            ignored = (found & void).sum()
            for mask, group, fits in truths:
                ignored += (found & mask).sum() * (group + (not fits))
            if ignored / found.sum() <= overlap:
                predictions.append((score, False))
    if not wanted:
        return None
    return _area(predictions, missed) if tried else 0.0


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


def _area(predictions: list[tuple[float, bool]], missed: int) -> float:
    """Area under the points (recall, precision), each of which holds half the way to its two neighbours."""
    points = []
    total = sum(right for _, right in predictions) + missed
    for threshold in sorted({score for score, _ in predictions}):
        kept = [right for score, right in predictions if score >= threshold]
        points.append((sum(kept) / total, sum(kept) / len(kept)))
    points.append((0.0, 1.0))
    area = 0.0
    for index, (_, precision) in enumerate(points):
        before = points[max(index - 1, 0)][0]
        after = points[index + 1][0] if index + 1 < len(points) else 0.0
        area += precision * (before - after) / 2
    return area


def errors_in_metres(predicted: np.ndarray, measured: np.ndarray, scale: float) -> dict[str, float]:
    """Errors of depth over (H, W) disparities, px, where the truth is at most 80 m away; ``scale`` is in m px."""
    relative, squared, common, logs = [], [], [], []
    close: list[list[bool]] = []
    for pixel in np.ndindex(*measured.shape):
        if not np.isnan(measured[pixel]) and measured[pixel] > 0 and scale / measured[pixel] <= 80:
            truth = scale / measured[pixel]
            guess = min(scale / predicted[pixel], 80) if predicted[pixel] > 0 else 80
            relative.append(abs(guess - truth) / truth)
            squared.append((guess - truth) ** 2)
            close.append([max(guess / truth, truth / guess) < 1.25**power for power in (1, 2, 3)])
            common.append(abs(math.log10(guess) - math.log10(truth)))
            logs.append(math.log(guess) - math.log(truth))
    within = [statistics.fmean(column) for column in zip(*close, strict=True)]
    return {
        "abs_rel": statistics.fmean(relative),
        "rms_error_m": math.sqrt(statistics.fmean(squared)),
        "delta_1.25": within[0],
        "delta_1.25_2": within[1],
        "delta_1.25_3": within[2],
        "log10": statistics.fmean(common),
        "silog": 100 * statistics.pstdev(logs),
    }


def optics(
    points: np.ndarray, weights: np.ndarray, max_radius: float, min_weight: float
) -> tuple[list[int], list[float], list[float]]:
    """OPTICS by looking at every point at every step: ordering, reachability and core distances.

    Args:
        points: (N, 2).
        weights: (N,), how many points each one stands for.
        max_radius: how far apart neighbours may be.
        min_weight: weight within its core distance.
    """

    def distance(i: int, j: int) -> float:
        return math.dist(points[i], points[j])

    everything = range(len(points))
    core = []
    for i in everything:
        near = [j for j in everything if distance(i, j) <= max_radius]
        inside = {r: sum(weights[j] for j in near if distance(i, j) <= r) for r in (distance(i, j) for j in near)}
        core.append(min((r for r, weight in inside.items() if weight >= min_weight), default=math.inf))
    reachability = [math.inf] * len(points)
    ordering: list[int] = []
    while len(ordering) < len(points):
        i = min((j for j in everything if j not in ordering), key=reachability.__getitem__)
        ordering.append(i)
        for j in everything:
            if core[i] < math.inf and j not in ordering and distance(i, j) <= max_radius:
                reachability[j] = min(reachability[j], max(core[i], distance(i, j)))
    return ordering, reachability, core


def clusters_of_plot(walls: list[float], bottoms: list[float], max_radius: float, separation: float) -> list[range]:
    """Clusters of a reachability plot, by cutting it at its highest wall, and the parts again.

    Args:
        walls: reachability in the order of the plot, inf where a component begins.
        bottoms: core distances in that order.
        max_radius: of the plot.
        separation: how many times higher than both bottoms a wall between two clusters is.
    """

    def inside(part: range) -> list[range]:
        if len(part) == 1:
            return []
        wall = max(part[1:], key=lambda place: (walls[place], place))
        pieces = range(part.start, wall), range(wall, part.stop)
        found = [inside(piece) for piece in pieces]
        deep = [
            bool(within) or min(bottoms[place] for place in piece) <= walls[wall] / separation
            for piece, within in zip(pieces, found, strict=True)
        ]
        if all(deep):
            found = [within or [piece] for piece, within in zip(pieces, found, strict=True)]
        return found[0] + found[1]

    starts = [place for place, wall in enumerate(walls) if wall == math.inf]
    clusters = []
    for start, stop in zip(starts, [*starts[1:], len(walls)], strict=True):
        part = range(start, stop)
        low = min(bottoms[place] for place in part) <= max_radius / separation
        clusters += inside(part) or ([part] if low else [])
    return clusters


def cell_medians(layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A layer of measurements (H, W), NaN where there is none, made smaller: the lower of each cell's middle two."""
    found = np.full(size, np.nan, dtype=layer.dtype)
    (height, width), (new_height, new_width) = layer.shape, size
    for i, j in np.ndindex(size):
        values = []
        for y in range(i * height // new_height, (i + 1) * height // new_height):
            for x in range(j * width // new_width, (j + 1) * width // new_width):
                if not np.isnan(layer[y, x]):
                    values.append(layer[y, x])
        if values:
            found[i, j] = sorted(values)[(len(values) - 1) // 2]
    return found
