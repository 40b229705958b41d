import math

import numpy as np
import pytest
from scipy import stats

from multitask.comparison.statistics import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Difference,
    mean_and_deviation,
    mean_relative_improvement,
    paired_difference,
)


def test_mean_and_deviation_hand_worked() -> None:
    assert mean_and_deviation([1.0, 3.0, 5.0]) == (3.0, 2.0)
    assert mean_and_deviation([4.0]) == (4.0, None)


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 31, 32, 40, 500])
@pytest.mark.parametrize("higher", [True, False])
def test_paired_difference_is_that_of_a_paired_t_test(num_seeds: int, higher: bool) -> None:
    rng = np.random.default_rng(num_seeds)
    first, second = rng.normal(size=(2, num_seeds)).tolist()
    found = paired_difference(dict(enumerate(first)), dict(enumerate(second)), higher)
    assert found is not None
    pair = (first, second) if higher else (second, first)
    interval = stats.ttest_rel(*pair).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(pair[0]) - np.mean(pair[1]))
    assert (found.low, found.high) == pytest.approx(tuple(interval), rel=1e-3, abs=1e-3)


def test_paired_difference_is_over_the_seeds_that_both_have() -> None:
    found = paired_difference({0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.5, 1: 1.0, 5: 0.0}, higher_is_better=True)
    assert found is not None
    assert (found.mean, found.num_seeds) == (0.75, 2)
    assert paired_difference({0: 1.0}, {1: 1.0}, higher_is_better=True) is None


def test_one_seed_decides_nothing() -> None:
    found = paired_difference({0: 2.0}, {0: 1.0}, higher_is_better=True)
    assert found == Difference(1.0, -math.inf, math.inf, 1)
    assert found.verdict() == UNDECIDED


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.3, HOLDS), (-0.3, -0.1, FAILS), (-0.1, 0.3, UNDECIDED), (0.0, 0.3, UNDECIDED)]
)
def test_verdict_follows_the_interval(low: float, high: float, verdict: str) -> None:
    assert Difference((low + high) / 2, low, high, 3).verdict() == verdict


def test_mean_relative_improvement_hand_worked() -> None:
    better = {"iou": True, "error": False}
    single = {"iou": 0.5, "error": 2.0}
    assert mean_relative_improvement({"iou": 0.6, "error": 1.5}, single, better) == pytest.approx((0.2 + 0.25) / 2)
    assert mean_relative_improvement({"iou": 0.5, "error": 2.0}, single, better) == 0
    assert mean_relative_improvement({"iou": 0.6}, single, better) is None
    assert mean_relative_improvement({"iou": 0.6, "error": 1.5}, {"iou": 0.5}, better) is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.1, 0.3, HOLDS), (-0.3, 0.1, UNDECIDED), (-0.4, -0.3, FAILS), (-0.2, 0.1, UNDECIDED)],
)
def test_verdict_with_a_margin_asks_to_be_as_good(low: float, high: float, verdict: str) -> None:
    assert Difference((low + high) / 2, low, high, 3).verdict(margin=0.2) == verdict
