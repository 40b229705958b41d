"""Weights that are learned by the gradient of the total: eq. 10 and two relatives."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from multitask.errors import UserError
from multitask.likelihoods import Likelihood
from multitask.weighting.base import Weighting


class Learned(Weighting):
    """One learned number s for each task, and the sum of a term for each.

    With a wanted sum of the weights, the total keeps its value and the derivatives by s; the network's are scaled.

    Args:
        likelihoods: of each task that is on.
        start: where every s starts.
        sum: see `Weighting`.
    """

    def __init__(self, likelihoods: Mapping[str, Likelihood], start: float, sum: float | None) -> None:
        super().__init__(likelihoods, sum)
        self.s = nn.ParameterDict({name: nn.Parameter(torch.tensor(float(start))) for name in likelihoods})
        self.inside: frozenset[str] = frozenset()
        """Tasks whose s is inside the loss: there the predictions are scaled, for s to keep its derivative."""

    @abstractmethod
    def term(self, name: str, loss: Tensor, share: float) -> Tensor:
        """A task's part of the total."""

    @abstractmethod
    def weight(self, name: str) -> Tensor:
        """Derivative of the term by the loss, detached, before any scaling."""

    def forward(self, losses: dict[str, Tensor], present: dict[str, Tensor], share: float = 1.0) -> Tensor:
        scaled = self.scale_gradients(losses, present)
        terms = []
        for name, loss in losses.items():
            term = self.term(name, loss if name in self.inside else scaled[name], share)
            terms.append(torch.where(present[name], term, 0 * loss))
        return torch.stack(terms).sum()

    def weights(self) -> dict[str, Tensor]:
        weights = self._weights()
        return self.named(weights * self.scale(weights, torch.ones_like(weights, dtype=torch.bool)))

    def scale_gradients(self, values: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same values, whose gradients are multiplied by what gives the weights the wanted sum."""
        if self.sum is None:
            return values
        scale = self.scale(self._weights(), self.stack(present))
        return {name: value.detach() + scale * (value - value.detach()) for name, value in values.items()}

    def _weights(self) -> Tensor:
        return torch.stack([self.weight(name) for name in self.likelihoods])


class Uncertainty(Learned):
    """The negative log-likelihood with one learned log-variance s = log sigma^2 for each task (eq. 10).

    Args:
        likelihoods: of each task that is on.
        initial_log_variance: where every s starts.
        sum: see `Weighting`.
    Raises:
        UserError: naming the key, if the start is not finite.
    """

    def __init__(
        self, likelihoods: Mapping[str, Likelihood], initial_log_variance: float = 0.0, sum: float | None = None
    ) -> None:
        if not math.isfinite(initial_log_variance):
            raise UserError(f"weighting.initial_log_variance: needed a finite number, found {initial_log_variance}")
        super().__init__(likelihoods, initial_log_variance, sum)
        self.inside = frozenset(name for name, likelihood in likelihoods.items() if likelihood.tempered)

    def temper(self, predictions: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        scaled = self.scale_gradients(predictions, present)
        return {
            name: self.likelihoods[name].temper(scaled[name] if name in self.inside else value, self.s[name])
            for name, value in predictions.items()
        }

    def term(self, name: str, loss: Tensor, share: float) -> Tensor:
        return self.likelihoods[name].nll(loss, self.s[name], share)

    def weight(self, name: str) -> Tensor:
        return self.likelihoods[name].weight(self.s[name].detach())

    def bound_gradients(self) -> None:
        """Makes s no faster upwards than it can be downwards.

        The derivative by s is ``components * penalty - precision * exp(-s) * L``: at most the penalties where s is too
        high, without bound where it is too low, which throws s far beyond its optimum in one step.
        """
        for name, s in self.s.items():
            if s.grad is not None:
                s.grad.clamp_(min=-self.likelihoods[name].steepest)

    def log_variances(self) -> dict[str, nn.Parameter]:
        return {name: self.s[name] for name in self.likelihoods}


class LiebelKoerner(Learned):
    """Uncertainty with the penalty ``log(1 + sigma^2)``, which is never negative (arXiv 1805.06334).

    The factor of the loss is the likelihood's, as in `Uncertainty`, and so is how often the penalty counts for a
    vector: the two differ in the penalty alone. The exact softmax is approximated. With this penalty sigma^2 is no
    variance of anything, but what the weight follows from.
    """

    def __init__(self, likelihoods: Mapping[str, Likelihood], sum: float | None = None) -> None:
        super().__init__(likelihoods, 0.0, sum)

    def term(self, name: str, loss: Tensor, share: float) -> Tensor:
        s, likelihood = self.s[name], self.likelihoods[name]
        penalty = likelihood.components * functional.softplus(s)
        return likelihood.precision * torch.exp(-s) * loss + share * penalty

    def weight(self, name: str) -> Tensor:
        return self.likelihoods[name].weight(self.s[name].detach())

    def bound_gradients(self) -> None:
        """As in `Uncertainty`: downwards the derivative is below the number of penalties."""
        for name, s in self.s.items():
            if s.grad is not None:
                s.grad.clamp_(min=-self.likelihoods[name].components)

    def log_variances(self) -> dict[str, nn.Parameter]:
        return {name: self.s[name] for name in self.likelihoods}


class ImpartialLoss(Learned):
    """IMTL-L: ``sum_i exp(s_i) L_i - s_i``, at whose optimum every weighted loss is 1 (Liu et al., ICLR 2021).

    Here s is no log-variance but its negative; the likelihoods do not matter.
    """

    def __init__(self, likelihoods: Mapping[str, Likelihood], sum: float | None = None) -> None:
        super().__init__(likelihoods, 0.0, sum)

    def term(self, name: str, loss: Tensor, share: float) -> Tensor:
        return torch.exp(self.s[name]) * loss - share * self.s[name]

    def weight(self, name: str) -> Tensor:
        return torch.exp(self.s[name].detach())

    def bound_gradients(self) -> None:
        """Makes s no faster downwards than it can be upwards, where the derivative ``exp(s) L - 1`` is above -1."""
        for s in self.s.values():
            if s.grad is not None:
                s.grad.clamp_(max=1)
