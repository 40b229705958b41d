import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from multitask.engine import checkpoint
from multitask.engine.finite import gradient_norm
from multitask.engine.trainer import Trainer
from multitask.errors import UserError
from multitask.runs.paths import LAST, PREVIOUS
from multitask.runs.run import Run
from tests.compose import small
from tests.engine.stepping import train_on
from tests.engine.test_trainer import make_trainer, one_batch
from tests.runs.stopping import after_step

FLOAT16 = "trainer.precision=fp16"


def spoil(parameter: nn.Parameter, value: float) -> None:
    """Gives a parameter's gradient one value that is not finite, while all losses are finite."""

    def hook(gradient: Tensor) -> Tensor:
        spoilt = gradient.clone()
        spoilt[(0,) * spoilt.dim()] = value
        return spoilt

    parameter.register_hook(hook)


def _named(trainer: Trainer, name: str) -> nn.Parameter:
    return dict(trainer.objective.named_parameters())[name]


@pytest.mark.parametrize(
    ("name", "part", "value"),
    [
        ("network.decoders.depth.output.weight", "task 'depth'", math.nan),
        ("weighting.s.semantic", "task 'semantic'", math.inf),
        ("network.encoder.backbone.conv1.weight", "what the tasks share", -math.inf),
    ],
)
def test_gradient_that_is_not_finite_moves_nothing(shared_tree: Path, name: str, part: str, value: float) -> None:
    trainer = make_trainer(shared_tree)
    train_on(trainer, one_batch(trainer))
    before = {key: parameter.clone() for key, parameter in trainer.objective.named_parameters()}
    spoil(_named(trainer, name), value)
    batch = one_batch(trainer)
    message = f"step 2: the gradient of {part} is not finite, though all losses are; the run has diverged, no update "
    frames = f"is made; frames of this step: {', '.join(batch.names)}"
    with pytest.raises(UserError, match=f"^{re.escape(message + frames)}$"):
        train_on(trainer, batch)
    assert trainer.step == 1
    assert all(torch.equal(parameter, before[key]) for key, parameter in trainer.objective.named_parameters())


def test_gradients_of_too_large_a_norm_are_said_to_be(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree)
    spoil(_named(trainer, "network.encoder.backbone.conv1.weight"), 1e30)
    with pytest.raises(UserError, match=r"^step 1: the norm of all gradients is not finite, though all losses are; "):
        train_on(trainer, one_batch(trainer))


def test_gradient_that_is_not_finite_in_the_last_step_spoils_no_checkpoint(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(small(shared_tree, tmp_path, "trainer.checkpoint_every=1"))
    after_step(monkeypatch, 5, lambda: spoil(_named(run.trainer, "network.decoders.depth.output.bias"), math.inf))
    with pytest.raises(UserError, match="step 6: the gradient of task 'depth' is not finite"):
        run.train()
    state = checkpoint.load(tmp_path / LAST)
    assert state["step"] == 5
    assert all(value.isfinite().all() for value in state["network"].values())
    monkeypatch.undo()
    again = Run(small(shared_tree, tmp_path, "trainer.checkpoint_every=1"))
    again.train()  # what spoilt the gradient is gone, and nothing else was lost
    assert again.trainer.step == 6


def test_gradients_norm_is_that_of_all_parameters_together(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree)
    for parameter in trainer.objective.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    number = sum(parameter.numel() for parameter in trainer.objective.parameters())
    assert gradient_norm(trainer.optimizer).item() == pytest.approx(0.5 * math.sqrt(number), rel=1e-5)


def test_gradients_norm_is_logged(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "weighting=equal")
    norms: list[float] = []
    trainer.optimizer.register_step_pre_hook(lambda optimizer, *_: norms.append(gradient_norm(optimizer).item()))
    entries = train_on(trainer, one_batch(trainer), one_batch(trainer, 3))
    assert [entry["gradient_norm"] for entry in entries] == pytest.approx(norms)
    assert all(norm > 0 for norm in norms)


class Noting(nn.Module):
    """Stands for a weighting's `after_step`."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, *_: object) -> None:
        self.steps += 1


@pytest.mark.parametrize("spoilt", [False, True])
def test_step_that_float16_skips_is_no_step_of_the_weighting(shared_tree: Path, spoilt: bool) -> None:
    trainer = make_trainer(shared_tree, FLOAT16)
    noted = Noting()
    trainer.objective.weighting.after_step = noted.forward
    before = {key: parameter.clone() for key, parameter in trainer.objective.named_parameters()}
    scale = trainer.scaler.get_scale()
    if spoilt:
        spoil(_named(trainer, "network.decoders.depth.output.weight"), math.inf)
    (logged,) = train_on(trainer, one_batch(trainer))
    moved = [key for key, parameter in trainer.objective.named_parameters() if not torch.equal(parameter, before[key])]
    assert trainer.step == 1
    assert noted.steps == (0 if spoilt else 1)
    assert bool(moved) is not spoilt
    assert trainer.scaler.get_scale() == (scale / 2 if spoilt else scale)
    assert ("gradient_norm" in logged) is not spoilt


def test_gradient_that_overflows_float16_at_every_scale_ends_the_run(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, FLOAT16)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    spoil(_named(trainer, "network.decoders.depth.output.weight"), math.nan)
    batch = one_batch(trainer, 2)
    train_on(trainer, batch)  # which halves the scale
    assert trainer.scaler.get_scale() == 1
    with pytest.raises(UserError, match=r"step 2: the gradient of task 'depth' is not finite"):
        train_on(trainer, batch)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network.encoder.backbone.bn1.running_var", math.nan),
        ("network.decoders.depth.hidden.1.running_mean", math.inf),
        ("network.encoder.backbone.conv1.weight", math.nan),
        ("weighting.s.depth", math.inf),
        ("momentum_buffer 0", math.nan),
    ],
)
def test_state_that_is_not_finite_is_never_saved(
    shared_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    run = Run(small(shared_tree, tmp_path, "trainer.checkpoint_every=1"))

    def spoil_the_state() -> None:
        named = run.trainer.objective.state_dict()
        named |= {"momentum_buffer 0": next(iter(run.trainer.optimizer.state.values()))["momentum_buffer"]}
        named[name][(0,) * named[name].dim()] = value

    after_step(monkeypatch, 3, spoil_the_state)
    with pytest.raises(UserError, match=r"step 3: .* is not finite; the run has diverged, and this state of it is not"):
        run.train()
    assert checkpoint.load(tmp_path / LAST)["step"] == 2
    assert checkpoint.load(tmp_path / PREVIOUS)["step"] == 1
