"""What is not finite ends a run before it spoils anything that is kept."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from multitask.engine.objective import Objective
from multitask.errors import UserError


class Diverged(UserError):
    """A loss, a gradient or a parameter is not finite; by its exit status a command's caller knows it."""

    status = 3


_LEAST_SCALE = 1.0
"""A loss scale of float16 at which gradients that still overflow are the network's fault."""


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Norm of all gradients together, on their device: not finite where one of them is not."""
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
    """Whether a step may move the network: one of float16 whose gradients overflow waits for a smaller loss scale.

    Args:
        step: its number.
        values: the total and each task's loss, on the device.
        norm: of the gradients, likewise.
        objective: that has the gradients.
        scaler: of the losses.
        names: of the step's frames.
    Raises:
        Diverged: naming the step and the task, if a loss or a gradient is not finite.
    """
    # One look at the device each step, while it is still busy with the backward pass: the price of a stop before the
    # update instead of a spoilt checkpoint.
    if torch.stack([*values.values(), norm]).isfinite().all():
        return True
    if broken := [name for name, value in values.items() if not value.isfinite()]:
        # The total comes first, and is to blame only where no task is.
        what = f"loss {broken[-1]!r} is {values[broken[-1]].item()}"
    elif scaler.is_enabled() and scaler.get_scale() > _LEAST_SCALE:
        return False
    else:
        what = f"{_spoilt_part(objective)}, though all losses are"
    raise Diverged(
        f"step {step}: {what}; the run has diverged, no update is made; frames of this step: {', '.join(names)}"
    )


def _spoilt_part(objective: Objective) -> str:
    """In words, which gradient is not finite: that of a task's own parameters, or of those that tasks share."""
    spoilt = [name for name, p in objective.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    tasks = [task for task in objective.tasks if any(task in name.split(".") for name in spoilt)]
    if not spoilt:
        return "the norm of all gradients is not finite"
    whose = f"task {', '.join(map(repr, tasks))}" if tasks else "what the tasks share"
    return f"the gradient of {whose} is not finite"


def check_state(step: int, objective: Objective, optimizer: torch.optim.Optimizer) -> None:
    """Refuses to keep a network that no further step would mend.

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
