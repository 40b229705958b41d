"""Panoptic quality (Kirillov et al., CVPR 2019) by the official definition."""

from collections.abc import Sequence

import numpy as np

from multitask.data.classes import IGNORE, INSTANCE_BASE, ClassTable, class_of
from multitask.metrics.overlaps import Overlaps
from multitask.metrics.predicted import PredictedInstance


class PanopticQuality:
    """Panoptic quality of the segments of things and stuff over a data set.

    A predicted segment is an instance of the instance map, or all pixels of a stuff class outside of instances. Pixels
    of thing classes outside of instances have no prediction. An instance given twice has the class of the higher
    confidence.

    Args:
        classes: the class table.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        # By class: sum of the matches' IoU, and numbers of TP, FP and FN.
        self.sums = np.zeros((4, len(classes.names)))

    def update(self, overlaps: Overlaps, instances: Sequence[PredictedInstance]) -> None:
        """Adds a frame with instance ids, predicted train ids and predicted instances."""
        truth_class = self.classes.train_ids[class_of(overlaps.truth_ids)].astype(np.int64)
        # Segment 0 is void: without an evaluated class, or without a prediction.
        true = _number(np.where(truth_class == IGNORE, -1, overlaps.truth_ids))
        predicted_ids, predicted_class = _predicted_segments(overlaps, instances, self.classes)
        predicted = _number(predicted_ids)
        shape = (int(true.max()) + 1, int(predicted.max()) + 1)
        cells = np.bincount(true * shape[1] + predicted, weights=overlaps.pixels, minlength=shape[0] * shape[1])
        true_classes, predicted_classes = np.zeros(shape[0], np.int64), np.zeros(shape[1], np.int64)
        true_classes[true], predicted_classes[predicted] = truth_class, predicted_class
        crowd = np.zeros(shape[0], dtype=bool)
        crowd[true] = (overlaps.truth_ids < INSTANCE_BASE) & self.classes.counted[class_of(overlaps.truth_ids)]
        self._add(cells.reshape(shape), true_classes, predicted_classes, crowd)

    def _add(self, cells: np.ndarray, true: np.ndarray, predicted: np.ndarray, crowd: np.ndarray) -> None:
        """Matches the segments of one frame and adds the counts.

        Args:
            cells: (T + 1, P + 1) common pixels of true and predicted segments; row and column 0 are void.
            true: (T + 1,) train ids of the true segments.
            predicted: (P + 1,) train ids of the predicted segments.
            crowd: (T + 1,) bool, whether a true segment is a group.
        """
        void, inside = cells[0, 1:], cells[1:, 1:]
        true_pixels, predicted_pixels = cells[1:].sum(1), cells[:, 1:].sum(0)
        true, predicted, crowd = true[1:], predicted[1:], crowd[1:]
        same = true[:, None] == predicted
        union = predicted_pixels + true_pixels[:, None] - inside - void
        iou = np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
        matches = same & ~crowd[:, None] & (iou > 0.5)
        ignored = void + (inside * (same & crowd[:, None])).sum(0)
        false = ~matches.any(0) & (ignored / predicted_pixels <= 0.5)
        missed = ~matches.any(1) & ~crowd
        rows, columns = np.nonzero(matches)
        for row, classes, weights in (
            (0, true[rows], iou[rows, columns]),
            (1, true[rows], None),
            (2, predicted[false], None),
            (3, true[missed], None),
        ):
            self.sums[row] += np.bincount(classes, weights=weights, minlength=self.sums.shape[1])

    def merge(self, other: "PanopticQuality") -> None:
        """Adds the counts of another process."""
        self.sums += other.sums

    def compute(self) -> dict[str, float]:
        """Returns means over classes, and quality by class; classes that never occur are left out.

        The keys are ``pq``, ``sq`` (mean IoU of matches) and ``rq`` (F1 of matching), the same with ``_things`` and
        ``_stuff``, and ``pq/<class>`` etc.
        """
        iou, right, false, missed = self.sums
        seen = right + false + missed > 0
        denominator = np.where(seen, right + (false + missed) / 2, 1)
        quality = {"pq": iou / denominator, "sq": iou / np.maximum(right, 1), "rq": right / denominator}
        things = self.classes.things[: len(seen)]
        chosen = {"": seen, "_things": seen & things, "_stuff": seen & ~things}
        means = {
            key + suffix: float(values[classes].mean())
            for suffix, classes in chosen.items()
            for key, values in quality.items()
            if classes.any()
        }
        single = {
            f"{key}/{self.classes.names[index]}": float(values[index])
            for key, values in quality.items()
            for index in np.flatnonzero(seen)
        }
        return means | single


def _number(ids: np.ndarray) -> np.ndarray:
    """Numbers the distinct ids from 1; ids below 0 get 0."""
    distinct, index = np.unique(ids, return_inverse=True)
    first = int(np.searchsorted(distinct, 0))
    return np.maximum(index - first + 1, 0)


def _predicted_segments(
    overlaps: Overlaps, instances: Sequence[PredictedInstance], classes: ClassTable
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids (below 0: no segment) and train ids of the predicted segments, by row of ``overlaps``."""
    surest = {instance.number: instance for instance in sorted(instances, key=lambda x: x.confidence)}
    numbers, index = np.unique(overlaps.numbers, return_inverse=True)
    train_ids = [classes.train_ids[surest[number].class_id] if number else 0 for number in numbers.tolist()]
    inside = overlaps.numbers > 0
    stuff = np.where(classes.things[overlaps.train_ids], -1, overlaps.train_ids)
    ids = np.where(inside, overlaps.numbers + len(classes.names), stuff)
    return ids, np.where(inside, np.array(train_ids, dtype=np.int64)[index], overlaps.train_ids)
