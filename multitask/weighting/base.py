"""What every weighting is."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from multitask.errors import UserError
from multitask.likelihoods import Likelihood


class Weighting(nn.Module, ABC):
    """Joins the losses of several tasks.

    Args:
        likelihoods: of each task that is on, by the task's name.
        sum: what the effective weights of the tasks that are present add up to in every step; None leaves them as they
            are. The network's gradients are scaled, those of a weighting's own parameters are not.
    Raises:
        UserError: naming the key, if the sum is not a number above zero.
    """

    additive: ClassVar[bool] = True
    """Whether the totals of a step's micro-batches add up to the step's: not where weights depend on its losses."""

    own_backward: ClassVar[bool] = False
    """Whether `backward` differentiates something else than the total."""

    def __init__(self, likelihoods: Mapping[str, Likelihood], sum: float | None = None) -> None:
        super().__init__()
        if sum is not None and not 0 < sum < math.inf:
            raise UserError(f"weighting.sum: needed null or a number above zero, found {sum:g}")
        self.likelihoods = dict(likelihoods)
        self.sum = sum

    def watch(self, network: nn.Module) -> None:
        """Called once with the network whose losses are weighed; does nothing by default."""

    def temper(self, predictions: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predictions as the losses need them; changed only where a likelihood divides logits by the noise."""
        return predictions

    @abstractmethod
    def forward(self, losses: dict[str, Tensor], present: dict[str, Tensor], share: float = 1.0) -> Tensor:
        """The total, which may be negative where it is a log-likelihood of densities.

        Args:
            losses: scalar mean loss of each task, float32, or the part of it that this micro-batch holds.
            present: scalar bool of each task: whether the step's batch has one valid pixel of it. Tasks without are
                skipped with all their terms, while the graph stays whole.
            share: part of the step that this micro-batch is; terms that are not means over pixels count this much.
        """

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Effective weight of each task's loss now, or in the last step where it depends on that; detached."""

    def backward(self, total: Tensor, losses: dict[str, Tensor], present: dict[str, Tensor]) -> None:
        """Adds the gradients to all parameters: those of the total by default.

        Args:
            total: of `forward`, multiplied by the loss scale of float16.
            losses: what `forward` got.
            present: likewise.
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
            again: computes the losses of the same batch anew, without gradients; it costs a forward pass.
        """

    def log_variances(self) -> dict[str, nn.Parameter]:
        """The learned s of each task; none where no log-variance is learned."""
        return {}

    def variances(self) -> dict[str, Tensor]:
        """The learned sigma^2 of each task, detached."""
        return {name: self.likelihoods[name].variance(s.detach()) for name, s in self.log_variances().items()}

    def stack(self, values: Mapping[str, Tensor]) -> Tensor:
        """A scalar of each task -> [K], in the order of the tasks."""
        return torch.stack([values[name] for name in self.likelihoods])

    def named(self, values: Tensor) -> dict[str, Tensor]:
        """[K] -> a scalar of each task."""
        return dict(zip(self.likelihoods, values, strict=True))

    def scale(self, weights: Tensor, present: Tensor) -> Tensor:
        """Scalar that gives [K] weights of the tasks ``present`` ([K] bool) the wanted sum; 1 if none is wanted."""
        if self.sum is None:
            return torch.ones_like(weights[0])
        found = torch.where(present, weights, 0).sum()
        return torch.where(found > 0, self.sum / found, 0)
