"""The semantic segmentation task (section 4.1)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from multitask.data.classes import IGNORE, ClassTable
from multitask.data.sample import Sample, Target
from multitask.likelihoods import CLASSIFICATION, choose
from multitask.metrics import ConfusionMatrix, Metric
from multitask.tasks.base import FigureOfMerit, Task


class Semantic(Task):
    """Classification of each pixel, with the cross-entropy over labelled pixels.

    Args:
        classes: the class table; there is a channel for each evaluated class.
        likelihood: ``paper`` (eq. 10) or ``softmax_exact`` (eq. 8).
    """

    name = "semantic"
    meaning = "logit of each class"
    layers = ("class_ids",)
    per_class = True
    figures = (
        FigureOfMerit("iou_class", "IoU class, %", higher_is_better=True, percent=True),
        FigureOfMerit("iiou_class", "iIoU class, %", higher_is_better=True, percent=True),
        FigureOfMerit("iou_category", "IoU category, %", higher_is_better=True, percent=True),
        FigureOfMerit("iiou_category", "iIoU category, %", higher_is_better=True, percent=True),
    )

    def __init__(self, classes: ClassTable, likelihood: str = "paper") -> None:
        self.classes = classes
        self.channels = len(classes.names)
        self.likelihood = choose(CLASSIFICATION, self.name, likelihood)

    def encode(self, sample: Sample) -> Target:
        """Returns train ids [H, W] int64, valid where the class is evaluated."""
        if sample.class_ids is None:
            train_ids = np.full(sample.image.shape[:2], IGNORE, dtype=np.int64)
        else:
            train_ids = self.classes.train_ids[sample.class_ids].astype(np.int64)
        return Target(torch.from_numpy(train_ids), torch.from_numpy(train_ids != IGNORE))

    def pixel_loss(self, prediction: Tensor, value: Tensor) -> Tensor:
        """Returns the cross-entropy (natural logarithm)."""
        return functional.cross_entropy(prediction, value, ignore_index=IGNORE, reduction="none")

    def ideal(self, value: Tensor) -> Tensor:
        """Returns the one-hot encoding; all zero at ignored pixels."""
        train_ids = torch.arange(self.channels, device=value.device).view(-1, 1, 1)
        return (value.unsqueeze(1) == train_ids).float()

    def metric(self) -> Metric:
        return ConfusionMatrix(self.classes.names, self.classes.categories)

    def render(self, prediction: Tensor, valid: Tensor | None = None) -> np.ndarray:
        """Renders the class of the highest score in the colours of the class table."""
        train_ids = prediction.argmax(0)
        if valid is not None:
            train_ids = torch.where(valid, train_ids, IGNORE)
        return self.classes.colors[train_ids.cpu().numpy()]

    def legend(self, width: int) -> list[tuple[str, tuple[int, int, int]]]:
        return [(label.name, label.color) for label in self.classes.evaluated]
