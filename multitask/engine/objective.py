"""The differentiable function of a training step, from images to the total loss."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from multitask.data.loader import Batch
from multitask.engine.compute import Compute
from multitask.tasks.base import Task
from multitask.weighting import Weighting


class Objective(nn.Module):
    """The network and the weighting, all that has parameters, joined into one module that returns the total loss."""

    def __init__(self, network: nn.Module, tasks: Mapping[str, Task], weighting: Weighting) -> None:
        super().__init__()
        self.network = network
        self.tasks = dict(tasks)
        self.weighting = weighting
        weighting.watch(network)

    def forward(
        self, batch: Batch, counts: dict[str, Tensor], compute: Compute, share: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the total and each task's mean loss.

        Args:
            batch: a step's batch, or one of its micro-batches.
            counts: valid pixels of each task in the whole step, so that micro-batches add up to its mean loss.
            compute: device and precision.
            share: this micro-batch's share of the step.
        """
        losses = self._losses(batch, counts, compute)
        return self.weighting(losses, present_tasks(counts), share), losses

    @torch.no_grad()
    def losses_again(self, batch: Batch, counts: dict[str, Tensor], compute: Compute) -> dict[str, Tensor]:
        """Returns each task's mean loss as in `forward`, without updating the running statistics a second time."""
        kept = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        losses = self._losses(batch, counts, compute)
        for name, buffer in self.network.named_buffers():
            buffer.copy_(kept[name])
        return losses

    def _losses(self, batch: Batch, counts: dict[str, Tensor], compute: Compute) -> dict[str, Tensor]:
        with compute.autocast():
            predictions = self.network(compute.network_input(batch.images))
        predictions = self.weighting.temper(predictions, present_tasks(counts))
        return {
            name: task.loss(predictions[name], batch.targets[name])[0] / counts[name].clamp(min=1)
            for name, task in self.tasks.items()
        }


def present_tasks(counts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Whether each task has at least one valid pixel."""
    return {name: count > 0 for name, count in counts.items()}
