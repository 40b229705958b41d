"""Weightings with learned parameters, trained by the gradient of the total: eq. 10 and two related methods."""

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
    """A weighting with one learned scalar s per task, whose total is a sum of one term per task.

    If `sum` is given, only the network's gradients are scaled: the total and its derivatives with respect to s are not.

    Args:
        likelihoods: likelihood of each task that is on.
        start: initial value of every s.
        sum: see `Weighting`.
    """

    def __init__(self, likelihoods: Mapping[str, Likelihood], start: float, sum: float | None) -> None:
        super().__init__(likelihoods, sum)
        self.s = nn.ParameterDict({name: nn.Parameter(torch.tensor(float(start))) for name in likelihoods})
        self.inside: frozenset[str] = frozenset()
        """Tasks whose s enters the loss: not the loss, but the predictions get scaled gradients, so that s does not."""

    @abstractmethod
    def term(self, name: str, loss: Tensor, share: float) -> Tensor:
        """Returns a task's term of the total."""

    @abstractmethod
    def weight(self, name: str) -> Tensor:
        """Returns the derivative of the term with respect to the loss, detached and unscaled."""

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
        """Returns the same values, whose gradients are multiplied by the factor that scales the weights to `sum`."""
        if self.sum is None:
            return values
        scale = self.scale(self._weights(), self.stack(present))
        return {name: value.detach() + scale * (value - value.detach()) for name, value in values.items()}

    def _weights(self) -> Tensor:
        return torch.stack([self.weight(name) for name in self.likelihoods])


class Uncertainty(Learned):
    """The negative log-likelihood with one learned log-variance s = log sigma^2 for each task (eq. 10).

    Args:
        likelihoods: likelihood of each task that is on.
        initial_log_variance: initial value of every s.
        sum: see `Weighting`.
    Raises:
        UserError: naming the key, if the initial value is not finite.
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
        """Clips the gradient of s, so that s rises no faster than it can fall.

        The derivative with respect to s is ``components * penalty - precision * exp(-s) * L``. It is bounded by the
        penalties if s is too high, but unbounded if s is too low: one step could then overshoot the optimum by far.
        """
        for name, s in self.s.items():
            if s.grad is not None:
                s.grad.clamp_(min=-self.likelihoods[name].steepest)

    def log_variances(self) -> dict[str, nn.Parameter]:
        return {name: self.s[name] for name in self.likelihoods}


class LiebelKoerner(Learned):
    """Uncertainty with the penalty ``log(1 + sigma^2)``, which is never negative (arXiv 1805.06334).

    It differs from `Uncertainty` in the penalty alone: the factor of the loss and the number of components of a vector
    are those of the likelihood. The exact softmax is approximated. With this penalty sigma^2 is not a variance; it only
    determines the weight.
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
        """Clips the gradient as in `Uncertainty`; if s is too high, it is at most the number of components."""
        for name, s in self.s.items():
            if s.grad is not None:
                s.grad.clamp_(min=-self.likelihoods[name].components)

    def log_variances(self) -> dict[str, nn.Parameter]:
        return {name: self.s[name] for name in self.likelihoods}


class ImpartialLoss(Learned):
    """IMTL-L: ``sum_i exp(s_i) L_i - s_i``, at whose optimum every weighted loss is 1 (Liu et al., ICLR 2021).

    Here s is the negative of a log-variance; the likelihoods are not used.
    """

    def __init__(self, likelihoods: Mapping[str, Likelihood], sum: float | None = None) -> None:
        super().__init__(likelihoods, 0.0, sum)

    def term(self, name: str, loss: Tensor, share: float) -> Tensor:
        return torch.exp(self.s[name]) * loss - share * self.s[name]

    def weight(self, name: str) -> Tensor:
        return torch.exp(self.s[name].detach())

    def bound_gradients(self) -> None:
        """Clips the gradient, so that s falls no faster than it can rise: its derivative, ``exp(s) L - 1``, is > -1."""
        for s in self.s.values():
            if s.grad is not None:
                s.grad.clamp_(max=1)
