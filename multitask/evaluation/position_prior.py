"""The position prior: a baseline that predicts from the position of a pixel alone."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from multitask.data.loader import Batch, closed_after
from multitask.engine.inference import Predict
from multitask.tasks.base import Task

_GRID = (128, 256)
"""Grid of positions, (rows, columns): a cell is 1 px at the size of Tiny Cityscapes, 8 x 8 px at Cityscapes' own."""


def fit_position_prior(batches: Iterable[Batch], tasks: Mapping[str, Task], device: torch.device) -> Predict:
    """Fits the position prior, which predicts from the position of a pixel alone.

    For each position it predicts the mean of the ideal predictions over the given batches: the most frequent class, the
    mean vector, the mean disparity. Positions without any valid pixel get the mean over all positions.

    Args:
        batches: batches of the training split, not augmented.
        tasks: the tasks that are on.
        device: device on which to sum.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    with closed_after(batches) as loaded:
        for name, (value, valid) in (item for batch in loaded for item in batch.to(device).targets.items()):
            grid = (min(_GRID[0], valid.shape[-2]), min(_GRID[1], valid.shape[-1]))
            weight = valid.unsqueeze(1).float()
            # Cell means of value x valid and of valid: their quotient is the mean over the cell's valid pixels.
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
