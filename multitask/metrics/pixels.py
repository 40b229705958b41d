"""Pixel-wise metrics, with sums and counts over a data set, so that every pixel has equal weight in whatever image."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from multitask.data.sample import Target


class Metric(Protocol):
    """Metric that accumulates over batches; `compute` leaves out values that cannot be computed."""

    def update(self, prediction: Tensor, target: Target) -> None: ...

    def compute(self) -> dict[str, float]: ...


class ConfusionMatrix:
    """Confusion matrix over the data set, rows ground truth, columns prediction, for IoU by the official definition.

    Args:
        class_names: names by train id.
        categories: categories by train id.
    """

    def __init__(self, class_names: tuple[str, ...], categories: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.categories = categories
        self.matrix = torch.zeros(len(class_names), len(class_names), dtype=torch.int64)

    def update(self, prediction: Tensor, target: Target) -> None:
        """Adds logits [B, C, H, W] against train ids [B, H, W]; pixels that are not valid do not count."""
        num_classes = len(self.class_names)
        cells = target.value[target.valid] * num_classes + prediction.argmax(1)[target.valid]
        counts = torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
        self.matrix = self.matrix.to(counts.device) + counts

    def add(self, truth: np.ndarray, predicted: np.ndarray, pixels: np.ndarray) -> None:
        """Adds pixel counts: (R,) train ids of the ground truth, (R,) predicted train ids, (R,) numbers of pixels."""
        num_classes = len(self.class_names)
        counts = np.bincount(truth * num_classes + predicted, weights=pixels, minlength=num_classes**2)
        cells = torch.from_numpy(counts.astype(np.int64)).reshape(num_classes, num_classes)
        self.matrix = self.matrix + cells.to(self.matrix.device)

    def merge(self, other: "ConfusionMatrix") -> None:
        """Adds the counts of another process.

        Raises:
            ValueError: if its class table differs.
        """
        mine, theirs = (tuple(zip(x.class_names, x.categories, strict=True)) for x in (self, other))
        if mine != theirs:
            raise ValueError(f"class table: needed {mine}, found {theirs}")
        self.matrix = self.matrix + other.matrix.to(self.matrix.device)

    def compute(self) -> dict[str, float]:
        """Returns ``iou_class``, ``iou_category`` (means) and ``iou/<class>``, without classes that never occur.

        Without categories of several classes there is no ``iou_category``.
        """
        classes = _iou(self.matrix)
        categories = _iou(self.by_category().matrix)
        figures = {
            f"iou/{name}": value.item()
            for name, value in zip(self.class_names, classes, strict=True)
            if not value.isnan()
        }
        means = {"iou_class": classes.nanmean().item()}
        if len(categories) < len(classes):
            means["iou_category"] = categories.nanmean().item()
        return (means | figures) if figures else {}

    def by_category(self) -> "ConfusionMatrix":
        """Returns the confusion matrix of categories, in which confusing classes of one category is correct."""
        names = tuple(dict.fromkeys(self.categories))
        members = torch.tensor([[name == category for name in self.categories] for category in names])
        pooling = members.to(self.matrix.device, torch.float64)
        pooled = ConfusionMatrix(names, names)
        pooled.matrix = (pooling @ self.matrix.double() @ pooling.T).round().long()
        return pooled


def _iou(matrix: Tensor) -> Tensor:
    """Returns the IoU of each class, NaN for a class that is neither in the ground truth nor predicted."""
    matrix = matrix.double()
    intersection = matrix.diagonal()
    return intersection / (matrix.sum(0) + matrix.sum(1) - intersection)


class VectorError:
    """Errors of a regression over its valid pixels: mean L1 norm and root mean square of the L2 norm, px."""

    def __init__(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64)

    def update(self, prediction: Tensor, target: Target) -> None:
        """Adds predictions [B, C, H, W] against targets [B, C, H, W]."""
        error = (prediction - target.value).movedim(1, -1)[target.valid].double()
        sums = torch.stack([error.abs().sum(), error.square().sum(), target.valid.sum().double()])
        self.sums = self.sums.to(sums.device) + sums

    def merge(self, other: "VectorError") -> None:
        """Adds the sums of another process."""
        self.sums = self.sums + other.sums.to(self.sums.device)

    def compute(self) -> dict[str, float]:
        """Returns ``mean_error_px`` and ``rms_error_px``; empty without a valid pixel."""
        absolute, squared, count = self.sums.tolist()
        return {"mean_error_px": absolute / count, "rms_error_px": (squared / count) ** 0.5} if count else {}
