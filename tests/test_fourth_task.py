"""A task that the package does not know is learned, evaluated and shown as its own are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from multitask.config import factories as build
from multitask.data.classes import ClassTable
from multitask.data.loader import Batch, EncodedFrames, Loader, in_order
from multitask.data.sample import Sample, Target
from multitask.engine.compute import Compute
from multitask.engine.inference import network_predictor
from multitask.engine.objective import Objective
from multitask.evaluation.position_prior import fit_position_prior
from multitask.evaluation.scoring import PixelScorer, evaluate, score
from multitask.likelihoods import REGRESSION
from multitask.metrics import Metric, VectorError
from multitask.reporting.panels import panel
from multitask.reporting.tables import table
from multitask.tasks.base import FigureOfMerit, Task
from multitask.tasks.labels import tasks_with_labels
from tests.cityscapes import CITYSCAPES


class Brightness(Task):
    """A fourth task, which the package does not know: how bright a pixel is, from 0 to 1."""

    name = "brightness"
    channels = 1
    meaning = "brightness, 0 to 1"
    layers = ("image",)
    figures = (FigureOfMerit("mean_error_px", "mean error", higher_is_better=False),)

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.likelihood = REGRESSION["laplace"]

    def encode(self, sample: Sample) -> Target:
        value = torch.from_numpy(sample.image.mean(-1, dtype=np.float32) / 255).unsqueeze(0)
        return Target(value, torch.ones(value.shape[1:], dtype=torch.bool))

    def pixel_loss(self, prediction: Tensor, value: Tensor) -> Tensor:
        return (prediction - value).abs().sum(1)

    def ideal(self, value: Tensor) -> Tensor:
        return value

    def metric(self) -> Metric:
        return VectorError()

    def render(self, prediction: Tensor, valid: Tensor | None = None) -> np.ndarray:
        grey = (prediction[0].clamp(0, 1) * 255).round().to(torch.uint8)
        return grey.cpu().numpy()[..., None].repeat(3, -1)

    def legend(self, width: int) -> list[tuple[str, tuple[int, int, int]]]:
        return [("dark", (0, 0, 0)), ("bright", (255, 255, 255))]


def _config(root: Path) -> build.Config:
    """As a file ``configs/task/brightness.yaml`` and ``tasks=[...]`` would make it."""
    return {
        "tasks": ["semantic", "instance", "depth", "brightness"],
        "seed": 0,
        "task": {
            "semantic": {"_target_": "multitask.tasks.semantic.Semantic"},
            "instance": {"_target_": "multitask.tasks.instance.Instance"},
            "depth": {"_target_": "multitask.tasks.depth.Depth"},
            "brightness": {"_target_": "tests.test_fourth_task.Brightness"},
        },
        "model": {
            "encoder": "resnet18",
            "pretrained": None,
            "aspp_channels": 8,
            "aspp_rates": [1, 2],
            "decoder_channels": 8,
            "decoder_kernel": 3,
        },
        "weighting": {"_target_": "multitask.weighting.Uncertainty", "initial_log_variance": 0.5},
        "optimizer": {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "power": 0.9, "log_variance_lr": 0.1},
        "data": {"name": "any", "root": str(root), "image_size": [32, 64], "classes": "cityscapes"},
    }


COMPUTE = Compute(torch.device("cpu"), torch.float32, channels_last=False)


@pytest.fixture(scope="module")
def made(shared_tree: Path) -> tuple[Objective, Batch]:
    """A network for all four tasks, with a weight for each, and one batch."""
    torch.manual_seed(0)
    config = _config(shared_tree)
    tasks = build.make_tasks(config, CITYSCAPES)
    frames = EncodedFrames(build.make_frames(config, "train"), tasks)
    (batch,) = Loader(frames, in_order(6, 3)[:1], 0, pin=False)
    return Objective(build.make_model(config, tasks), tasks, build.make_weighting(config, tasks)).train(), batch


def test_fourth_task_is_learned_beside_the_others(made: tuple[Objective, Batch]) -> None:
    objective, batch = made
    counts = {name: target.valid.sum() for name, target in batch.targets.items()}
    total, losses = objective(batch, counts, COMPUTE)
    assert losses.keys() == {"semantic", "instance", "depth", "brightness"}
    objective.zero_grad()
    total.backward()
    assert all(parameter.grad is not None for parameter in objective.network.decoders["brightness"].parameters())
    assert objective.weighting.log_variances().keys() == objective.weighting.weights().keys() == losses.keys()
    # A Laplace distribution of scale b = exp(s): L / b + s, whose derivative by s is 1 - L / b.
    loss = losses["brightness"].detach()
    torch.testing.assert_close(objective.weighting.s["brightness"].grad, 1 - loss / torch.tensor(0.5).exp())


def test_fourth_task_alone_reaches_the_shared_layers(made: tuple[Objective, Batch]) -> None:
    objective, batch = made
    objective.zero_grad()
    counts = {name: target.valid.sum() for name, target in batch.targets.items()}
    _, losses = objective(batch, counts, COMPUTE)
    losses["brightness"].backward()
    assert objective.network.encoder.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in objective.network.decoders["depth"].parameters())


def test_fourth_task_is_evaluated_and_shown(made: tuple[Objective, Batch]) -> None:
    objective, batch = made
    predict = network_predictor(objective.network, COMPUTE)
    figures = evaluate(predict, [batch], [PixelScorer(objective.tasks)], COMPUTE.device)
    assert figures["brightness/mean_error_px"] > 0
    assert np.isfinite(score(figures, objective.tasks))
    shown = table("brightness", objective.tasks["brightness"].figures, {"network": figures})
    assert "| brightness | mean error |" in shown
    with_it = panel(batch, 0, predict(batch.images), objective.tasks)
    others = {name: task for name, task in objective.tasks.items() if name != "brightness"}
    assert with_it.shape[1] > panel(batch, 0, predict(batch.images), others).shape[1]


def test_fourth_task_has_a_position_prior(made: tuple[Objective, Batch]) -> None:
    objective, batch = made
    prior = fit_position_prior([batch], objective.tasks, COMPUTE.device)(batch.images)["brightness"]
    torch.testing.assert_close(prior, batch.targets["brightness"].value.mean(0, keepdim=True).expand_as(prior))


def test_fourth_task_that_reads_the_picture_alone_has_its_labels(shared_tree: Path) -> None:
    config = _config(shared_tree)
    on = tasks_with_labels(build.make_tasks(config, CITYSCAPES), build.make_frames(config, "train"))
    assert "brightness" in on
