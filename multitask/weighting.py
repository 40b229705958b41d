"""From the tasks' losses to the one number that is minimised (eq. 1 and 10).

Every weighting sees the losses as a dict by task and knows of the tasks nothing but their likelihoods.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from multitask.likelihoods import Likelihood


class Weighting(nn.Module, ABC):
    """Joins the losses of several tasks.

    Args:
        likelihoods: of each task that is on, by the task's name.
    """

    def __init__(self, likelihoods: Mapping[str, Likelihood]) -> None:
        super().__init__()
        self.likelihoods = dict(likelihoods)

    def temper(self, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
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
        """Effective weight of each task's loss now, detached."""

    def log_variances(self) -> dict[str, nn.Parameter]:
        """The learned s of each task; none where nothing is learned."""
        return {}

    def bound_gradients(self) -> None:
        """Called between the backward pass and the update, on unscaled gradients; does nothing by default."""

    def variances(self) -> dict[str, Tensor]:
        """The learned sigma^2 of each task, detached."""
        return {name: self.likelihoods[name].variance(s.detach()) for name, s in self.log_variances().items()}


class Fixed(Weighting):
    """``sum_i w_i L_i`` (eq. 1) with weights from the configuration.

    Args:
        likelihoods: of each task that is on.
        weights: of each task that is on; None stands for not given.
    Raises:
        ValueError: naming the key, if a weight is missing, negative or of a task that is off, or if all are zero.
    """

    def __init__(self, likelihoods: Mapping[str, Likelihood], weights: Mapping[str, float | None]) -> None:
        super().__init__(likelihoods)
        on = list(likelihoods)
        given = {name: float(weight) for name, weight in weights.items() if weight is not None}
        for name, weight in given.items():
            if name not in likelihoods:
                raise ValueError(f"weighting.weights.{name}={weight:g}: the task is off, tasks={on}")
            if not 0 <= weight < float("inf"):
                raise ValueError(f"weighting.weights.{name}: needed a weight >= 0, found {weight:g}")
        for name in on:
            if name not in given:
                raise ValueError(f"weighting.weights.{name}: needed a weight, since tasks={on}; found none")
        if not any(given.values()):
            raise ValueError(f"weighting.weights: needed one weight above zero, found {given}")
        self._weights = {name: given[name] for name in on}

    def forward(self, losses: dict[str, Tensor], present: dict[str, Tensor], share: float = 1.0) -> Tensor:
        # A task without a valid pixel has a loss of zero already.
        return torch.stack([self._weights[name] * loss for name, loss in losses.items()]).sum()

    def weights(self) -> dict[str, Tensor]:
        return {name: torch.tensor(weight) for name, weight in self._weights.items()}


class Equal(Fixed):
    """The unweighted sum of table 1: each of K tasks weighs 1 / K."""

    def __init__(self, likelihoods: Mapping[str, Likelihood]) -> None:
        super().__init__(likelihoods, dict.fromkeys(likelihoods, 1 / len(likelihoods)))


class Uncertainty(Weighting):
    """The negative log-likelihood with one learned log-variance s = log sigma^2 for each task (eq. 10).

    Args:
        likelihoods: of each task that is on.
        initial_log_variance: where every s starts.
    Raises:
        ValueError: naming the key, if the start is not finite.
    """

    def __init__(self, likelihoods: Mapping[str, Likelihood], initial_log_variance: float = 0.0) -> None:
        super().__init__(likelihoods)
        if not math.isfinite(initial_log_variance):
            raise ValueError(f"weighting.initial_log_variance: needed a finite number, found {initial_log_variance}")
        self.s = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(float(initial_log_variance))) for name in likelihoods}
        )

    def temper(self, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.likelihoods[name].temper(value, self.s[name]) for name, value in predictions.items()}

    def forward(self, losses: dict[str, Tensor], present: dict[str, Tensor], share: float = 1.0) -> Tensor:
        terms = []
        for name, loss in losses.items():
            nll = self.likelihoods[name].nll(loss, self.s[name], share)
            terms.append(torch.where(present[name], nll, 0 * loss))
        return torch.stack(terms).sum()

    def bound_gradients(self) -> None:
        """Makes s no faster upwards than it can be downwards.

        The derivative by s is ``penalty - precision * exp(-s) * L``: at most the penalty where s is too high, without
        bound where it is too low, which throws s far beyond its optimum in one step.
        """
        for name, s in self.s.items():
            if s.grad is not None:
                s.grad.clamp_(min=-self.likelihoods[name].steepest)

    def weights(self) -> dict[str, Tensor]:
        return {name: self.likelihoods[name].weight(s.detach()) for name, s in self.log_variances().items()}

    def log_variances(self) -> dict[str, nn.Parameter]:
        return {name: self.s[name] for name in self.likelihoods}
