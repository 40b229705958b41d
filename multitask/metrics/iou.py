"""IoU of classes and categories, and iIoU, in which each instance has equal weight whatever its size."""

import math

import numpy as np
import torch

from multitask.data.classes import IGNORE, INSTANCE_BASE, ClassTable, class_of
from multitask.metrics.overlaps import Overlaps
from multitask.metrics.pixels import ConfusionMatrix


class ClassScores:
    """IoU and iIoU by class and category over a data set, by the official definitions.

    iIoU weights the pixels of each ground truth instance, right (TP) or missed (FN), by the average size of its class
    over the instance's size; false positives, which belong to no instance, have weight 1. Groups do not count as
    instances. Classes without an average size in the table have no iIoU.

    Args:
        table: the class table.
    """

    def __init__(self, table: ClassTable) -> None:
        self.table = table
        self.confusion = ConfusionMatrix(table.names, table.categories)
        names = tuple(dict.fromkeys(table.categories))
        self._category_of = np.array([names.index(category) for category in table.categories])
        # Average sizes, px; NaN where unknown, and for classes without instances.
        self._sizes = np.array([label.average_pixels or math.nan for label in table.evaluated])
        # A category has an iIoU if all of its classes have instances of known average size.
        self._weighted_categories = [
            all(label.has_instances for label in table.labels if label.category == name)
            and not np.isnan(self._sizes[self._category_of == category]).any()
            for category, name in enumerate(names)
        ]
        # Weighted true positives and false negatives, by class and by category.
        self.classes = np.zeros((2, len(table.names)))
        self.categories = np.zeros((2, len(names)))

    def update(self, overlaps: Overlaps) -> None:
        """Adds a frame with class ids and predicted train ids; instance ids of 0 form no instances."""
        truth = self.table.train_ids[overlaps.class_ids].astype(np.int64)
        valid = truth != IGNORE
        self.confusion.add(truth[valid], overlaps.train_ids[valid], overlaps.pixels[valid])
        single = (overlaps.truth_ids >= INSTANCE_BASE) & self.table.counted[class_of(overlaps.truth_ids)]
        self._add_instances(Overlaps(*(column[single] for column in overlaps)))

    def _add_instances(self, overlaps: Overlaps) -> None:
        """Adds rows that belong to single instances of evaluated classes."""
        _, owner = np.unique(overlaps.truth_ids, return_inverse=True)
        sizes = np.bincount(owner, weights=overlaps.pixels)
        truth = self.table.train_ids[class_of(overlaps.truth_ids)].astype(np.int64)
        weighted = overlaps.pixels * (self._sizes[truth] / sizes[owner])
        for sums, table in (
            (self.classes, np.arange(len(self.table.names))),
            (self.categories, self._category_of),
        ):
            right = table[truth] == table[overlaps.train_ids]
            for row, chosen in enumerate((right, ~right)):
                sums[row] += np.bincount(table[truth[chosen]], weights=weighted[chosen], minlength=sums.shape[1])

    def merge(self, other: "ClassScores") -> None:
        """Adds the counts of another process."""
        self.confusion.merge(other.confusion)
        self.classes += other.classes
        self.categories += other.categories

    def compute(self, *, weighted: bool) -> dict[str, float]:
        """Returns ``iou_class``, ``iou_category`` and ``iou/<class>``, and with instance ids the same for ``iiou``.

        Args:
            weighted: whether instance ids are known, which iIoU needs.
        """
        figures = self.confusion.compute()
        if not weighted:
            return figures
        classes = {
            name: value
            for name, value, instances in zip(
                self.table.names, _weighted_iou(self.classes, self.confusion), ~np.isnan(self._sizes), strict=True
            )
            if instances and not math.isnan(value)
        }
        categories = [
            value
            for value, instances in zip(
                _weighted_iou(self.categories, self.confusion.by_category()), self._weighted_categories, strict=True
            )
            if instances and not math.isnan(value)
        ]
        if classes:
            figures["iiou_class"] = sum(classes.values()) / len(classes)
        if categories:
            figures["iiou_category"] = sum(categories) / len(categories)
        return figures | {f"iiou/{name}": value for name, value in classes.items()}


def _weighted_iou(sums: np.ndarray, confusion: ConfusionMatrix) -> list[float]:
    """Returns weighted TP / (weighted TP + weighted FN + FP) of each class, NaN where nothing is counted."""
    matrix = confusion.matrix.cpu()
    false = (matrix.sum(0) - matrix.diagonal()).to(torch.float64).numpy()
    total = sums.sum(0) + false
    return np.divide(sums[0], total, out=np.full(len(total), math.nan), where=total > 0).tolist()
