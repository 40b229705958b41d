import numpy as np
import pytest

from multitask.benchmark.ceiling import ceiling, noisy_truth
from multitask.data.classes import INSTANCE_BASE
from multitask.instances import Grouping
from tests.cityscapes import CITYSCAPES

CAR, ROAD = 26, 7


def _box(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Class and instance ids of one square car on a road, and a group of cars beside it."""
    ids = np.full((200, 400), ROAD)
    ids[20 : 20 + side, 20 : 20 + side] = CAR * INSTANCE_BASE + 1
    ids[20:40, 300:340] = CAR
    return np.where(ids >= INSTANCE_BASE, CAR, ids).astype(np.uint8), ids


def test_noisy_truth_is_right_in_the_median_and_as_noisy_as_it_says() -> None:
    classes, ids = _box(100)
    train_ids, vectors = noisy_truth(classes, ids, CITYSCAPES, np.random.default_rng(0))
    inside = ids == CAR * INSTANCE_BASE + 1
    assert (train_ids[inside] == 13).all()
    assert not train_ids[~inside].any(), "groups are no instance"
    rows, columns = np.nonzero(inside)
    errors = vectors[:, inside] + np.stack([columns, rows]) - 69.5
    assert np.median(errors, axis=1) == pytest.approx([0, 0], abs=0.5)
    # Three quarters of a normal distribution are within 1.15 standard deviations, here of 10 px; 5 % are anywhere.
    assert (np.abs(errors) < 11.5).mean() == pytest.approx(0.95 * 0.75 + 0.05 * 0.09, abs=0.02)
    assert (np.abs(errors) > 50).mean() == pytest.approx(0.05 * 0.6, abs=0.015)


def test_ceiling_of_the_embedded_data_set_is_high() -> None:
    figures = ceiling("val", 6, (256, 512))
    assert figures["instance/ap50"] >= 0.95
    assert figures["instance/ap"] < figures["instance/ap50"]
    assert ceiling("val", 1, (256, 512), Grouping(min_area=1e9))["instance/ap50"] == 0
