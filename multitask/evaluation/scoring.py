"""Frames -> predictions -> figures of merit: each batch goes once through the network and then to every scorer."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor

from multitask.data.classes import ClassTable
from multitask.data.loader import Batch, closed_after
from multitask.engine.inference import Predict
from multitask.engine.interruption import Waiting
from multitask.errors import UserError
from multitask.evaluation.result_files import ResultWriter
from multitask.evaluation.scenes import make_scenes
from multitask.instances import Grouping
from multitask.metrics import PANOPTIC, SceneMetrics
from multitask.tasks.base import FigureOfMerit, Task
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic


class Scorer(Protocol):
    """Adds up figures of merit over batches."""

    def update(self, batch: Batch, predictions: Mapping[str, Tensor]) -> None:
        """Adds a batch and what was predicted for it: {task: [B, channels, H, W]}."""

    def compute(self) -> dict[str, float]:
        """``<group>/<figure>``; what cannot be computed is left out."""


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    scorers: Sequence[Scorer],
    device: torch.device,
    waiting: Waiting = nullcontext,
) -> dict[str, float]:
    """The figures of merit of all scorers over all batches.

    Args:
        predict: makes predictions on ``device``.
        batches: on any device.
        scorers: take each batch with its predictions.
        device: where to predict.
        waiting: makes the context in which a batch is waited for, which may raise.
    Raises:
        UserError: if a batch does not fit into the device's memory.
    """
    with closed_after(batches) as loaded:
        while True:
            with waiting():
                found = next(loaded, None)
            if found is None:
                break
            batch = found.to(device)
            try:
                predictions = predict(batch.images)
                for scorer in scorers:
                    scorer.update(batch, predictions)
            except torch.OutOfMemoryError as error:
                number, _, height, width = batch.images.shape
                raise UserError(
                    f"trainer.accumulate: {number} frames of {height} x {width} px at once are too many for the memory "
                    f"of {device}; needed a larger one, for fewer frames at once, or a smaller data.image_size"
                ) from error
    return {key: value for scorer in scorers for key, value in scorer.compute().items()}


class PixelScorer:
    """The tasks' own figures, which compare predictions with targets pixel by pixel.

    Args:
        tasks: whose figures are wanted.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._metrics = {name: task.metric() for name, task in tasks.items()}

    def update(self, batch: Batch, predictions: Mapping[str, Tensor]) -> None:
        """Adds a batch."""
        for name, metric in self._metrics.items():
            metric.update(predictions[name], batch.targets[name])

    def compute(self) -> dict[str, float]:
        """``<task>/<figure>``."""
        own = {name: metric.compute() for name, metric in self._metrics.items()}
        return {f"{name}/{key}": value for name, figures in own.items() for key, value in figures.items()}


class SceneScorer:
    """The figures of scenes, which it makes of predictions; a writer gets the scenes, too.

    Args:
        tasks: whose figures are wanted.
        classes: the class table.
        grouping: how votes become instances.
        writer: gets every scene.

    Attributes:
        seconds: that scenes and their figures took.
    """

    def __init__(
        self, tasks: Mapping[str, Task], classes: ClassTable, grouping: Grouping, writer: ResultWriter | None = None
    ) -> None:
        self.seconds = 0.0
        self._classes = classes
        self._wanted = figure_groups(tasks)
        # Instances need classes; result files need both.
        self._predicted = {Semantic.name, Instance.name} if writer or Instance.name in tasks else set()
        self._predicted |= tasks.keys()
        self._grouping = grouping
        self._writer = writer
        self._metrics = SceneMetrics(classes, Semantic.name, Instance.name, Depth.name)

    def update(self, batch: Batch, predictions: Mapping[str, Tensor]) -> None:
        """Adds a batch, which has its samples."""
        if batch.images.is_cuda:
            torch.cuda.synchronize(batch.images.device)  # what is waited for belongs to the predictions
        start = time.perf_counter()
        predictions = {name: value for name, value in predictions.items() if name in self._predicted}
        scenes = make_scenes(batch.names, predictions, self._classes, self._grouping)
        for sample, scene in zip(batch.samples, scenes, strict=True):
            self._metrics.update(sample, scene)
            if self._writer:
                self._writer.write(sample.name, scene)
        self.seconds += time.perf_counter() - start

    def compute(self) -> dict[str, float]:
        """``<task>/<figure>`` and ``panoptic/<figure>``; what cannot be computed is left out."""
        start = time.perf_counter()
        figures = self._metrics.compute()
        self.seconds += time.perf_counter() - start
        return {key: value for key, value in figures.items() if key.split("/")[0] in self._wanted}


def scored_by_pixels_alone(tasks: Mapping[str, Task]) -> dict[str, Task]:
    """The tasks whose own figures `SceneScorer` does not compute as well: all but the classes'."""
    return {name: task for name, task in tasks.items() if not (name == Semantic.name and type(task) is Semantic)}


_PANOPTIC_FIGURES = tuple(
    FigureOfMerit(key + suffix, f"{key.upper()}{title}, %", higher_is_better=True, percent=True)
    for suffix, title in (("", ""), ("_things", " things"), ("_stuff", " stuff"))
    for key in ("pq", "sq", "rq")
)


def figure_groups(tasks: Mapping[str, Task]) -> dict[str, tuple[FigureOfMerit, ...]]:
    """The figures that tables show: each task's, and those of classes and instances together."""
    groups = {name: task.figures for name, task in tasks.items()}
    return groups | ({PANOPTIC: _PANOPTIC_FIGURES} if {Semantic.name, Instance.name} <= tasks.keys() else {})


def score(figures: Mapping[str, float], tasks: Mapping[str, Task]) -> float:
    """One number to compare checkpoints by, higher is better: the mean over tasks of the log of the first figure.

    A difference of two scores is the mean relative improvement, whatever the figures' units. A network with a figure
    that is not a number is worse than any other.
    """
    logs = []
    for name, task in tasks.items():
        first = task.figures[0]
        if (value := figures.get(f"{name}/{first.key}")) is not None:
            sign = 1 if first.higher_is_better else -1
            logs.append(sign * math.log(max(value, 1e-6)))
    mean = sum(logs) / len(logs) if logs else -math.inf
    return mean if math.isfinite(mean) else -math.inf
