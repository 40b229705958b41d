import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from multitask.data.classes import IGNORE
from multitask.data.sample import Target
from multitask.metrics import ConfusionMatrix, VectorError
from tests.cityscapes import CLASS_NAMES, EVALUATED, LABELS, TRAIN_ID
from tests.reference import iou_by_sets, masked_errors

NAMES = ("road", "path", "car", "bus")
CATEGORIES = ("flat", "flat", "vehicle", "vehicle")


def _logits(classes: Tensor, num_classes: int) -> Tensor:
    """Scores [B, C, H, W], not one-hot, whose largest is that of ``classes`` [B, H, W]."""
    noise = torch.rand(len(classes), num_classes, *classes.shape[1:])
    return noise.scatter(1, classes.unsqueeze(1), 2.0) - 5


def _matrix(truth: list[int], predicted: list[int]) -> ConfusionMatrix:
    """Of one row of pixels; IGNORE in the truth is not valid."""
    metric = ConfusionMatrix(NAMES, CATEGORIES)
    value = torch.tensor([[truth]])
    metric.update(_logits(torch.tensor([[predicted]]), len(NAMES)), Target(value, value != IGNORE))
    return metric


def test_iou_hand_worked() -> None:
    figures = _matrix([0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2, 2, 2]).compute()
    assert figures["iou/road"] == pytest.approx(3 / 4)
    assert figures["iou/path"] == pytest.approx(1 / 3)
    assert figures["iou/car"] == pytest.approx(2 / 3)
    assert "iou/bus" not in figures
    assert figures["iou_class"] == pytest.approx((3 / 4 + 1 / 3 + 2 / 3) / 3)
    # A path taken for a road is right as flat: 5 of 6 flat pixels are, and 2 of 3 that are or are called vehicles.
    assert figures["iou_category"] == pytest.approx((5 / 6 + 2 / 3) / 2)


def test_confusion_matrix_has_the_truth_in_rows() -> None:
    metric = _matrix([0, 0, 3], [2, 2, 1])
    assert metric.matrix.nonzero().tolist() == [[0, 2], [3, 1]]
    assert metric.matrix[0, 2] == 2


@pytest.mark.parametrize("seed", range(5))
def test_iou_random_equals_sets_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(2, 7))
    names = tuple(f"class{i}" for i in range(num_classes))
    truth = rng.integers(0, num_classes, size=(3, 6, 7))
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, num_classes, size=truth.shape))
    valid = rng.random(truth.shape) < 0.7
    metric = ConfusionMatrix(names, names)
    metric.update(_logits(torch.from_numpy(predicted), num_classes), Target(*map(torch.from_numpy, (truth, valid))))
    expected = {f"iou/{names[c]}": v for c, v in iou_by_sets(predicted, truth, valid, num_classes).items()}
    mean = sum(expected.values()) / len(expected)
    # With one class in each category there is no other mean.
    assert metric.compute() == pytest.approx({"iou_class": mean, **expected})


def test_iou_over_the_data_set_is_not_the_mean_over_images() -> None:
    # The first image is nearly all road, the second nearly all path, and the few pixels of the other class are missed.
    truth = torch.tensor([[[0] * 9 + [1]], [[1] * 9 + [0]]])
    predicted = torch.tensor([[[0] * 10], [[1] * 10]])
    target = Target(truth, torch.ones_like(truth, dtype=torch.bool))
    whole = ConfusionMatrix(NAMES, CATEGORIES)
    whole.update(_logits(predicted, 4), target)
    single = []
    for i in range(2):
        metric = ConfusionMatrix(NAMES, CATEGORIES)
        metric.update(_logits(predicted[i : i + 1], 4), Target(*(tensor[i : i + 1] for tensor in target)))
        single.append(metric.compute()["iou_class"])
    assert whole.compute()["iou_class"] == pytest.approx(9 / 11)
    assert sum(single) / 2 == pytest.approx(9 / 20)


def test_iou_ignores_what_is_said_of_void() -> None:
    truth, void = [0, 1, 1, 2], [IGNORE] * 3
    clean = _matrix(truth, [0, 1, 2, 2]).compute()
    for said in range(4):
        assert _matrix(truth + void, [0, 1, 2, 2, said, said, said]).compute() == clean


