import math
import os
import signal
from pathlib import Path

import pytest
import torch

from multitask.config import factories as build
from multitask.data.loader import EncodedFrames, FrameKey, Loader
from multitask.engine.interruption import Interrupted
from multitask.engine.objective import Objective
from multitask.engine.optimization import Optimization
from multitask.engine.schedule import Schedule
from multitask.engine.trainer import Trainer
from multitask.likelihoods import REGRESSION
from multitask.weighting import Uncertainty
from tests.cityscapes import CITYSCAPES
from tests.compose import small
from tests.engine.stepping import train_on


def make_trainer(root: Path, *overrides: str) -> Trainer:
    config = small(root, Path("unused"), *overrides)
    tasks = build.make_tasks(config, CITYSCAPES)
    frames = build.make_frames(config, "train")
    torch.manual_seed(0)
    objective = Objective(build.make_model(config, tasks), tasks, build.make_weighting(config, tasks))
    encoded = EncodedFrames(frames, tasks, build.make_augmentation(config))
    parts = build.make_optimization(config), build.make_schedule(config), build.make_device(config)
    return Trainer(objective, encoded, *parts, config["seed"])


def one_batch(trainer: Trainer, size: int = 4):
    keys = [[FrameKey(index) for index in range(size)]]
    return next(iter(Loader(trainer.frames, keys, 0, pin=False)))


def test_optimization_rates_follow_the_polynomial() -> None:
    optimization = Optimization(lr=0.1, momentum=0.9, weight_decay=1e-4, power=0.9, log_variance_lr=0.02)
    network = torch.nn.Linear(1, 1)
    optimizer = optimization.make(network, Uncertainty({"a": REGRESSION["paper"]}))
    optimization.set_rates(optimizer, 0, 100)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.02]
    optimization.set_rates(optimizer, 75, 100)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 * 0.25**0.9, 0.02 * 0.25**0.9])


def test_warm_up_raises_the_networks_rate_and_no_other_linearly() -> None:
    optimization = Optimization(
        lr=0.1, momentum=0.9, weight_decay=1e-4, power=1.0, log_variance_lr=0.02, warmup_steps=4
    )
    optimizer = optimization.make(torch.nn.Linear(1, 1), Uncertainty({"a": REGRESSION["paper"]}))
    rates = []
    for step in range(10):
        optimization.set_rates(optimizer, step, 10)
        rates.append([group["lr"] for group in optimizer.param_groups])
    decay = [1 - step / 10 for step in range(10)]
    assert [of_s for _, of_s in rates] == pytest.approx([0.02 * share for share in decay])
    warmth = [0.25, 0.5, 0.75, *[1.0] * 7]
    assert [lr for lr, _ in rates] == pytest.approx([0.1 * a * b for a, b in zip(warmth, decay, strict=True)])


def test_warm_up_is_the_resnets_too(shared_tree: Path) -> None:
    trainer = make_trainer(
        shared_tree, "optimizer.encoder_lr_factor=0.1", "optimizer.lr=0.02", "optimizer.warmup_steps=8"
    )
    trainer.optimization.set_rates(trainer.optimizer, 0, 6)
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    assert rates == pytest.approx([0.02 / 8, 0.002 / 8, trainer.optimization.log_variance_lr])


def test_optimization_keeps_weight_decay_and_momentum_off_log_variances(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree)
    network, own = trainer.optimizer.param_groups
    assert (network["weight_decay"], network["momentum"], network["nesterov"]) == (1e-4, 0.9, True)
    assert (own["weight_decay"], own["momentum"], own["nesterov"]) == (0.0, 0.0, False)
    assert {id(p) for p in own["params"]} == {id(p) for p in trainer.objective.weighting.log_variances().values()}
    assert len(network["params"]) == len(list(trainer.objective.network.parameters()))


def _names(trainer: Trainer, group: int) -> set[str]:
    names = {id(parameter): name for name, parameter in trainer.objective.network.named_parameters()}
    return {names[id(parameter)] for parameter in trainer.optimizer.param_groups[group]["params"]}


def _backbone(trainer: Trainer) -> set[str]:
    return {name for name, _ in trainer.objective.network.named_parameters() if name.startswith("encoder.backbone.")}


