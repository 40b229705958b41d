"""The likelihoods of section 3.2: how a task's loss and its log-variance s make a negative log-likelihood."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from multitask.errors import UserError

Error = Literal["absolute", "squared", "cross-entropy"]


@dataclass(frozen=True)
class Likelihood:
    """``precision * exp(-s) * L + components * penalty * s``, with L the mean loss of a task.

    L of a vector is the sum over its components. Their noises are independent and of one size, so that -log p is a sum
    over them, too, and s counts once for each. In the paper's own form it counts once for the whole vector: there
    sigma^2 is of the norm's error.

    Attributes:
        name: as the configuration calls it.
        error: what L is the mean of.
        precision: factor of the loss.
        penalty: factor of s, of one component.
        tempered: whether s divides the logits before the loss (the exact softmax), which is then the whole likelihood.
        scale: whether s is the logarithm of a Laplace scale b, not of a variance.
        of_norm: whether s counts once however many components there are.
        components: for which s counts; see `of_vector`.
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
        """The same of a prediction of so many components, whose losses are added up to L."""
        return self if self.of_norm else replace(self, components=components)

    def temper(self, prediction: Tensor, s: Tensor) -> Tensor:
        """Logits of the softmax with temperature sigma^2 (eq. 8); other predictions unchanged."""
        return prediction * torch.exp(-s) if self.tempered else prediction

    def nll(self, loss: Tensor, s: Tensor, share: float = 1.0) -> Tensor:
        """Negative log-likelihood, less constants, of a mean loss; ``share`` of the term that is not a mean."""
        if self.tempered:
            return loss
        return self.precision * torch.exp(-s) * loss + share * self.components * self.penalty * s

    def weight(self, s: Tensor) -> Tensor:
        """Effective weight of the loss: the derivative of the likelihood by L (to first order, where tempered)."""
        return self.precision * torch.exp(-s)

    def log_variance(self, s: Tensor) -> Tensor:
        """Of a component's observation noise sigma^2; a Laplace distribution of scale b = exp(s) has 2 b^2."""
        return math.log(2) + 2 * s if self.scale else s

    def variance(self, s: Tensor) -> Tensor:
        """Observation noise sigma^2 of a component."""
        return torch.exp(self.log_variance(s))

    @property
    def steepest(self) -> float:
        """How steep the likelihood can get where s is too high: the penalties, or that of the form without temper."""
        return 0.5 if self.tempered else self.components * self.penalty

    def optimum(self, loss: float) -> float:
        """The s at which a constant loss L has the least `nll`: ``ln(precision * L / (components * penalty))``."""
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
        # Eq. 10: the softmax's normaliser approximated, an equality as sigma approaches 1.
        Likelihood("paper", "cross-entropy", precision=1.0, penalty=0.5),
        # Eq. 8 and 9.
        Likelihood("softmax_exact", "cross-entropy", precision=1.0, penalty=0.0, tempered=True),
    )
}


def choose(likelihoods: dict[str, Likelihood], task: str, name: str) -> Likelihood:
    """The likelihood of that name.

    Raises:
        UserError: naming the key, if there is none.
    """
    if name not in likelihoods:
        raise UserError(f"task.{task}.likelihood: needed one of {sorted(likelihoods)}, found {name!r}")
    return likelihoods[name]