def test_iou_follows_valid_not_the_value() -> None:
    value = torch.tensor([[[0, 0, 1, 1]]])
    valid = torch.tensor([[[True, True, False, False]]])
    metric = ConfusionMatrix(NAMES, CATEGORIES)
    metric.update(_logits(torch.zeros(1, 1, 4, dtype=torch.int64), 4), Target(value, valid))
    assert metric.compute() == {"iou_class": 1, "iou_category": 1, "iou/road": 1}


def test_iou_of_a_class_only_predicted_is_zero() -> None:
    figures = _matrix([0, 0, 0, 0], [0, 0, 0, 3]).compute()
    assert figures["iou/bus"] == 0
    assert figures["iou_class"] == pytest.approx((3 / 4 + 0) / 2)
    assert figures["iou_category"] == pytest.approx((3 / 4 + 0) / 2)


def test_iou_of_a_perfect_prediction_has_no_nan() -> None:
    figures = _matrix([0, 2], [0, 2]).compute()
    assert figures == {"iou_class": 1, "iou_category": 1, "iou/road": 1, "iou/car": 1}
    assert not any(math.isnan(value) for value in figures.values())


def test_confusion_matrix_in_pieces_equals_one_update() -> None:
    truth = torch.randint(0, 4, (6, 5, 5))
    logits, valid = torch.randn(6, 4, 5, 5), torch.rand(6, 5, 5) < 0.8
    whole, pieces = ConfusionMatrix(NAMES, CATEGORIES), ConfusionMatrix(NAMES, CATEGORIES)
    whole.update(logits, Target(truth, valid))
    for part in ([0], [1, 2, 3], [4, 5]):
        pieces.update(logits[part], Target(truth[part], valid[part]))
    assert torch.equal(whole.matrix, pieces.matrix)
    assert whole.compute() == pieces.compute()


def test_confusion_matrix_counts_every_valid_pixel_once() -> None:
    truth, valid = torch.randint(0, 4, (2, 9, 9)), torch.rand(2, 9, 9) < 0.5
    metric = ConfusionMatrix(NAMES, CATEGORIES)
    metric.update(torch.randn(2, 4, 9, 9), Target(truth, valid))
    assert metric.matrix.sum() == valid.sum()
    assert metric.matrix.sum(1).tolist() == [int((truth[valid] == c).sum()) for c in range(4)]


def test_confusion_matrix_counts_beyond_float_precision() -> None:
    # 2975 frames of 2 million pixels are more than float32 counts.
    metric = _matrix([0], [0])
    metric.matrix = torch.tensor([[2**40 + 1, 0], [1, 2**40]])
    metric.matrix = torch.nn.functional.pad(metric.matrix, (0, 2, 0, 2))
    before = metric.matrix.sum().item()
    truth = torch.zeros(1, 1, 1, dtype=torch.int64)
    metric.update(_logits(truth, 4), Target(truth, truth == 0))
    assert metric.matrix.sum().item() == before + 1


@pytest.mark.parametrize("updates", [0, 1])
def test_confusion_matrix_without_valid_pixels_computes_nothing(updates: int) -> None:
    metric = ConfusionMatrix(NAMES, CATEGORIES)
    for _ in range(updates):
        value = torch.full((2, 3, 3), IGNORE)
        metric.update(torch.randn(2, 4, 3, 3), Target(value, value != IGNORE))
    assert metric.compute() == {}