def test_encoder_lr_factor_gives_the_resnet_a_group_of_its_own(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "optimizer.encoder_lr_factor=0.1", "optimizer.lr=0.02")
    rest, encoder, own = trainer.optimizer.param_groups
    assert _names(trainer, 1) == _backbone(trainer)
    assert not _names(trainer, 0) & _backbone(trainer)
    assert len(rest["params"]) + len(encoder["params"]) == len(list(trainer.objective.network.parameters()))
    assert len(own["params"]) == 3
    assert {key: encoder[key] for key in ("momentum", "nesterov", "weight_decay")} == {
        key: rest[key] for key in ("momentum", "nesterov", "weight_decay")
    }
    trainer.optimization.set_rates(trainer.optimizer, 3, 6)
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    assert rates == pytest.approx([rate * 0.5**0.9 for rate in (0.02, 0.002, 0.115)])


def test_encoder_lr_factor_of_one_changes_nothing(shared_tree: Path) -> None:
    # The groups of checkpoints from before this key.
    trainer = make_trainer(shared_tree, "optimizer.encoder_lr_factor=1")
    assert [len(group["params"]) for group in trainer.optimizer.param_groups] == [
        len(list(trainer.objective.network.parameters())),
        3,
    ]


@pytest.mark.parametrize("weighting", ["uncertainty", "jacobian"])
def test_encoder_lr_factor_of_zero_freezes_the_resnet_alone(shared_tree: Path, weighting: str) -> None:
    if weighting == "jacobian":
        pytest.importorskip("torchjd")
    given = "optimizer.encoder_lr_factor=0", "model.freeze_batch_norm=true", f"weighting={weighting}"
    trainer = make_trainer(shared_tree, *given)
    before = {name: value.clone() for name, value in trainer.objective.network.state_dict().items()}
    entries: list[dict[str, float]] = []
    trainer.run(lambda _, values: entries.append(values), lambda _: None, lambda: None)
    after = trainer.objective.network.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("encoder.backbone.") for name in moved)
    assert {name for name, _ in trainer.objective.network.named_parameters()} - _backbone(trainer) <= moved
    assert not any(parameter.requires_grad for parameter in trainer.objective.network.encoder.backbone.parameters())
    trained = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in trainer.objective.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in trainer.optimizer.state} <= trained
    assert entries[-1]["lr"] == pytest.approx(0.02 * (1 / 6) ** 0.9)


def test_frozen_resnet_is_skipped_in_the_backward_pass(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "optimizer.encoder_lr_factor=0")
    resnet = trainer.objective.network.encoder.backbone
    assert resnet(torch.randn(2, 3, 32, 32)).grad_fn is None
    statistics = resnet.bn1.running_mean.clone()
    train_on(trainer, one_batch(trainer))
    # Its batch norms go on adapting, unless model.freeze_batch_norm is set.
    assert not torch.equal(resnet.bn1.running_mean, statistics)


def test_slow_encoder_moves_by_the_factor(shared_tree: Path) -> None:
    moved = []
    for factor in (1.0, 0.25):
        trainer = make_trainer(
            shared_tree, f"optimizer.encoder_lr_factor={factor}", "optimizer.momentum=0", "optimizer.weight_decay=0"
        )
        network = trainer.objective.network
        before = {name: value.detach().clone() for name, value in network.named_parameters()}
        train_on(trainer, one_batch(trainer))
        moved.append({name: value.detach() - before[name] for name, value in network.named_parameters()})
    for name, step in moved[0].items():
        factor = 0.25 if name.startswith("encoder.backbone.") else 1.0
        torch.testing.assert_close(moved[1][name], factor * step, rtol=1e-3, atol=1e-6, msg=name)


def test_schedule_explains_why_one_frame_is_too_few() -> None:
    good = {"max_steps": 1, "log_every": 1, "val_every": 1, "checkpoint_every": 1, "num_workers": 0}
    good |= {"num_panels": 0, "compile": False, "resume": None}
    Schedule(batch_size=4, accumulate=2, **good)
    with pytest.raises(ValueError, match="global pooling leaves one value per channel"):
        Schedule(batch_size=2, accumulate=2, **good)


