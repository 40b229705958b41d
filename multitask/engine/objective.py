"""What a training step differentiates."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from multitask.data.loader import Batch
from multitask.engine.compute import Compute
from multitask.tasks.base import Task
from multitask.weighting import Weighting


class Objective(nn.Module):
    """Everything that has parameters, from images to the total: what a step differentiates."""

    def __init__(self, network: nn.Module, tasks: Mapping[str, Task], weighting: Weighting) -> None:
        super().__init__()
        self.network = network
        self.tasks = dict(tasks)
        self.weighting = weighting
        weighting.watch(network)

    def forward(
        self, batch: Batch, counts: dict[str, Tensor], compute: Compute, share: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total and each task's mean loss.

        Args:
            batch: a step's batch, or a micro-batch of it.
            counts: valid pixels of each task in the whole step, so that micro-batches add up to the step's mean.
            compute: device and type.
            share: part of the step that this micro-batch is.
        """
        losses = self._losses(batch, counts, compute)
        return self.weighting(losses, present_tasks(counts), share), losses

    @torch.no_grad()
    def losses_again(self, batch: Batch, counts: dict[str, Tensor], compute: Compute) -> dict[str, Tensor]:
        """Each task's mean loss as in `forward`; the batch leaves no second trace in running statistics."""
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
    """Of each task, whether there is one valid pixel of it."""
    return {name: count > 0 for name, count in counts.items()}
