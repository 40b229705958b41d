"""Figures of merit as sums and counts over a data set, so that no image weighs more than its pixels."""

from typing import Protocol

import torch
from torch import Tensor

from multitask.data.sample import Target


class Metric(Protocol):
    """Accumulates over batches; `compute` leaves out what cannot be computed."""

    def update(self, prediction: Tensor, target: Target) -> None: ...

    def compute(self) -> dict[str, float]: ...


class ConfusionMatrix:
    """One matrix over the data set, rows the truth, columns the prediction: the official definition of IoU.

    Args:
        class_names: by train id.
        categories: the category of each class.
    """

    def __init__(self, class_names: tuple[str, ...], categories: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.categories = categories
        self.matrix = torch.zeros(len(class_names), len(class_names), dtype=torch.int64)

    def update(self, prediction: Tensor, target: Target) -> None:
        """Adds logits [B, C, H, W] against train ids [B, H, W]; pixels that are not valid count for nobody."""
        num_classes = len(self.class_names)
        cells = target.value[target.valid] * num_classes + prediction.argmax(1)[target.valid]
        counts = torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
        self.matrix = self.matrix.to(counts.device) + counts

    def compute(self) -> dict[str, float]:
        """``iou_class``, ``iou_category`` (means) and ``iou/<class>``, fractions; classes never seen are left out."""
        classes = _iou(self.matrix)
        members = torch.tensor([[name == category for name in self.categories] for category in self._category_names()])
        pooling = members.to(self.matrix.device, torch.float64)
        categories = _iou(pooling @ self.matrix.double() @ pooling.T)
        figures = {
            f"iou/{name}": value.item()
            for name, value in zip(self.class_names, classes, strict=True)
            if not value.isnan()
        }
        means = {"iou_class": classes.nanmean().item(), "iou_category": categories.nanmean().item()}
        return (means | figures) if figures else {}

    def _category_names(self) -> list[str]:
        return list(dict.fromkeys(self.categories))


def _iou(matrix: Tensor) -> Tensor:
    """Intersection over union of each class, NaN where a class is neither in the truth nor predicted."""
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

    def compute(self) -> dict[str, float]:
        """``mean_error_px`` and ``rms_error_px``; nothing without a valid pixel."""
        absolute, squared, count = self.sums.tolist()
        return {"mean_error_px": absolute / count, "rms_error_px": (squared / count) ** 0.5} if count else {}
