"""Slow, obvious versions of what the package computes: loops over single pixels."""

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
