"""FAMO, a weighting that adapts to the change of the losses in each step."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from multitask.errors import UserError
from multitask.likelihoods import Likelihood
from multitask.weighting.adaptive import EPSILON, check_positive, softmax
from multitask.weighting.fixed import WeightedSum

BETAS = 0.9, 0.999
"""Adam's coefficients (the authors' defaults)."""


class Famo(WeightedSum):
    """Fast adaptive multitask optimisation: makes all losses fall at the same rate (Liu et al., NeurIPS 2023).

    Descends ``sum_i z_i log L_i / sum_j (z_j / L_j)`` with ``z = softmax(xi)``: the weights ``z_i / L_i``, scaled to a
    sum of 1. After each step the losses of the same batch are recomputed, and Adam updates xi by the decrease of each
    log loss. The authors' code also clips the norm of the shared gradients to 1; this one does not.

    Args:
        likelihoods: likelihood of each task that is on.
        lr: learning rate of xi, by default as in the authors' code.
        gamma: weight decay of xi, by default as in the authors' code.
        sum: see `Weighting`.
    Raises:
        UserError: naming the key, if the learning rate is not above zero or the decay negative.
    """

    additive = False

    xi: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(
        self, likelihoods: Mapping[str, Likelihood], lr: float = 0.025, gamma: float = 0.01, sum: float | None = None
    ) -> None:
        super().__init__(likelihoods, sum)
        check_positive("lr", lr)
        if not 0 <= gamma < math.inf:
            raise UserError(f"weighting.gamma: needed a number >= 0, found {gamma:g}")
        self.lr = lr
        self.gamma = gamma
        # Buffers: they belong in the checkpoint, but not in the run's optimizer.
        for name in ("xi", "mean", "square", "steps"):
            self.register_buffer(name, torch.zeros(len(likelihoods)))

    def rule(self, losses: Tensor, present: Tensor) -> Tensor:
        weights = softmax(self.xi, present) / (losses + EPSILON)
        return weights / weights.sum()

    def after_step(
        self, losses: dict[str, Tensor], present: dict[str, Tensor], again: Callable[[], dict[str, Tensor]]
    ) -> None:
        here = self.stack(present)
        fall = torch.log(self.stack(losses) + EPSILON) - torch.log(self.stack(again()) + EPSILON)
        z = softmax(self.xi, here)
        self._adam(z * (fall - (z * fall).sum()) + self.gamma * self.xi, here)

    def _adam(self, gradient: Tensor, here: Tensor) -> None:
        """Makes a step of Adam on xi, [K]; the state of tasks that are not ``here`` is left unchanged."""
        steps = self.steps + 1
        mean = torch.lerp(self.mean, gradient, 1 - BETAS[0])
        square = torch.lerp(self.square, gradient.square(), 1 - BETAS[1])
        deviation = (square / (1 - BETAS[1] ** steps)).sqrt() + 1e-8
        xi = self.xi - self.lr * mean / (1 - BETAS[0] ** steps) / deviation
        for name, value in {"xi": xi, "mean": mean, "square": square, "steps": steps}.items():
            setattr(self, name, torch.where(here, value, getattr(self, name)))
