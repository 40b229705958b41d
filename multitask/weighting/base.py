"""The base class of all weightings."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from multitask.errors import UserError
from multitask.likelihoods import Likelihood


class Weighting(nn.Module, ABC):
    """Combines the losses of several tasks into one total loss.

    Args:
        likelihoods: likelihood of each task that is on, by the task's name.
        sum: sum to which the effective weights of the tasks present in a step are scaled; None leaves them unscaled.
            Only the network's gradients are scaled, not those of a weighting's own parameters.
    Raises:
        UserError: naming the key, if the sum is not a number above zero.
    """

    additive: ClassVar[bool] = True
    """Whether the totals of micro-batches add up to the step's total; False if the weights depend on the losses."""

    own_backward: ClassVar[bool] = False
    """Whether `backward` differentiates something other than the total."""

    def __init__(self, likelihoods: Mapping[str, Likelihood], sum: float | None = None) -> None:
        super().__init__()
        if sum is not None and not 0 < sum < math.inf:
            raise UserError(f"weighting.sum: needed null or a number above zero, found {sum:g}")
        self.likelihoods = dict(likelihoods)
        self.sum = sum

    def watch(self, network: nn.Module) -> None:
        """Called once with the network whose losses are weighted; does nothing by default."""

    def temper(self, predictions: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the predictions for the losses; changed only if a likelihood divides logits by a temperature."""
        return predictions

    @abstractmethod
    def forward(self, losses: dict[str, Tensor], present: dict[str, Tensor], share: float = 1.0) -> Tensor:
        """Returns the total loss, which may be negative, being the negative log-likelihood of a density.

        Args:
            losses: mean loss of each task, scalar float32; of a micro-batch, its summand of the step's mean.
            present: for each task whether the step has any valid pixel, scalar bool. All terms of an absent task are
                zero, but its parameters stay in the graph.
            share: this micro-batch's share of the step, by which terms that are not means over pixels are multiplied.
        """

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Returns the effective weight of each task's loss, detached; the last step's if it depends on the losses."""

    def backward(self, total: Tensor, losses: dict[str, Tensor], present: dict[str, Tensor]) -> None:
        """Accumulates the gradients of all parameters, by default those of the total.

        Args:
            total: result of `forward`, multiplied by the loss scale of float16.
            losses: losses as passed to `forward`.
            present: flags as passed to `forward`.
        """
        total.backward()  # type: ignore[no-untyped-call]

    def bound_gradients(self) -> None:
        """Called between the backward pass and the update, on unscaled gradients; does nothing by default."""

    def after_step(
        self, losses: dict[str, Tensor], present: dict[str, Tensor], again: Callable[[], dict[str, Tensor]]
    ) -> None:
        """Called once after each update; does nothing by default.

        Args:
            losses: mean loss of each task in the step, before the update, detached.
            present: as in `forward`.
            again: recomputes the losses of the same batch without gradients, at the cost of a forward pass.
        """

    def log_variances(self) -> dict[str, nn.Parameter]:
        """Returns the learned s of each task; empty if no log-variance is learned."""
        return {}

    def variances(self) -> dict[str, Tensor]:
        """Returns the learned sigma^2 of each task, detached."""
        return {name: self.likelihoods[name].variance(s.detach()) for name, s in self.log_variances().items()}

    def stack(self, values: Mapping[str, Tensor]) -> Tensor:
        """Stacks one scalar per task into [K], in the order of the tasks."""
        return torch.stack([values[name] for name in self.likelihoods])

    def named(self, values: Tensor) -> dict[str, Tensor]:
        """Splits [K] into one scalar per task, by name."""
        return dict(zip(self.likelihoods, values, strict=True))

    def scale(self, weights: Tensor, present: Tensor) -> Tensor:
        """Returns the factor that scales weights [K] of the tasks ``present`` ([K] bool) to `sum`; 1 if it is None."""
        if self.sum is None:
            return torch.ones_like(weights[0])
        found = torch.where(present, weights, 0).sum()
        return torch.where(found > 0, self.sum / found, 0)
