from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from multitask.data.classes import ClassTable
from multitask.data.sample import Sample, Target
from multitask.likelihoods import CLASSIFICATION, REGRESSION, Likelihood
from multitask.tasks.base import Task
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic
from tests.cityscapes import CITYSCAPES
from tests.trees import random_layers

TASKS: list[Task] = [Semantic(CITYSCAPES), Instance(CITYSCAPES), Depth(CITYSCAPES)]
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def _batch(task: Task, seed: int = 0) -> Target:
    """Targets of two frames."""
    targets = []
    for i in range(2):
        layers = random_layers(np.random.default_rng((seed, i)), (32, 64))
        layers["disparity"] = layers["disparity"].astype(np.float32)
        targets.append(task.encode(Sample(f"a_{i}_0", **layers)))
    return Target(*(torch.stack(tensors) for tensors in zip(*targets, strict=True)))


def _prediction(task: Task) -> Tensor:
    return torch.randn(2, task.channels, 32, 64)


@each_task
def test_encode_shapes_and_types(task: Task) -> None:
    value, valid = _batch(task)
    assert valid.dtype == torch.bool
    assert valid.shape == (2, 32, 64)
    assert value.shape[-2:] == (32, 64)
    assert value.dtype in (torch.float32, torch.int64)
    assert 0 < valid.sum() < valid.numel()
    assert value.isfinite().all()


@each_task
def test_encode_unseen_row_never_counts(task: Task) -> None:
    assert not _batch(task).valid[:, -1].any()


@each_task
def test_encode_twice_is_the_same(task: Task) -> None:
    for first, second in zip(_batch(task), _batch(task), strict=True):
        assert torch.equal(first, second)


@each_task
def test_loss_is_the_sum_over_valid_pixels(task: Task) -> None:
    target, prediction = _batch(task), _prediction(task)
    total, count = task.loss(prediction, target)
    singles = task.pixel_loss(prediction, target.value)
    assert singles.shape == target.valid.shape
    assert total.item() == pytest.approx(singles[target.valid].double().sum().item(), rel=1e-5)
    assert count.item() == target.valid.sum().item()


@each_task
def test_loss_of_parts_adds_up(task: Task) -> None:
    target, prediction = _batch(task), _prediction(task)
    parts = [task.loss(prediction[i : i + 1], Target(*(t[i : i + 1] for t in target))) for i in range(2)]
    total, count = task.loss(prediction, target)
    assert sum(part.item() for part, _ in parts) == pytest.approx(total.item(), rel=1e-5)
    assert sum(number.item() for _, number in parts) == count.item()


@each_task
def test_loss_touches_valid_pixels_only(task: Task) -> None:
    target, prediction = _batch(task), _prediction(task).requires_grad_()
    task.loss(prediction, target)[0].backward()
    assert prediction.grad is not None
    assert torch.equal(prediction.grad.abs().sum(1) > 0, target.valid)


@each_task
def test_loss_and_metric_ignore_predictions_where_nothing_counts(task: Task) -> None:
    target, prediction = _batch(task), _prediction(task)
    other = torch.where(target.valid.unsqueeze(1), prediction, 1e4 * torch.randn_like(prediction))
    assert task.loss(prediction, target)[0].item() == task.loss(other, target)[0].item()
    figures = []
    for said in (prediction, other):
        metric = task.metric()
        metric.update(said, target)
        figures.append(metric.compute())
    assert figures[0] == figures[1]


@each_task
def test_loss_is_float32_under_autocast(task: Task) -> None:
    target, prediction = _batch(task), _prediction(task)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = task.loss(prediction, target)
    assert total.dtype == torch.float32
    assert total.item() == task.loss(prediction, target)[0].item()


@each_task
def test_loss_of_a_bfloat16_prediction_is_computed_in_float32(task: Task) -> None:
    target, prediction = _batch(task), _prediction(task).bfloat16()
    total, _ = task.loss(prediction, target)
    assert total.dtype == torch.float32
    assert total.item() == task.loss(prediction.float(), target)[0].item()


@each_task
def test_ideal_is_without_error(task: Task) -> None:
    target = _batch(task)
    prediction = task.ideal(target.value)
    assert prediction.shape == (2, task.channels, 32, 64)
    assert prediction.dtype == torch.float32
    metric = task.metric()
    metric.update(prediction, target)
    figures = metric.compute()
    own = [figure for figure in task.figures if figure.key in figures]
    assert own
    for figure in own:
        assert figures[figure.key] == float(figure.higher_is_better)


@each_task
def test_first_figure_is_computed_by_the_task_s_own_metric(task: Task) -> None:
    metric = task.metric()
    metric.update(_prediction(task), _batch(task))
    assert task.figures[0].key in metric.compute()


@each_task
def test_metric_is_new_each_time(task: Task) -> None:
    task.metric().update(_prediction(task), _batch(task))
    assert task.metric().compute() == {}


@each_task
def test_render_cut_to_what_is_valid(task: Task) -> None:
    target, prediction = _batch(task), _prediction(task)
    cut, whole = task.render(prediction[0], target.valid[0]), task.render(prediction[0])
    assert cut.shape == whole.shape == (32, 64, 3)
    assert cut.dtype == whole.dtype == np.uint8
    assert (cut[target.valid[0]] == whole[target.valid[0]]).all()
    assert not cut[~target.valid[0]].any()


@each_task
def test_legend_is_of_texts_and_colours(task: Task) -> None:
    legend = task.legend(64)
    assert legend
    assert all(isinstance(text, str) and text for text, _ in legend)
    assert all(len(color) == 3 and all(0 <= part <= 255 for part in color) for _, color in legend)


@pytest.mark.parametrize(
    ("make", "likelihoods"), [(Semantic, CLASSIFICATION), (Instance, REGRESSION), (Depth, REGRESSION)]
)
def test_likelihood_of_every_name(make: Callable[[ClassTable, str], Task], likelihoods: dict[str, Likelihood]) -> None:
    assert [make(CITYSCAPES, name).likelihood.name for name in likelihoods] == list(likelihoods)


@pytest.mark.parametrize(("make", "components"), [(Depth, 1), (Instance, 2)])
def test_likelihood_is_of_as_many_components_as_there_are_channels(
    make: Callable[[ClassTable, str], Task], components: int
) -> None:
    assert make(CITYSCAPES, "paper").likelihood == REGRESSION["paper"]
    for name in ("laplace", "gaussian"):
        assert make(CITYSCAPES, name).likelihood == replace(REGRESSION[name], components=components)


def test_task_names_are_their_own() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS)
