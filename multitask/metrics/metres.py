"""Distances in metres for known cameras: of ground truth instances, and errors of predicted disparity."""

import math

import numpy as np

from multitask.data.classes import INSTANCE_BASE, ClassTable, class_of
from multitask.data.layout import Camera
from multitask.metrics.matches import Distance

MAX_DISTANCE = 80.0
"""Maximum distance, m: farther pixels do not count, and predictions are clipped to it."""


def instance_distances(
    instance_ids: np.ndarray, present: np.ndarray, disparity: np.ndarray, camera: Camera, classes: ClassTable
) -> dict[int, Distance]:
    """Returns the median distance of each ground truth instance and group of an evaluated class, by instance id.

    Args:
        instance_ids: (H, W) int, coded as in a `Sample`.
        present: (N,) the instance ids that occur.
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
    """Standard errors of depth in metres over the pixels with a measured distance of at most 80 m.

    The metrics are those of Eigen et al. (NIPS 2014) with log10 and the SILog of KITTI's depth benchmark. Each is
    computed over all pixels of the data set, like the other metrics of this package, so that every pixel has equal
    weight whether its frame has few measurements or many. KITTI's devkit averages the metrics of single images instead.
    Its SILog then ignores one scale factor per image, and the one here a single factor for all: where images have
    equally many pixels, the mean over images is at most the value here.

    Args:
        classes: the class table, which names the classes that do not show the scene.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        # Sums of relative errors, squared errors, counts within each factor; of the natural logarithm of predicted over
        # true depth: absolute, signed and squared; number of pixels.
        self.sums = np.zeros(6 + len(_FACTORS))

    def update(
        self, predicted: np.ndarray, measured: np.ndarray, camera: Camera, class_ids: np.ndarray | None = None
    ) -> None:
        """Adds a frame.

        Args:
            predicted: (H, W) float, disparity, px; values not above 0 are infinitely far.
            measured: (H, W) float, disparity, px, NaN where not measured.
            camera: intrinsics in px of this image.
            class_ids: (H, W) class ids, if known: pixels that do not show the scene do not count.
        """
        scale = camera.baseline * camera.fx
        nearest = scale / MAX_DISTANCE
        valid = measured >= nearest
        if class_ids is not None:
            valid &= ~np.isin(class_ids, self.classes.unseen_ids)
        truth = scale / measured[valid].astype(np.float64)
        guess = scale / np.maximum(predicted[valid].astype(np.float64), nearest)
        error = guess - truth
        factor = np.maximum(guess / truth, truth / guess)
        close = [np.count_nonzero(factor < most) for most in _FACTORS.values()]
        log = np.log(guess / truth)
        logs = [np.abs(log).sum(), log.sum(), log @ log]
        self.sums += [np.abs(error / truth).sum(), error @ error, *close, *logs, len(truth)]

    def merge(self, other: "MetricDepth") -> None:
        """Adds the sums of another process."""
        self.sums += other.sums

    def compute(self) -> dict[str, float]:
        """Returns the metrics; empty if no pixel counts.

        Returns:
            ``abs_rel``: mean of |d - d*| / d*, of predicted depth d and true d*.
            ``rms_error_m``: root mean square of d - d*, m.
            ``delta_1.25``, ``delta_1.25_2`` and ``delta_1.25_3``: fractions with d within a factor of 1.25, 1.25^2 and
                1.25^3 of d*.
            ``log10``: mean of |log10 d - log10 d*|.
            ``silog``: 100 times the standard deviation of ln d - ln d*, which is invariant to a common factor of all d
                (except for pixels that it takes beyond 80 m).
        """
        *sums, count = self.sums.tolist()
        if not count:
            return {}
        relative, squared, *close, absolute, log, log_squared = (value / count for value in sums)
        figures = {"abs_rel": relative, "rms_error_m": squared**0.5, **dict(zip(_FACTORS, close, strict=True))}
        variance = max(log_squared - log**2, 0.0)  # rounding may give less than 0 where all logarithms are equal
        return figures | {"log10": absolute / math.log(10), "silog": 100 * variance**0.5}


_FACTORS = {"delta_1.25": 1.25, "delta_1.25_2": 1.25**2, "delta_1.25_3": 1.25**3}
"""Accuracy thresholds by the metric's name, which avoids ^, since TensorBoard replaces it by _."""
