"""Predictions of a split to the figures of merit of its tasks."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from multitask.data.loader import Batch, closed_after
from multitask.engine.inference import Predict
from multitask.engine.interruption import Waiting
from multitask.errors import UserError
from multitask.tasks.base import Task


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    tasks: Mapping[str, Task],
    device: torch.device,
    observe: Callable[[Batch, dict[str, Tensor]], None] = lambda batch, predictions: None,
    waiting: Waiting = nullcontext,
) -> dict[str, float]:
    """The tasks' figures of merit over all batches, ``<task>/<figure>``; what cannot be computed is left out.

    Args:
        predict: makes predictions on ``device``.
        batches: on any device.
        tasks: whose figures.
        device: where to predict.
        observe: gets each batch and its predictions.
        waiting: makes the context in which a batch is waited for, which may raise.
    Raises:
        UserError: if a batch does not fit into the device's memory.
    """
    metrics = {name: task.metric() for name, task in tasks.items()}
    with closed_after(batches) as loaded:
        while True:
            with waiting():
                loaded_batch = next(loaded, None)
            if loaded_batch is None:
                break
            batch = loaded_batch.to(device)
            try:
                predictions = predict(batch.images)
                for name, metric in metrics.items():
                    metric.update(predictions[name], batch.targets[name])
                observe(batch, predictions)
            except torch.OutOfMemoryError as error:
                number, _, height, width = batch.images.shape
                raise UserError(
                    f"trainer.accumulate: {number} frames of {height} x {width} px at once are too many for the memory "
                    f"of {device}; needed a larger one, for fewer frames at once, or a smaller data.image_size"
                ) from error
    return {f"{name}/{key}": value for name, metric in metrics.items() for key, value in metric.compute().items()}


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
