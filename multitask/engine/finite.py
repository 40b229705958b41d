"""Checks that stop a diverged run before a non-finite value reaches a checkpoint."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from multitask.engine.objective import Objective
from multitask.errors import UserError


class Diverged(UserError):
    """The error for a loss, gradient or parameter that is not finite; commands exit with a status of its own."""

    status = 3


_MIN_SCALE = 1.0
"""Loss scale of float16 at or below which overflowing gradients are the network's fault, not the scale's."""


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Norm of all gradients together, on their device; not finite if any gradient is not."""
    with torch.no_grad():
        return get_total_norm(
            [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        )


def check_step(
    step: int,
    values: Mapping[str, Tensor],
    norm: Tensor,
    objective: Objective,
    scaler: torch.amp.GradScaler,
    names: Sequence[str],
) -> bool:
    """Whether a step may update the network; a float16 step with overflowing gradients waits for a smaller loss scale.

    Args:
        step: number of the step, for errors.
        values: the total and each task's loss, on the device.
        norm: norm of the gradients, on the device.
        objective: the module that holds the gradients.
        scaler: the gradient scaler.
        names: names of the step's frames, for errors.
    Raises:
        Diverged: naming the step and the task, if a loss or a gradient is not finite.
    """
    # One synchronisation with the device per step: the price of stopping before the update, not after a checkpoint is
    # spoilt.
    if torch.stack([*values.values(), norm]).isfinite().all():
        return True
    if broken := [name for name, value in values.items() if not value.isfinite()]:
        # The total comes first in `values`: it is named only if every task's loss is finite.
        what = f"loss {broken[-1]!r} is {values[broken[-1]].item()}"
    elif scaler.is_enabled() and scaler.get_scale() > _MIN_SCALE:
        return False
    else:
        what = f"{_spoilt_part(objective)}, though all losses are"
    raise Diverged(
        f"step {step}: {what}; the run has diverged, no update is made; frames of this step: {', '.join(names)}"
    )


def _spoilt_part(objective: Objective) -> str:
    """Names the gradient that is not finite: that of a task's own parameters, or of those that the tasks share."""
    spoilt = [name for name, p in objective.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    tasks = [task for task in objective.tasks if any(task in name.split(".") for name in spoilt)]
    if not spoilt:
        return "the norm of all gradients is not finite"
    whose = f"task {', '.join(map(repr, tasks))}" if tasks else "what the tasks share"
    return f"the gradient of {whose} is not finite"


def check_state(step: int, objective: Objective, optimizer: torch.optim.Optimizer) -> None:
    """Refuses to save a state that is not finite, which no further step could repair.

    Raises:
        Diverged: naming the first parameter, running statistic or momentum that is not finite.
    """
    named = dict(objective.state_dict())
    for number, moved in enumerate(optimizer.state.values()):
        named |= {f"{key} {number}": value for key, value in moved.items() if isinstance(value, Tensor)}
    floating = {name: value for name, value in named.items() if value.is_floating_point()}
    if not get_total_norm(list(floating.values()), math.inf).isfinite():
        name = next(name for name, value in floating.items() if not value.isfinite().all())
        raise Diverged(f"step {step}: {name} is not finite; the run has diverged, and this state of it is not saved")
