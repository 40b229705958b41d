"""The likelihoods of section 3.2: the negative log-likelihood of a task's loss and its log-variance s."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from multitask.errors import UserError

Error = Literal["absolute", "squared", "cross-entropy"]


@dataclass(frozen=True)
class Likelihood:
    """The negative log-likelihood ``precision * exp(-s) * L + components * penalty * s``, with L a task's mean loss.

    For a vector, L is the sum over its components. Their noises are independent and equally large, so that -log p is a
    sum over components, too, and s counts once for each. In the paper's own form s counts once for the whole vector:
    there sigma^2 is the variance of the norm's error.

    Attributes:
        name: name in the configuration.
        error: the error whose mean is L.
        precision: factor of the loss.
        penalty: factor of s, per component.
        tempered: whether the logits are divided by sigma^2 before the loss (the exact softmax); the loss is then the
            whole likelihood.
        scale: whether s is the logarithm of a Laplace scale b, not of a variance.
        of_norm: whether s counts once, whatever the number of components.
        components: number of components for which s counts; see `of_vector`.
    """

    name: str
    error: Error
    precision: float
    penalty: float
    tempered: bool = False
    scale: bool = False
    of_norm: bool = False
    components: int = 1

    def of_vector(self, components: int) -> "Likelihood":
        """Returns this likelihood for a vector of ``components`` components, over which the loss L is summed."""
        return self if self.of_norm else replace(self, components=components)

    def temper(self, prediction: Tensor, s: Tensor) -> Tensor:
        """Divides logits by the temperature sigma^2 (eq. 8) if tempered; returns other predictions unchanged."""
        return prediction * torch.exp(-s) if self.tempered else prediction

    def nll(self, loss: Tensor, s: Tensor, share: float = 1.0) -> Tensor:
        """Negative log-likelihood of a mean loss, without constants; ``share`` is the part of the penalty to count."""
        if self.tempered:
            return loss
        return self.precision * torch.exp(-s) * loss + share * self.components * self.penalty * s

    def weight(self, s: Tensor) -> Tensor:
        """Effective weight of the loss: the derivative of `nll` with respect to the loss (first order, if tempered)."""
        return self.precision * torch.exp(-s)

    def log_variance(self, s: Tensor) -> Tensor:
        """Logarithm of a component's observation noise sigma^2, which is 2 b^2 for a Laplace scale b = exp(s)."""
        return math.log(2) + 2 * s if self.scale else s

    def variance(self, s: Tensor) -> Tensor:
        """Observation noise sigma^2 of a component."""
        return torch.exp(self.log_variance(s))

    @property
    def steepest(self) -> float:
        """Largest slope in s where s is too high: all penalties together, or the untempered form's if tempered."""
        return 0.5 if self.tempered else self.components * self.penalty

    def optimum(self, loss: float) -> float:
        """The s that minimises `nll` at a constant loss L: ``ln(precision * L / (components * penalty))``."""
        if self.tempered:
            raise UserError(f"likelihood {self.name!r}: the best temperature depends on the logits, not on a mean loss")
        return math.log(self.precision * loss / (self.components * self.penalty))


REGRESSION: dict[str, Likelihood] = {
    likelihood.name: likelihood
    for likelihood in (
        # The Gaussian's form (eq. 5, 10) with the L1 loss in place of the squared error, as the paper trains.
        Likelihood("paper", "absolute", precision=0.5, penalty=0.5, of_norm=True),
        # -log p = |y - f| / b + log 2b with s = log b, of each component.
        Likelihood("laplace", "absolute", precision=1.0, penalty=1.0, scale=True),
        # Eq. 5, of each component.
        Likelihood("gaussian", "squared", precision=0.5, penalty=0.5),
    )
}

CLASSIFICATION: dict[str, Likelihood] = {
    likelihood.name: likelihood
    for likelihood in (
        # Eq. 10: the softmax's normaliser is approximated; exact in the limit of sigma = 1.
        Likelihood("paper", "cross-entropy", precision=1.0, penalty=0.5),
        # Eq. 8 and 9.
        Likelihood("softmax_exact", "cross-entropy", precision=1.0, penalty=0.0, tempered=True),
    )
}


def choose(likelihoods: dict[str, Likelihood], task: str, name: str) -> Likelihood:
    """Returns the likelihood called ``name``.

    Raises:
        UserError: naming the configuration key, if there is none.
    """
    if name not in likelihoods:
        raise UserError(f"task.{task}.likelihood: needed one of {sorted(likelihoods)}, found {name!r}")
    return likelihoods[name]
