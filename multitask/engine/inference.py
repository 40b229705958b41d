"""Predictions over a data set, their figures of merit, and the predictor that knows only where a pixel is."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.data.loader import Batch, closed_after
from multitask.engine.compute import Compute
from multitask.engine.interruption import Waiting
from multitask.errors import UserError
from multitask.tasks.base import Task

Predict = Callable[[Tensor], dict[str, Tensor]]
"""[B, 3, H, W] uint8 images on the device -> {task: [B, channels, H, W] float32}."""


def network_predictor(network: nn.Module, compute: Compute) -> Predict:
    """``network`` in evaluation mode (while it predicts) and without gradients."""

    def predict(images: Tensor) -> dict[str, Tensor]:
        was_training = network.training
        network.eval()
        with torch.inference_mode(), compute.autocast():
            # Not network(...): what training compiled is not compiled again for every size of evaluation.
            predictions = network.forward(compute.network_input(images))
        network.train(was_training)
        return predictions

    return predict


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


_GRID = (128, 256)
"""The prior's positions: one for each px at Tiny Cityscapes' size, cells of 8 x 8 px at Cityscapes' own."""


def fit_position_prior(batches: Iterable[Batch], tasks: Mapping[str, Task], device: torch.device) -> Predict:
    """The predictor that knows only where a pixel is.

    For each position it predicts the mean over the given batches of what would have been right: the most frequent
    class, the mean vector, the mean disparity. Positions that no valid pixel ever had predict the mean of all.

    Args:
        batches: of the training split, not augmented.
        tasks: the tasks that are on.
        device: where to add up.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    with closed_after(batches) as loaded:
        for name, (value, valid) in (item for batch in loaded for item in batch.to(device).targets.items()):
            grid = (min(_GRID[0], valid.shape[-2]), min(_GRID[1], valid.shape[-1]))
            weight = valid.unsqueeze(1).float()
            # The mean over a cell of value x valid and of valid: their quotient is the mean over valid pixels.
            value_sum = functional.adaptive_avg_pool2d(tasks[name].ideal(value) * weight, grid).double().sum(0)
            count = functional.adaptive_avg_pool2d(weight, grid).double().sum(0)
            sums[name] = sums[name] + value_sum if name in sums else value_sum
            counts[name] = counts[name] + count if name in counts else count
    prior = {name: _mean_by_position(sums[name], counts[name]) for name in sums}

    def predict(images: Tensor) -> dict[str, Tensor]:
        size = images.shape[-2:]
        return {
            name: functional.interpolate(mean.unsqueeze(0), size, mode="nearest").expand(len(images), -1, -1, -1)
            for name, mean in prior.items()
        }

    return predict


def _mean_by_position(total: Tensor, count: Tensor) -> Tensor:
    overall = total.sum((1, 2)) / count.sum().clamp(min=1e-9)
    return torch.where(count > 0, total / count.clamp(min=1e-9), overall[:, None, None]).float()
