"""The numbers of a training run, checked: how the weights move, and for how long."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from multitask.engine.compute import Compute
from multitask.errors import UserError
from multitask.weighting import Weighting

_MOST_STEPS, _MOST_FRAMES, _MOST_PANELS, _MOST_WORKERS = 10**9, 2**16, 10**4, 256
"""Beyond, numbers are slips: steps take years, and each worker is a process of its own with some hundred MB."""


@dataclass(frozen=True)
class Optimization:
    """SGD with Nesterov momentum and polynomial decay (section 5).

    Attributes:
        lr: learning rate of the network at the first step.
        momentum: Nesterov momentum of the network.
        weight_decay: of the network; log-variances have none, which would pull sigma to 1.
        power: the learning rates are multiplied by (1 - step / max_steps) ** power.
        log_variance_lr: learning rate of the log-variances, which are moved without momentum.
        encoder_lr_factor: the backbone's learning rate as a fraction of ``lr``; 0 freezes its parameters.
        warmup_steps: over which the network's learning rates rise linearly, from a share of 1 / warmup_steps in the
            first one; those of the log-variances do not, which are to find their tasks' noise before the network moves
            fast.
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
        """The optimiser, with the log-variances in a group of their own, and so the backbone if its rate is another.

        With `encoder_lr_factor` 0 the backbone's parameters are frozen: no group has them, and no gradient is computed.
        """
        backbone = [] if self.encoder_lr_factor == 1 else list(network.get_submodule("encoder.backbone").parameters())
        if self.encoder_lr_factor == 0:
            for parameter in backbone:
                parameter.requires_grad_(False)
        apart = {id(parameter) for parameter in backbone}
        # The first group's rate is what is logged as the run's.
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
        """Sets the learning rates of ``step`` (the first is 0)."""
        for group in optimizer.param_groups:
            warmth = min(1.0, (step + 1) / max(1, group.get("warmup_steps", 0)))
            group["lr"] = group["initial_lr"] * warmth * (1 - step / max_steps) ** self.power


@dataclass(frozen=True)
class Schedule:
    """How long to train, on how many frames a step, and when to do what.

    Attributes:
        max_steps: optimiser steps.
        batch_size: frames in a step.
        accumulate: micro-batches that a step's frames are split into, to fit the memory.
        log_every, val_every, checkpoint_every: in steps.
        num_workers: processes that load frames.
        num_panels: pictures of validation frames at the end.
        compile: whether torch compiles the network.
        resume: ``auto``, the path of a checkpoint, or None.
    """

    max_steps: int
    batch_size: int
    accumulate: int
    log_every: int
    val_every: int
    checkpoint_every: int
    num_workers: int
    num_panels: int
    compile: bool
    resume: str | None

    def __post_init__(self) -> None:
        for key in ("max_steps", "batch_size", "accumulate", "log_every", "val_every", "checkpoint_every"):
            most = _MOST_FRAMES if key == "batch_size" else _MOST_STEPS
            if not 1 <= getattr(self, key) <= most:
                raise UserError(f"trainer.{key}: needed a whole number from 1 to {most}, found {getattr(self, key)}")
        if not 0 <= self.num_panels <= _MOST_PANELS:
            raise UserError(f"trainer.num_panels: needed a number from 0 to {_MOST_PANELS}, found {self.num_panels}")
        if not 0 <= self.num_workers <= _MOST_WORKERS:
            raise UserError(
                f"trainer.num_workers: needed auto or a number from 0 to {_MOST_WORKERS}, found {self.num_workers}"
            )
        if self.batch_size % self.accumulate:
            raise UserError(
                f"trainer.accumulate: needed a divisor of trainer.batch_size={self.batch_size}, found {self.accumulate}"
            )
        if self.batch_size == self.accumulate:
            raise UserError(
                f"trainer.batch_size={self.batch_size}: needed two frames or more in each of "
                f"trainer.accumulate={self.accumulate} micro-batches, found 1: the encoder's global pooling leaves one "
                "value per channel of a single frame, and batch norm cannot normalise one value"
            )


def check_weighting(weighting: Weighting, schedule: Schedule, compute: Compute) -> None:
    """Refuses what a weighting cannot be combined with.

    Raises:
        UserError: naming both keys.
    """
    name = f"weighting={type(weighting).__name__}"
    if schedule.accumulate > 1 and not weighting.additive:
        raise UserError(
            f"trainer.accumulate={schedule.accumulate}: needed 1 for {name}, which needs the losses of the whole step "
            "at once"
        )
    if weighting.own_backward and compute.dtype == torch.float16:
        raise UserError(
            f"trainer.precision: needed fp32 or bf16 for {name}, whose backward pass knows no loss scale, found fp16"
        )
    if weighting.own_backward and schedule.compile:
        raise UserError(f"trainer.compile=true: needed false for {name}, which looks into the network")


def check_compiler(schedule: Schedule, compute: Compute) -> None:
    """Refuses ``trainer.compile=true`` where torch lacks what it compiles with: else the first step would fail.

    Raises:
        UserError: naming the key and what is missing.
    """
    if not schedule.compile:
        return
    if compute.device.type == "cuda":
        if find_spec("triton") is None:
            raise UserError("trainer.compile=true: needed triton to compile for CUDA, found none: pip install triton")
        variable, names = "CC", ["gcc", "clang"]  # as triton looks for it
    else:
        variable, names = "CXX", [{"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")]  # as torch does
    if given := shlex.split(os.environ.get(variable, "")):
        names = given[:1]
    if not any(map(shutil.which, names)):
        raise UserError(
            f"trainer.compile=true: needed a C{'++' * (variable == 'CXX')} compiler, found no {' or '.join(names)}; "
            f"install one, name yours in the environment's {variable}, or set trainer.compile=false"
        )


def check_frozen(optimization: Optimization, model: Mapping[str, Any]) -> None:
    """Refuses to keep the encoder of a new run as it was loaded where nothing is loaded.

    Args:
        optimization: of the run.
        model: of its configuration.
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
