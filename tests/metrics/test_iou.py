import numpy as np
import pytest

from multitask.metrics import ClassScores
from multitask.metrics.overlaps import count_overlaps
from tests.cityscapes import AVERAGE_PIXELS, CITYSCAPES, ID, LABELS

ROAD, PERSON, CAR, BUS = 0, 11, 13, 15


def _scores(instance_ids: list[int], train_ids: list[int]) -> ClassScores:
    truth = np.array([instance_ids])
    class_ids = np.where(truth < 1000, truth, truth // 1000)
    scores = ClassScores(CITYSCAPES)
    scores.update(count_overlaps(truth, class_ids, np.array([train_ids]), None))
    return scores


def test_iiou_hand_worked() -> None:
    # A car of 4 px of which 1 is found, a car of 1 px that is found, and 2 px of road taken for a car.
    figures = _scores([26001] * 4 + [26002] + [7] * 3, [CAR, ROAD, ROAD, BUS, CAR, CAR, CAR, ROAD]).compute(
        weighted=True
    )
    size = AVERAGE_PIXELS["car"]
    right, missed = size / 4 + size, size * 3 / 4
    assert figures["iiou/car"] == pytest.approx(right / (right + missed + 2))
    # The bus has no instance: what is said to be one is wrong.
    assert figures["iiou/bus"] == 0
    assert figures["iiou_class"] == pytest.approx((figures["iiou/car"] + 0) / 2)
    # A car taken for a bus is a vehicle.
    assert figures["iiou_category"] == pytest.approx((right + size / 4) / (right + missed + 2))
    assert figures["iou/car"] == pytest.approx(2 / 7)


def test_iiou_weighs_instances_alike_whatever_their_size() -> None:
    large_missed = _scores([26001] * 98 + [26002] * 2, [ROAD] * 98 + [CAR] * 2).compute(weighted=True)
    assert large_missed["iou/car"] == pytest.approx(0.02)
    assert large_missed["iiou/car"] == pytest.approx(0.5)


def test_iiou_of_groups_counts_nothing_but_iou_does() -> None:
    figures = _scores([ID["car"]] * 4 + [7], [CAR] * 4 + [ROAD]).compute(weighted=True)
    assert figures["iou/car"] == 1
    assert not {key for key in figures if key.startswith("iiou")}


def test_iiou_ignores_caravans_and_void() -> None:
    figures = _scores([ID["caravan"] * 1000 + 1] * 4 + [1, 2, 3, 7], [CAR] * 7 + [ROAD]).compute(weighted=True)
    assert figures == {"iou_class": 1, "iou_category": 1, "iou/road": 1}


def test_iiou_without_instance_ids_is_absent() -> None:
    scores = ClassScores(CITYSCAPES)
    scores.update(count_overlaps(None, np.array([[26, 7]]), np.array([[CAR, CAR]]), None))
    assert scores.compute(weighted=False).keys() == {"iou_class", "iou_category", "iou/car", "iou/road"}


def test_average_sizes_are_those_of_all_counted_classes() -> None:
    assert AVERAGE_PIXELS.keys() == {label.name for label in LABELS if label.has_instances and label.evaluated}


def test_class_scores_merged_equal_one() -> None:
    frames = [([26001] * 3 + [7], [CAR, CAR, ROAD, CAR]), ([24001, 24002, 24], [PERSON, CAR, PERSON])]
    whole = _scores(*frames[0])
    whole.merge(_scores(*frames[1]))
    both = ClassScores(CITYSCAPES)
    for truth, predicted in frames:
        ids = np.array([truth])
        both.update(count_overlaps(ids, np.where(ids < 1000, ids, ids // 1000), np.array([predicted]), None))
    assert whole.compute(weighted=True) == pytest.approx(both.compute(weighted=True), rel=1e-12)


def test_class_scores_of_nothing_are_absent() -> None:
    assert ClassScores(CITYSCAPES).compute(weighted=True) == {}
