"""Distances in metres, where the camera is known: of true instances, and errors of predicted disparity."""

import numpy as np

from multitask.data.classes import INSTANCE_BASE, ClassTable
from multitask.data.layout import Camera
from multitask.metrics.matches import Distance
from multitask.metrics.overlaps import class_of

MAX_DISTANCE = 80.0
"""m; farther pixels do not count, and no prediction counts as farther."""


def instance_distances(
    instance_ids: np.ndarray, present: np.ndarray, disparity: np.ndarray, camera: Camera, classes: ClassTable
) -> dict[int, Distance]:
    """Median distance of each true instance and group of an evaluated class, by instance id.

    Args:
        instance_ids: (H, W) int, as a `Sample` has them.
        present: (N,) the distinct ones of them.
        disparity: (H, W) float, px, NaN where not measured; 0 is infinitely far.
        camera: intrinsics in px of this image.
        classes: the class table.
    """
    wanted = np.unique(present[classes.counted[class_of(present)]])
    index = np.zeros(INSTANCE_BASE * len(classes.labels), dtype=np.uint16)
    index[wanted] = np.arange(1, len(wanted) + 1)
    owner = index[instance_ids.reshape(-1)]
    pixels = np.flatnonzero(owner)
    pixels = pixels[np.argsort(owner[pixels], kind="stable")]
    ends = np.cumsum(np.bincount(owner[pixels], minlength=len(wanted) + 1)[1:])
    values = disparity.reshape(-1)[pixels].astype(np.float64)
    with np.errstate(divide="ignore"):
        distance = camera.baseline * camera.fx / values
    parts = np.split(distance, ends[:-1]) if len(wanted) else []
    return {number: _distance(part) for number, part in zip(wanted.tolist(), parts, strict=True)}


def _distance(values: np.ndarray) -> Distance:
    known = values[~np.isnan(values)]
    return Distance(float(np.median(known)) if len(known) else np.inf, len(known) / len(values))


class MetricDepth:
    """Errors of depth in metres over the pixels measured to be at most 80 m away.

    Args:
        classes: the class table, which says what shows nothing of the scene.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        # Relative errors, squared errors, number within a factor of 1.25, number of pixels.
        self.sums = np.zeros(4)

    def update(
        self, predicted: np.ndarray, measured: np.ndarray, camera: Camera, class_ids: np.ndarray | None = None
    ) -> None:
        """Adds a frame.

        Args:
            predicted: (H, W) float, disparity, px; what is not above 0 is infinitely far.
            measured: (H, W) float, px, NaN where not measured.
            camera: intrinsics in px of this image.
            class_ids: (H, W) class ids, if known: pixels without a view of the scene do not count.
        """
        scale = camera.baseline * camera.fx
        nearest = scale / MAX_DISTANCE
        valid = measured >= nearest
        if class_ids is not None:
            valid &= ~np.isin(class_ids, self.classes.unseen_ids)
        truth = scale / measured[valid].astype(np.float64)
        guess = scale / np.maximum(predicted[valid].astype(np.float64), nearest)
        error = guess - truth
        close = np.maximum(guess / truth, truth / guess) < 1.25
        self.sums += [np.abs(error / truth).sum(), error @ error, close.sum(), len(truth)]

    def merge(self, other: "MetricDepth") -> None:
        """Adds what another process summed."""
        self.sums += other.sums

    def compute(self) -> dict[str, float]:
        """``abs_rel``, ``rms_error_m`` and ``delta_1.25``; nothing without a pixel that counts."""
        relative, squared, close, count = self.sums.tolist()
        if not count:
            return {}
        return {"abs_rel": relative / count, "rms_error_m": (squared / count) ** 0.5, "delta_1.25": close / count}