@pytest.mark.parametrize("weighting", ["uncertainty", "equal", "liebel_koerner", "imtl_l", "dwa", "rlw"])
def test_accumulated_gradients_equal_those_of_the_whole_batch(shared_tree: Path, weighting: str) -> None:
    gradients = []
    for accumulate in (1, 2):
        trainer = make_trainer(
            shared_tree, f"weighting={weighting}", "weighting.sum=2", f"trainer.accumulate={accumulate}"
        )
        torch.manual_seed(1)
        # Batch norm's statistics differ between micro-batches; everything else must not.
        trainer.objective.eval()
        trainer.objective.train = lambda *_, same=trainer.objective: same
        trainer.optimizer.step = lambda *_, **__: None
        trainer.optimizer.zero_grad = lambda *_, **__: None
        train_on(trainer, one_batch(trainer))
        gradients.append({name: p.grad for name, p in trainer.objective.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5, msg=name)


def test_step_without_a_valid_pixel_of_a_task_leaves_its_log_variance(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree)
    batch = one_batch(trainer)
    batch.targets["depth"].valid[:] = False
    before = {name: s.clone() for name, s in trainer.objective.weighting.log_variances().items()}
    decoder = trainer.objective.network.decoders["depth"].output.weight.clone()
    (logged,) = train_on(trainer, batch)
    after = trainer.objective.weighting.log_variances()
    assert after["depth"] == before["depth"]
    assert after["semantic"] != before["semantic"]
    assert after["instance"] != before["instance"]
    decay = 0.02 * 1e-4 * 1.9  # Nesterov's first step of weight decay alone
    torch.testing.assert_close(trainer.objective.network.decoders["depth"].output.weight, decoder * (1 - decay))
    assert all(parameter.isfinite().all() for parameter in trainer.objective.parameters())
    assert "loss/depth" not in logged


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ((), r"needed trainer\.accumulate=2$"),
        (("trainer.accumulate=2",), r"needed a smaller trainer\.batch_size, data\.augmentation\.crop"),
        (("weighting=gls",), r"needed a smaller trainer\.batch_size, data\.augmentation\.crop"),
    ],
)
def test_step_that_memory_cannot_hold_says_what_would_help(
    shared_tree: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], needed: str
) -> None:
    trainer = make_trainer(shared_tree, "trainer.batch_size=4", *options)
    monkeypatch.setattr(Objective, "__call__", out_of_memory)
    with pytest.raises(ValueError, match=r"frames at once are too many for the memory of cpu; " + needed):
        trainer.run(lambda *_: None, lambda _: None, lambda: pytest.fail("saved what no step changed"))


