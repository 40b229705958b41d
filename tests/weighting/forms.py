"""Tasks that the package has never heard of: a weighting knows only likelihoods."""

import torch
from torch import Tensor

from multitask.likelihoods import CLASSIFICATION, REGRESSION, Likelihood
from multitask.weighting import Weighting

FORMS: dict[str, Likelihood] = {
    "things": CLASSIFICATION["paper"],
    "vectors": REGRESSION["paper"],
    "metres": REGRESSION["laplace"],
    "angles": REGRESSION["gaussian"],
}
EXACT = {"things": CLASSIFICATION["softmax_exact"]}
TWO = {name: FORMS[name] for name in ("things", "vectors")}
TRUE = torch.tensor(True)
FALSE = torch.tensor(False)


def everywhere(names: dict[str, Tensor]) -> dict[str, Tensor]:
    """All tasks are present."""
    return dict.fromkeys(names, TRUE)


def leaves(**values: float) -> dict[str, Tensor]:
    """Losses that gradients can be taken by."""
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


def never() -> dict[str, Tensor]:
    """For weightings that need no losses after the update."""
    raise AssertionError("needed no second forward pass")


def gradients(weighting: Weighting, losses: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> list[float]:
    """Derivatives of the total by each loss."""
    total = weighting(losses, everywhere(losses) if present is None else present)
    return [gradient.item() for gradient in torch.autograd.grad(total, list(losses.values()))]


def listed(weighting: Weighting) -> list[float]:
    """The weights as numbers."""
    return [weight.item() for weight in weighting.weights().values()]