@pytest.mark.parametrize("num_classes", [19, 3])
def test_confusion_matrix_agrees_with_the_official_functions(tmp_path: Path, num_classes: int) -> None:
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    args = official.args
    rng = np.random.default_rng(num_classes)
    metric = ConfusionMatrix(CLASS_NAMES, tuple(label.category for label in EVALUATED))
    expected = official.generateMatrix(args)
    before, args.evalInstLevelScore = args.evalInstLevelScore, False
    # Blobs of any of the 34 ids in the truth; of the evaluated ones (or a few of them) in the prediction.
    for i in range(3):
        truth = rng.integers(0, len(LABELS), size=(4, 8)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        predicted = rng.integers(0, num_classes, size=truth.shape)
        agree = (rng.random(truth.shape) < 0.7) & (TRAIN_ID[truth] < num_classes)
        predicted[agree] = TRAIN_ID[truth][agree]
        ids = np.array([label.id for label in EVALUATED], dtype=np.uint8)
        files = [tmp_path / f"{kind}{i}.png" for kind in ("prediction", "truth")]
        for file, picture in zip(files, (ids[predicted], truth), strict=True):
            Image.fromarray(picture).save(file)
        official.evaluatePair(str(files[0]), str(files[1]), expected, {}, {}, args)
        value = torch.from_numpy(TRAIN_ID[truth].astype(np.int64)).unsqueeze(0)
        metric.update(_logits(torch.from_numpy(predicted).unsqueeze(0), 19), Target(value, value != IGNORE))
    args.evalInstLevelScore = before
    rows = [label.id for label in EVALUATED]
    assert metric.matrix.tolist() == expected[rows][:, rows].tolist()
    classes = {label.name: official.getIouScoreForLabel(label.id, expected, args) for label in EVALUATED}
    categories = {
        name: official.getIouScoreForCategory(name, expected, args) for name in {label.category for label in EVALUATED}
    }
    assert metric.compute() == pytest.approx(
        {
            "iou_class": official.getScoreAverage(classes, args),
            "iou_category": official.getScoreAverage(categories, args),
            **{f"iou/{name}": score for name, score in classes.items() if not math.isnan(score)},
        }
    )


def test_vector_error_hand_worked() -> None:
    prediction = torch.tensor([[[[3.0, 0.0, 9.0]], [[4.0, 0.0, 9.0]]]])
    valid = torch.tensor([[[True, True, False]]])
    metric = VectorError()
    metric.update(prediction, Target(torch.zeros(1, 2, 1, 3), valid))
    # L1 norms 7 and 0, L2 norms 5 and 0.
    assert metric.compute() == pytest.approx({"mean_error_px": 3.5, "rms_error_px": math.sqrt(12.5)})


def test_vector_error_rms_is_not_the_mean_of_single_errors() -> None:
    prediction = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)
    metric = VectorError()
    metric.update(prediction, Target(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)))
    figures = metric.compute()
    assert figures["mean_error_px"] == pytest.approx(1)
    assert figures["rms_error_px"] == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_vector_error_random_equals_loops(channels: int) -> None:
    rng = np.random.default_rng(channels)
    prediction, target = rng.normal(size=(2, 3, channels, 5, 4)).astype(np.float32) * 10
    valid = rng.random((3, 5, 4)) < 0.6
    metric = VectorError()
    metric.update(torch.from_numpy(prediction), Target(torch.from_numpy(target), torch.from_numpy(valid)))
    mean, rms = masked_errors(prediction, target, valid)
    assert metric.compute() == pytest.approx({"mean_error_px": mean, "rms_error_px": rms}, rel=1e-6)


def test_vector_error_counts_zero_targets() -> None:
    # Divided by the number of non-zero targets the mean would be 4.
    metric = VectorError()
    target = Target(torch.tensor([0.0, 0.0, 0.0, 5.0]).view(1, 1, 1, 4), torch.ones(1, 1, 4, dtype=torch.bool))
    metric.update(torch.ones(1, 1, 1, 4), target)
    assert metric.compute()["mean_error_px"] == pytest.approx((1 + 1 + 1 + 4) / 4)


def test_vector_error_in_pieces_of_different_weight_equals_one_update() -> None:
    prediction, value = torch.randn(2, 5, 2, 4, 4) * 100
    valid = torch.rand(5, 4, 4) < torch.tensor([0.05, 0.9, 0.5, 0.0, 1.0]).view(5, 1, 1)
    whole, pieces = VectorError(), VectorError()
    whole.update(prediction, Target(value, valid))
    for part in ([0, 1, 2], [3], [4]):
        pieces.update(prediction[part], Target(value[part], valid[part]))
    assert pieces.compute() == pytest.approx(whole.compute(), rel=1e-12)


def test_vector_error_ignores_what_is_not_valid() -> None:
    prediction = torch.tensor([1.0, float("inf"), float("nan")]).view(1, 1, 1, 3)
    metric = VectorError()
    metric.update(prediction, Target(torch.zeros(1, 1, 1, 3), torch.tensor([[[True, False, False]]])))
    assert metric.compute() == {"mean_error_px": 1, "rms_error_px": 1}


@pytest.mark.parametrize("updates", [0, 1])
def test_vector_error_without_valid_pixels_computes_nothing(updates: int) -> None:
    metric = VectorError()
    for _ in range(updates):
        metric.update(torch.randn(2, 1, 3, 3), Target(torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3, dtype=torch.bool)))
    assert metric.compute() == {}
