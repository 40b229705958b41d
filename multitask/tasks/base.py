"""The interface of tasks, through which the rest of the package uses them."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from multitask.data.classes import ClassTable
from multitask.data.sample import Sample, Target
from multitask.likelihoods import REGRESSION, Likelihood, choose
from multitask.metrics import Metric, VectorError


class FigureOfMerit(NamedTuple):
    """The description of one of a task's metrics, for tables.

    Attributes:
        key: key in the result of the task's metric or of `multitask.metrics.SceneMetrics`.
        title: column heading, with the unit.
        higher_is_better: direction of the metric.
        percent: whether the metric is a fraction, shown in per cent.
    """

    key: str
    title: str
    higher_is_better: bool
    percent: bool = False


class Task(ABC):
    """A dense prediction task; constructed with the class table of the labels.

    Attributes:
        name: key in every dict of predictions, targets and losses.
        channels: number of channels of the decoder's output.
        classes: the class table of the samples.
        meaning: meaning and unit of the channels, for users of an exported network; optional.
        layers: layers of a sample that the target requires.
        figures: descriptions of the metrics; the first one decides which checkpoint is best.
        likelihood: the likelihood, which fixes the loss and its weighting by uncertainty.
        per_class: whether there is one channel per class of the table, so that another table changes their meaning.
        sparse: whether the target is defined on a part of the image only; renderings of predictions are masked to it.
    """

    name: ClassVar[str]
    channels: int
    classes: ClassTable
    meaning: ClassVar[str] = ""
    layers: ClassVar[tuple[str, ...]]
    figures: ClassVar[tuple[FigureOfMerit, ...]]
    likelihood: Likelihood
    per_class: ClassVar[bool] = False
    sparse: ClassVar[bool] = False

    @abstractmethod
    def encode(self, sample: Sample) -> Target:
        """Returns target and valid mask of one frame; no pixel is valid if the sample lacks the task's layers."""

    @abstractmethod
    def pixel_loss(self, prediction: Tensor, value: Tensor) -> Tensor:
        """Returns the loss of each pixel: prediction [B, C, H, W], target value [B, ...] -> [B, H, W] float32."""

    @abstractmethod
    def ideal(self, value: Tensor) -> Tensor:
        """Returns the ideal prediction [B, C, H, W] float32 for a target value [B, ...]."""

    @abstractmethod
    def metric(self) -> Metric:
        """Returns a new, empty accumulator of the task's metrics."""

    @abstractmethod
    def render(self, prediction: Tensor, valid: Tensor | None = None) -> np.ndarray:
        """Renders a prediction [C, H, W] in colours that have the same meaning in every picture.

        Args:
            prediction: output of the network, or of `ideal` for a target.
            valid: [H, W] bool; other pixels are black. None: all pixels are valid.
        Returns:
            (H, W, 3) uint8 RGB.
        """

    @abstractmethod
    def legend(self, width: int) -> list[tuple[str, tuple[int, int, int]]]:
        """Returns the legend of `render` for a picture ``width`` px wide: texts and RGB colours."""

    def loss(self, prediction: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Returns the sum of the losses over valid pixels, float32, and the number of valid pixels.

        Args:
            prediction: [B, C, H, W].
            target: target of B frames.
        """
        losses = self.pixel_loss(prediction.float(), target.value)
        return torch.where(target.valid, losses, 0).sum(), target.valid.sum()


class Regression(Task):
    """A task whose prediction is compared with its target component by component."""

    figures: ClassVar[tuple[FigureOfMerit, ...]] = (
        FigureOfMerit("mean_error_px", "mean error, px", higher_is_better=False),
        FigureOfMerit("rms_error_px", "RMS error, px", higher_is_better=False),
    )

    def __init__(self, classes: ClassTable, likelihood: str = "paper") -> None:
        self.classes = classes
        self.likelihood = choose(REGRESSION, self.name, likelihood).of_vector(self.channels)

    def pixel_loss(self, prediction: Tensor, value: Tensor) -> Tensor:
        """Returns the L1 norm of the error, or the squared L2 norm for a Gaussian likelihood."""
        error = prediction - value
        return (error.square() if self.likelihood.error == "squared" else error.abs()).sum(1)

    def ideal(self, value: Tensor) -> Tensor:
        return value

    def metric(self) -> Metric:
        return VectorError()