def test_update_that_memory_cannot_hold_says_what_would_help(
    shared_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(shared_tree, "trainer.batch_size=4", "trainer.accumulate=2")
    monkeypatch.setattr(torch.optim.SGD, "step", out_of_memory)
    with pytest.raises(ValueError, match=r"trainer\.accumulate=2: 2 frames at once are too many"):
        trainer.run(lambda *_: None, lambda _: None, lambda: pytest.fail("saved half an update"))


def test_signal_while_the_loader_ends_is_answered(shared_tree: Path) -> None:
    trainer, saved = make_trainer(shared_tree, "trainer.max_steps=2"), []
    batches = [one_batch(trainer), one_batch(trainer)]
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 2"):
        train_on(
            trainer,
            *batches,
            save=lambda: saved.append(trainer.step),
            at_end=lambda: os.kill(os.getpid(), signal.SIGTERM),
        )
    assert saved[-1] == 2


def out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError


def test_state_of_a_run_on_the_cpu_asks_nothing_of_cuda(shared_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: pytest.fail("it would start CUDA"))
    assert make_trainer(shared_tree).state()["rng"]["cuda"] == []


def test_step_count_and_log_values(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "weighting=fixed", *(f"weighting.weights.{n}=0.5" for n in trainer_tasks()))
    entries: list[tuple[int, dict[str, float]]] = []
    calls: list[str] = []
    trainer.run(lambda *entry: entries.append(entry), lambda _: calls.append("val"), lambda: calls.append("save"))
    assert trainer.step == 6
    assert [step for step, _ in entries] == [1, 2, 3, 4, 5, 6]
    assert calls == ["save", "val", "save"] * 2
    values = entries[-1][1]
    total = sum(0.5 * values[f"loss/{name}"] for name in trainer_tasks())
    assert values["loss/total"] == pytest.approx(total, rel=1e-5)
    assert values["lr"] == pytest.approx(0.02 * (1 / 6) ** 0.9)
    assert not any(key.startswith(("sigma2", "log_variance")) for key in values)


def test_log_values_of_a_laplace_likelihood_have_the_variance_s_logarithm(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "tasks=[semantic,depth]", "task.depth.likelihood=laplace")
    entries: list[dict[str, float]] = []
    trainer.run(lambda step, values: entries.append(values), lambda _: None, lambda: None)
    s = {name: value.item() for name, value in trainer.objective.weighting.log_variances().items()}
    assert s["depth"] != 0
    assert entries[-1]["log_variance/semantic"] == pytest.approx(s["semantic"])
    assert entries[-1]["log_variance/depth"] == pytest.approx(math.log(2) + 2 * s["depth"]), "s is log b, sigma^2 2 b^2"
    assert entries[-1]["log_variance/depth"] == pytest.approx(math.log(entries[-1]["sigma2/depth"]))


@pytest.mark.parametrize("weighting", ["uw_so", "dwa", "rlw", "gls", "imtl_l", "liebel_koerner", "famo", "jacobian"])
def test_every_weighting_moves_every_parameter(shared_tree: Path, weighting: str) -> None:
    if weighting == "jacobian":
        pytest.importorskip("torchjd")
    trainer = make_trainer(shared_tree, f"weighting={weighting}", "trainer.max_steps=2")
    before = {name: value.detach().clone() for name, value in trainer.objective.named_parameters()}
    entries: list[dict[str, float]] = []
    trainer.run(lambda _, values: entries.append(values), lambda _: None, lambda: None)
    after = dict(trainer.objective.named_parameters())
    assert [name for name, value in before.items() if torch.equal(value, after[name])] == []
    assert [name for name, value in after.items() if not value.isfinite().all()] == []
    assert all(entries[-1][f"weight/{name}"] > 0 for name in trainer_tasks())


def test_losses_again_leave_no_trace_in_running_statistics(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree)
    trainer.objective.train()
    batch = one_batch(trainer)
    counts = {name: target.valid.sum() for name, target in batch.targets.items()}
    before = {name: value.clone() for name, value in trainer.objective.state_dict().items()}
    again = trainer.objective.losses_again(batch, counts, trainer.compute)
    assert all(torch.equal(value, before[name]) for name, value in trainer.objective.state_dict().items())
    _, losses = trainer.objective(batch, counts, trainer.compute)
    assert not any(loss.requires_grad for loss in again.values())
    for name, loss in losses.items():
        torch.testing.assert_close(again[name], loss.detach())
    statistics = [name for name in before if name.endswith("running_mean")]
    assert statistics
    assert not torch.equal(trainer.objective.state_dict()[statistics[0]], before[statistics[0]])


def test_famo_sees_the_losses_after_the_update(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "weighting=famo")
    seen: list[dict[str, torch.Tensor]] = []
    weighting = trainer.objective.weighting
    after_step = weighting.after_step

    def spy(losses, present, again):
        seen.extend([losses, again()])
        after_step(losses, present, again)

    weighting.after_step = spy
    trainer.objective.train()
    train_on(trainer, one_batch(trainer))
    before, after = seen
    assert all(before[name] != after[name] for name in trainer_tasks())
    assert weighting.xi.any()


def trainer_tasks() -> tuple[str, ...]:
    return ("semantic", "instance", "depth")


def test_step_goes_against_the_gradient_of_the_total(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "optimizer.weight_decay=0")
    batch, objective = one_batch(trainer), trainer.objective
    counts = {name: target.valid.sum() for name, target in batch.targets.items()}
    kept = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.train()(batch, counts, trainer.compute)[0].backward()
    objective.weighting.bound_gradients()
    expected = {}
    for name, parameter in objective.named_parameters():
        # Nesterov's first step is 1 + momentum times the gradient; log-variances have a rate of their own.
        rate = 0.02 * 1.9 if name.startswith("network.") else trainer.optimization.log_variance_lr
        expected[name] = parameter.detach() - rate * parameter.grad
        parameter.grad = None
    objective.load_state_dict(kept)
    train_on(trainer, batch)
    for name, parameter in objective.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_total_may_be_negative_and_is_logged_so(shared_tree: Path) -> None:
    trainer = make_trainer(shared_tree, "weighting.initial_log_variance=-9", "tasks=[depth]")
    with torch.no_grad():
        for parameter in trainer.objective.network.decoders["depth"].output.parameters():
            parameter.zero_()
    batch = one_batch(trainer)
    batch.targets["depth"].value.zero_()
    (logged,) = train_on(trainer, batch)
    assert logged["loss/total"] == pytest.approx(-4.5)
