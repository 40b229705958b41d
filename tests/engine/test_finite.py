import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from multitask.engine import checkpoint
from multitask.engine.finite import gradient_norm
from multitask.engine.history import read_history
from multitask.engine.trainer import Trainer
from multitask.errors import UserError
from multitask.runs.paths import LAST, PREVIOUS
from multitask.runs.run import Run
from tests.compose import small
from tests.engine.test_trainer import make_trainer, one_batch

FLOAT16 = "trainer.precision=fp16", "model.encoder=resnet10"
"""A CPU takes seconds for a step, of larger networks more."""


def spoil(parameter: nn.Parameter, value: float) -> None:
    """Gives a parameter's gradient one value that is not finite, while all losses are finite."""

    def hook(gradient: Tensor) -> Tensor:
        spoilt = gradient.clone()
        spoilt[(0,) * spoilt.dim()] = value
        return spoilt

    parameter.register_hook(hook)


def _named(trainer: Trainer, name: str) -> nn.Parameter:
    return dict(trainer.objective.named_parameters())[name]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("network.decoders.depth.output.weight", "task 'depth'"),
        ("weighting.s.semantic", "task 'semantic'"),
        ("network.encoder.backbone.conv1.weight", "what the tasks share"),
    ],
)
def test_gradient_that_is_not_finite_moves_nothing(shared_tree: Path, name: str, part: str, value: float) -> None:
    trainer = make_trainer(shared_tree)
    trainer._train_step(one_batch(trainer))
    before = {key: parameter.clone() for key, parameter in trainer.objective.named_parameters()}
    spoil(_named(trainer, name), value)
    batch = one_batch(trainer)
    message = f"step 2: the gradient of {part} is not finite, though all losses are; the run has diverged, no update "
    frames = f"is made; frames of this step: {', '.join(batch.names)}"
    with pytest.raises(UserError, match=f"^{re.escape(message + frames)}$"):
        trainer._train_step(batch)
    assert trainer.step == 1
    assert all(torch.equal(parameter, before[key]) for key, parameter in trainer.objective.named_parameters())


def test_gradients_of_too_large_a_norm_are_said_to_be(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree)
    spoil(_named(trainer, "network.encoder.backbone.conv1.weight"), 1e30)
    with pytest.raises(UserError, match=r"^step 1: the norm of all gradients is not finite, though all losses are; "):
        trainer._train_step(one_batch(trainer))


def test_gradient_that_is_not_finite_in_the_last_step_spoils_no_checkpoint(shared_tree: Path, tmp_path: Path) -> None:
    run = Run(small(shared_tree, tmp_path, "trainer.checkpoint_every=1"))
    step = run.trainer._train_step

    def spoil_the_last(batch: object) -> None:
        if run.trainer.step == 5:
            spoil(_named(run.trainer, "network.decoders.depth.output.bias"), math.inf)
        step(batch)

    run.trainer._train_step = spoil_the_last
    with pytest.raises(UserError, match="step 6: the gradient of task 'depth' is not finite"):
        run.train()
    state = checkpoint.load(tmp_path / LAST)
    assert state["step"] == 5
    assert all(value.isfinite().all() for value in state["network"].values())
    again = Run(small(shared_tree, tmp_path, "trainer.checkpoint_every=1"))
    again.train()  # what spoilt the gradient is gone, and nothing else was lost
    assert again.trainer.step == 6


def test_gradients_norm_is_that_of_all_parameters_together(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree)
    for parameter in trainer.objective.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    number = sum(parameter.numel() for parameter in trainer.objective.parameters())
    assert gradient_norm(trainer.optimizer).item() == pytest.approx(0.5 * math.sqrt(number), rel=1e-5)


def test_gradients_norm_is_logged(shared_tree: Path, tmp_path: Path) -> None:
    Run(small(shared_tree, tmp_path)).train()
    norms = [entry["gradient_norm"] for entry in read_history(tmp_path) if "gradient_norm" in entry]
    assert len(norms) == 6
    assert all(0 < norm < math.inf for norm in norms)


class Noting(nn.Module):
    """Stands for a weighting's `after_step`."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, *_: object) -> None:
        self.steps += 1


@pytest.mark.parametrize("spoilt", [False, True])
def test_step_that_float16_skips_is_no_step_of_the_weighting(shared_tree: Path, spoilt: bool) -> None:
    trainer = make_trainer(shared_tree, *FLOAT16)
    noted = Noting()
    trainer.objective.weighting.after_step = noted.forward
    before = {key: parameter.clone() for key, parameter in trainer.objective.named_parameters()}
    scale = trainer.scaler.get_scale()
    if spoilt:
        spoil(_named(trainer, "network.decoders.depth.output.weight"), math.inf)
    trainer._train_step(one_batch(trainer))
    moved = [key for key, parameter in trainer.objective.named_parameters() if not torch.equal(parameter, before[key])]
    assert trainer.step == 1
    assert noted.steps == (0 if spoilt else 1)
    assert bool(moved) is not spoilt
    assert trainer.scaler.get_scale() == (scale / 2 if spoilt else scale)
    assert ("gradient_norm" in trainer._log_values()) is not spoilt


def test_gradient_that_overflows_float16_at_every_scale_ends_the_run(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, *FLOAT16)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    spoil(_named(trainer, "network.decoders.depth.output.weight"), math.nan)
    batch = one_batch(trainer, 2)
    trainer._train_step(batch)  # which halves the scale
    assert trainer.scaler.get_scale() == 1
    with pytest.raises(UserError, match=r"step 2: the gradient of task 'depth' is not finite"):
        trainer._train_step(batch)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name",
    [
        "network.encoder.backbone.bn1.running_var",
        "network.decoders.depth.hidden.1.running_mean",
        "network.encoder.backbone.conv1.weight",
        "weighting.s.depth",
        "momentum_buffer 0",
    ],
)
def test_state_that_is_not_finite_is_never_saved(shared_tree: Path, tmp_path: Path, name: str, value: float) -> None:
    run = Run(small(shared_tree, tmp_path, "trainer.checkpoint_every=1"))
    step = run.trainer._train_step

    def spoil_after_the_third(batch: object) -> None:
        step(batch)
        if run.trainer.step == 3:
            named = run.trainer.objective.state_dict()
            named |= {"momentum_buffer 0": next(iter(run.trainer.optimizer.state.values()))["momentum_buffer"]}
            named[name][(0,) * named[name].dim()] = value

    run.trainer._train_step = spoil_after_the_third
    with pytest.raises(UserError, match=r"step 3: .* is not finite; the run has diverged, and this state of it is not"):
        run.train()
    assert checkpoint.load(tmp_path / LAST)["step"] == 2
    assert checkpoint.load(tmp_path / PREVIOUS)["step"] == 1
