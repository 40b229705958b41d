"""The weighted sum of losses, with constant weights from the configuration or equal ones."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from multitask.errors import UserError
from multitask.likelihoods import Likelihood
from multitask.weighting.base import Weighting


class WeightedSum(Weighting):
    """The weighted sum ``sum_i w_i L_i`` (eq. 1), with weights that receive no gradient."""

    last: Tensor

    def __init__(self, likelihoods: Mapping[str, Likelihood], sum: float | None = None) -> None:
        super().__init__(likelihoods, sum)
        self.register_buffer("last", torch.full((len(likelihoods),), 1 / len(likelihoods)), persistent=False)

    @abstractmethod
    def rule(self, losses: Tensor, present: Tensor) -> Tensor:
        """Returns the weights of this step, [K].

        Args:
            losses: [K] float32, detached.
            present: [K] bool; the weights of absent tasks are ignored.
        """

    def forward(self, losses: dict[str, Tensor], present: dict[str, Tensor], share: float = 1.0) -> Tensor:
        stacked, here = self.stack(losses), self.stack(present)
        weights = torch.where(here, self.rule(stacked.detach(), here), 0)
        self.last = weights * self.scale(weights, here)
        return (self.last * stacked).sum()

    def weights(self) -> dict[str, Tensor]:
        return self.named(self.last)


class Fixed(WeightedSum):
    """Weights from the configuration.

    Args:
        likelihoods: likelihood of each task that is on.
        weights: weight of each task that is on; None counts as missing.
        sum: see `Weighting`.
    Raises:
        UserError: naming the key, if a weight is missing, negative or of a task that is off, or if all are zero.
    """

    given: Tensor

    def __init__(
        self, likelihoods: Mapping[str, Likelihood], weights: Mapping[str, float | None], sum: float | None = None
    ) -> None:
        super().__init__(likelihoods, sum)
        on = list(likelihoods)
        given = {name: float(weight) for name, weight in weights.items() if weight is not None}
        for name, weight in given.items():
            if name not in likelihoods:
                raise UserError(f"weighting.weights.{name}={weight:g}: the task is off, tasks={on}")
            if not 0 <= weight < float("inf"):
                raise UserError(f"weighting.weights.{name}: needed a weight >= 0, found {weight:g}")
        for name in on:
            if name not in given:
                raise UserError(f"weighting.weights.{name}: needed a weight, since tasks={on}; found none")
        if not any(given.values()):
            raise UserError(f"weighting.weights: needed one weight above zero, found {given}")
        self.register_buffer("given", torch.tensor([given[name] for name in on]), persistent=False)

    def rule(self, losses: Tensor, present: Tensor) -> Tensor:
        return self.given

    def weights(self) -> dict[str, Tensor]:
        return self.named(self.given * self.scale(self.given, torch.ones_like(self.given, dtype=torch.bool)))


class Equal(Fixed):
    """The unweighted sum of table 1: each of K tasks has the weight 1 / K."""

    def __init__(self, likelihoods: Mapping[str, Likelihood], sum: float | None = None) -> None:
        super().__init__(likelihoods, dict.fromkeys(likelihoods, 1 / len(likelihoods)), sum)
