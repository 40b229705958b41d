import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from multitask.data.classes import IGNORE
from multitask.data.loader import Batch
from multitask.data.sample import Target
from multitask.engine.compute import make_compute
from multitask.engine.inference import network_predictor
from multitask.evaluation.position_prior import fit_position_prior
from multitask.evaluation.scoring import PixelScorer, evaluate, score
from multitask.tasks.depth import Depth
from multitask.tasks.instance import Instance
from multitask.tasks.semantic import Semantic
from tests.cityscapes import CITYSCAPES

CPU = torch.device("cpu")


def batch_of(semantic: list[list[list[int]]], depth: list[list[list[float]]]) -> Batch:
    ids = torch.tensor(semantic)
    disparity = torch.tensor(depth).unsqueeze(1)
    valid = disparity[:, 0].isfinite()
    return Batch(
        [f"frame{i}" for i in range(len(ids))],
        torch.zeros(len(ids), 3, *ids.shape[1:], dtype=torch.uint8),
        {"semantic": Target(ids, ids != IGNORE), "depth": Target(disparity.nan_to_num(), valid)},
    )


TASKS = {"semantic": Semantic(CITYSCAPES), "depth": Depth(CITYSCAPES)}
NAN = float("nan")


def test_evaluation_that_memory_cannot_hold_says_what_would_help() -> None:
    def predict(images: torch.Tensor) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError

    class Greedy(PixelScorer):
        def __init__(self) -> None:
            super().__init__({})

        def update(self, batch: Batch, predictions: Mapping[str, torch.Tensor]) -> None:
            predict(batch.images)

    batch, message = (
        batch_of([[[1, 2]]], [[[1.0, 2.0]]]),
        r"trainer\.accumulate: 1 frames of 1 x 2 px .* too many .* cpu",
    )
    with pytest.raises(ValueError, match=message):
        evaluate(predict, [batch], [PixelScorer(TASKS)], CPU)
    ideal = {name: task.ideal(batch.targets[name].value) for name, task in TASKS.items()}
    with pytest.raises(ValueError, match=message):
        evaluate(lambda _: ideal, [batch], [PixelScorer(TASKS), Greedy()], CPU)


def test_position_prior_is_the_most_frequent_class_and_the_mean_disparity_by_position() -> None:
    batches = [
        batch_of([[[1, 2], [3, IGNORE]], [[1, 2], [4, IGNORE]]], [[[1.0, NAN], [0.0, NAN]], [[3.0, 8.0], [0.0, NAN]]]),
        batch_of([[[5, 2], [4, IGNORE]]], [[[5.0, NAN], [3.0, NAN]]]),
    ]
    predict = fit_position_prior(batches, TASKS, CPU)
    predictions = predict(torch.zeros(2, 3, 2, 2, dtype=torch.uint8))
    assert predictions["semantic"].shape == (2, 19, 2, 2)
    assert predictions["semantic"][0].argmax(0)[:, 0].tolist() == [1, 4]
    assert predictions["semantic"][0].argmax(0)[0, 1] == 2
    assert predictions["semantic"][0].argmax(0)[1, 1] == 2, "where nothing was ever valid, the most frequent class"
    overall = (1 + 3 + 5 + 8 + 0 + 0 + 3) / 7
    torch.testing.assert_close(predictions["depth"][1, 0], torch.tensor([[3.0, 8.0], [1.0, overall]]))


def test_position_prior_is_pooled_at_large_sizes() -> None:
    rng = np.random.default_rng(0)
    disparity = rng.uniform(0, 9, (1, 256, 512)).astype(np.float32)
    disparity[rng.random(disparity.shape) < 0.3] = np.nan
    disparity[0, :2, :2] = [[1, np.nan], [np.nan, 4]]
    batch = batch_of(np.zeros((1, 256, 512), dtype=np.int64).tolist(), disparity.tolist())
    prediction = fit_position_prior([batch], TASKS, CPU)(batch.images)["depth"]
    assert prediction.shape == (1, 1, 256, 512)
    assert prediction[0, 0, :2, :2].flatten().tolist() == pytest.approx([2.5] * 4)


def test_position_prior_of_vectors_is_their_mean() -> None:
    value = torch.tensor([[[[1.0]], [[2.0]]], [[[3.0]], [[-2.0]]], [[[100.0]], [[100.0]]]])
    valid = torch.tensor([True, True, False]).view(3, 1, 1)
    batch = Batch(["a", "b", "c"], torch.zeros(3, 3, 1, 1, dtype=torch.uint8), {"instance": Target(value, valid)})
    prediction = fit_position_prior([batch], {"instance": Instance(CITYSCAPES)}, CPU)(batch.images)["instance"]
    assert prediction[0].flatten().tolist() == [2.0, 0.0]


def test_evaluate_joins_the_tasks_figures_and_leaves_out_what_has_no_pixel() -> None:
    batch = batch_of([[[0, 1]]], [[[NAN, NAN]]])
    ideal = {"semantic": TASKS["semantic"].ideal(batch.targets["semantic"].value), "depth": torch.zeros(1, 1, 1, 2)}
    figures = evaluate(lambda _: ideal, [batch], [PixelScorer(TASKS)], CPU)
    assert figures["semantic/iou_class"] == 1
    assert figures["semantic/iou/road"] == 1
    assert not any(key.startswith("depth") for key in figures)


def test_score_is_the_mean_log_improvement() -> None:
    tasks = {"semantic": Semantic(CITYSCAPES), "depth": Depth(CITYSCAPES)}
    before = {"semantic/iou_class": 0.2, "depth/mean_error_px": 2.0}
    after = {"semantic/iou_class": 0.4, "depth/mean_error_px": 1.0}
    assert score(after, tasks) - score(before, tasks) == pytest.approx(math.log(2))
    assert score({"depth/mean_error_px": 1.0}, tasks) == 0
    assert score({}, tasks) == float("-inf")
    assert math.isfinite(score({"semantic/iou_class": 0.0}, tasks))


def test_network_predictor_leaves_the_network_as_it_was() -> None:
    class Probe(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            assert not self.training
            return {"depth": self.norm(images)[:, :1]}

    network = Probe().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    predict = network_predictor(network, make_compute("cpu", "fp32", True))
    prediction = predict(torch.randint(0, 255, (2, 3, 4, 4), dtype=torch.uint8))["depth"]
    assert network.training
    assert not prediction.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
