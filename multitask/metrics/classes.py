"""IoU of classes and categories, and iIoU, in which each instance weighs the same whatever its size."""

import math

import numpy as np
import torch

from multitask.data.labels import CLASS_NAMES, COUNTED_ID, EVALUATED, IGNORE, INSTANCE_BASE, LABELS, TRAIN_ID
from multitask.metrics.overlaps import Overlaps, class_of
from multitask.metrics.pixels import ConfusionMatrix

AVERAGE_PIXELS: dict[str, float] = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
"""Average size of an instance in px by class, a constant of the official definition (of Cityscapes at 1024 x 2048)."""

_WEIGHTS = np.array([AVERAGE_PIXELS.get(label.name, math.nan) for label in EVALUATED])
_CATEGORIES = tuple(label.category for label in EVALUATED)
_CATEGORY_NAMES = tuple(dict.fromkeys(_CATEGORIES))
_CATEGORY_OF = np.array([_CATEGORY_NAMES.index(name) for name in _CATEGORIES])
_WITH_INSTANCES = [
    all(label.has_instances for label in LABELS if label.category == category) for category in _CATEGORY_NAMES
]
"""By category: whether all its classes have instances, without which it has no iIoU."""


class ClassScores:
    """IoU and iIoU by class and category over a data set, by the official definitions.

    iIoU counts the pixels of each instance of the truth, right (TP) or missed (FN), times the average size of its
    class over its own size; false positives, which belong to no instance, count once. Groups are no instances.
    """

    def __init__(self) -> None:
        self.confusion = ConfusionMatrix(CLASS_NAMES, _CATEGORIES)
        # Weighted true positives and false negatives, by class and by category.
        self.classes = np.zeros((2, len(CLASS_NAMES)))
        self.categories = np.zeros((2, len(_CATEGORY_NAMES)))

    def update(self, overlaps: Overlaps) -> None:
        """Adds a frame of which class ids and predicted train ids are known; instance ids of 0 make no instances."""
        truth = TRAIN_ID[overlaps.class_ids].astype(np.int64)
        valid = truth != IGNORE
        self.confusion.add(truth[valid], overlaps.train_ids[valid], overlaps.pixels[valid])
        single = (overlaps.truth_ids >= INSTANCE_BASE) & COUNTED_ID[class_of(overlaps.truth_ids)]
        self._add_instances(Overlaps(*(column[single] for column in overlaps)))

    def _add_instances(self, overlaps: Overlaps) -> None:
        """Adds rows that belong to single instances of evaluated classes."""
        _, owner = np.unique(overlaps.truth_ids, return_inverse=True)
        sizes = np.bincount(owner, weights=overlaps.pixels)
        truth = TRAIN_ID[class_of(overlaps.truth_ids)].astype(np.int64)
        weighted = overlaps.pixels * (_WEIGHTS[truth] / sizes[owner])
        for sums, table in ((self.classes, np.arange(len(CLASS_NAMES))), (self.categories, _CATEGORY_OF)):
            right = table[truth] == table[overlaps.train_ids]
            for row, chosen in enumerate((right, ~right)):
                sums[row] += np.bincount(table[truth[chosen]], weights=weighted[chosen], minlength=sums.shape[1])

    def merge(self, other: "ClassScores") -> None:
        """Adds what another process counted."""
        self.confusion.merge(other.confusion)
        self.classes += other.classes
        self.categories += other.categories

    def compute(self, *, weighted: bool) -> dict[str, float]:
        """``iou_class``, ``iou_category``, ``iou/<class>``, and where there are instance ids the same with ``iiou``.

        Args:
            weighted: whether instance ids are known, without which there is no iIoU.
        """
        figures = self.confusion.compute()
        if not weighted:
            return figures
        classes = {
            name: value
            for name, value, instances in zip(
                CLASS_NAMES, _weighted_iou(self.classes, self.confusion), ~np.isnan(_WEIGHTS), strict=True
            )
            if instances and not math.isnan(value)
        }
        categories = [
            value
            for value, instances in zip(
                _weighted_iou(self.categories, self.confusion.by_category()), _WITH_INSTANCES, strict=True
            )
            if instances and not math.isnan(value)
        ]
        if classes:
            figures["iiou_class"] = sum(classes.values()) / len(classes)
        if categories:
            figures["iiou_category"] = sum(categories) / len(categories)
        return figures | {f"iiou/{name}": value for name, value in classes.items()}


def _weighted_iou(sums: np.ndarray, confusion: ConfusionMatrix) -> list[float]:
    """Weighted TP / (weighted TP + weighted FN + FP) of each class, NaN where nothing is counted."""
    matrix = confusion.matrix.cpu()
    false = (matrix.sum(0) - matrix.diagonal()).to(torch.float64).numpy()
    total = sums.sum(0) + false
    return np.divide(sums[0], total, out=np.full(len(total), math.nan), where=total > 0).tolist()
