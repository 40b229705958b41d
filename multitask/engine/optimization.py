"""Optimization: SGD, its parameter groups and their learning-rate schedules."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from multitask.errors import UserError
from multitask.weighting import Weighting


@dataclass(frozen=True)
class Optimization:
    """SGD with Nesterov momentum and polynomial decay (section 5).

    Attributes:
        lr: learning rate of the network at the first step.
        momentum: Nesterov momentum of the network.
        weight_decay: weight decay of the network; log-variances have none, since it would pull sigma to 1.
        power: the learning rates are multiplied by (1 - step / max_steps) ** power.
        log_variance_lr: learning rate of the log-variances, which are updated without momentum.
        encoder_lr_factor: the backbone's learning rate as a fraction of ``lr``; 0 freezes its parameters.
        warmup_steps: number of steps over which the network's learning rates rise linearly, from 1 / warmup_steps of
            their value. Those of the log-variances do not, so that these fit their tasks' noise before the network
            changes fast.
    """

    lr: float
    momentum: float
    weight_decay: float
    power: float
    log_variance_lr: float
    encoder_lr_factor: float = 1.0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        for key in ("lr", "log_variance_lr"):
            if not 0 < getattr(self, key) < float("inf"):
                raise UserError(f"optimizer.{key}: needed a number above zero, found {getattr(self, key)}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"optimizer.momentum: needed a number from 0 to below 1, found {self.momentum}")
        for key in ("weight_decay", "power", "encoder_lr_factor"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise UserError(f"optimizer.{key}: needed a number >= 0, found {getattr(self, key)}")
        if self.warmup_steps < 0:
            raise UserError(f"optimizer.warmup_steps: needed a whole number >= 0, found {self.warmup_steps}")

    def make(self, network: nn.Module, weighting: Weighting) -> torch.optim.SGD:
        """Returns the optimizer; log-variances are a group of their own, and the backbone if its learning rate differs.

        With `encoder_lr_factor` 0 the backbone is frozen: it is in no group, and no gradient is computed for it.
        """
        backbone = [] if self.encoder_lr_factor == 1 else list(network.get_submodule("encoder.backbone").parameters())
        if self.encoder_lr_factor == 0:
            for parameter in backbone:
                parameter.requires_grad_(False)
        apart = {id(parameter) for parameter in backbone}
        # The first group's learning rate is logged as the run's.
        groups = [self._group([p for p in network.parameters() if id(p) not in apart], self.lr)]
        if self.encoder_lr_factor not in (0, 1):
            groups.append(self._group(backbone, self.lr * self.encoder_lr_factor))
        if own := list(weighting.parameters()):
            groups.append({"params": own, "initial_lr": self.log_variance_lr, "momentum": 0.0, "weight_decay": 0.0})
        return torch.optim.SGD(groups, lr=self.lr)

    def _group(self, parameters: list[nn.Parameter], lr: float) -> dict[str, Any]:
        return {
            "params": [parameter for parameter in parameters if parameter.requires_grad],
            "initial_lr": lr,
            "momentum": self.momentum,
            "nesterov": self.momentum > 0,
            "weight_decay": self.weight_decay,
            "warmup_steps": self.warmup_steps,
        }

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int, max_steps: int) -> None:
        """Sets the learning rates for step number ``step``, counted from 0."""
        for group in optimizer.param_groups:
            warmth = min(1.0, (step + 1) / max(1, group.get("warmup_steps", 0)))
            group["lr"] = group["initial_lr"] * warmth * (1 - step / max_steps) ** self.power


def check_frozen(optimization: Optimization, model: Mapping[str, Any]) -> None:
    """Refuses to freeze the encoder of a new run that loads no pretrained weights.

    Args:
        optimization: the run's settings.
        model: the group ``model`` of its configuration.
    Raises:
        UserError: naming both keys.
    """
    frozen = {
        "optimizer.encoder_lr_factor=0": optimization.encoder_lr_factor == 0,
        "model.freeze_batch_norm=true": model.get("freeze_batch_norm") is True,
    }
    for key, value in frozen.items():
        if value and model.get("pretrained") is None:
            raise UserError(f"{key}: needed model.pretrained, since a random encoder learns nothing so, found null")
