"""Aggregation of the tasks' gradients with respect to the shared encoder, by the library torchjd."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from multitask.errors import UserError
from multitask.likelihoods import Likelihood
from multitask.weighting.base import Weighting

AGGREGATORS = ("upgrad", "pcgrad", "cagrad", "mgda", "nash_mtl")

CAGRAD_RADIUS = 0.4
"""Radius of CAGrad, the value of its authors for NYUv2 and Cityscapes."""


class Jacobian(Weighting):
    """Aggregates the tasks' gradients of the encoder's parameters; each decoder gets the gradient of its own loss.

    The logged total is the sum of the losses; it is not differentiated. The aggregators differ in scale: the weights of
    MGDA sum to 1, those of PCGrad to at least K. With a single task nothing is aggregated.

    Args:
        likelihoods: likelihood of each task that is on.
        aggregator: one of `AGGREGATORS`, with torchjd's defaults.
    Raises:
        UserError: naming the key, if the aggregator is unknown or torchjd or a solver it needs is not installed.
    """

    additive = False
    own_backward = True

    last: Tensor
    alpha: Tensor

    def __init__(self, likelihoods: Mapping[str, Likelihood], aggregator: str = "upgrad") -> None:
        super().__init__(likelihoods)
        if aggregator not in AGGREGATORS:
            raise UserError(f"weighting.aggregator: needed one of {list(AGGREGATORS)}, found {aggregator!r}")
        self.aggregator = aggregator
        number = len(likelihoods)
        self._aggregators = {number: _make(aggregator, number)}
        self.register_buffer("last", torch.full((number,), 1 / number), persistent=False)
        # Nash-MTL starts each step's solver at the last solution, which is not in torchjd's state_dict.
        self.register_buffer("alpha", torch.ones(number, dtype=torch.float64))

    def watch(self, network: nn.Module) -> None:
        encoder = network.get_submodule("encoder")
        self._of_encoder = list(encoder.parameters())
        encoder.register_forward_hook(self._keep_features)

    @property
    def _shared(self) -> list[nn.Parameter]:
        """The shared parameters that are trained."""
        return [parameter for parameter in self._of_encoder if parameter.requires_grad]

    def forward(self, losses: dict[str, Tensor], present: dict[str, Tensor], share: float = 1.0) -> Tensor:
        return self.stack(losses).sum()

    def weights(self) -> dict[str, Tensor]:
        return self.named(self.last)

    def backward(self, total: Tensor, losses: dict[str, Tensor], present: dict[str, Tensor]) -> None:
        from torchjd.autojac import mtl_backward

        features = self._features
        del self._features  # otherwise they would stay in memory until the next step
        here = self.stack(present)
        counted = here.tolist()
        rows = [losses[name] for name, counts in zip(self.likelihoods, counted, strict=True) if counts]
        if not rows:
            total.backward()  # type: ignore[no-untyped-call]
            return
        # An absent task has no row, but its decoder gets gradients of zero, as with any other weighting.
        for name, counts in zip(self.likelihoods, counted, strict=True):
            if not counts:
                rows[0] = rows[0] + 0 * losses[name]
        if len(rows) == 1:  # nothing to aggregate, and solvers fail on a single row
            rows[0].backward()  # type: ignore[no-untyped-call]
            self.last = here.to(self.last)
            return
        # One at a time: torch.vmap supports neither compiled nor all native backward passes.
        mtl_backward(rows, features=features, shared_params=self._shared, parallel_chunk_size=1)
        self.last = torch.zeros_like(self.last).masked_scatter(here, self._aggregate(here, len(rows)))

    def _aggregate(self, here: Tensor, number: int) -> Tensor:
        """Turns the Jacobian of the shared parameters into their gradient; returns the weights of its rows."""
        from torchjd.autojac import jac_to_grad

        if number not in self._aggregators:
            self._aggregators[number] = _make(self.aggregator, number)
        aggregator = self._aggregators[number]
        if self.aggregator != "nash_mtl":
            return jac_to_grad(self._shared, aggregator).to(self.last)
        aggregator.weighting.prvs_alpha = self.alpha[here].cpu().numpy()
        with warnings.catch_warnings():
            # cvxpy warns that it compiles the problem in each step; the problem has only a few variables.
            warnings.filterwarnings("ignore", ".*not DPP", UserWarning)
            weights = jac_to_grad(self._shared, aggregator).to(self.last)
        self.alpha[here] = torch.as_tensor(aggregator.weighting.prvs_alpha).to(self.alpha)
        return weights

    def _keep_features(self, module: nn.Module, inputs: tuple[Tensor, ...], features: Tensor) -> None:
        if module.training:  # features of a validation would stay in memory
            self._features = features


def _make(name: str, number: int) -> Any:
    """Makes an aggregator of ``number`` gradients."""
    try:
        from torchjd import aggregation

        if name == "cagrad":
            return aggregation.CAGrad(c=CAGRAD_RADIUS)
        if name == "nash_mtl":
            return aggregation.NashMTL(n_tasks=number)
        return {"upgrad": aggregation.UPGrad, "pcgrad": aggregation.PCGrad, "mgda": aggregation.MGDA}[name]()
    except ImportError:
        raise UserError(
            f"weighting.aggregator={name}: needs torchjd and its solvers: pip install -e '.[jacobian]'"
        ) from None
