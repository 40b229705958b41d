"""The contract of a task: all that the rest of the package knows of semantic, instance or depth."""

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
    """One figure of merit of a task, as tables show it.

    Attributes:
        key: in what the task's metric or `multitask.metrics.SceneMetrics` computes.
        title: column heading, with the unit.
        higher_is_better: which direction is better.
        percent: whether the figure is a fraction, shown in per cent.
    """

    key: str
    title: str
    higher_is_better: bool
    percent: bool = False


class Task(ABC):
    """What the network can learn to predict for each pixel; made with the class table of the labels.

    Attributes:
        name: key in every dict of predictions, targets and losses.
        channels: of the decoder's output.
        classes: the class table of the samples.
        meaning: what the channels say, with the unit, for who uses an exported network; may be left out.
        layers: the sample's layers without which there is no target.
        figures: the figures of merit; the first decides which checkpoint is best.
        likelihood: which loss is used and how uncertainty weighs it.
        per_class: whether the channels are the classes of the table, so that with another one they mean others.
        sparse: whether the task is defined on a part of the picture only, to which pictures of predictions are cut.
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
        """Target and valid mask of one frame; nothing is valid where the sample lacks the task's layers."""

    @abstractmethod
    def pixel_loss(self, prediction: Tensor, value: Tensor) -> Tensor:
        """Loss of each pixel: prediction [B, C, H, W], target value [B, ...] -> [B, H, W] float32."""

    @abstractmethod
    def ideal(self, value: Tensor) -> Tensor:
        """The prediction [B, C, H, W] float32 that says a target value [B, ...] exactly."""

    @abstractmethod
    def metric(self) -> Metric:
        """A new, empty accumulator of the task's figures."""

    @abstractmethod
    def render(self, prediction: Tensor, valid: Tensor | None = None) -> np.ndarray:
        """Picture of one prediction [C, H, W], in colours that mean the same in every picture.

        Args:
            prediction: as the network makes it, or as `ideal` makes it of a target.
            valid: [H, W] bool; other pixels are black.
        Returns:
            (H, W, 3) uint8 RGB.
        """

    @abstractmethod
    def legend(self, width: int) -> list[tuple[str, tuple[int, int, int]]]:
        """What the colours of `render` mean in a picture ``width`` px wide: texts and RGB."""

    def loss(self, prediction: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Sum of the losses of the valid pixels, float32, and their number.

        Args:
            prediction: [B, C, H, W].
            target: of B frames.
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
        """L1 norm, or squared L2 norm where the likelihood is Gaussian."""
        error = prediction - value
        return (error.square() if self.likelihood.error == "squared" else error.abs()).sum(1)

    def ideal(self, value: Tensor) -> Tensor:
        return value

    def metric(self) -> Metric:
        return VectorError()
