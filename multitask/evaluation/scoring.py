"""The evaluation loop: each batch passes through the network once and then goes to every scorer."""

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
    """Accumulates metrics over batches."""

    def update(self, batch: Batch, predictions: Mapping[str, Tensor]) -> None:
        """Adds a batch and its predictions, {task: [B, channels, H, W]}."""

    def compute(self) -> dict[str, float]:
        """Returns the metrics by name, ``<group>/<metric>``; undefined ones are left out."""


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    scorers: Sequence[Scorer],
    device: torch.device,
    waiting: Waiting = nullcontext,
) -> dict[str, float]:
    """Returns the metrics of all scorers over all batches.

    Args:
        predict: the prediction function.
        batches: batches on any device.
        scorers: scorers, each of which gets every batch with its predictions.
        device: device on which to predict.
        waiting: makes the context in which the next batch is awaited, and which may raise.
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
    """Computes the tasks' own metrics, which compare predictions with targets pixel by pixel.

    Args:
        tasks: the tasks to score.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._metrics = {name: task.metric() for name, task in tasks.items()}

    def update(self, batch: Batch, predictions: Mapping[str, Tensor]) -> None:
        """Adds a batch."""
        for name, metric in self._metrics.items():
            metric.update(predictions[name], batch.targets[name])

    def compute(self) -> dict[str, float]:
        """Returns the metrics by name, ``<task>/<metric>``."""
        own = {name: metric.compute() for name, metric in self._metrics.items()}
        return {f"{name}/{key}": value for name, figures in own.items() for key, value in figures.items()}


class SceneScorer:
    """Makes scenes from predictions and computes their metrics; also passes the scenes to a writer.

    Args:
        tasks: the tasks to score.
        classes: the class table.
        grouping: settings of the grouping of votes into instances.
        writer: writer of result files, if any.

    Attributes:
        seconds: time spent on scenes and their metrics.
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
        """Adds a batch, which must have kept its samples."""
        if batch.images.is_cuda:
            torch.cuda.synchronize(batch.images.device)  # so that the time of the predictions is not counted
        start = time.perf_counter()
        predictions = {name: value for name, value in predictions.items() if name in self._predicted}
        scenes = make_scenes(batch.names, predictions, self._classes, self._grouping)
        for sample, scene in zip(batch.samples, scenes, strict=True):
            self._metrics.update(sample, scene)
            if self._writer:
                self._writer.write(sample.name, scene)
        self.seconds += time.perf_counter() - start

    def compute(self) -> dict[str, float]:
        """Returns the metrics by name, ``<task>/<metric>`` and ``panoptic/<metric>``; undefined ones are left out."""
        start = time.perf_counter()
        figures = self._metrics.compute()
        self.seconds += time.perf_counter() - start
        return {key: value for key, value in figures.items() if key.split("/")[0] in self._wanted}


def scored_by_pixels_alone(tasks: Mapping[str, Task]) -> dict[str, Task]:
    """Returns the tasks whose own metrics `SceneScorer` does not compute: all except semantic segmentation."""
    return {name: task for name, task in tasks.items() if not (name == Semantic.name and type(task) is Semantic)}


_PANOPTIC_FIGURES = tuple(
    FigureOfMerit(key + suffix, f"{key.upper()}{title}, %", higher_is_better=True, percent=True)
    for suffix, title in (("", ""), ("_things", " things"), ("_stuff", " stuff"))
    for key in ("pq", "sq", "rq")
)


def figure_groups(tasks: Mapping[str, Task]) -> dict[str, tuple[FigureOfMerit, ...]]:
    """Returns the metrics that tables show: each task's, and panoptic quality if there are classes and instances."""
    groups = {name: task.figures for name, task in tasks.items()}
    return groups | ({PANOPTIC: _PANOPTIC_FIGURES} if {Semantic.name, Instance.name} <= tasks.keys() else {})


def score(figures: Mapping[str, float], tasks: Mapping[str, Task]) -> float:
    """Returns a score to compare checkpoints by, higher is better: the mean over tasks of the log of the first metric.

    Metrics for which lower is better count negatively. A difference of two scores is the mean relative improvement,
    whatever the metrics' units. A network with a metric that is NaN scores minus infinity.
    """
    logs = []
    for name, task in tasks.items():
        first = task.figures[0]
        if (value := figures.get(f"{name}/{first.key}")) is not None:
            sign = 1 if first.higher_is_better else -1
            logs.append(sign * math.log(max(value, 1e-6)))
    mean = sum(logs) / len(logs) if logs else -math.inf
    return mean if math.isfinite(mean) else -math.inf
