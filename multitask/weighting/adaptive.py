"""Weightings without learned parameters, whose weights are computed from the losses or drawn at random."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from multitask.errors import UserError
from multitask.likelihoods import Likelihood
from multitask.weighting.fixed import WeightedSum

EPSILON = 1e-8
"""Summand that keeps a loss of zero out of logarithms and denominators, as in the authors' code."""


def softmax(values: Tensor, present: Tensor) -> Tensor:
    """Softmax over the tasks that are present, [K] -> [K]; NaN if none is."""
    return torch.softmax(values.masked_fill(~present, -math.inf), 0)


def check_positive(key: str, value: float) -> None:
    """Refuses a value that is not a finite number above zero.

    Raises:
        UserError: naming the key.
    """
    if not 0 < value < math.inf:
        raise UserError(f"weighting.{key}: needed a number above zero, found {value:g}")


class SoftOptimal(WeightedSum):
    """UW-SO: the softmax of the inverse losses (Kirchdorfer et al., arXiv 2408.07985).

    The optimal sigma^2 of `Uncertainty` for a constant loss L is proportional to L: 1 / L is the weight that it would
    converge to.

    Args:
        likelihoods: likelihood of each task that is on.
        temperature: divisor of the inverse losses: the higher, the more equal the weights. The paper gives no general
            value, but searches it for each data set and network. 1 leaves the inverse losses unchanged.
        sum: see `Weighting`.
    Raises:
        UserError: naming the key, if the temperature is not above zero.
    """

    additive = False

    def __init__(
        self, likelihoods: Mapping[str, Likelihood], temperature: float = 1.0, sum: float | None = None
    ) -> None:
        super().__init__(likelihoods, sum)
        check_positive("temperature", temperature)
        self.temperature = temperature

    def rule(self, losses: Tensor, present: Tensor) -> Tensor:
        return softmax(1 / (losses + EPSILON) / self.temperature, present)


class DynamicAverage(WeightedSum):
    """DWA: more weight where the loss falls more slowly (Liu, Johns, Davison, CVPR 2019).

    K times the softmax of the ratios of the mean losses of the last two periods; equal weights in the first two.

    Args:
        likelihoods: likelihood of each task that is on.
        temperature: divisor of the ratios; 2 in the paper.
        period: number of steps over which losses are averaged; an epoch in the paper.
        sum: see `Weighting`.
    Raises:
        UserError: naming the key, if the temperature is not above zero or the period not at least 1.
    """

    older: Tensor
    newer: Tensor
    totals: Tensor
    counts: Tensor
    steps: Tensor

    def __init__(
        self,
        likelihoods: Mapping[str, Likelihood],
        temperature: float = 2.0,
        period: int = 100,
        sum: float | None = None,
    ) -> None:
        super().__init__(likelihoods, sum)
        check_positive("temperature", temperature)
        if period < 1:
            raise UserError(f"weighting.period: needed a whole number above zero, found {period}")
        self.temperature = temperature
        self.period = period
        for name in ("older", "newer", "totals", "counts"):  # a mean of zero means none yet
            self.register_buffer(name, torch.zeros(len(likelihoods)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def rule(self, losses: Tensor, present: Tensor) -> Tensor:
        ratios = torch.where(self.older > 0, self.newer / self.older, 1)
        return present.sum() * softmax(ratios / self.temperature, present)

    def after_step(
        self, losses: dict[str, Tensor], present: dict[str, Tensor], again: Callable[[], dict[str, Tensor]]
    ) -> None:
        here = self.stack(present)
        self.totals += torch.where(here, self.stack(losses), 0)
        self.counts += here
        self.steps += 1
        # Without branches, so that the host does not wait for the device.
        ends = self.steps % self.period == 0
        mean = torch.where(self.counts > 0, self.totals / self.counts, self.newer)
        self.older = torch.where(ends, self.newer, self.older)
        self.newer = torch.where(ends, mean, self.newer)
        self.totals *= ~ends
        self.counts *= ~ends


class RandomWeights(WeightedSum):
    """RLW: the softmax of K standard normal numbers, drawn in each step (Lin et al., arXiv 2111.10603)."""

    def __init__(self, likelihoods: Mapping[str, Likelihood], sum: float | None = None) -> None:
        super().__init__(likelihoods, sum)
        self._drawn: Tensor | None = None

    def rule(self, losses: Tensor, present: Tensor) -> Tensor:
        if self._drawn is None:
            # Always from the CPU's generator, whose state is in the checkpoint.
            self._drawn = torch.randn(len(self.likelihoods)).to(losses.device)
        return softmax(self._drawn, present)

    def after_step(
        self, losses: dict[str, Tensor], present: dict[str, Tensor], again: Callable[[], dict[str, Tensor]]
    ) -> None:
        self._drawn = None


class GeometricMean(WeightedSum):
    """GLS: the geometric mean of the losses (Chennupati et al., arXiv 1904.08492).

    Its derivative by each loss is ``mean / (K L_i)``, and with these weights the weighted sum is the mean itself.
    """

    additive = False

    def rule(self, losses: Tensor, present: Tensor) -> Tensor:
        number = present.sum()
        mean = torch.exp(torch.where(present, torch.log(losses + EPSILON), 0).sum() / number)
        return mean / (number * (losses + EPSILON))
